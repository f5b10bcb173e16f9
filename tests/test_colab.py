"""Colab's branch of the notebooks, with a fake `google.colab`: the first cell, Drive, and an evening's last notebook.

Each test is a Python of its own. Colab itself cannot be run here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile

import pytest
from test_notebooks import KIT, NOTEBOOKS, code_cells, source

from hwkit.runs import checkpoint
from hwkit.runs.checkpoint import best_of

FAKE_COLAB = """
import os, sys, types
names = ("google", "google.colab", "google.colab.drive", "google.colab.files")
google, colab, drive, files = modules = [types.ModuleType(name) for name in names]
google.colab, colab.drive, colab.files, mounted, downloaded = colab, drive, files, [], []
drive.mount = lambda point: (mounted.append(point), os.makedirs(point + "/MyDrive", exist_ok=True))
files.download = downloaded.append
sys.modules.update(zip(names, modules))
"""


@pytest.fixture
def colab(tmp_path):
    """`colab(drive, after)` runs a notebook's own first cell, then `after`, where Python takes itself for Colab.

    /content is a temporary folder, HOME another, and `git clone` copies this kit.
    """
    content, tools = tmp_path / "content", tmp_path / "bin"
    tools.mkdir()
    content.mkdir()
    parts = " ".join(f'"{KIT / part}"' for part in ("hwkit", "notebooks", "requirements.txt"))
    data = " ".join(f'"{KIT / "data" / part}"' for part in ("mnist_sample.npz", "digit_features"))
    copy = f"for last; do :; done; mkdir -p $last/data; cp -r {parts} $last; cp -r {data} $last/data"
    (tools / "git").write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/git.log"; {copy}\n')
    (tools / "git").chmod(0o755)

    def run(drive: bool, after: str = "", fake: str = FAKE_COLAB, twice: bool = False) -> subprocess.CompletedProcess:
        cell = code_cells(source("06_report"))[0].source
        assert "drive=True" in cell, "Drive is asked for by default"
        cell = cell.replace("/content", str(content)).replace("drive=True", f"drive={drive}")
        cell = cell.replace('("..",', f'("{KIT}",') if not fake else cell
        (tmp_path / "cell.py").write_text(fake + cell + "\n" + (cell + "\n") * twice + textwrap.dedent(after))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HWKIT", "PYTHON"))}
        env = {**kept, "HOME": str(tmp_path / "home"), "PATH": f"{tools}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, tmp_path / "cell.py"]
        return subprocess.run(command, cwd=content, env=env, capture_output=True, text=True)

    return run


def said(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


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


def test_on_colab_the_kit_is_cloned_at_its_ref_and_runs_are_kept_on_drive_and_fetched_back(colab, tmp_path):
    content = tmp_path / "content"
    shown = said(colab(True, TRAINED))
    assert "WITHOUT DRIVE" not in shown
    (clone,) = re.findall(
        r"git (clone -q -b \S+ https://github\.com/\S+ hwkit)\"", (NOTEBOOKS / "01_data.py").read_text()
    )
    assert (tmp_path / "git.log").read_text() == f"{clone}\n", "into hwkit/, whatever the repository is called"
    assert f"{content}/hwkit ['{content}/drive']" in shown
    kept = content / "drive" / "MyDrive" / "hwkit" / "cpu"
    assert {path.name for path in kept.iterdir()} == {"latest.pt", "generate.zip"}, "images go there as one file"

    shutil.rmtree(content / "hwkit")  # the session is over; Drive stays
    shown = said(colab(True, "print(sorted(str(p) for p in __import__('pathlib').Path('runs').rglob('*.p*')))"))
    images = ", ".join(f"'runs/cpu/generate/{k:05d}.png'" for k in range(1, 4))
    assert f"[{images}, 'runs/cpu/latest.pt']" in shown
    assert (content / "hwkit" / "runs" / "cpu" / "generate" / "00002.png").read_bytes() == b"png 2"


def test_on_colab_drive_is_left_alone_if_the_student_says_so_and_loudly_told_what_that_means(colab, tmp_path):
    shown = said(colab(False, TRAINED))
    assert "hwkit []" in shown and "WITHOUT DRIVE" in shown and "drive=True" in shown
    assert not (tmp_path / "content" / "drive").exists() and not list((tmp_path / "home").rglob("*hwkit*"))


def test_elsewhere_the_first_cell_does_nothing_of_the_kind(colab, tmp_path):
    assert str(KIT) in said(colab(True, "print(os.getcwd())", fake=""))
    assert not (tmp_path / "git.log").exists() and not any((tmp_path / "content").iterdir())


def test_on_colab_the_first_cell_may_be_run_again(colab, tmp_path):
    assert said(colab(False, "print(os.getcwd())", twice=True)).count(str(tmp_path / "content" / "hwkit")) == 1
    assert (tmp_path / "git.log").read_text().count("clone") == 1


@pytest.mark.parametrize("git", ["exit 128", "mkdir hwkit; rmdir hwkit; exit 1", None])
def test_on_colab_a_clone_that_fails_says_what_to_do(colab, tmp_path, git):
    """git that refuses, git that is interrupted (it then removes what it made), no git at all."""
    tool = tmp_path / "bin" / "git"
    tool.write_text(f"#!/bin/sh\n{git or 'exit 127'}\n")
    done = colab(False)
    assert done.returncode and "run this cell again" in done.stderr and "Traceback" not in done.stderr


HAND_IN = """
    from pathlib import Path
    mine = Path("../drive/MyDrive/Colab Notebooks")
    mine.mkdir(parents=True, exist_ok=True)
    print("before:", notebook.own_notebooks())
    others = ["another course.ipynb", "HW01_regression.ipynb", "07_datasets.ipynb", "06_report.pdf"]
    others.append("05_fid.ipynb - Colab.pdf")
    for name in ("Copy of 06_report.ipynb", "「05_fid.ipynb」的副本", "B1 03_sampling (1).ipynb", *others):
        (mine / name).write_text("{}")
    print("after:", [path.name for path in notebook.own_notebooks()])
    run = Path("runs/cpu")
    run.mkdir(parents=True)
    (run / "submission.zip").write_bytes(b"PK" * 500_000)
    notebook.keep(run)
    notebook.offer(run / "submission.zip")
    print(downloaded)
"""


def test_on_colab_the_submission_is_offered_and_the_notebooks_are_those_saved_in_drive(colab, tmp_path):
    done = said(colab(True, HAND_IN))
    assert "before: []" in done and "NONE OF YOUR NOTEBOOKS is in Drive: choose File → Save a copy in Drive" in done
    assert "after: ['B1 03_sampling (1).ipynb', 'Copy of 06_report.ipynb', '「05_fid.ipynb」的副本']" in done
    assert "submission.zip: 1.0 MB, also in " in done and "['runs/cpu/submission.zip']" in done
    assert (tmp_path / "content" / "drive" / "MyDrive" / "hwkit" / "cpu" / "submission.zip").is_file()


SMALL_REPORT = {
    "AUTHOR": "Lin Mei",
    "STUDENT_NUMBER": "B12901001",
    "CONCLUSION": "It was trained for a moment only, so these are no digits yet.",
    "IMAGES": 12,
}
PASSES = """
import hwkit.measure.check  # its verdict is not the point: a network of two epochs makes no digits
hwkit.measure.check.rows = lambda folder, n: iter([hwkit.measure.check.Row(f"{n} files", True, "all")])
"""


@pytest.mark.parametrize("answered", [True, False])
def test_an_evening_in_colab_ends_in_ones_own_submission(colab, trained_run, tmp_path, answered):
    """Notebook 6 in a new session: its run comes from Drive, and all that is made goes there."""
    mine = tmp_path / "content" / "drive" / "MyDrive"
    shutil.copytree(trained_run, mine / "hwkit" / "mine")
    (mine / "Colab Notebooks").mkdir()
    (mine / "Colab Notebooks" / "Copy of 06_report.ipynb").write_text("{}")
    cells = code_cells(source("06_report"))[1:]
    code = "\n".join(cell.source for cell in cells[1:])
    if answered:
        code, count = re.subn(r'": "",$', '": "Squared error asks for an average.",', code, flags=re.M)
        assert count == 6
    values = "".join(f"{name} = {value!r}\n" for name, value in SMALL_REPORT.items())
    shown = said(colab(True, PASSES + cells[0].source + "\n" + values + code + "\nprint(downloaded)"))
    assert "NOT YOUR MODEL" not in shown and "runs/mine: ema_latest.pt, epoch 2" in shown
    kept = mine / "hwkit" / "mine"
    assert (kept / "report" / "report.html").is_file() and (kept / "generate.zip").is_file()
    if not answered:
        assert "Nothing is packed before this is mended" in shown and "is still to be written" in shown
        assert not (kept / "submission.zip").exists() and shown.rstrip().endswith("[]")
        return
    assert "['runs/mine/submission.zip']" in shown
    with zipfile.ZipFile(kept / "submission.zip") as archive:
        names = set(archive.namelist())
        facts = json.loads(archive.read("run.json"))
        page = archive.read("report.html").decode()
    assert {f"generate/{k:05d}.png" for k in range(1, 13)} <= names and "generate/00013.png" not in names
    assert {"notebooks/Copy of 06_report.ipynb", "diffusion_grid_ddpm.png", "diffusion_grid_ddim.png"} <= names
    assert facts["weights"]["sha256"] == checkpoint.digest(best_of(trained_run))
    assert facts["images"]["made_by"]["sampler"]["name"] == "dpm++sde"
    assert "Lin Mei · B12901001" in page and "Squared error asks for an average." in page
