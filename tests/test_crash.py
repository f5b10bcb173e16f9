"""What a kill, a signal or a second process does, with real processes; the long form is `make soak`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soak
from soak import Kit, Lost, wait_until

from hwkit.runs.checkpoint import load


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return Kit(tmp_path_factory.mktemp("kit") / "kit")


def test_what_is_killed_again_and_again_ends_as_if_undisturbed():
    rows = list(soak.soak({"training": 3, "sampling": 1, "data": 1}, seed=int(os.environ.get("HWKIT_SOAK_SEED", "7"))))
    assert [(row["work"], row["kills"]) for row in rows] == [("training", 3), ("sampling", 1), ("data", 1)]


HALF = """
import sys, time
from pathlib import Path
from hwkit.__main__ import main
write, seen = Path.write_bytes, []

def half(path, data):
    seen.append(path) if path.name.startswith(".latest.pt.") else None
    if len(seen) == 3:
        write(path, data[: len(data) // 2])
        open("halfway", "w").close()
        time.sleep(600)
    return write(path, data)

Path.write_bytes = half
main(sys.argv[1:])
"""


def test_a_kill_within_the_writing_of_a_checkpoint_leaves_the_last_one(kit, tmp_path):
    """The third write of latest.pt stops half-way, so that the kill hits it for certain."""
    run = tmp_path / "run"
    command = [str(part) for part in soak.training(kit, run)]
    process = subprocess.Popen([sys.executable, "-c", HALF, *command], cwd=kit.folder, stderr=subprocess.DEVNULL)
    wait_until((kit.folder / "halfway").is_file, process)
    process.kill()
    process.wait()
    (torn,) = soak.partial(run)
    assert torn.name.startswith(".latest.pt.")
    soak.inspect(run)
    kit.run(*command)
    assert soak.partial(run) == [], "the next process clears what the killed one left"


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_at_once_and_ends_in_words(kit, tmp_path, number, code):
    run = tmp_path / "run"
    process = kit.start(*soak.training(kit, run)[:-2], "--save-minutes", "60", "--epochs", "40")
    wait_until((run / "history.jsonl").is_file, process)
    first = len((run / "history.jsonl").read_text().splitlines())
    time.sleep(0.2)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "all is saved. The same command goes on from here." in said and "Traceback" not in said
    content = load(run / "latest.pt")
    assert content["resume"]["step"] >= 20 * first


def test_a_second_process_on_the_same_run_is_refused_and_a_killed_one_holds_nothing(kit, tmp_path):
    run = tmp_path / "run"
    command = soak.training(kit, run)[:-4]
    first = kit.start(*command, "--epochs", "400")
    wait_until((run / "latest.pt").is_file, first)
    second = kit.start(*command, "--epochs", "400")
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 2, said
    assert f"hwkit: Another process is writing into {run}: stop it" in said and "Traceback" not in said
    first.kill()
    first.communicate()
    assert (tmp_path / ".run.lock").is_file(), "the lock's file is still there, and locks nothing"
    kit.run(*command, "--epochs", "1")


# The harness itself would notice


@pytest.fixture(scope="module")
def two_runs(kit, tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("two")
    for name in ("a", "b"):
        kit.run(*soak.training(kit, folder / name)[:-4], "--epochs", "1")
    return folder / "a", folder / "b"


def test_two_undisturbed_runs_are_the_same(two_runs):
    soak.compare(*two_runs)


def change_a_weight(run: Path) -> None:
    content = load(run / "best.pt")
    next(iter(content["weights"].values())).view(-1)[0] += 1e-7
    checkpoint.torch.save(content, run / "best.pt")


def change_the_history(run: Path) -> None:
    line = json.loads((run / "history.jsonl").read_text())
    (run / "history.jsonl").write_text(json.dumps({**line, "loss": line["loss"] + 1e-9}) + "\n")


@pytest.mark.parametrize(
    "damage, what",
    [
        (change_a_weight, "best.pt differs"),
        (change_the_history, "history.jsonl differs"),
        (lambda run: (run / "previews" / "epoch_0001.png").unlink(), "other files"),
        (lambda run: (run / ".best.pt.1.partial").write_bytes(b"torn"), "left over"),
    ],
)
def test_the_comparison_notices(two_runs, damage, what):
    a, b = two_runs
    kept = {path: path.read_bytes() for path in b.rglob("*") if path.is_file()}
    damage(b)
    with pytest.raises(Lost, match=what):
        soak.compare(a, b)
    for path in set(b.rglob("*.partial")) - set(kept):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)


def test_a_torn_file_is_noticed(two_runs, tmp_path):
    whole = (two_runs[0] / "latest.pt").read_bytes()
    (tmp_path / "latest.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Lost, match="damaged after a kill"):
        soak.inspect(tmp_path)
