"""Faults of the machine and of people: each ends in a sentence, and what was there before is as it was."""

import ast
import contextlib
import itertools
import resource
import shutil
import sys
import time
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soak
from conftest import TINY

from hwkit import notebook
from hwkit.__main__ import main
from hwkit.measure.distances import read_statistics, write_statistics
from hwkit.recipe import RECIPES
from hwkit.runs.checkpoint import load
from hwkit.runs.generate import generate
from hwkit.runs.run import train
from hwkit.sampling import Sampler

KIT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def limited(size: int):
    """Within it no file of this process can grow beyond `size` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


full = pytest.raises(OSError, match="was not written: the file would be larger than this system allows")


@pytest.fixture
def run(trained_run, tmp_path) -> Path:
    return shutil.copytree(trained_run, tmp_path / "run")


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_disk_that_is_full_when_a_checkpoint_is_written(run, digits):
    before = snapshot(run)
    with full, limited(100_000):
        list(train(TINY, digits, run, "cpu", resume=False, quiet=True))
    assert snapshot(run) == before and soak.partial(run) == []


def test_a_disk_that_is_full_when_images_are_written(vivid_checkpoint, tmp_path):
    generate(vivid_checkpoint, tmp_path / "g", 3, Sampler("ddim", 3), progress=False)
    before = snapshot(tmp_path)
    with full, limited(600):
        generate(vivid_checkpoint, tmp_path / "g", 9, Sampler("ddim", 3), progress=False)
    kept = snapshot(tmp_path)
    assert all(kept[path] == content for path, content in before.items() if path.suffix == ".png")
    assert soak.partial(tmp_path / "g") == []
    assert generate(vivid_checkpoint, tmp_path / "g", 9, Sampler("ddim", 3), progress=False) == 6


def test_a_disk_that_is_full_when_a_figure_is_written(run, capsys):
    (run / "figures").mkdir()
    (run / "figures" / "network.png").write_bytes(b"the old one")
    with limited(20_000):
        assert main(["figures", "--run", str(run)]) == 2
    said = capsys.readouterr().err
    assert "network.png was not written" in said and "Traceback" not in said
    assert (run / "figures" / "network.png").read_bytes() == b"the old one"
    assert soak.partial(run) == []


def test_a_disk_that_is_full_when_statistics_are_written(tmp_path):
    path = tmp_path / "statistics.npz"
    write_statistics(path, np.zeros(3), np.eye(3))
    with full, limited(100_000):
        write_statistics(path, np.zeros(2048), np.zeros((2048, 2048)))
    assert (read_statistics(path)[1] == np.eye(3)).all() and [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_clock_may_jump(digits, tmp_path, monkeypatch, trained_run):
    """Into the past and the future: durations come of a clock that does not, and nothing else is made of the time."""
    jumps = itertools.cycle([1e9, 2e9, 3e9])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    seconds = [record.seconds for record in train(TINY, digits, tmp_path / "jumping", device="cpu", quiet=True)]
    assert seconds == sorted(seconds) and seconds[-1] < 600
    a, b = (load(run / "latest.pt") for run in (trained_run, tmp_path / "jumping"))
    assert soak.same(a, b)


def test_folders_may_have_spaces_and_letters_of_all_the_world(digits_npz, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(RECIPES, "smoke", TINY)
    place = tmp_path / "Übung 1 – 拡散 モデル (né)"
    source, run = place / "my data.npz", place / "run [1] *"
    place.mkdir()
    shutil.copy(digits_npz, source)
    for command in (
        ["data", "--source", source, "--out", place / "d a t a"],
        ["train", "smoke", "--source", source, "--run", run],
        ["sample", "--run", run, "--n", "5", "--steps", "2"],
        ["sample", "--run", run, "--n", "7", "--steps", "2"],
        ["figures", "--run", run, "--dpi", "30"],
        ["slider", "--run", run],
        ["fid", run / "generate", "--quick"],
    ):
        assert main([str(part) for part in command]) == 0, capsys.readouterr()
    assert main(["check", str(run / "generate"), "--n", "7"]) == 1, "noise is no digits"
    assert len(list((run / "generate").iterdir())) == 7 and soak.partial(run) == []


# Safety


RUNS_CODE = KIT / "hwkit" / "grade" / "isolated.py"  # in a process that is shut in: tests/test_grade_functions.py
MODULES = sorted(path for path in (KIT / "hwkit").rglob("*.py") if path != RUNS_CODE)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(KIT / "hwkit").with_suffix("")))
def test_nothing_runs_what_a_file_says(path):
    """No pickle, eval, exec or shell; torch.load and numpy.load only where they take plain values."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names} | {
                (getattr(node, "module", "") or "").split(".")[0]
            }
            assert not names & {"marshal", "shelve", "dill", "joblib"}
        if not isinstance(node, ast.Call):
            continue
        called, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert called not in ("eval", "exec", "compile", "os.system", "os.popen", "__import__"), ast.unparse(node)
        assert not called.startswith(("pickle.", "_pickle.")), "only its UnpicklingError is of use"
        assert options.get("shell", "False") == "False"
        if called == "torch.load":
            assert options.get("weights_only") == "True"
        if called in ("np.load", "numpy.load"):
            assert options.get("allow_pickle", "False") == "False"
        assert called.split(".")[-1] != "extractall" or path.stem == "notebook", "there, of a zip that the kit made"


def test_a_zip_on_drive_cannot_write_outside_its_folder(tmp_path, monkeypatch):
    point = tmp_path / "drive"
    kept = point / "MyDrive" / "hwkit" / "run"
    kept.mkdir(parents=True)
    with zipfile.ZipFile(kept / "generate.zip", "w") as archive:
        archive.writestr("../../evil.png", b"x")
        archive.writestr("/abs/evil.png", b"x")
    fake = types.ModuleType("google.colab.drive")
    fake.mount = lambda point: None
    monkeypatch.setitem(sys.modules, "google.colab.drive", fake)
    monkeypatch.setattr(notebook, "kept_on", None)
    notebook.mount(point)
    written = list(tmp_path.rglob("evil.png"))
    assert written and all(tmp_path / "runs" / "run" / "generate" in path.parents for path in written)
    assert not Path("/abs").exists()
