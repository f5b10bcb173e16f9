"""What a kill, a signal or a second process does, with real processes; the long form is `make soak`."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soak
import torch
from forks import Forks
from soak import Lost, training, wait_until

from hwkit.mnist.sources import SAMPLE
from hwkit.runs.checkpoint import load


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    kit = Forks(tmp_path_factory.mktemp("kit") / "kit")
    with np.load(SAMPLE) as arrays:
        np.savez(kit.folder / "more.npz", x_train=arrays["images"][:600])  # are written in two blocks
    yield kit
    kit.close()


# What is killed, in a small size


def sampling(kit, folder) -> list:
    return soak.sampling(kit, folder, n=12, steps=5)


def preparing(kit, folder) -> list:
    return ["data", "--source", kit.folder / "more.npz", "--split", "train", "--out", folder]


@pytest.fixture(scope="module")
def undisturbed(kit, tmp_path_factory) -> dict:
    """Each work's folder, as it is when nothing happens."""
    folders = {work: tmp_path_factory.mktemp(work.__name__) / "whole" for work in (training, sampling, preparing)}
    kit.run(*training(kit, folders[training]))
    shutil.copy(folders[training] / "ema_latest.pt", kit.folder / "weights.pt")
    for work in (sampling, preparing):
        kit.run(*work(kit, folders[work]))
    return folders


@pytest.mark.parametrize(
    "work, when, name, count",
    [
        (training, "half", "latest.pt", 1),
        (training, "half", "latest.pt", 3),
        (training, "before", "latest.pt", 2),
        (training, "after", "best.pt", 2),
        (training, "after", "history.jsonl", 2),
        (training, "before", "epoch_0002.png", 1),
        (sampling, "half", "00006.png", 1),
        (sampling, "before", "00006.png", 1),
        (sampling, "half", "whole.json", 1),
        (preparing, "half", "00600.png", 1),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_is_killed_while_it_writes_goes_on_as_if_undisturbed(kit, undisturbed, tmp_path, work, when, name, count):
    folder = tmp_path / "whole"
    process = kit.start(*work(kit, folder), die=(when, name, count))
    said, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    assert soak.partial(folder) or soak.partial(tmp_path) or when == "after", "a kill leaves what was half written"
    soak.inspect(folder)
    kit.run(*work(kit, folder))
    soak.compare(undisturbed[work], folder)


def test_what_is_killed_at_a_random_moment_ends_as_if_undisturbed(kit):
    (row,) = soak.soak(kit, {"training": 1}, seed=int(os.environ.get("HWKIT_SOAK_SEED", "7")))
    assert (row["work"], row["kills"]) == ("training", 1)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_at_once_and_ends_in_words(kit, tmp_path, number, code):
    run = tmp_path / "run"
    process = kit.start(*training(kit, run, epochs=40, save_minutes=60))
    wait_until((run / "history.jsonl").is_file, process)
    first = len((run / "history.jsonl").read_text().splitlines())
    time.sleep(0.2)
    process.send_signal(number)
    said, _ = process.communicate()
    assert process.returncode == code, said
    assert "all is saved. The same command goes on from here." in said and "Traceback" not in said
    how, epoch = re.search(r"Stopped (in|after) epoch (\d+)", said).groups()
    seen, epoch = load(run / "latest.pt")["images_seen"], int(epoch)
    assert epoch >= first and 160 * (epoch - 1) < seen <= 160 * epoch and (how == "in" or seen == 160 * epoch)


def test_a_second_process_on_the_same_run_is_refused_and_a_killed_one_holds_nothing(kit, tmp_path):
    run = tmp_path / "run"
    first = kit.start(*training(kit, run, epochs=400))
    wait_until((run / "latest.pt").is_file, first)
    second = kit.start(*training(kit, run, epochs=400), "--fresh", "--yes")
    said, _ = second.communicate()
    assert second.returncode == 2, said
    assert f"hwkit: {run} is being written to by another process" in said and "Traceback" not in said
    assert first.poll() is None and (run / "latest.pt").is_file(), "what it was told to discard is there"
    first.kill()
    first.communicate()
    assert (tmp_path / ".run.lock").is_file(), "the lock's file is still there, and locks nothing"
    reached = load(run / "latest.pt")["images_seen"]
    kit.run(*training(kit, run, epochs=1 + reached // 160))


# The harness itself would notice


@pytest.fixture
def twins(undisturbed, tmp_path) -> tuple[Path, Path]:
    """A run, and a copy of it that one may damage."""
    return undisturbed[training], shutil.copytree(undisturbed[training], tmp_path / "b")


def change_a_weight(run: Path) -> None:
    content = torch.load(run / "best.pt", weights_only=True)
    next(iter(content["weights"].values())).view(-1)[0] += 1e-7
    torch.save(content, run / "best.pt")


def change_the_history(run: Path) -> None:
    first, *more = (run / "history.jsonl").read_text().splitlines()
    line = json.loads(first)
    (run / "history.jsonl").write_text("\n".join([json.dumps({**line, "loss": line["loss"] + 1e-9}), *more]))


@pytest.mark.parametrize(
    "damage, what",
    [
        (change_a_weight, "best.pt differs"),
        (change_the_history, "history.jsonl differs"),
        (lambda run: (run / "previews" / "epoch_0001.png").unlink(), "other files"),
        (lambda run: (run / ".best.pt.1.partial").write_bytes(b"torn"), "left over"),
    ],
)
def test_the_comparison_notices(twins, damage, what):
    soak.compare(*twins)
    damage(twins[1])
    with pytest.raises(Lost, match=what):
        soak.compare(*twins)


def test_a_torn_file_is_noticed(twins):
    whole = (twins[1] / "latest.pt").read_bytes()
    (twins[1] / "latest.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Lost, match="damaged after a kill"):
        soak.inspect(twins[1])


def test_a_command_that_fails_is_noticed(kit):
    with pytest.raises(Lost, match=r"hwkit data ended with 2: [\s\S]*nowhere"):
        kit.run("data", "--source", "nowhere")
