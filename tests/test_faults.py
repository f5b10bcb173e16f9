"""Faults of the machine and of people: each ends in a sentence, and what was there before is as it was."""

import ast
import itertools
import resource
import shutil
import sys
import time
import types
import zipfile
from pathlib import Path

import hwkit.train
import pytest
import soak
import torch
from conftest import TINY
from test_cli import KIT, in_a_process, one_sentence

from hwkit import notebook
from hwkit.__main__ import main
from hwkit.measure.distances import read_statistics, write_statistics
from hwkit.recipe import RECIPES
from hwkit.runs.checkpoint import load
from hwkit.runs.run import train


def limited(size: int):
    """For `preexec_fn`: no file of that process may grow beyond `size` bytes, as on a disk that is full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.fixture
def run(trained_run, tmp_path) -> Path:
    return shutil.copytree(trained_run, tmp_path / "run")


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_disk_that_is_full_when_a_checkpoint_is_written(tmp_path):
    kit = soak.Kit(tmp_path / "kit")
    run = tmp_path / "run"
    kit.run(*soak.training(kit, run)[:-4], "--epochs", "1")
    before = snapshot(run)
    process = kit.start(*soak.training(kit, run)[:-4], "--epochs", "2", preexec_fn=limited(300_000))
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "Traceback" not in said
    assert ".pt was not written: the file would be larger than this system allows" in said
    assert snapshot(run) == before and soak.partial(run) == []


def test_a_disk_that_is_full_when_a_figure_is_written(run, tmp_path):
    (run / "figures").mkdir()
    (run / "figures" / "diffusion_grid_ddpm.png").write_bytes(b"the old one")
    command = [sys.executable, "-m", "hwkit", "figures", "--run", run]
    done = in_a_process(command, preexec_fn=limited(20_000))
    assert done.returncode == 2 and "diffusion_grid_ddpm.png was not written" in one_sentence(done.stderr)
    assert (run / "figures" / "diffusion_grid_ddpm.png").read_bytes() == b"the old one"
    assert soak.partial(run) == []


def test_a_disk_that_is_full_when_statistics_are_written(tmp_path):
    path, mu, sigma = tmp_path / "statistics.npz", torch.zeros(3).numpy(), torch.eye(3).numpy()
    write_statistics(path, mu, sigma)
    code = (
        "import sys, numpy as np; from hwkit.fid import write_statistics\n"
        "write_statistics(sys.argv[1], np.zeros(2048), np.zeros((2048, 2048)))"
    )
    done = in_a_process([sys.executable, "-c", code, path], preexec_fn=limited(100_000))
    assert "was not written" in done.stderr
    assert (read_statistics(path)[1] == sigma).all() and [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_clock_may_jump(digits, tmp_path, monkeypatch):
    """Into the past and the future: durations come of a clock that does not, and nothing else is made of the time."""
    jumps = itertools.cycle([1e9, 2e9, 3e9])
    for name in ("quiet", "jumping"):
        if name == "jumping":
            monkeypatch.setattr(time, "time", lambda: next(jumps))
        seconds = [r.seconds for r in train(TINY, digits, tmp_path / name, device="cpu", say=lambda text: None)]
        assert seconds == sorted(seconds) and seconds[-1] < 600
    a, b = (load(tmp_path / name / "latest.pt") for name in ("quiet", "jumping"))
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


MODULES = sorted((KIT / "hwkit").glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_runs_what_a_file_says(path):
    """No pickle, eval, exec or shell; torch.load and numpy.load only where they take plain values."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names} | {
                (getattr(node, "module", "") or "").split(".")[0]
            }
            assert not names & {"pickle", "marshal", "shelve", "dill", "joblib"}
        if not isinstance(node, ast.Call):
            continue
        called, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert called not in ("eval", "exec", "compile", "os.system", "os.popen", "__import__"), ast.unparse(node)
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
    fake = types.ModuleType("google.colab")
    fake.drive = types.SimpleNamespace(mount=lambda point: None)
    monkeypatch.setitem(sys.modules, "google.colab", fake)
    monkeypatch.setattr(notebook, "drive", None)
    notebook.mount(point)
    written = list(tmp_path.rglob("evil.png"))
    assert written and all(tmp_path / "runs" / "run" / "generate" in path.parents for path in written)
    assert not Path("/abs").exists()


def test_an_interrupted_step_is_not_half_saved(digits, tmp_path, monkeypatch):
    """A loss that is not finite stops the run; the checkpoint of before goes on once the cause is gone."""
    real, calls = hwkit.train.training_step, []

    def step(*arguments):
        calls.append(1)
        return float("nan") if len(calls) == 15 else real(*arguments)

    monkeypatch.setattr(hwkit.train, "training_step", step)
    with pytest.raises(FloatingPointError, match="nan at step 14"):
        list(train(TINY, digits, tmp_path / "run", device="cpu", say=lambda text: None))
    soak.inspect(tmp_path / "run")
    list(train(TINY, digits, tmp_path / "run", device="cpu", say=lambda text: None))
    list(train(TINY, digits, tmp_path / "whole", device="cpu", say=lambda text: None))
    soak.compare(tmp_path / "whole", tmp_path / "run")
