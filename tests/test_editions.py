"""The student edition: blanks where the answers stood, and a student's own work is never overwritten."""

import importlib.util
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

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
    assert "Student edition: 1 tasks" in first and "Do not look." in first and "# 1 · Data" in first


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


@pytest.fixture
def kit(worked, tmp_path, monkeypatch):
    """A folder of notebooks with one pair in it."""
    nbformat.write(worked, tmp_path / "01_data.ipynb")
    monkeypatch.setattr(editions, "HERE", tmp_path)
    return tmp_path


def test_editions_are_valid_notebooks_and_are_made_anew(kit, worked):
    [path] = editions.write_editions(kit / "student")
    nbformat.validate(nbformat.read(path, as_version=4))
    worked.cells[2].source = TASK.replace("Twice x", "Two times x")
    nbformat.write(worked, kit / "01_data.ipynb")
    assert editions.write_editions(kit / "student") == [path] and "Two times x" in path.read_text()


def test_what_a_student_wrote_is_never_overwritten(kit):
    [path] = editions.write_editions(kit / "student")
    mine = nbformat.read(path, as_version=4)
    mine.cells[2].source = TASK
    nbformat.write(mine, path)
    before = path.read_bytes()
    assert editions.write_editions(kit / "student") == [kit / "student" / "01_data.new.ipynb"]
    assert path.read_bytes() == before


def test_running_the_notebook_is_no_change(kit):
    [path] = editions.write_editions(kit / "student")
    run = nbformat.read(path, as_version=4)
    run.cells[1].outputs.append(new_output("stream", name="stdout", text="ran\n"))
    nbformat.write(run, path)
    assert editions.untouched(path)
