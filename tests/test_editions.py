"""The student edition: blanks where the answers stood, and a student's own work is never overwritten."""

import ast
import importlib.util
import os
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from hwkit.course.selfcheck import check
from hwkit.course.tasks import TASKS

SOURCE = Path(__file__).resolve().parent.parent / "notebooks" / "editions.py"
spec = importlib.util.spec_from_file_location("editions", SOURCE)
editions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(editions)

TASK = '''def double(x):
    """Twice x."""
    ### BEGIN SOLUTION 1.1: return twice x
    y = x + x
    return y
    ### END SOLUTION

print(double(2))'''
BLANK = '''def double(x):
    """Twice x."""
    raise NotImplementedError("Task 1.1: return twice x")

print(double(2))'''
BADGE = "[![Open in Colab](badge.svg)](https://colab.research.google.com/github/o/k/blob/main/notebooks/01_data.ipynb)"


@pytest.fixture
def worked():
    picture = new_output("display_data", {"image/png": "iVBORw0KGgo="})
    said = new_output("stream", name="stdout", text="4\n")
    return new_notebook(
        cells=[
            new_markdown_cell(f"{BADGE}\n\n# 1 · Data"),
            new_code_cell("start()", outputs=[said, picture], execution_count=1),
            new_code_cell(TASK, outputs=[said, picture], execution_count=2, metadata={"tags": ["core"]}),
            new_markdown_cell("Twice two is four.", metadata={"tags": ["solution"]}),
            new_markdown_cell("Why is that so?", metadata={"tags": ["question"]}),
        ]
    )


def test_a_solution_becomes_one_line_that_stops_there(worked):
    cells = editions.student(worked).cells
    assert cells[2].source == BLANK
    with pytest.raises(NotImplementedError, match=r"Task 1\.1: return twice x"):
        exec(cells[2].source, {})


def test_with_the_answer_put_back_it_is_the_worked_edition(worked):
    lines = TASK.split("\n")
    answer = "\n".join(lines[3:5])
    filled = (
        editions.student(worked)
        .cells[2]
        .source.replace('    raise NotImplementedError("Task 1.1: return twice x")', answer)
    )
    assert filled == "\n".join(lines[:2] + lines[3:5] + lines[6:])


def test_only_the_goals_picture_is_left_of_the_outputs(worked):
    first, task = (cell for cell in editions.student(worked).cells if cell.cell_type == "code")
    assert [out.output_type for out in first.outputs] == ["display_data"]
    assert task.outputs == [] and first.execution_count is None and task.execution_count is None


def test_texts_for_the_worked_edition_go_and_questions_get_a_cell_for_the_answer(worked):
    *_, question, answer = editions.student(worked).cells
    assert "Twice two is four." not in [cell.source for cell in editions.student(worked).cells]
    assert question.source == "Why is that so?" and answer.metadata["tags"] == ["answer"]


def test_the_first_cell_says_which_edition_it_is_and_its_badge_leads_to_itself(worked):
    first = editions.student(worked, rule="Do not look.").cells[0].source
    assert "/blob/main/notebooks/student/01_data.ipynb" in first
    assert "Student edition: 1 task is yours" in first and "Do not look." in first and "# 1 · Data" in first


def test_the_worked_edition_is_left_as_it_is(worked):
    before = nbformat.writes(worked)
    editions.student(worked)
    assert nbformat.writes(worked) == before


@pytest.mark.parametrize(
    "code, fault",
    [
        ("### BEGIN SOLUTION 1.1: a\nx = 1", "not closed"),
        ("x = 1\n### END SOLUTION", "does not fit"),
        ("### BEGIN SOLUTION 1.1: a\n### BEGIN SOLUTION 1.2: b\n### END SOLUTION", "does not fit"),
        ("### BEGIN SOLUTION\nx = 1\n### END SOLUTION", "names no task"),
    ],
)
def test_marks_that_do_not_fit_are_named(code, fault):
    with pytest.raises(ValueError, match=fault):
        editions.blanked(code)


@pytest.mark.parametrize("what", ['the "jump"', "a path C:\\new", "雜訊 ε̂"])
def test_a_blank_says_its_task_word_for_word(what):
    with pytest.raises(NotImplementedError) as raised:
        exec(editions.blanked(f"### BEGIN SOLUTION 1.2: {what}\nx = 1\n### END SOLUTION"))
    assert str(raised.value) == f"Task 1.2: {what}"


@pytest.fixture
def kit(worked, tmp_path, monkeypatch):
    """A folder of notebooks with one pair in it."""
    nbformat.write(worked, tmp_path / "01_data.ipynb")
    jupytext.write(worked, tmp_path / "01_data.py", fmt="py:percent")
    monkeypatch.setattr(editions.translations, "HERE", tmp_path)
    monkeypatch.setattr(editions.translations, "CATALOGUES", tmp_path / "locale")
    return tmp_path


def test_editions_are_valid_notebooks_and_are_made_anew(kit, worked):
    [path] = editions.write_editions(kit)
    nbformat.validate(nbformat.read(path, as_version=4))
    worked.cells[2].source = TASK.replace("Twice x", "Two times x")
    nbformat.write(worked, kit / "01_data.ipynb")
    assert editions.write_editions(kit) == [path] and "Two times x" in path.read_text()


def test_what_a_student_wrote_is_never_overwritten(kit):
    [path] = editions.write_editions(kit)
    mine = nbformat.read(path, as_version=4)
    mine.cells[2].source = TASK
    nbformat.write(mine, path)
    before = path.read_bytes()
    assert editions.write_editions(kit) == [kit / "student" / "01_data.new.ipynb"]
    assert path.read_bytes() == before


def test_what_a_student_wrote_into_the_newer_file_is_not_overwritten_either(kit):
    paths = []
    for _ in range(3):
        [path] = editions.write_editions(kit)
        mine = nbformat.read(path, as_version=4)
        mine.cells[2].source = TASK
        nbformat.write(mine, path)
        paths.append((path, path.read_bytes()))
    assert len({path for path, _ in paths}) == 3 and all(path.read_bytes() == before for path, before in paths)


def test_running_the_notebook_is_no_change(kit):
    [path] = editions.write_editions(kit)
    run = nbformat.read(path, as_version=4)
    run.cells[1].outputs.append(new_output("stream", name="stdout", text="ran\n"))
    nbformat.write(run, path)
    assert editions.untouched(path)


# The kit's own


NAMES = [path.stem for path in sorted(SOURCE.parent.glob("[0-9][0-9]_*.py")) if ".before-sync" not in path.name]
SOLUTION = re.compile(rf"^ *{editions.BEGIN} (\S+): .*\n((?:.*\n)*?) *{editions.END}$", re.M)
BLANK_LINE = re.compile(r'^ *raise NotImplementedError\("Task (\S+): .*"\)$', re.M)


def read(path: Path):
    return nbformat.read(path, as_version=4)


def pair(name: str) -> tuple[list, list]:
    """The code cells of the worked and of the student edition, as texts."""
    paths = SOURCE.parent / f"{name}.ipynb", SOURCE.parent / "student" / f"{name}.ipynb"
    if not editions.untouched(paths[1]):
        assert "HWKIT_EDITIONS" not in os.environ, f"{paths[1].name} was edited by hand: make course writes it"
        pytest.skip(f"somebody works in {paths[1].name}")
    return tuple([cell.source for cell in read(path).cells if cell.cell_type == "code"] for path in paths)


def tasks_of(name: str) -> list:
    return [task for task in TASKS if task.notebook == name]


@pytest.mark.parametrize("name", NAMES)
def test_the_student_edition_is_in_step(name):
    """Whatever the course's rule is, which stands in the first cell."""
    pair(name)
    made = editions.student(read(SOURCE.parent / f"{name}.ipynb"), rule="RULE").cells
    there = read(SOURCE.parent / "student" / f"{name}.ipynb").cells
    assert [cell.source for cell in there[1:]] == [cell.source for cell in made[1:]], "make course"
    before, after = made[0].source.split("RULE")
    assert there[0].source.startswith(before) and there[0].source.endswith(after), "make course"


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_a_solution_is_in_a_student_file(name):
    worked, students = pair(name)
    lines = {line.strip() for code in worked for _, body in SOLUTION.findall(code) for line in body.split("\n")}
    elsewhere = {line.strip() for code in worked for line in SOLUTION.sub("", code).split("\n")}  # torch.no_grad()
    shown = {line.strip() for code in students for line in code.split("\n")}
    assert not (lines - elsewhere) & shown and all(len(line) < 22 for line in lines & elsewhere)
    assert not re.search(r"BEGIN SOLUTION|END SOLUTION", "\n".join(students))


@pytest.mark.parametrize("name", NAMES)
def test_with_the_answers_put_back_a_student_file_is_the_worked_code(name):
    worked, students = pair(name)
    answers = [match[0] for code in worked for match in SOLUTION.finditer(code)]
    filled = [BLANK_LINE.sub(lambda _: answers.pop(0), code) for code in students]
    assert filled == worked and not answers


@pytest.mark.parametrize("name", NAMES)
def test_the_blanks_are_the_tasks_of_this_notebook_in_their_order_and_each_has_its_check_below(name):
    worked, students = pair(name)
    numbers = [number for code in students for number in BLANK_LINE.findall(code)]
    assert numbers == [number for code in worked for number, _ in SOLUTION.findall(code)]
    assert numbers == [task.number for task in tasks_of(name)]
    raised = [code for code in students if "NotImplementedError" in code]
    assert len(raised) == len(numbers), "a cell has one blank, and nothing else stops there"
    for task, code in zip(tasks_of(name), raised, strict=True):
        below = students[students.index(code) + 1].split("\n")[-1]
        assert below in (f"check({task.name})", f'check(UNet.forward, task="{task.number}")')
        for node in ast.parse(code).body:
            if isinstance(node, ast.FunctionDef):
                assert node.name == task.name and ast.get_docstring(node)
                (wanted,) = ast.parse(f"def {task.signature}: ...").body
                assert ast.unparse(node.args) == ast.unparse(wanted.args)


@pytest.mark.parametrize("name", [name for name in NAMES if tasks_of(name)])
def test_the_worked_answers_pass_their_checks(name):
    """Of the notebook only what is imported and defined is run."""
    worked, students = pair(name)
    for edition, passes in ((worked, True), (students, False)):
        scope = {"T": 830}
        last = max(k for k, code in enumerate(edition) if "\ncheck(" in f"\n{code}")
        for code in edition[1 : last + 1]:
            kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
            kept = ast.Module([node for node in ast.parse(code).body if isinstance(node, kinds)], [])
            exec(compile(kept, name, "exec"), scope)
            for call in re.findall(r"^check\((.+)\)$", code, re.M):
                assert eval(f"check({call})", scope | {"check": check}).passed is passes, call


def test_twenty_tasks():
    assert sum(len(tasks_of(name)) for name in NAMES) == len(TASKS) == 20
