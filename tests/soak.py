"""Kills training, sampling and data preparation at random moments, goes on, and compares with undisturbed runs.

    python tests/soak.py --kills 25

Real processes, SIGKILL; every second kill waits for a file that is being written. Exit code 1 if anything was lost.
"""

import argparse
import glob
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

KIT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(KIT))

from hwkit.mnist.sources import SAMPLE  # noqa: E402
from hwkit.runs.checkpoint import load  # noqa: E402

TIMES = {"seconds", "images_per_second", "epoch_began"}  # what may differ between two runs


class Lost(AssertionError):
    """Something that had been written was damaged, or the end is not that of an undisturbed run."""


class Kit:
    """A copy of the kit, so that its own data/ stays as it is, and commands that run there."""

    def __init__(self, folder: Path, digits: int = 640, epochs: int = 4):
        self.folder, self.epochs = folder, epochs
        shutil.copytree(KIT / "hwkit", folder / "hwkit", ignore=shutil.ignore_patterns("__pycache__"))
        with np.load(SAMPLE) as arrays:
            np.savez(folder / "digits.npz", x_train=arrays["images"][:digits], x_test=arrays["images"][-64:])

    def start(self, *arguments, launcher: Sequence[str] = (), module="hwkit", **options) -> subprocess.Popen:
        """`python -m hwkit …`, or another module; or with a launcher before it, such as `-m accelerate…`."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HWKIT")}
        command = [sys.executable, *launcher, "-m", module, *map(str, arguments)]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**environment, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    def run(self, *arguments) -> str:
        process = self.start(*arguments)
        said, _ = process.communicate()
        if process.returncode:
            raise Lost(f"hwkit {arguments[0]} ended with {process.returncode}: {said[-2000:]}")
        return said


# One work that is killed: a command, the folder that it writes into, and how its end is compared


def training(kit: Kit, folder: Path, epochs: int | None = None, save_minutes: float = 0.003) -> list:
    options = ["--T", 40, "--epochs", epochs or kit.epochs, "--save-minutes", save_minutes]
    return ["train", "smoke", "--source", kit.folder / "digits.npz", "--run", folder, *options]


def sampling(kit: Kit, folder: Path, n: int = 120, steps: int = 25) -> list:
    made = ["--checkpoint", kit.folder / "weights.pt", "--folder", folder, "--n", n, "--steps", steps]
    return ["sample", *made, "--batch", 4, "--precision", "fp32"]


def preparing(kit: Kit, folder: Path) -> list:
    return ["data", "--source", SAMPLE, "--split", "train", "--out", folder]


WORKS: dict[str, Callable[[Kit, Path], list]] = {"training": training, "sampling": sampling, "data": preparing}


def soak(kit: Kit, kills: dict[str, int], seed: int, tell: Callable = lambda row: None) -> Iterator[dict]:
    """For each work: kills it so often, in as many runs as that takes, and yields what happened. Raises Lost."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        kit.run(*training(kit, Path(place) / "undisturbed-training"))
        shutil.copy(Path(place) / "undisturbed-training" / "ema_latest.pt", kit.folder / "weights.pt")
        for work, wanted in kills.items():
            whole = Path(place) / f"undisturbed-{work}"
            if work != "training":
                kit.run(*WORKS[work](kit, whole))
            row = {"work": work, "kills": 0, "in a write": 0, "runs": 0}
            while row["kills"] < wanted:
                row["runs"] += 1
                folder = Path(place) / f"{work}-{row['runs']}"
                survive(kit, WORKS[work](kit, folder), folder, wanted, row, rng, tell)
                compare(whole, folder)
            yield row


def survive(kit: Kit, command: list, folder: Path, wanted: int, row: dict, rng: random.Random, tell: Callable) -> None:
    """Starts the command again and again, and kills it until it has ended by itself or was killed often enough."""
    while row["kills"] < wanted:
        process, in_a_write = kit.start(*command), rng.random() < 0.5
        wait_for_change(folder, process)
        end = time.monotonic() + rng.uniform(0, 1.5)
        while process.poll() is None and (time.monotonic() < end or (in_a_write and not partial(folder))):
            time.sleep(0.0005)
        if process.poll() is not None:
            said = process.communicate()[0]
            if process.returncode:
                raise Lost(f"it ended with {process.returncode}: {said[-2000:]}")
            return
        process.kill()
        process.communicate()
        row["kills"] += 1
        row["in a write"] += bool(partial(folder))
        inspect(folder)
        tell(row)
    kit.run(*command)


def wait_for_change(folder: Path, process: subprocess.Popen) -> None:
    """Until the command has written something: before that there is nothing to be lost."""
    before = newest(folder)
    while process.poll() is None and newest(folder) == before:
        time.sleep(0.002)


def wait_until(ready: Callable[[], bool], process: subprocess.Popen, seconds: float = 120) -> None:
    """Until `ready()`; AssertionError where the process ends before, or it takes too long."""
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f"not within {seconds:.0f} s"
        time.sleep(0.01)


def newest(folder: Path) -> int:
    """When something in the folder was changed last."""
    stamps = [0]
    for parent, _, names in os.walk(folder):
        for path in (parent, *(os.path.join(parent, name) for name in names[:50])):
            try:
                stamps.append(os.stat(path).st_mtime_ns)
            except FileNotFoundError:  # renamed meanwhile
                continue
    return max(stamps)


def partial(folder: Path) -> list[Path]:
    """Files and folders that are being written, or that a kill has left behind."""
    return [*folder.rglob(".*.partial"), *folder.parent.glob(f".{glob.escape(folder.name)}*.partial")]


# What must hold


def inspect(folder: Path) -> None:
    """Every file that has its name is whole, also right after a kill. Raises Lost."""
    for path in (p for p in folder.rglob("*") if p.is_file() and ".partial" not in str(p)):
        try:
            if path.suffix == ".pt":
                load(path)
            elif path.suffix == ".png":
                Image.open(path).load()
            elif path.suffix == ".jsonl":
                content(path)
            elif path.suffix == ".json":
                json.loads(path.read_text("utf-8"))
        except (ValueError, OSError, SyntaxError) as error:
            raise Lost(f"{path.name} is damaged after a kill: {error}") from error


def compare(whole: Path, folder: Path) -> None:
    """The same files, and in them the same, times aside; and nothing is left over. Raises Lost."""
    if partial(folder):
        raise Lost(f"left over: {partial(folder)}")
    names = [sorted(str(p.relative_to(f)) for p in f.rglob("*") if p.is_file()) for f in (whole, folder)]
    if names[0] != names[1]:
        raise Lost(f"other files: {sorted(set(names[0]) ^ set(names[1]))[:5]}")
    for name in names[0]:
        if not same(content(whole / name), content(folder / name)):
            raise Lost(f"{name} differs from that of an undisturbed run")


def content(path: Path):
    """What a file holds: of checkpoints the tensors and values, of the history its lines, of others the bytes."""
    if path.suffix == ".pt":
        return load(path)
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return path.read_bytes()


def same(a, b) -> bool:
    """Equal, bit for bit, but for times."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a if key not in TIMES)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="of training; a fifth as many of sampling and of data")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    few = max(1, arguments.kills // 5)
    kills = {"training": arguments.kills, "sampling": few, "data": few}
    print(f"{'work':<10}{'kills':>7}{'in a write':>12}{'runs':>6}")
    place = tempfile.TemporaryDirectory()
    with place, tqdm(total=sum(kills.values()), unit="kill", leave=False) as bar:
        try:
            for row in soak(Kit(Path(place.name) / "kit"), kills, arguments.seed, lambda row: bar.update()):
                bar.write(f"{row['work']:<10}{row['kills']:>7}{row['in a write']:>12}{row['runs']:>6}   as undisturbed")
        except Lost as error:
            bar.write(f"LOST: {error}")
            return 1
    print(f"{sum(kills.values())} kills, nothing lost: every run ended as one that nobody disturbed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
