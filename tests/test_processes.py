"""Several processes (`accelerate launch`, here two on the CPU by gloo) do what one does, and survive losing one."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from soak import KIT, Kit, wait_until

from hwkit.__main__ import main
from hwkit.files import only_process, write_many
from hwkit.mnist.folder import encode_png, file_name, load_folder
from hwkit.mnist.sources import SAMPLE
from hwkit.recipe import SMOKE
from hwkit.runs.checkpoint import load
from hwkit.runs.generate import generate
from hwkit.runs.processes import Single, processes
from hwkit.runs.run import train
from hwkit.sampling import Sampler

RECIPE = replace(SMOKE, epochs=5, batch_size=33)  # 19 steps an epoch of 640 digits; the parts are 16 and 17


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """640 digits as PNGs."""
    folder = tmp_path_factory.mktemp("digits") / "png"
    with np.load(SAMPLE) as arrays:
        digits = arrays["images"][:640, None]
    write_many(folder, {file_name(k): encode_png(image) for k, image in enumerate(digits, 1)})
    return folder


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory) -> dict[int, dict]:
    """What one process has after each epoch: the content of its `ema_latest.pt`."""
    run = tmp_path_factory.mktemp("alone") / "run"
    records = train(RECIPE, load_folder(folder), run, device="cpu", quiet=True)
    return {record.epoch: load(run / "ema_latest.pt") for record in records}


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return Kit(tmp_path_factory.mktemp("kit") / "kit")


def launch(kit: Kit, *arguments, **more) -> subprocess.Popen:
    """Two processes by `accelerate launch`, which takes `--multi_gpu` for more than one; `--device cpu` is stronger.

    So is the recipe's precision than the launcher's (or that of somebody's accelerate configuration).
    """
    options = ["--num_machines", "1", "--mixed_precision", "bf16", "--dynamo_backend", "no", "--main_process_port", "0"]
    launcher = ["-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", *options, "--num_processes", "2"]
    return kit.start(*arguments, "--device", "cpu", launcher=launcher, **more)


def difference(a: dict, b: dict) -> float:
    return max((a["weights"][name] - b["weights"][name]).abs().max().item() for name in a["weights"])


def test_two_processes_train_as_one_and_one_goes_on_where_a_worker_was_killed(kit, folder, alone, tmp_path):
    run = tmp_path / "run"
    arguments = ["train", "smoke", "--epochs", RECIPE.epochs, "--batch-size", 33, "--source", folder, "--run", run]
    launched = launch(kit, *arguments)
    wait_until((run / "history.jsonl").is_file, launched)
    (worker,) = (p for p in psutil.Process(launched.pid).children() if p.environ().get("RANK") == "1")
    worker.kill()
    said, _ = launched.communicate(timeout=60)
    assert launched.returncode != 0
    assert "Another process of this launch has ended" in said or "SIGTERM" in said, said
    assert said.count("Data: ") <= 2 and said.count("epochs ≈") == 1, "the first process alone speaks"

    reached = load(run / "ema_latest.pt")
    assert reached["epoch"] < RECIPE.epochs, "the worker was killed too late for this test"
    assert difference(reached, alone[reached["epoch"]]) < 1e-5
    assert reached["loss"] == pytest.approx(alone[reached["epoch"]]["loss"], rel=1e-4)
    for name in ("latest.pt", "best.pt", "ema_best.pt"):
        load(run / name)

    assert main([str(argument) for argument in [*arguments, "--device", "cpu"]]) == 0
    assert difference(load(run / "ema_latest.pt"), alone[RECIPE.epochs]) < 1e-4
    assert list(tmp_path.rglob("*.partial")) == []


def test_two_processes_sample_the_same_folder_as_one(kit, vivid_checkpoint, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    generate(vivid_checkpoint, one, 23, Sampler("ddim", 5), batch=4)
    arguments = ["--checkpoint", vivid_checkpoint, "--folder", two, "--sampler", "ddim", "--steps", 5, "--batch", 4]
    generate(vivid_checkpoint, two, 6, Sampler("ddim", 5), batch=4)
    (two / file_name(2)).unlink()
    launched = launch(kit, "sample", "--n", 23, *arguments)
    said, _ = launched.communicate(timeout=120)
    assert launched.returncode == 0, said
    assert said.count("Images: 23") == 1 and "(18 new)" in said
    assert {f.name: f.read_bytes() for f in two.iterdir()} == {f.name: f.read_bytes() for f in one.iterdir()}
    assert two.with_name("two.json").read_text() == one.with_name("one.json").read_text()


WATCHED = """
import atexit, pathlib, sys

def left():
    names = [task.joinpath("comm").read_text() for task in pathlib.Path("/proc/self/task").iterdir()]
    print("threads of gloo left:", sum("gloo" in name for name in names), flush=True)

atexit.register(left)  # what is registered first runs last
from hwkit.__main__ import main
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the names of threads are read from /proc")
@pytest.mark.parametrize("command", ["train", "sample", "refused"])
def test_no_thread_of_gloo_is_left_when_python_ends(kit, folder, vivid_checkpoint, tmp_path, command):
    """One that still lets go of a tensor then may abort the process, as happened once in CI."""
    (kit.folder / "watched.py").write_text(WATCHED)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "essay.txt").write_text("mine")
    sampling = ["sample", "--checkpoint", vivid_checkpoint, "--steps", 2, "--n", 4, "--folder"]
    arguments = {
        "train": ["train", "smoke", "--epochs", 1, "--source", folder, "--run", tmp_path / "run"],
        "sample": [*sampling, tmp_path / "new"],
        "refused": [*sampling, tmp_path / "full"],
    }
    launched = launch(kit, *arguments[command], module="watched")
    said, _ = launched.communicate(timeout=120)
    assert (launched.returncode == 0) == (command != "refused"), said
    assert said.count("threads of gloo left: 0") == 2, said


def test_what_the_first_process_refuses_all_refuse_in_one_sentence(kit, vivid_checkpoint, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "essay.txt").write_text("mine")
    launched = launch(kit, "sample", "--n", 4, "--checkpoint", vivid_checkpoint, "--folder", tmp_path / "full")
    said, _ = launched.communicate(timeout=120)
    assert launched.returncode != 0
    assert said.count("also holds essay.txt") == 1 and 'File "' + str(kit.folder) not in said, said


def test_a_run_that_another_process_trains_is_refused_to_all_processes(kit, folder, tmp_path):
    """The first one finds out, and the others are not left waiting for it."""
    run = tmp_path / "run"
    with only_process(run):
        launched = launch(kit, "train", "smoke", "--source", folder, "--run", run)
        said, _ = launched.communicate(timeout=120)
    assert launched.returncode != 0
    assert said.count("is being written to by another process") == 1, said
    assert 'File "' + str(kit.folder) not in said and not run.exists(), said


@pytest.mark.parametrize("n, count", [(512, 3), (8, 8), (7, 2), (1, 1)])
def test_parts_are_the_whole(n, count):
    parts = []
    for rank in range(count):
        process = Single()
        process.rank, process.count = rank, count
        parts += range(n)[process.part(n)]
    assert parts == list(range(n))


def test_one_process_does_not_load_accelerate():
    """So that it starts as fast as without."""
    code = "import sys, hwkit.runs.run as r; r.processes('cpu'); sys.exit('accelerate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=KIT).returncode == 0


def test_one_process_does_everything_itself():
    alone, model = processes("cpu"), torch.nn.Linear(1, 1)
    assert alone.data_parallel(model) is model and alone.sum([0.1, 2]) == [0.1, 2] and alone.on_first(lambda: 3) == 3
    assert (alone.rank, alone.count) == (0, 1)
