"""Where runs, figures and images are kept, and how a file is written: whole or not at all."""

import contextlib
import errno
import glob
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import filelock
import psutil

WAIT_FOR_LOCK = 6.0  # seconds: the data workers of a killed training notice within five that they are alone
HINTS = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
    errno.EFBIG: "the file would be larger than this system allows: choose another folder",
    errno.EROFS: "the file system is read-only: choose a folder that you can write to",
    errno.EACCES: "writing is not permitted there: choose a folder that you can write to",
    errno.EPERM: "writing is not permitted there: choose a folder that you can write to",
    errno.ENOTDIR: "a part of that path is a file, not a folder: choose another path",
}


def runs() -> Path:
    """The folder that holds the runs: `HWKIT_RUNS`, or `runs/` where the command is called."""
    return Path(os.environ.get("HWKIT_RUNS", "runs"))


@contextlib.contextmanager
def only_process(folder: Path | str) -> Iterator[None]:
    """Within it no other process may write into `folder`. ValueError where one does already.

    The lock is the operating system's, on `.<name>.lock` beside the folder. It ends with its process, however that
    ends: the file that a killed one leaves behind locks nothing.
    """
    folder = Path(os.path.abspath(folder))  # "." has no name to put a lock beside
    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=WAIT_FOR_LOCK)
    except filelock.Timeout:
        raise ValueError(
            f"Another process is writing into {folder}: stop it, wait for its end, or choose another folder."
        ) from None
    except OSError as error:
        raise _explained(error, folder) from error
    try:
        _clear_leftovers(folder)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Gives a temporary path to write to; then the file appears at `path` whole, by fsync and an atomic rename.

    If anything fails on the way, what stood at `path` is untouched and the temporary file is gone. An OSError (disk
    full, not permitted, …) is raised again as one sentence that says what to do.
    """
    path = Path(path)
    with _beside(path) as temporary:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Writes the file whole (see `whole_file`)."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Writes the file whole (see `whole_file`), as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, content) -> None:
    """Writes the file whole (see `whole_file`), as indented JSON."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_many(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes some small files into `folder`, each whole.

    They are written beside the folder, flushed to the disk together (one flush for hundreds of files: a flush for each
    would take longer than making them), and renamed into place.
    """
    folder = Path(folder)
    with _beside(folder) as beside:
        folder.mkdir(exist_ok=True)
        beside.mkdir(exist_ok=True)
        for name, data in files.items():
            (beside / name).write_bytes(data)
        if hasattr(os, "sync"):  # not on Windows
            os.sync()
        for name in files:
            os.replace(beside / name, folder / name)
        _sync_folder(folder)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to first, which is gone in the end."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(path)
        yield temporary
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        _remove(temporary)


def _clear_leftovers(path: Path) -> None:
    """Deletes what processes that were killed while they wrote `path` left beside it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        process = left.name.split(".")[-2]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            _remove(left)


def _remove(path: Path) -> None:
    """Deletes a file or folder, if it is there and can be."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sync_folder(folder: Path) -> None:
    """Makes the renames in a folder survive a power failure, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network drives (Colab's among them) cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def _explained(error: OSError, path: Path) -> OSError:
    hint = HINTS.get(error.errno, error.strerror)
    return OSError(error.errno, f"{path} was not written: {hint}. Nothing that was there before is damaged.")
