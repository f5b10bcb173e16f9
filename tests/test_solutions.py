"""The exercises of the notebooks: each has a hint that gives nothing away, and a worked answer that was run.

That the answers run is `test_nbval_solutions.py`.
"""

import ast
import importlib.util
import re
from pathlib import Path

import jupytext
import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
spec = importlib.util.spec_from_file_location("build", NOTEBOOKS / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

NAMES = [path.stem for path in build.sources() if path.parent == NOTEBOOKS]
SOLVED = [path.stem for path in build.sources() if path.parent != NOTEBOOKS]
FIRST = "**Worked answers to the exercises of notebook {} ({}). They give everything away: try the exercises first.**"
EXERCISE = re.compile(r"^(\d+)\. ", re.M)
HINT = re.compile(r"^   <details><summary>Hint</summary>\n\n(.*?)\n\n   </details>$", re.M | re.S)
KIND = re.compile(r"\*\(([a-z ]+), \d+ minutes\)\* ")


def exercises(name: str) -> dict[int, str]:
    """Number → text of each exercise of a notebook, with its hint."""
    cells = jupytext.read(NOTEBOOKS / f"{name}.py").cells
    (text,) = (cell.source for cell in cells if cell.source.startswith("## Exercises\n"))
    text = re.split(r"^<details>", text, flags=re.M)[0]  # what follows them all
    _, *parts = EXERCISE.split(text)
    return dict(zip(map(int, parts[0::2]), parts[1::2], strict=True))


def solutions(name: str) -> dict[int, list]:
    """Number → cells of each worked answer, in the order of the file; the first of them begins with its heading."""
    found: dict[int, list] = {}
    for cell in jupytext.read(NOTEBOOKS / "solutions" / f"{name}.py").cells:
        heading = re.match(r"## Exercise (\d+)\b", cell.source) if cell.cell_type == "markdown" else None
        if heading:
            assert int(heading[1]) not in found, f"exercise {heading[1]} is answered twice"
            found[int(heading[1])] = []
        if found:
            list(found.values())[-1].append(cell)
    return found


def executed(name: str):
    return nbformat.read(NOTEBOOKS / "solutions" / f"{name}.ipynb", as_version=4)


def of_kind(cells: list, kind: str) -> list[str]:
    return [cell.source for cell in cells if cell.cell_type == kind]


def given_away(hint: str, code: str) -> list[str]:
    """What a hint holds of the code of an answer: a line of it, or a longer piece of it in the marks of code."""
    lines = [" ".join(line.split("#")[0].split()) for line in code.split("\n")]
    spans = [span for span in re.findall(r"`([^`]+)`", hint) if len(span) >= 20]
    hint, code = (" ".join(text.split()) for text in (hint, code))
    return [line for line in lines if len(line) >= 12 and line in hint] + [span for span in spans if span in code]


@pytest.mark.parametrize(
    "hint, found",
    [
        ("Write `snr = table / (1 - table)` first.", ["snr = table / (1 - table)"] * 2),
        ("Mind that x = x.clamp(min=1, max=T - 1)  keeps it.", ["x = x.clamp(min=1, max=T - 1)"]),
        ("Use `x.clamp(min=1, max=T - 1)`.", ["x.clamp(min=1, max=T - 1)"]),
        ("Use `clamp`, and a function `model(x_t, t)`.", []),
    ],
)
def test_a_hint_that_holds_a_line_of_the_answer_is_found(hint, found):
    code = "snr = table / (1 - table)\nif t:\n    x = x.clamp(min=1, max=T - 1)  # in the table"
    assert given_away(hint, code) == found


# Each exercise has its hint and its answer


def test_answers_belong_to_notebooks_that_are_there():
    assert SOLVED and set(SOLVED) <= set(NAMES)


@pytest.mark.parametrize("name", SOLVED)
def test_each_exercise_has_a_number_a_kind_and_one_folded_hint_of_a_sentence_or_two(name):
    assert list(exercises(name)) == [*range(1, len(exercises(name)) + 1)] and len(exercises(name)) >= 4
    for text in exercises(name).values():
        (hint,) = HINT.findall(text)
        assert KIND.match(text) and text.count("<details>") == 1
        assert 8 <= len(hint.split()) <= 60 and hint.strip()[-1] in ".?"


@pytest.mark.parametrize("name", SOLVED)
def test_each_exercise_has_an_answer_and_there_are_no_others(name):
    assert list(solutions(name)) == list(exercises(name))
    assert f"`notebooks/solutions/{name}.ipynb`" in (NOTEBOOKS / f"{name}.py").read_text("utf-8")


@pytest.mark.parametrize("name", SOLVED)
def test_an_answer_has_code_where_the_exercise_asks_for_it_and_says_what_to_expect(name):
    for number, text in exercises(name).items():
        kind, cells = KIND.match(text)[1], solutions(name)[number]
        words = "\n".join(of_kind(cells, "markdown"))
        assert f"({kind})" in cells[0].source.split("\n")[0], "the heading names the kind"
        assert kind in ("think", "by hand") or of_kind(cells, "code"), f"{name}, exercise {number}"
        (expected,) = re.findall(r"\*\*What to expect\.\*\* (.+)", words, re.S)
        assert re.search(r"\d", expected) and len(words.split()) >= 60, f"{name}, exercise {number}"


@pytest.mark.parametrize("name", SOLVED)
def test_no_hint_holds_a_line_of_the_answer(name):
    for number, text in exercises(name).items():
        code = "\n".join(of_kind(solutions(name)[number], "code"))
        assert not given_away(HINT.findall(text)[0], code), f"{name}, exercise {number}"


# The files


@pytest.mark.parametrize("name", SOLVED)
def test_the_first_line_says_what_it_is_and_where_it_belongs(name):
    first = executed(name).cells[0].source
    assert first.split("\n")[0] == FIRST.format(int(name[:2]), name)
    assert re.search(rf"/blob/\S+/notebooks/solutions/{name}\.ipynb\)", first)


@pytest.mark.parametrize("name", SOLVED)
def test_a_solution_is_a_pair_in_step_that_was_run_from_top_to_bottom(name):
    content, path = executed(name), NOTEBOOKS / "solutions" / f"{name}.ipynb"
    assert build.cells(path) == build.cells(path.with_suffix(".py")), "make sync brings the pair in step"
    nbformat.validate(content)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    for output in (output for cell in code for output in cell.outputs):
        assert output.output_type != "error" and output.get("name") != "stderr", output
        shown = str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
        assert not re.search(r"(?<![\w.:/])/(home|work|tmp|root|mnt)/", shown), shown
    assert path.stat().st_size < 1_000_000 and "widgets" not in content.metadata
    assert not any("goal" in build.tags(cell) for cell in content.cells), "the notebook's own picture would be replaced"


@pytest.mark.parametrize("name", SOLVED)
def test_it_starts_as_its_notebook_does(name):
    """But without Drive: nothing is made that anybody wants to keep."""
    mine, its = (jupytext.read(NOTEBOOKS / folder / f"{name}.py").cells for folder in ("solutions", "."))
    mine, its = (next(cell.source for cell in cells if cell.cell_type == "code") for cells in (mine, its))
    start = f'notebook.start("solutions/{name}", drive=False)'
    assert mine == re.sub(r"notebook\.start\(.+", start, its)


@pytest.mark.parametrize("name", SOLVED)
def test_small_values_replace_parameters_that_it_has(name, tmp_path):
    build.smoke(tmp_path)
    small, before = nbformat.read(tmp_path / "solutions" / f"{name}.ipynb", as_version=4), executed(name)
    (place,) = (i for i, cell in enumerate(small.cells) if "injected-parameters" in build.tags(cell))
    injected = small.cells.pop(place)
    assert small.cells == before.cells and "parameters" in build.tags(small.cells[place - 1])
    names = [{s.targets[0].id for s in ast.parse(c.source).body} for c in (injected, small.cells[place - 1])]
    assert names[0] and names[0] <= names[1], "a name that the notebook does not have would change nothing"


@pytest.mark.parametrize("name", SOLVED)
def test_no_line_of_code_is_wider_than_its_cell(name):
    cells = jupytext.read(NOTEBOOKS / "solutions" / f"{name}.py").cells
    wide = [line for code in of_kind(cells, "code")[1:] for line in code.splitlines() if len(line) > 88]
    assert not wide


# A name on the command line means one pair


@pytest.mark.parametrize(
    "names, ran", [(["01"], ["01_a"]), (["solutions/01"], ["solutions/01_a"]), ([], ["01_a", "solutions/01_a"])]
)
def test_a_notebook_and_its_answers_are_run_by_their_own_names(names, ran, tmp_path, monkeypatch):
    for folder, answer in ((tmp_path, 6 * 7), (tmp_path / "solutions", 6 * 9)):
        folder.mkdir(exist_ok=True)
        (folder / "01_a.py").write_text(f"# %%\nprint({answer})\n")
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build, "PICTURES", tmp_path / "pictures")
    build.execute(names)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.ipynb")) == [
        f"{name}.ipynb" for name in ran
    ]
    for name in ran:
        (cell,) = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4).cells
        assert cell.outputs[0].text == f"{54 if '/' in name else 42}\n"


def test_badges_and_clone_addresses_of_the_answers_are_rewritten_too(tmp_path, monkeypatch):
    folder = tmp_path / "solutions"
    folder.mkdir()
    for path in (path for name in SOLVED for path in (NOTEBOOKS / "solutions").glob(f"{name}.*")):
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build.subprocess, "run", lambda *_, **__: None)
    build.badges("somebody/fork-1", "week/3")
    for path in folder.iterdir():
        text = path.read_text("utf-8")
        assert f"github/somebody/fork-1/blob/week/3/notebooks/solutions/{path.stem}.ipynb" in text
        assert "git clone -q -b week/3 https://github.com/somebody/fork-1" in text and "OWNER" not in text
