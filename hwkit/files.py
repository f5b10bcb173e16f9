"""Where runs are kept, and how a file is read and written: whole or not at all."""

import contextlib
import errno
import glob
import io
import json
import os
import shutil
import struct
import tempfile
import time
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import filelock
import numpy as np

from hwkit.language import marked, say

WAIT_FOR_LOCK = 6.0  # seconds: the data workers of a killed training notice within five that they are alone
# Seconds between tries: on Windows a scanner, a viewer or OneDrive may hold a file open for a moment.
BUSY = (0.1, 0.3, 1.0, 2.0) if os.name == "nt" else ()
LARGEST = 2**32  # bytes that an .npz may unpack to: MNIST in RGB has 141 million
DAMAGED = (  # what zipfile, zlib, numpy and torch raise, between them, for a damaged archive
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, SyntaxError),
    *(OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError),
)
HINTS = {
    errno.ENOSPC: marked("the disk is full: free some space and run the same command again"),
    errno.EDQUOT: marked("the disk quota is used up: free some space and run the same command again"),
    errno.EFBIG: marked("the file would be larger than this system allows: choose another folder"),
    errno.EISDIR: marked("that is a folder, not a file: choose another path"),
    errno.EROFS: marked("the file system is read-only: choose a folder that you can write to"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), marked("writing is not permitted there: choose another folder")),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST), marked("a part of that path is a file, not a folder: choose another path")
    ),
}
LEFTOVERS = {".ds_store", "thumbs.db", "desktop.ini", "__macosx", ".ipynb_checkpoints", ".localized", "@eadir"}
LEFTOVERS |= {"icon\r"}  # of Finder, which shows no such sign


def expanded(path: Path | str) -> Path:
    """The path with `~` as the home folder: for whatever a person wrote, once, where it comes in."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        text = "{path} begins in a home folder that is not known here: name the whole path."
        raise ValueError(say(text, path=path)) from error


def runs() -> Path:
    """The folder that holds the runs: `HWKIT_RUNS`, or `runs/` where the command is called."""
    return expanded(os.environ.get("HWKIT_RUNS") or "runs")


def is_leftover(name: str) -> bool:
    """Whether a program (Finder, Explorer, Jupyter, this kit) left a file or folder of this name, not a person."""
    return name.lower() in LEFTOVERS or name.startswith("._") or name.endswith(".partial")


# Reading


def read_json(path: Path | str):
    """What a JSON file holds. OSError where it cannot be read; ValueError, with its name, where it is damaged."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except ValueError as error:
        text = "{path} is damaged, it is no JSON ({error}): delete it, and run this again."
        raise ValueError(say(text, path=path, error=error)) from error


def load_npz(path: Path | str | io.BytesIO, name: str = "") -> dict[str, np.ndarray]:
    """All arrays of an .npz; ValueError where it is damaged, no .npz, too large, or holds Python objects.

    name: what it is called, where it is no file of its own.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size <= LARGEST:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
    except FileNotFoundError:
        raise
    except DAMAGED as error:
        if "allow_pickle" in str(error):
            text = (
                "{path} holds Python objects, such as a dict, which are not loaded: save plain arrays, "
                "np.savez(path, name=array, …)."
            )
            raise ValueError(say(text, path=name or path)) from error
        reason = "".join(c for c in str(error)[:100] if c.isprintable())  # zipfile quotes whole headers
        text = "{path} is not a whole .npz file of plain arrays ({reason}): fetch it again."
        raise ValueError(say(text, path=name or path, reason=reason)) from error
    text = "{path} would unpack to {size:,} bytes, more than the {most:,} that are taken."
    raise ValueError(say(text, path=name or path, size=size, most=LARGEST))


def cached(path: Path, key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays that are kept at `path` under this key; else those of make(), which are kept there from now on."""
    with contextlib.suppress(OSError, ValueError):  # none are kept, or damaged ones
        arrays = load_npz(path)
        if str(arrays.get("key")) == key:
            return arrays
    arrays = make()
    try:
        write_npz(path, **arrays, key=key)
    except OSError as error:  # the arrays are here all the same; only the next time will be slower
        print(say("Going on with no cache: {error}", error=error))
    return arrays


# Writing


@contextlib.contextmanager
def only_process(folder: Path | str) -> Iterator[None]:
    """Within it no other process may write into `folder`. ValueError where one does already.

    The lock is the operating system's, on `.<name>.lock` beside the folder. It ends with its process, however that
    ends: the file that a killed one leaves behind locks nothing. What was half written into the folder is deleted.
    """
    folder = Path(os.path.abspath(folder))  # "." has no name to put a lock beside
    with contextlib.ExitStack() as held:
        with _explained(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(filelock.FileLock(folder.with_name(f".{folder.name}.lock"), WAIT_FOR_LOCK))
            except filelock.Timeout:
                text = (
                    "{folder} is being written to by another process, or by this one: stop that, wait for its end, "
                    "or choose another folder."
                )
                raise ValueError(say(text, folder=folder)) from None
        # Nobody else writes here now, so what is half written is dead: the folder, its manifest, or a file in it. Not
        # so a folder in it, which has its own lock. The eight letters are tempfile's: a neighbour may be called alike.
        name, end = glob.escape(folder.name), ".????????.partial"
        for pattern in (f".{name}{end}", f".{name}.json{end}", f"{name}/**/.*{end}"):
            for left in list(folder.parent.glob(pattern)):
                if left.parent == folder.parent or not left.with_name(left.name[1 : -len(end)]).is_dir():
                    shutil.rmtree(left, ignore_errors=True)
        yield


@contextlib.contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Gives a temporary path to write to; then the file appears at `path` whole, by fsync and an atomic rename.

    If anything fails on the way, what stood at `path` is untouched and the temporary file is gone. An OSError (disk
    full, not permitted, …) is raised again as one sentence that says what to do.
    """
    path = Path(path)
    with _beside(path) as folder:
        temporary = folder / path.name
        yield temporary
        with open(temporary, "r+b") as written:  # Windows flushes only what is open for writing
            os.fsync(written.fileno())
        _replace(temporary, path)
        _sync_folder(path.parent)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Writes the file whole (see `whole_file`)."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Writes the file whole (see `whole_file`), as UTF-8.

    A path of other bytes, as of a folder from a Big5 zip, is in Python's text as half characters: they become
    `\\udca7`, which in JSON reads back as they were.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path | str, content) -> None:
    """Writes the file whole (see `whole_file`), as indented JSON."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_npz(path: Path | str, **arrays) -> None:
    """Writes the file whole (see `whole_file`), with the arrays by their names."""
    with whole_file(path) as temporary, open(temporary, "wb") as file:  # np.savez adds .npz to the name of any other
        np.savez(file, **arrays)


def write_many(folder: Path | str, files: Mapping[str, bytes]) -> None:
    """Writes some small files into `folder`, each whole or not there.

    They are not flushed to the disk one by one, which would take longer than making them. After a power failure some
    may be missing or empty, and whoever counts them must take an empty one as missing.
    """
    folder = Path(folder)
    with _beside(folder) as beside:
        folder.mkdir(exist_ok=True)
        for name, data in files.items():
            (beside / name).write_bytes(data)
        for name in files:
            _replace(beside / name, folder / name)
        _sync_folder(folder)


def _replace(temporary: Path, path: Path) -> None:
    """Renames over what is there, where need be at the second or third try (see BUSY)."""
    for pause in (*BUSY, None):
        try:
            return os.replace(temporary, path)
        except PermissionError:
            if pause is None:
                raise
            time.sleep(pause)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write into first, on the same disk. It is gone in the end."""
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(".partial", f".{path.name}.", path.parent, ignore_cleanup_errors=True) as name:
            yield Path(name)


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


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raises an OSError again as one sentence that says what was not written, and what to do."""
    try:
        yield
    except OSError as error:
        hint = say(HINTS[error.errno]) if error.errno in HINTS else error.strerror
        text = "{path} was not written: {hint}. Nothing that was there before is damaged."
        raise OSError(error.errno, say(text, path=path, hint=hint)) from error
