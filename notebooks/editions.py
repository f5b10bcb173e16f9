"""The student edition of a notebook, from the worked one: blanks for solutions, and none of the outputs.

python notebooks/editions.py [--rule SENTENCE] [FOLDER]    # writes NN_name.ipynb into notebooks/student/, or FOLDER

In the .py a task's answer stands between two marks; the words after the first are what the blank says:

    def q_sample(x_0, alpha_bar_t, eps):
        ### BEGIN SOLUTION 1.2: mix the image and the noise
        return …
        ### END SOLUTION

Below the task stands a cell that calls `check` of hwkit.course.selfcheck. A Markdown cell tagged `solution` is only for
the worked edition, and below one tagged `question` the student edition has a cell for the answer. A file that a student has begun to fill in is never overwritten.
"""

import argparse
import copy
import hashlib
import re
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
RULE = (
    "The library that these notebooks use holds most answers: if you look one up, say so in your report, "
    "and explain the line there in your own words."
)
TO_FILL_IN = {0: "nothing is to be filled in here", 1: "1 task is yours to fill in"}


def blanked(code: str) -> str:
    """The code with each solution as one line that raises NotImplementedError. ValueError where the marks do not fit."""
    kept, inside = [], False
    for line in code.split("\n"):
        mark = line.strip()
        if mark.startswith(BEGIN) and not inside:
            task = mark.removeprefix(BEGIN).strip()
            if not re.fullmatch(r"\d+\.\d+: .+", task):
                raise ValueError(
                    f"{mark!r} names no task: write `{BEGIN} 1.2: what is to be done`."
                )
            kept.append(line[: line.index(BEGIN)] + f'raise NotImplementedError("Task {task}")')
            inside = True
        elif mark == END and inside:
            inside = False
        elif mark.startswith((BEGIN, END)):
            raise ValueError(f"{mark!r} stands where it does not fit the mark before it.")
        elif not inside:
            kept.append(line)
    if inside:
        raise ValueError(f"A solution is not closed: {END} is missing.")
    return "\n".join(kept)


def student(worked, rule: str = RULE):
    """The student edition of a notebook: blanks, cells for answers, the goal's picture, and no other output."""
    notebook, cells, tasks = copy.deepcopy(worked), [], 0
    goal = next((cell for cell in notebook.cells if cell.cell_type == "code"), None)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            tasks += cell.source.count(BEGIN)
            cell.source, cell.execution_count = blanked(cell.source), None
            cell.outputs = [
                out for out in cell.outputs if cell is goal and "image/png" in out.get("data", {})
            ]
        else:
            cell.source = re.sub(r"(/notebooks/)(\d\d_\w+\.ipynb)", r"\1student/\2", cell.source)
        if "solution" not in tags:
            cells.append(cell)
        if "question" in tags:
            cells.append(
                nbformat.v4.new_markdown_cell("*Your answer:*", metadata={"tags": ["answer"]})
            )
    first = next(cell for cell in cells if cell.cell_type == "markdown")
    badge, _, rest = first.source.partition("\n")
    todo = TO_FILL_IN.get(tasks, f"{tasks} tasks are yours to fill in")
    first.source = f"{badge}\n\n*Student edition: {todo}. {rule}*\n{rest}"
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:02d}"
    notebook.cells = cells
    return notebook


def write_editions(folder: Path = HERE / "student", rule: str = RULE) -> list[Path]:
    """Writes every student edition, and returns the paths.

    A file there whose cells are not those of an edition that was made before is somebody's work: it stays, and the new
    edition is written beside it as NN_name.new.ipynb.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for source in sorted(HERE.glob("[0-9][0-9]_*.ipynb")):
        if ".before-sync" in source.name:
            continue
        notebook, path = student(nbformat.read(source, as_version=4), rule), folder / source.name
        if path.exists() and not untouched(path):
            path = path.with_suffix(".new.ipynb")
        notebook.metadata["edition"] = fingerprint(notebook)
        nbformat.write(notebook, path)
        paths.append(path)
    return paths


def fingerprint(notebook) -> str:
    """What tells whether somebody has changed a cell."""
    return hashlib.sha256("\0".join(cell.source for cell in notebook.cells).encode()).hexdigest()[
        :16
    ]


def untouched(path: Path) -> bool:
    """Whether the file still is what `write_editions` wrote."""
    notebook = nbformat.read(path, as_version=4)
    return notebook.metadata.get("edition") == fingerprint(notebook)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Writes the student edition of every notebook.")
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / "student")
    parser.add_argument(
        "--rule", default=RULE, help="what is asked of a student who looks at the library's answers"
    )
    options = parser.parse_args()
    print(*write_editions(options.folder, options.rule), sep="\n")
