"""Files are written whole or not at all, by one process at a time, and read with a sentence where they are damaged."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import hwkit.files
from hwkit.files import (
    expanded,
    is_leftover,
    load_npz,
    only_process,
    read_json,
    runs,
    whole_file,
    write_bytes,
    write_json,
    write_many,
    write_text,
)

KIT = Path(__file__).parent.parent


def refuse(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def old(tmp_path) -> Path:
    """A file that stands there already, alone in its folder."""
    path = tmp_path / "folder" / "notes [1].txt"
    path.parent.mkdir()
    path.write_text("old")
    return path


def intact(old) -> bool:
    return old.read_text() == "old" and os.listdir(old.parent) == [old.name]


# Whole or not at all


def test_a_file_is_written_into_folders_that_are_not_there_yet(tmp_path):
    path = tmp_path / "a" / "b" / "é.json"
    write_json(path, {"name": "ᾱ", "n": [1, 2]})
    assert read_json(path) == {"name": "ᾱ", "n": [1, 2]} and "ᾱ" in path.read_text("utf-8")
    write_text(path, "τ")
    assert path.read_bytes() == "τ".encode()
    write_bytes(path, b"\0")
    assert path.read_bytes() == b"\0" and os.listdir(path.parent) == ["é.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, MemoryError])
def test_what_fails_half_way_leaves_what_was_there(old, error):
    with pytest.raises(error), whole_file(old) as temporary:
        temporary.write_text("ne")
        assert old.read_text() == "old"
        raise error
    assert intact(old)


def test_nobody_sees_a_file_before_it_is_whole(old):
    with whole_file(old) as temporary:
        temporary.write_text("ne")
        assert old.read_text() == "old"
        temporary.write_text("new")
    assert old.read_text() == "new" and os.listdir(old.parent) == [old.name]


@pytest.mark.parametrize(
    "number, hint",
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "larger than this system allows"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "not permitted"),
        (errno.EPERM, "not permitted"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
@pytest.mark.parametrize("where", [(os, "fsync"), (os, "replace"), (os, "mkdir")], ids=lambda where: where[1])
def test_an_error_of_the_disk_ends_in_a_sentence_and_spares_what_was_there(old, monkeypatch, where, number, hint):
    monkeypatch.setattr(*where, refuse(number))
    with pytest.raises(OSError, match=rf"notes \[1\]\.txt was not written: .*{hint}.*before is damaged") as caught:
        write_text(old, "new")
    monkeypatch.undo()
    assert caught.value.errno == number and intact(old)


def test_a_path_through_a_file_and_one_to_a_folder_are_refused(old):
    with pytest.raises(OSError, match="a part of that path is a file"):
        write_text(old / "below" / "x.txt", "new")
    with pytest.raises(OSError, match=r"folder was not written"):
        write_text(old.parent, "new")
    assert intact(old)


def recorded(monkeypatch) -> list[tuple[str, str]]:
    """What is synced to the disk and what is renamed, in this order: ("file" or "folder", name), ("rename", name)."""
    done, fsync, replace = [], os.fsync, os.replace

    def sync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        done.append(("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file", os.path.basename(path)))
        return fsync(descriptor)

    def rename(source, path):
        done.append(("rename", os.path.basename(path)))
        return replace(source, path)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    return done


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="names of open files are Linux's")


@needs_proc
def test_a_file_is_on_the_disk_before_its_name_is_and_then_the_folder(old, monkeypatch):
    """After a power failure a name without its content would be a damaged file; a rename may be lost, unless synced."""
    done = recorded(monkeypatch)
    write_text(old, "new")
    assert done == [("file", old.name), ("rename", old.name), ("folder", "folder")]


@needs_proc
def test_many_files_are_synced_with_their_folder_and_not_one_by_one(tmp_path, monkeypatch):
    done = recorded(monkeypatch)
    monkeypatch.setattr(os, "sync", lambda: done.append(("all file systems", "")))
    write_many(tmp_path / "images", {f"{k}.png": b"x" for k in range(5)})
    assert [kind for kind, _ in done] == ["rename"] * 5 + ["folder"] and done[-1] == ("folder", "images")
    assert sorted(os.listdir(tmp_path / "images")) == [f"{k}.png" for k in range(5)]
    assert os.listdir(tmp_path) == ["images"]


def test_many_files_appear_only_when_all_are_written(tmp_path, monkeypatch):
    folder, real = tmp_path / "images", Path.write_bytes
    write_many(folder, {"1.png": b"old"})

    def full(path, data):
        if data == b"3":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="images was not written: the disk is full"):
        write_many(folder, {"1.png": b"new", "2.png": b"2", "3.png": b"3"})
    assert os.listdir(folder) == ["1.png"] and (folder / "1.png").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["images"]


def test_a_file_can_be_written_where_only_what_is_open_for_writing_can_be_synced(old, monkeypatch):
    """As on Windows: there os.fsync of a descriptor that was opened for reading is EBADF."""
    real = os.fsync

    def as_on_windows(descriptor):
        reading = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        if reading and stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return real(descriptor)

    monkeypatch.setattr(os, "fsync", as_on_windows)
    write_text(old, "new")
    assert old.read_text() == "new"


@pytest.mark.parametrize("number, written", [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_drive_that_cannot_sync_a_folder_is_written_to_all_the_same(old, monkeypatch, number, written):
    real = os.fsync

    def as_on_a_drive(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        return real(descriptor)

    monkeypatch.setattr(os, "fsync", as_on_a_drive)
    if written:
        write_text(old, "new")
    else:
        with pytest.raises(OSError, match="was not written"):
            write_text(old, "new")
    assert old.read_text() == "new"


# One process at a time


HOLD = """
import sys, time
from hwkit.files import only_process
with only_process(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def held(tmp_path):
    """A process of its own that holds the lock of the folder `run`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], cwd=KIT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_is_one_processs_until_that_ends_however_it_ends(held, tmp_path, monkeypatch):
    monkeypatch.setattr(hwkit.files, "WAIT_FOR_LOCK", 0.2)
    refused = pytest.raises(ValueError, match=r"run is being written to by another process.*another folder")
    with refused, only_process(tmp_path / "run"):
        pytest.fail("two processes write")
    with only_process(tmp_path / "run2"):
        pass
    held.kill()
    held.wait()
    assert (tmp_path / ".run.lock").exists(), "the file is still there, and locks nothing"
    with only_process(tmp_path / "run"):
        pass


def test_a_lock_is_waited_for_longer_than_the_workers_of_a_killed_training_hold_it():
    from torch.utils.data._utils import MP_STATUS_CHECK_INTERVAL  # after which they see that they are alone

    assert hwkit.files.WAIT_FOR_LOCK > MP_STATUS_CHECK_INTERVAL


def test_one_process_does_not_write_twice_either(tmp_path, monkeypatch):
    monkeypatch.setattr(hwkit.files, "WAIT_FOR_LOCK", 0.2)
    twice = pytest.raises(ValueError, match="or by this one")
    with only_process(tmp_path / "run"), twice, only_process(tmp_path / "run"):
        pytest.fail("it writes twice")
    with pytest.raises(ZeroDivisionError), only_process(tmp_path / "run"):
        raise ZeroDivisionError
    with only_process(tmp_path / "run"):
        pass


def test_a_lock_that_is_about_to_be_free_is_waited_for(tmp_path):
    """The data workers of a killed training hold it for some seconds more."""
    released, entered = threading.Event(), threading.Event()

    def hold():
        with only_process(tmp_path / "run"):
            entered.set()
            time.sleep(0.5)
            released.set()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    with only_process(tmp_path / "run"):
        assert released.is_set()
    thread.join()


def test_the_folder_may_be_the_one_that_the_process_is_in(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with only_process("."):
        assert (tmp_path / ".here.lock").exists()


def test_a_file_that_another_program_holds_for_a_moment_is_written_all_the_same(old, monkeypatch):
    """On Windows a scanner, a viewer or OneDrive does; a rename onto the file is refused as long."""
    real, refused = os.replace, [PermissionError(13, "held"), PermissionError(13, "held")]

    def replace(source, target):
        if refused:
            raise refused.pop()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(hwkit.files, "BUSY", (0.0, 0.0))
    write_text(old, "new")
    assert old.read_text() == "new"
    refused += [PermissionError(13, "held")] * 3
    with pytest.raises(OSError, match="not permitted"):
        write_text(old, "newer")
    assert old.read_text() == "new"


def test_a_path_that_is_no_utf_8_is_written_and_read_as_it_is(tmp_path):
    """As of a folder from a zip in Big5."""
    name = os.fsdecode(b"/x/\xa7\xf8")
    write_json(tmp_path / "a.json", {"folders": [name], "ᾱ": 1})
    assert read_json(tmp_path / "a.json") == {"folders": [name], "ᾱ": 1}


def test_who_has_a_folder_clears_what_a_killed_process_left_in_it(tmp_path):
    folder = tmp_path / "run [1]"
    (folder / "previews").mkdir(parents=True)
    dead = [folder / ".latest.pt.abcd_123.partial", tmp_path / ".run [1].abcd1234.partial"]
    dead += [tmp_path / ".run [1].json.abcd1234.partial", folder / "previews" / ".1.png.abcd1234.partial"]
    alive = [tmp_path / ".run [1].2.abcd1234.partial", tmp_path / ".other.abcd1234.partial"]  # neighbours'
    alive += [tmp_path / ".run 1.abcd1234.partial", folder / "mine.partial", folder / "latest.pt"]
    (folder / "generate").mkdir()
    alive += [folder / ".generate.abcd1234.partial"]  # of who is sampling into it, under that folder's own lock
    for path in (*dead, *alive):
        path.mkdir() if path.name.startswith(".") else path.write_text("x")
    with only_process(folder):
        assert not any(path.exists() for path in dead) and all(path.exists() for path in alive)


def test_who_writes_a_file_leaves_alone_what_others_are_writing(old):
    """Without the lock nobody knows whether they are alive: on a network drive they may be another machine's."""
    theirs = old.parent / f".{old.name}.abcd1234.partial"
    theirs.mkdir()
    (theirs / old.name).write_text("half")
    os.utime(theirs, (0, 0))
    write_text(old, "new")
    assert (theirs / old.name).read_text() == "half"


# Reading


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe\x00", b"[1, 2"])
def test_a_damaged_json_file_is_named(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json is damaged.*delete it"):
        read_json(tmp_path / "run.json")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


def test_arrays_are_read_and_python_objects_are_not(tmp_path):
    np.savez(tmp_path / "good.npz", a=np.arange(3), b=np.eye(2))
    arrays = load_npz(tmp_path / "good.npz")
    assert set(arrays) == {"a", "b"} and arrays["a"].tolist() == [0, 1, 2]
    np.savez(tmp_path / "dict.npz", np.array({"mu": 1}, dtype=object))
    with pytest.raises(ValueError, match=r"dict\.npz holds Python objects.*np\.savez\(path, name=array"):
        load_npz(tmp_path / "dict.npz")
    with pytest.raises(FileNotFoundError):
        load_npz(tmp_path / "none.npz")


def test_an_npz_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(100_000, np.uint8))
    monkeypatch.setattr(hwkit.files, "LARGEST", 100_000)  # the header comes on top
    with pytest.raises(ValueError, match=r"bomb\.npz would unpack to 100,128 bytes"):
        load_npz(tmp_path / "bomb.npz")


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_half_an_npz_is_called_so(tmp_path, part):
    np.savez(tmp_path / "half.npz", a=np.arange(1000))
    whole = (tmp_path / "half.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ValueError, match=r"half\.npz is not a whole \.npz"):
        load_npz(tmp_path / "half.npz")


# Names


@pytest.mark.parametrize(
    "name",
    [".DS_Store", "Thumbs.db", "thumbs.db", "desktop.ini", "._00001.png", "__MACOSX", ".ipynb_checkpoints"],
)
def test_what_programs_leave_is_known(name):
    assert is_leftover(name)


@pytest.mark.parametrize("name", ["00001.png", "essay.txt", ".hidden", "_00001.png", "DS_Store", "notes.db"])
def test_what_people_make_is_not_taken_for_it(name):
    assert not is_leftover(name)


def test_the_home_folder_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/runs") == tmp_path / "runs" and expanded("a/~b") == Path("a/~b")
    monkeypatch.setenv("HWKIT_RUNS", "~/mine")
    assert runs() == tmp_path / "mine"
    for unset in ("", None):
        monkeypatch.setenv("HWKIT_RUNS", "") if unset == "" else monkeypatch.delenv("HWKIT_RUNS")
        assert runs() == Path("runs")


def test_a_file_where_a_folder_stands_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OSError, match=r"page\.html was not written: that is a folder, not a file: choose another path"):
        write_text(tmp_path / "page.html", "<p>")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
