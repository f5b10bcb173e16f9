"""Where runs, figures and images are kept, and how a file is written: whole or not at all."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

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
def whole_file(path: Path | str) -> Iterator[Path]:
    """Gives a temporary path to write to; then the file appears at `path` whole, by fsync and an atomic rename.

    If anything fails on the way, what stood at `path` is untouched and the temporary file is gone. An OSError (disk
    full, not permitted, …) is raised again as one sentence that says what to do.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        with contextlib.suppress(OSError):  # gone already when all went well
            temporary.unlink()


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
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside.mkdir(exist_ok=True)
        for name, data in files.items():
            (beside / name).write_bytes(data)
        if hasattr(os, "sync"):  # not on Windows
            os.sync()
        for name in files:
            os.replace(beside / name, folder / name)
        _sync_folder(folder)
    except OSError as error:
        raise _explained(error, folder) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


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
