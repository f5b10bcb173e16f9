"""The notebooks as files: pairs in step, clean outputs, readable cells, true badges; and Colab's branch, with fakes.

That they run is nbval's part of `make test`. Colab itself cannot be run here.
"""

import ast
import itertools
import os
import re
import shutil
import statistics
import subprocess
import sys
import textwrap
from pathlib import Path

import jupytext
import nbformat
import pytest

from hwkit import notebook

KIT = Path(__file__).resolve().parent.parent
NOTEBOOKS = KIT / "notebooks"
NAMES = ["01_data", "02_training", "03_sampling", "04_visualization", "05_fid", "06_report"]
ABSOLUTE = re.compile(r"(?<![\w.:/])(/(home|work|tmp|root|Users|mnt|opt|var)/|[A-Z]:\\\\)")


def source(name: str):
    """The .py of a pair, as a notebook."""
    return jupytext.read(NOTEBOOKS / f"{name}.py")


def executed(name: str):
    """The .ipynb of a pair."""
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(content, tag: str | None = None) -> list:
    cells = [cell for cell in content.cells if cell.cell_type == "code"]
    return [cell for cell in cells if tag is None or tag in cell.metadata.get("tags", [])]


def outputs(content) -> list:
    return [output for cell in code_cells(content) for output in cell.outputs]


def test_these_are_the_notebooks_and_each_is_a_pair():
    assert sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb")) == NAMES
    assert sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.py")) == NAMES


# What was saved


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_is_in_step(name):
    pair = [
        [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in read(name).cells] for read in (source, executed)
    ]
    assert pair[0] == pair[1], "make sync brings the pair in step"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_was_run_from_top_to_bottom_and_saved_clean(name):
    content = executed(name)
    assert [cell.execution_count for cell in code_cells(content)] == [*range(1, len(code_cells(content)) + 1)]
    for output in outputs(content):
        assert output.output_type != "error", output
        assert output.get("name") != "stderr", output
    assert (
        sum(any("image/png" in output.get("data", {}) for output in cell.outputs) for cell in code_cells(content)) >= 3
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_opens_on_github(name):
    content, path = executed(name), NOTEBOOKS / f"{name}.ipynb"
    nbformat.validate(content)
    assert "widgets" not in content.metadata, "GitHub says Invalid Notebook"
    assert set(content.metadata) == {"kernelspec", "language_info", "jupytext"}
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_no_notebook_names_a_place_on_somebodys_machine(name):
    for cell in executed(name).cells:
        texts = [cell.source]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts += [output.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")]
        for text in texts:
            assert not ABSOLUTE.search(text), ABSOLUTE.search(text)


@pytest.mark.parametrize("text", ["open('/home/me/x')", "in /tmp/a", "C:\\\\Users", "(/mnt/disk/runs)"])
def test_such_a_place_would_be_found(text):
    assert ABSOLUTE.search(text) and not ABSOLUTE.search("runs/cpu https://x.org/home/me ../tmp/ data/mnist")


# How it reads


@pytest.mark.parametrize("name", NAMES)
def test_code_cells_are_short_and_each_has_words_before_it(name):
    cells = source(name).cells
    lengths = [len(cell.source.strip().splitlines()) for cell in cells if cell.cell_type == "code"]
    assert max(lengths) <= 20 and statistics.median(lengths) <= 9
    for before, cell in itertools.pairwise(cells):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown", cell.source
            assert 15 <= len(before.source.split()) <= 90, before.source


@pytest.mark.parametrize("name", NAMES)
def test_every_notebook_has_the_same_parts(name):
    content = source(name)
    text = [cell.source for cell in content.cells if cell.cell_type == "markdown"]
    assert re.match(r"\[!\[Open in Colab\].*\n\n# \d · ", text[0]) and int(name[:2]) == int(
        re.search(r"# (\d)", text[0])[1]
    )
    headings = [line[3:] for cell in text for line in cell.splitlines() if line.startswith("## ")]
    acts = [heading for heading in headings if heading.startswith("Act ")]
    assert headings == ["Where this leads", *acts, "Summary", "Exercises", "References"]
    assert [int(act.split()[1]) for act in acts] == [*range(1, len(acts) + 1)] and 3 <= len(acts) <= 5
    assert sum("**What to notice.**" in cell for cell in text) >= len(acts)
    assert len(code_cells(content, "goal")) == 1, "its picture is shown at the start"
    assert (NOTEBOOKS / "pictures" / f"{name}.png").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_there_is_one_cell_of_parameters_and_it_holds_literals(name):
    (cell,) = code_cells(source(name), "parameters")
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
        assert all(target.id.isupper() for target in statement.targets)


def functions(code: str) -> dict[str, str]:
    """Name → body, as text, of all functions at the top: without docstring, annotations and comments."""

    def plain(function: ast.FunctionDef) -> str:
        if ast.get_docstring(function):
            function.body = function.body[1:]
        for node in ast.walk(function):
            if isinstance(node, ast.arg):
                node.annotation = None
        function.returns = None
        return ast.unparse(function)

    return {node.name: plain(node) for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}


def test_every_equation_is_written_out_in_one_notebook_as_it_stands_in_the_library():
    library = functions((KIT / "hwkit" / "diffusion.py").read_text("utf-8"))
    library = {name: body for name, body in library.items() if not name.startswith("_")}
    written = [
        item for name in NAMES for cell in code_cells(source(name), "core") for item in functions(cell.source).items()
    ]
    assert len(written) == len(dict(written)), "twice"
    assert dict(written) == library


# Colab


@pytest.mark.parametrize("name", NAMES)
def test_badge_and_clone_point_to_this_notebook_in_one_repository(name):
    text, reference = (NOTEBOOKS / f"{name}.py").read_text("utf-8"), (NOTEBOOKS / "01_data.py").read_text("utf-8")
    (badge,) = re.findall(r"colab\.research\.google\.com/github/(\S+?)/blob/(\S+?)/(\S+?)\)", text)
    (clone,) = re.findall(r"git clone -q -b (\S+) https://github\.com/(\S+) /content/hwkit", text)
    assert badge == (clone[1], clone[0], f"notebooks/{name}.ipynb")
    assert f"blob/{clone[0]}/" in reference and f"github.com/{clone[1]} " in reference


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cell_is_the_same_everywhere_and_has_six_lines(name):
    first, reference = (code_cells(source(n))[0].source for n in (name, "01_data"))
    assert first == reference.replace("01_data", name)
    assert len([line for line in first.splitlines() if line.strip()]) <= 6


def test_badges_are_rewritten_in_all_notebooks_and_again(tmp_path):
    copy = shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    for owner in ("somebody/fork-1", "other/hwkit"):
        subprocess.run([sys.executable, copy / "build.py", "badges", owner], check=True, cwd=KIT, env=environment())
        for path in [*copy.glob("0*.py"), *copy.glob("0*.ipynb")]:
            found = re.findall(
                r"(?:colab\.research\.google\.com/github|https://github\.com)/([\w.-]+/[\w.-]+)(?:/blob| /content)",
                path.read_text(),
            )
            assert found == [owner] * 2, path
    wrong = subprocess.run(
        [sys.executable, copy / "build.py", "badges", "no-owner"],
        cwd=KIT,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert wrong.returncode and "owner/name" in wrong.stderr and "Traceback" not in wrong.stderr


def environment(**extra) -> dict:
    return {**os.environ, "PYTHONPATH": str(KIT), "OMP_NUM_THREADS": "1", **extra}


FAKE_COLAB = """
import os, sys, types
google, colab, drive = (types.ModuleType(name) for name in ("google", "google.colab", "google.colab.drive"))
google.colab, colab.drive, mounted = colab, drive, []
drive.mount = lambda point: (mounted.append(point), os.makedirs(point + "/MyDrive", exist_ok=True))
sys.modules.update({"google": google, "google.colab": colab, "google.colab.drive": drive})
"""


@pytest.fixture
def colab(tmp_path):
    """`colab(drive, after)` runs a notebook's own first cell, then `after`, where Python takes itself for Colab.

    /content is a temporary folder, HOME another, and `git clone` copies this kit.
    """
    content, tools, start = tmp_path / "content", tmp_path / "bin", tmp_path / "somewhere" / "else"
    tools.mkdir()
    start.mkdir(parents=True)
    parts = " ".join(f'"{KIT / part}"' for part in ("hwkit", "notebooks", "requirements.txt"))
    data = " ".join(f'"{KIT / "data" / part}"' for part in ("mnist_sample.npz", "digit_features"))
    copy = f'mkdir -p "$6/data"; cp -r {parts} "$6"; cp -r {data} "$6/data"'
    (tools / "git").write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/git.log"; {copy}\n')
    (tools / "git").chmod(0o755)

    def run(drive: bool, after: str = "", fake: str = FAKE_COLAB) -> str:
        cell = code_cells(source("03_sampling"))[0].source
        cell = cell.replace("/content", str(content)).replace("drive=False", f"drive={drive}")
        cell = cell.replace('os.path.abspath("..")', f'"{KIT}"') if not fake else cell
        (tmp_path / "cell.py").write_text(fake + cell + "\n" + textwrap.dedent(after))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HWKIT", "PYTHON"))}
        env = {**kept, "HOME": str(tmp_path / "home"), "PATH": f"{tools}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, tmp_path / "cell.py"]
        done = subprocess.run(command, cwd=start, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


TRAINED = """
    from pathlib import Path
    run = Path("runs/cpu")
    (run / "generate").mkdir(parents=True)
    (run / "latest.pt").write_bytes(b"weights")
    for k in range(1, 4):
        (run / "generate" / f"{k:05d}.png").write_bytes(b"png %d" % k)
    notebook.keep(run)
    print(os.getcwd(), mounted)
"""


def test_on_colab_the_kit_is_cloned_at_its_tag_and_runs_are_kept_on_drive_and_fetched_back(colab, tmp_path):
    content = tmp_path / "content"
    said = colab(True, TRAINED)
    tag, address = re.search(r"-b (\S+) https://github\.com/(\S+) ", (NOTEBOOKS / "01_data.py").read_text()).groups()
    assert (tmp_path / "git.log").read_text() == f"clone -q -b {tag} https://github.com/{address} {content}/hwkit\n"
    assert f"{content}/hwkit ['{content}/drive']" in said
    kept = content / "drive" / "MyDrive" / "hwkit" / "cpu"
    assert {path.name for path in kept.iterdir()} == {"latest.pt", "generate.zip"}, "images go there as one file"

    shutil.rmtree(content / "hwkit")  # the session is over; Drive stays
    said = colab(True, "print(sorted(str(p) for p in __import__('pathlib').Path('runs').rglob('*.p*')))")
    images = ", ".join(f"'runs/cpu/generate/{k:05d}.png'" for k in range(1, 4))
    assert f"[{images}, 'runs/cpu/latest.pt']" in said
    assert (content / "hwkit" / "runs" / "cpu" / "generate" / "00002.png").read_bytes() == b"png 2"


def test_on_colab_drive_is_left_alone_unless_the_student_says_so(colab, tmp_path):
    assert "hwkit []" in colab(False, TRAINED)
    assert not (tmp_path / "content" / "drive").exists() and not list((tmp_path / "home").rglob("*hwkit*"))


def test_elsewhere_the_first_cell_does_nothing_of_the_kind(colab, tmp_path):
    assert str(KIT) in colab(True, "print(os.getcwd())", fake="")
    assert not (tmp_path / "git.log").exists() and not (tmp_path / "content").exists()


def test_on_colab_only_what_is_missing_is_installed(monkeypatch, tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# lower bounds\ntorch>=2.4\nno-such-package-1>=3\nnumpy>=1.24\nno.such_2\n")
    called = []
    monkeypatch.setattr(notebook.subprocess, "run", lambda command, check: called.append(command))
    assert notebook.install_missing(requirements) == ["no-such-package-1", "no.such_2"]
    assert called == [[sys.executable, "-m", "pip", "install", "--quiet", "no-such-package-1", "no.such_2"]]
    requirements.write_text("torch>=2.4\n")
    assert notebook.install_missing(requirements) == [] and len(called) == 1


@pytest.fixture
def failing_drive(monkeypatch, tmp_path):
    """A run, a mounted Drive, and `failures`: how often copying to it still fails."""
    run, drive, failures, waits = tmp_path / "run", tmp_path / "drive", [], []
    run.mkdir()
    (run / "latest.pt").write_bytes(b"new weights")
    real = shutil.copyfile

    def copyfile(source, target):
        if failures and drive in Path(target).parents:
            Path(target).write_bytes(b"half")
            raise OSError(failures.pop(), "Transport endpoint is not connected")
        return real(source, target)

    monkeypatch.setattr(notebook.shutil, "copyfile", copyfile)
    monkeypatch.setattr(notebook.time, "sleep", waits.append)
    monkeypatch.setattr(notebook, "drive", drive)
    return run, drive, failures, waits


def test_a_drive_that_fails_twice_is_asked_a_third_time(failing_drive):
    run, drive, failures, waits = failing_drive
    failures += [107, 107]
    notebook.keep(run)
    assert (drive / "run" / "latest.pt").read_bytes() == b"new weights" and waits == [1, 2]
    assert os.listdir(drive / "run") == ["latest.pt"]


def test_a_drive_that_never_answers_does_not_stop_the_training_and_is_asked_again_later(failing_drive, capsys):
    run, drive, failures, _ = failing_drive
    notebook.keep(run)
    (run / "latest.pt").write_bytes(b"newer weights")
    os.utime(run / "latest.pt", (2e9, 2e9))
    failures += [107] * 5
    notebook.keep(run)
    assert "Drive did not take" in capsys.readouterr().out
    assert (drive / "run" / "latest.pt").read_bytes() == b"new weights", "what was kept before is whole"
    notebook.keep(run)
    assert (drive / "run" / "latest.pt").read_bytes() == b"newer weights"


# nbval compares the marked cells


def test_a_changed_number_in_a_marked_cell_fails(tmp_path):
    """Notebook 1 up to its first marked cell: as it is, and with one digit of that cell's output changed."""
    content = executed("01_data")
    marked = next(i for i, cell in enumerate(content.cells) if cell.source.startswith("# NBVAL_CHECK_OUTPUT"))
    content.cells = content.cells[: marked + 1]
    (output,) = content.cells[marked].outputs
    first = code_cells(content)[0]
    first.source = first.source.replace('os.path.abspath("..")', f'"{KIT}"')
    number = re.search(r"\d", output.text)
    for name, text in (
        ("as_it_is", output.text),
        ("changed", output.text[: number.start()] + str((int(number[0]) + 1) % 10) + output.text[number.end() :]),
    ):
        output.text = text
        nbformat.write(content, tmp_path / f"{name}.ipynb")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", f"{name}.ipynb"]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=environment(HWKIT_RECIPE="smoke", HWKIT_RUNS="runs"),
        )
        assert (done.returncode == 0) == (name == "as_it_is"), done.stdout
