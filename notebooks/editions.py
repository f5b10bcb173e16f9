"""The editions of a notebook that are made from the worked English one: the student edition, and both in Chinese.

python notebooks/editions.py [--rule SENTENCE] [--rule-zh SENTENCE] [FOLDER]

writes into notebooks/, or FOLDER:

    student/NN_name.ipynb          blanks for solutions, and none of the outputs
    zh-TW/NN_name.ipynb            in Chinese, where the catalogue of locale/zh_TW is complete (see translations.py)
    zh-TW/student/NN_name.ipynb    the same with blanks

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
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)] * (str(HERE) not in sys.path)
import translations  # beside this file

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
LANGUAGE = "zh-TW"


@dataclass(frozen=True)
class Words:
    """What the student edition adds, in one language."""

    edition: str
    to_fill_in: dict[int | None, str]  # by the number of tasks
    rule: str
    task: str
    answer: str


ENGLISH = Words(
    edition="*Student edition: {todo}. {rule}*",
    to_fill_in={
        0: "nothing is to be filled in here",
        1: "1 task is yours to fill in",
        None: "{n} tasks are yours to fill in",
    },
    rule="The library that these notebooks use holds the answers: if you look one up, say so in your report, "
    "and explain the line there in your own words.",
    task="Task {number}: {what}",
    answer="*Your answer:*",
)
CHINESE = Words(
    edition="*學生版：{todo}。{rule}*",
    to_fill_in={0: "這本沒有要填的空格", None: "這本有 {n} 題要由你完成"},
    rule="這些筆記本用的程式庫裡就有答案：如果你去查了，請在報告裡說明，並用自己的話解釋那一行。",
    task="題目 {number}：{what}",
    answer="*你的答案：*",
)


def blanked(code: str, words: Words = ENGLISH) -> str:
    """The code with each solution as one line that raises NotImplementedError. ValueError where the marks do not fit."""
    kept, inside = [], False
    for line in code.split("\n"):
        mark = line.strip()
        if mark.startswith(BEGIN) and not inside:
            task = re.fullmatch(r"(\d+\.\d+): (.+)", mark.removeprefix(BEGIN).strip())
            if not task:
                raise ValueError(
                    f"{mark!r} names no task: write `{BEGIN} 1.2: what is to be done`."
                )
            says = words.task.format(number=task[1], what=task[2])
            kept.append(line[: line.index(BEGIN)] + f"raise NotImplementedError({json.dumps(says, ensure_ascii=False)})")
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


def student(worked, words: Words = ENGLISH, rule: str | None = None):
    """The student edition of a notebook: blanks, cells for answers, the goal's picture, and no other output."""
    notebook, cells, tasks = copy.deepcopy(worked), [], 0
    goal = next((cell for cell in notebook.cells if cell.cell_type == "code"), None)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            tasks += cell.source.count(BEGIN)
            cell.source, cell.execution_count = blanked(cell.source, words), None
            cell.outputs = [
                out for out in cell.outputs if cell is goal and "image/png" in out.get("data", {})
            ]
        else:
            page = rf"(/notebooks/(?:{LANGUAGE}/)?)(\d\d_\w+\.ipynb)"
            cell.source = re.sub(page, r"\1student/\2", cell.source)
        if "solution" not in tags:
            cells.append(cell)
        if "question" in tags:
            cells.append(nbformat.v4.new_markdown_cell(words.answer, metadata={"tags": ["answer"]}))
    first = next(cell for cell in cells if cell.cell_type == "markdown")
    badge, _, rest = first.source.partition("\n")
    todo = words.to_fill_in.get(tasks, words.to_fill_in[None]).format(n=tasks)
    first.source = (
        f"{badge}\n\n{words.edition.format(todo=todo, rule=rule or words.rule)}\n{rest}"
    )
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:02d}"
    notebook.cells = cells
    return notebook


def write_editions(
    folder: Path = HERE, rule: str | None = None, rule_zh: str | None = None
) -> list[Path]:
    """Writes every edition into `folder`, and returns the paths. A Chinese one needs a complete catalogue.

    A student file there whose cells are not those of an edition that was made before is somebody's work: it stays, and
    the new edition is written beside it as NN_name.new.ipynb.
    """
    paths = []
    for source in translations.sources():
        if not source.with_suffix(".ipynb").exists():
            continue
        worked = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
        paths.append(
            write_student(student(worked, ENGLISH, rule), folder / "student" / f"{source.stem}.ipynb")
        )
        if translations.faults(source):
            continue
        path = folder / LANGUAGE / f"{source.stem}.ipynb"
        before = nbformat.read(path, as_version=4) if path.exists() else None
        chinese = translations.in_chinese(worked, translations.catalogue(source), before)
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(chinese, path)
        students = student(chinese, CHINESE, rule_zh)
        paths += [path, write_student(students, path.parent / "student" / path.name)]
    return paths


def write_student(notebook, path: Path) -> Path:
    """Writes a student file, beside one that somebody has begun to fill in; returns where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while path.exists() and not untouched(path):
        path = path.with_suffix(".new.ipynb")
    notebook.metadata["edition"] = fingerprint(notebook)
    nbformat.write(notebook, path)
    return path


def fingerprint(notebook) -> str:
    """What tells whether somebody has changed a cell."""
    return hashlib.sha256("\0".join(cell.source for cell in notebook.cells).encode()).hexdigest()[
        :16
    ]


def untouched(path: Path) -> bool:
    """Whether the file still is what `write_editions` wrote."""
    notebook = nbformat.read(path, as_version=4)
    return notebook.metadata.get("edition") == fingerprint(notebook)


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the student edition, and the Chinese ones.")
    parser.add_argument("folder", nargs="?", type=Path, default=HERE)
    rule = "what is asked of a student who looks at the library's answers"
    parser.add_argument("--rule", help=rule)
    parser.add_argument("--rule-zh", help=f"{rule}, in Chinese")
    options = parser.parse_args()
    print(*write_editions(options.folder, options.rule, options.rule_zh), sep="\n")
    behind = {source: len(translations.faults(source)) for source in translations.sources()}
    for source, count in behind.items():
        if count:
            print(f"{source.stem} is not made in Chinese: {count} texts, see translations.py check {source.stem[:2]}")
    sys.exit(any(count and (HERE / LANGUAGE / f"{source.stem}.ipynb").exists() for source, count in behind.items()))


if __name__ == "__main__":
    main()
