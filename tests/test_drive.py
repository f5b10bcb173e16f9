"""Colab's Drive, with a stand-in: what is kept there, fetched from there, and never lost."""

import contextlib
import os
import shutil
import sys
import time
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TINY

from hwkit import notebook
from hwkit.course import selfcheck
from hwkit.files import runs, write_many
from hwkit.runs.checkpoint import load, newest_run
from hwkit.runs.run import train

RECIPE = replace(TINY, epochs=8)


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """`drive(name)`: a new session, its Drive mounted, as `notebook.start` does on Colab; returns the run `mine`."""
    modules = [types.ModuleType(name) for name in ("google", "google.colab", "google.colab.drive")]
    modules[0].colab, modules[1].drive = modules[1], modules[2]
    modules[2].mount = lambda point: (Path(point) / "MyDrive").mkdir(parents=True, exist_ok=True)
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(notebook.time, "sleep", session_waits.append)
    session_waits.clear()

    def session(name, mount=True):
        monkeypatch.setattr(notebook, "kept_on", None)
        monkeypatch.setattr(notebook, "kept_at", {})
        monkeypatch.setenv("HWKIT_RUNS", str(tmp_path / name))
        if mount:
            notebook.mount(tmp_path / "drive")
        return tmp_path / name / "mine"

    session.point, session.module = tmp_path / "drive", modules[2]
    session.kept = tmp_path / "drive" / "MyDrive" / "hwkit" / "mine"
    return session


session_waits: list[float] = []


@pytest.fixture
def copying(monkeypatch):
    """`copying.fails(source, target)`, as long as it is set, decides which copies raise; `copying.done` lists them."""
    real, state = shutil.copyfile, types.SimpleNamespace(fails=None, done=[], error=5)

    def copyfile(source, target, **options):
        if state.fails and state.fails(Path(source), Path(target)):
            Path(target).write_bytes(b"half")
            raise OSError(state.error, os.strerror(state.error))
        state.done.append(Path(source))
        return real(source, target, **options)

    monkeypatch.setattr(notebook.shutil, "copyfile", copyfile)
    return state


def trained(run: Path, digits, epochs: int, **options) -> None:
    """Trains until so many epochs are done, and keeps each."""
    for record in train(RECIPE, digits, run, device="cpu", quiet=True, **options):
        notebook.keep(run)
        if record.epoch == epochs:
            return


@pytest.fixture(scope="session")
def runs_of(digits, tmp_path_factory) -> dict[int, Path]:
    """A run of one epoch and one of three, to copy."""
    folder = tmp_path_factory.mktemp("runs")
    for epochs in (1, 3):
        trained(folder / str(epochs), digits, epochs)
    return {epochs: folder / str(epochs) for epochs in (1, 3)}


@pytest.fixture
def stands(runs_of):
    """`stands(run, epochs)`: a run of so many epochs, 1 or 3, stands in a folder, and is kept."""

    def stand(run: Path, epochs: int) -> None:
        shutil.copytree(runs_of[epochs], run, dirs_exist_ok=True)
        notebook.keep(run)

    return stand


def seen(folder: Path) -> int:
    return load(folder / "latest.pt")["images_seen"]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# A run comes back, and goes on


def test_a_run_comes_back_whole_and_goes_on(drive, stands, digits, capsys):
    stands(drive("s1"), 3)
    run = drive("s2")
    assert seen(run) == 288 and content(run) == content(drive.kept)
    trained(run, digits, 4)
    assert seen(drive.kept) == 384 and len((drive.kept / "history.jsonl").read_text().splitlines()) == 4
    assert "best.pt" not in content(drive.kept) and not capsys.readouterr().out


def test_what_was_fetched_is_not_copied_back(drive, stands, copying):
    run = drive("s1")
    write_many(run / "generate", {f"{k:05d}.png": b"png %d" % k for k in range(1, 4)})
    stands(run, 1)
    run = drive("s2")
    copying.done.clear()
    notebook.keep(run)
    assert copying.done == [] and len(list((run / "generate").iterdir())) == 3


def test_the_newest_run_is_the_same_after_it_was_fetched(drive, stands, tmp_path):
    for name in ("zebra", "ant"):
        drive("s1", mount=False)
        stands(runs() / name, 1)
        notebook.mount(drive.point)
        notebook.keep(runs() / name)
    for age, name in ((100, "zebra"), (200, "ant")):
        os.utime(drive.kept.with_name(name) / "ema_latest.pt", (1e9 - age, 1e9 - age))
    drive("s2")
    assert newest_run(runs()).name == "zebra"


def test_what_notebook_6_makes_is_kept_and_fetched(drive):
    run = drive("s1")
    names = ["report/report.html", "report/report.pdf", "report/schedule.png", "submission.zip", "generate.json"]
    names += ["ema_latest.safetensors", "generate-evaluation/digits_fid.json", "figures/fid_curve.json"]
    names += ["previews/epoch_0001.png"]
    for name in names:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(name.encode())
    notebook.keep(run)
    assert set(content(drive.kept)) == set(names)
    assert content(drive("s2")) == content(drive.kept)


def test_what_programs_left_and_caches_are_not_kept(drive):
    run = drive("s1")
    write_many(run / "generate", dict.fromkeys(("00001.png", "._00001.png", ".DS_Store", "Thumbs.db"), b"x"))
    (run / ".generate.cache.npz").write_bytes(b"x")
    (run / "practice").mkdir()
    (run / "practice" / "00001.png").write_bytes(b"x")
    notebook.keep(run)
    assert set(content(drive.kept)) == {"generate.zip"}
    assert zipfile.ZipFile(drive.kept / "generate.zip").namelist() == ["00001.png"]
    (drive.kept / "desktop.ini").write_bytes(b"x")
    assert set(content(drive("s2"))) == {"generate.zip", "generate/00001.png"}


def test_new_images_make_a_new_zip_as_many_or_more_but_not_fewer(drive):
    run = drive("s1")

    def keep(*images) -> list[bytes]:
        shutil.rmtree(run / "generate", ignore_errors=True)
        write_many(run / "generate", {f"{k:05d}.png": image for k, image in enumerate(images, 1)})
        notebook.keep(run)
        with zipfile.ZipFile(drive.kept / "generate.zip") as archive:
            return [archive.read(name) for name in archive.namelist()]

    assert keep(b"a", b"b") == [b"a", b"b"]
    assert keep(b"c", b"d") == [b"c", b"d"]
    assert keep(b"e") == [b"c", b"d"]
    assert keep(b"f", b"g", b"h") == [b"f", b"g", b"h"]


def test_what_made_the_images_stays_on_drive_with_them(drive, capsys):
    """Else the old images would come back under another checkpoint or seed."""
    run = drive("s1")
    write_many(run / "generate", {f"{k:05d}.png": b"%d" % k for k in range(1, 4)})
    (run / "generate.json").write_text('{"seed": 0}')
    notebook.keep(run)
    shutil.rmtree(run / "generate")
    write_many(run / "generate", {"00001.png": b"another"})
    (run / "generate.json").write_text('{"seed": 7}')
    later(run, 2)
    notebook.keep(run)
    assert (drive.kept / "generate.json").read_text() == '{"seed": 0}'
    write_many(run / "generate", {f"{k:05d}.png": b"another" for k in range(2, 5)})
    later(run, 4)
    notebook.keep(run)
    assert (drive.kept / "generate.json").read_text() == '{"seed": 7}'


def later(run: Path, seconds: float) -> None:
    """Images and manifest are from so many seconds ahead, however coarse the clock of the disk is."""
    for path in (run / "generate", run / "generate.json"):
        os.utime(path, (time.time() + seconds,) * 2)


@pytest.mark.parametrize("spoilt", [b"", b"{", b'{"seed": 0}'])
def test_a_manifest_on_drive_that_does_not_read_stops_no_work(drive, spoilt):
    run = drive("s1")
    write_many(run / "generate", {f"{k:05d}.png": b"%d" % k for k in range(1, 4)})
    (run / "generate.json").write_text('{"seed": 0}')
    notebook.keep(run)
    (drive.kept / "generate.json").write_bytes(spoilt)
    shutil.rmtree(run / "generate")
    write_many(run / "generate", {"00001.png": b"another"})
    later(run, 2)
    notebook.keep(run)
    assert zipfile.ZipFile(drive.kept / "generate.zip").namelist() == ["00001.png", "00002.png", "00003.png"]


def test_a_tab_that_was_opened_early_is_told_of_the_longer_run_on_drive(drive, stands, capsys):
    stands(drive("other"), 1)
    run = drive("tab")
    assert seen(run) == 96
    longer = drive("other")
    stands(longer, 3)
    for path in longer.iterdir():
        os.utime(path)  # written just now
    notebook.keep(longer)
    capsys.readouterr()
    assert drive("tab") == run and seen(run) == 96, "it is not replaced behind anybody's back"
    said = " ".join(capsys.readouterr().out.split())
    assert "!!!" in said and f"!mv {run} {run}-before" in said
    run.rename(f"{run}-before")
    assert seen(drive("tab")) == 288


def test_a_zip_that_drive_does_not_have_is_not_said_to_be_there(drive, stands, monkeypatch, capsys):
    """A shorter run is not kept, nor is its zip; the old one may lie there."""
    monkeypatch.setattr(notebook, "on_colab", lambda: False)  # whose browser would download it
    run = drive("s1")
    stands(run, 3)
    (run / "submission.zip").write_bytes(b"old")
    notebook.keep(run)
    capsys.readouterr()
    notebook.offer(run / "submission.zip")
    assert f"also in {drive.kept}" in capsys.readouterr().out
    (run / "submission.zip").write_bytes(b"newer")
    notebook.offer(run / "submission.zip")
    said = capsys.readouterr().out
    assert "also in" not in said and "Drive does NOT have this file" in said


def test_while_training_drive_is_written_to_seldom(drive, runs_of):
    run = drive("s1")
    for epochs in (1, 3):
        shutil.copytree(runs_of[epochs], run, dirs_exist_ok=True)
        os.utime(run / "latest.pt", (2e9 + epochs, 2e9 + epochs))
        notebook.keep(run, minutes=5)
    assert seen(drive.kept) == 96
    notebook.kept_at[run] -= 301
    notebook.keep(run, minutes=5)
    assert seen(drive.kept) == 288
    (run / "history.jsonl").write_text("later")
    os.utime(run / "history.jsonl", (2e9, 2e9))
    notebook.keep(run, minutes=5)
    assert (drive.kept / "history.jsonl").read_text() != "later"
    notebook.keep(run)
    assert (drive.kept / "history.jsonl").read_text() == "later", "asked for, it is kept at once"


def test_while_training_drive_holds_what_is_at_most_five_minutes_old(drive, digits, monkeypatch):
    """An epoch may take ten minutes on a CPU. The clock here is one that each saving puts forward by two minutes."""
    run, clock, moment, ages, real = drive("s1"), [0.0], [0.0], [], time.monotonic

    def saved(folder):
        clock[0] += 120
        notebook.keep_often(folder)
        if (drive.kept / "latest.pt").read_bytes() == (folder / "latest.pt").read_bytes():
            moment[0] = clock[0]
        ages.append(clock[0] - moment[0])

    monkeypatch.setattr(notebook.time, "monotonic", lambda: real() + clock[0])
    recipe = replace(RECIPE, epochs=2, minutes=None)
    for _ in train(recipe, digits, run, device="cpu", quiet=True, after_save=saved, save_minutes=-1):
        assert seen(drive.kept) > 0
    assert len(ages) > 4 and set(ages) == {0, 120}, "of two savings, two minutes apart, Drive has one at least"


def test_the_ticks_of_the_self_check_go_to_drive_and_come_back(drive):
    def q_sample(x_0, alpha_bar_t, eps):
        return alpha_bar_t**0.5 * x_0 + (1 - alpha_bar_t) ** 0.5 * eps

    drive("s1")
    assert selfcheck.check(q_sample)
    selfcheck.ticks.clear()
    drive("s2")
    assert selfcheck.kept() == {"q_sample": True}
    shutil.rmtree(drive.kept.parent.parent)
    assert selfcheck.check(q_sample) and not drive.kept.parent.parent.exists(), "Drive that is gone is not written to"


# A longer run on Drive is never replaced by a shorter one


@pytest.mark.parametrize("names", [{"latest.pt"}, {"history.jsonl"}, {"ema_latest.pt"}, set()])
def test_a_run_that_could_not_be_fetched_is_not_overwritten_on_drive(drive, stands, digits, copying, names, capsys):
    """One file that Drive does not give, or all of them (the empty set); training then refuses, or begins anew."""
    stands(drive("s1"), 3)
    before = content(drive.kept)
    copying.fails = lambda source, target: drive.point in source.parents and (source.name in names or not names)
    run = drive("s2")
    assert "was not fetched (" in capsys.readouterr().out and not (run / "latest.pt").exists()
    copying.fails = None
    with pytest.raises(ValueError, match=r"without its latest\.pt") if names else contextlib.nullcontext():
        trained(run, digits, 1)
    assert content(drive.kept) == before
    assert sum(session_waits[:4]) == 15
    if not (run / "latest.pt").exists():
        notebook.mount(drive.point)  # the first cell again
        assert seen(run) == 288 and (run / "history.jsonl").read_bytes() == before["history.jsonl"]


def test_a_picture_that_cannot_be_fetched_keeps_nothing_else_from_coming(drive, stands, copying, capsys):
    run = drive("s1")
    (run / "figures").mkdir(parents=True)
    (run / "figures" / "samples.png").write_bytes(b"x")
    stands(run, 1)
    copying.fails = lambda source, target: source.name == "samples.png"
    run = drive("s2")
    assert "samples.png was not fetched" in capsys.readouterr().out and seen(run) == 96


@pytest.mark.parametrize("spoilt", [None, b"", b"half a file"])
def test_a_shorter_run_that_was_begun_without_drive_does_not_replace_a_longer_one(drive, stands, spoilt, capsys):
    """Also where Drive's latest.pt is empty or damaged, and only the other checkpoints tell how long the run was."""
    stands(drive("s1"), 3)
    if spoilt is not None:
        (drive.kept / "latest.pt").write_bytes(spoilt)
    before = content(drive.kept)
    run = drive("s2", mount=False)
    stands(run, 1)
    os.utime(run / "latest.pt", (2e9, 2e9))
    drive("s2")
    notebook.keep(run)
    assert content(drive.kept) == before and "stays as it is" in capsys.readouterr().out
    run.rename(run.with_name("second"))
    notebook.keep(run.with_name("second"))
    assert seen(drive.kept.with_name("second")) == 96, "both are kept"


def test_starting_over_takes_nothing_from_the_longer_run_on_drive(drive, stands, digits):
    """Not its `latest.pt` either, which is written before the old files here are gone."""
    run = drive("first")
    stands(run, 3)
    notebook.keep(run)
    before = content(drive.kept)
    notebook.kept_at.clear()
    for _ in train(replace(RECIPE, epochs=1), digits, run, "cpu", False, quiet=True, after_save=notebook.keep_often):
        notebook.kept_at.clear()
    assert content(drive.kept) == before


def test_a_run_whose_length_drive_does_not_tell_is_not_replaced(drive, stands, monkeypatch, capsys):
    """An I/O error while Drive's checkpoints are read is no damage: nobody knows how long that run is."""
    stands(drive("s1"), 3)
    before, real = content(drive.kept), Path.read_bytes

    def read_bytes(path):
        if drive.point in path.parents:
            raise OSError(5, "Input/output error")
        return real(path)

    run = drive("s2", mount=False)
    stands(run, 1)
    drive("s2")
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    notebook.keep(run)
    monkeypatch.undo()
    assert content(drive.kept) == before and "Drive did not take" in capsys.readouterr().out


# Files on Drive that are damaged


@pytest.mark.parametrize("spoil", ["half", "page", "flipped", "empty", "no images"])
def test_a_zip_that_is_none_is_named_and_the_rest_is_fetched(drive, spoil, capsys, tmp_path):
    run = drive("s1")
    write_many(run / "generate", {f"{k:05d}.png": bytes([k]) * 1000 for k in range(1, 4)})
    (run / "latest.pt").write_bytes(b"weights")
    notebook.keep(run)
    path, whole = drive.kept / "generate.zip", (drive.kept / "generate.zip").read_bytes()
    flipped = whole.replace(bytes([2]) * 1000, bytes([2]) * 999 + b"!")
    bad = {"half": whole[: len(whole) // 2], "page": b"<html>", "flipped": flipped, "empty": b""}
    path.write_bytes(bad.get(spoil, b"PK\5\6" + bytes(18)))
    capsys.readouterr()
    run = drive("s2")
    assert (run / "latest.pt").read_bytes() == b"weights" and not (run / "generate").exists()
    assert str(path) in capsys.readouterr().out
    write_many(run / "generate", {f"{k:05d}.png": b"new" for k in range(1, 5)})
    notebook.keep(run)
    assert len(zipfile.ZipFile(path).namelist()) == 4, "the images that were made again are kept"


def test_a_checkpoint_of_0_bytes_is_named_and_the_run_goes_on_from_its_other_weights(drive, stands, digits, capsys):
    stands(drive("s1"), 3)
    (drive.kept / "latest.pt").write_bytes(b"")
    run = drive("s2")
    said = capsys.readouterr().out
    assert "latest.pt is empty (0 bytes)" in said and f"--weights {run}" in said and not (run / "latest.pt").exists()
    with pytest.raises(ValueError, match="--weights"):
        trained(run, digits, 4)
    trained(run, digits, 4, weights=run)
    assert seen(run) == seen(drive.kept) == 384 and len((drive.kept / "history.jsonl").read_text().splitlines()) == 4


def test_a_file_of_0_bytes_is_not_fetched_over_a_good_one_and_is_replaced_on_drive(drive, stands):
    run = drive("s1")
    stands(run, 1)
    (drive.kept / "ema_latest.pt").write_bytes(b"")
    os.utime(drive.kept / "ema_latest.pt", (2e9, 2e9))
    notebook.mount(drive.point)
    assert (run / "ema_latest.pt").stat().st_size
    notebook.keep(run)
    assert (drive.kept / "ema_latest.pt").read_bytes() == (run / "ema_latest.pt").read_bytes()


# Drive that is not there


def test_a_drive_that_has_gone_is_noticed(drive, stands, capsys):
    run = drive("s1")
    shutil.rmtree(drive.point)
    drive.point.mkdir()  # what FUSE leaves: an empty folder on the local disk
    stands(run, 1)
    assert not any(drive.point.iterdir())
    assert "Drive is no longer mounted: run the first cell" in capsys.readouterr().out
    notebook.mount(drive.point)
    notebook.keep(run)
    assert seen(drive.kept) == 96


def test_a_folder_that_only_looks_like_drive_is_noticed(drive, stands, capsys):
    """MyDrive on another file system than the one that was mounted: somebody made the folder on the local disk."""
    run = drive("s1")
    notebook.kept_on = (notebook.kept_on[0], notebook.kept_on[1] + 1)
    stands(run, 1)
    assert not drive.kept.exists() and "no longer mounted" in capsys.readouterr().out


def test_a_drive_that_goes_between_two_tries_is_noticed(drive, copying, capsys):
    run = drive("s1")
    run.mkdir(parents=True)
    (run / "latest.pt").write_bytes(b"weights")

    def unmounted(source, target):
        shutil.rmtree(drive.point / "MyDrive")
        target.parent.mkdir(parents=True)
        shutil.rmtree(drive.point / "MyDrive")
        drive.point.joinpath("x").touch()  # so that the stand-in for `half` has no folder to go to
        raise OSError(107, "Transport endpoint is not connected")

    copying.fails = unmounted
    notebook.keep(run)
    assert not drive.kept.exists() and "no longer mounted" in capsys.readouterr().out and session_waits == [1]


@pytest.mark.parametrize("reason", ["Mountpoint must not already contain files", "mount failed"])
def test_a_drive_that_is_not_mounted_says_what_to_do(drive, reason):
    def mount(point):
        raise ValueError(reason)

    drive.module.mount = mount
    with pytest.raises(ValueError, match=rf"{reason}.*!mv .*drive .*drive-local.*drive=False") as refused:
        drive("s1")
    assert refused.value.__cause__ is None and notebook.kept_on is None
    notebook.keep(runs() / "mine")  # without Drive, nothing happens


def test_a_student_who_does_not_allow_drive_is_told_what_to_do(drive, monkeypatch):
    """Colab raises an exception of a private module then."""
    message = types.ModuleType("google.colab._message")
    message.MessageError = type("MessageError", (Exception,), {})
    monkeypatch.setitem(sys.modules, message.__name__, message)

    def mount(point):
        raise message.MessageError("Error: credential propagation was unsuccessful")

    drive.module.mount = mount
    with pytest.raises(ValueError, match=r"credential propagation.*drive=False"):
        drive("s1")


def test_a_mount_that_brings_no_mydrive_says_so(drive):
    drive.module.mount = lambda point: Path(point).mkdir()
    with pytest.raises(ValueError, match="not mounted"):
        drive("s1")


def test_a_drive_that_fails_twice_is_asked_a_third_time(drive, copying):
    run, failures = drive("s1"), [1, 1]
    run.mkdir(parents=True)
    (run / "latest.pt").write_bytes(b"new weights")
    copying.fails = lambda source, target: failures and failures.pop()
    notebook.keep(run)
    assert content(drive.kept) == {"latest.pt": b"new weights"} and session_waits == [1, 2]


def test_a_drive_that_never_answers_does_not_stop_the_training_and_is_asked_again_later(drive, copying, capsys):
    run, failures = drive("s1"), []
    run.mkdir(parents=True)
    (run / "latest.pt").write_bytes(b"new weights")
    copying.fails = lambda source, target: failures and failures.pop()
    notebook.keep(run)
    (run / "latest.pt").write_bytes(b"newer weights")
    os.utime(run / "latest.pt", (2e9, 2e9))
    failures += [1] * 5
    notebook.keep(run)
    assert "Drive did not take" in capsys.readouterr().out
    assert content(drive.kept) == {"latest.pt": b"new weights"}, "what was kept before is whole"
    notebook.keep(run)
    assert content(drive.kept) == {"latest.pt": b"newer weights"}
