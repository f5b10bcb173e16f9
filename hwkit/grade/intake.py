"""What is in a submission, a .zip or a folder, read within limits: nothing is unpacked, followed or run.

Names come from strangers, so they are only ever looked up in a list made here. What cannot be taken is a sentence in
`problems`, and the rest is read all the same.
"""

import hashlib
import io
import os
import re
import stat
import struct
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from hwkit.files import DAMAGED, is_leftover
from hwkit.language import say

MB = 2**20
ARCHIVE, UNPACKED, FILE = 512 * MB, 1024 * MB, 256 * MB  # bytes at most: of a .zip, of all that is read, of a file
MEMBERS, DIRECTORY = 50_000, 16 * MB  # files at most, and bytes of the list of them in a .zip
LOOSE, RATIO = 8 * MB, 100  # a file larger than this may not unpack to more than RATIO times what it is packed in
DEPTH = 8  # folders in folders
ARCHIVES, FEW = 5, 10  # .zips in a submission that are opened, at most; where fewer pictures than FEW lie beside them
# A figure by its name, or else one of the images: sample_sheet.png and ddim.png, but not sample_00001.png.
DRAWN = re.compile(
    r"grid|loss|curve|sample(?!s?[ _-]?\d)|schedule|network|hist|pair|fig|report|preview|epoch|slider|^\D*dd[pi]m\D*$",
    re.I,
)
SIDE = 4_096  # pixels of a picture, at most; a figure at 600 dpi has fewer
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")


class Refused(ValueError):
    """A file that is not read, and why."""


@dataclass
class Files(ABC):
    """The files of one submission by their names, `generate/00001.png` and the like; `read` gives their bytes."""

    sizes: dict[str, int] = field(default_factory=dict)  # as they are declared
    problems: list[str] = field(default_factory=list)
    left: int = UNPACKED  # bytes that may still be read

    def read(self, name: str, most: int = FILE) -> bytes:
        """The bytes of a file. Raises Refused where it cannot be read, or is larger than `most` or than it says."""
        if (size := self.sizes[name]) > min(most, FILE):
            said = "{name} has {size:,} bytes, more than the {most:,} that are read."
            raise Refused(say(said, name=shown(name), size=size, most=min(most, FILE)))
        if size > self.left:
            said = "{name}: more than {most:,} bytes were read of this submission already."
            raise Refused(say(said, name=shown(name), most=UNPACKED))
        try:
            data = self._bytes(name, size + 1)
        except (*DAMAGED, NotImplementedError) as error:  # zipfile's, of packing or encryption it does not know
            raise Refused(say("{name} cannot be read ({why}).", name=shown(name), why=reason(error))) from error
        self.left -= len(data)
        if len(data) > size:
            raise Refused(say("{name} is larger than the {size:,} bytes that it says.", name=shown(name), size=size))
        return data

    @abstractmethod
    def _bytes(self, name: str, most: int) -> bytes:
        """The bytes of a file, but not more than `most`."""

    def _take(self, raw: str, size: int) -> str | None:
        """Lists a file under a name that stays in the folder; None where it has none, or is not wanted."""
        name = safe_name(raw)
        if name is None:
            said = "{name} is a name that leaves its folder: it was not read."
            self.problems.append(say(said, name=shown(raw)))
        elif any(part[:1] == "." or is_leftover(part) for part in name.split("/")):
            return None
        elif len(self.sizes) >= MEMBERS:
            raise Refused(say("There are more than {most:,} files in it.", most=MEMBERS))
        elif name in self.sizes:
            self.problems.append(say("{name} is there twice: only the first was read.", name=shown(name)))
        else:
            self.sizes[name] = size
            return name
        return None


class Folder(Files):
    """A folder on the disk. Links and devices in it are not followed or opened."""

    def __init__(self, root: Path):
        super().__init__()
        self.paths: dict[str, str] = {}
        todo = [(root, 0)]
        while todo:
            folder, depth = todo.pop()
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                below = Path(entry.path).relative_to(root).as_posix()
                about = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(about.st_mode) and depth < DEPTH:
                    todo.append((Path(entry.path), depth + 1))
                elif stat.S_ISREG(about.st_mode):
                    if name := self._take(below, about.st_size):
                        self.paths[name] = entry.path
                else:
                    said = "{name} is a link: it was not read."
                    if not stat.S_ISLNK(about.st_mode):
                        said = "{name} is no plain file, or a folder too deep down: it was not read."
                    self.problems.append(say(said, name=shown(below)))

    def _bytes(self, name: str, most: int) -> bytes:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(self.paths[name], flags), "rb") as file:
            return file.read(most)


class Archive(Files):
    """A .zip, from a path or from bytes. Raises Refused where it is none, or one that no student needs."""

    def __init__(self, source: Path | bytes):
        super().__init__()
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size > ARCHIVE:
            raise Refused(say("It has {size:,} bytes, more than the {most:,} that are read.", size=size, most=ARCHIVE))
        file = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")  # noqa: SIM115 (kept open)
        try:
            if (listed := directory_size(file, size)) > DIRECTORY:
                raise Refused(say("Its list of files alone has {size:,} bytes.", size=listed))
            self.archive = zipfile.ZipFile(file)
            self.members = {}
            packed = 0
            for member in self.archive.infolist():
                packed += member.compress_size
                if (
                    not member.orig_filename.endswith(("/", "\\"))
                    and self._fits(member)
                    and (name := self._take(*named(member)))
                ):
                    self.members[name] = member
            if packed > size:
                raise Refused(say("Its files overlap, as only those of a zip bomb do."))
        except Refused:
            file.close()
            raise
        except (*DAMAGED, NotImplementedError, struct.error) as error:  # zipfile's, of a .zip newer than it
            file.close()
            raise Refused(say("It is no .zip that can be read.")) from error  # of the reason zipfile says little
        if (declared := sum(self.sizes.values())) > UNPACKED:
            said = "It would unpack to {size:,} bytes, more than the {most:,} that are read."
            raise Refused(say(said, size=declared, most=UNPACKED))

    def _fits(self, member: zipfile.ZipInfo) -> bool:
        """Whether a member is a plain file, packed in a way that cannot burst."""
        why = ""
        if stat.S_ISLNK(member.external_attr >> 16):
            why = "{name} is a link: it was not read."
        elif member.flag_bits & 1:
            why = "{name} is encrypted: it was not read."
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            why = "{name} is packed by a method other than deflate: it was not read."
        elif member.file_size > max(LOOSE, RATIO * member.compress_size):
            why = "{name} would unpack to {size:,} bytes from {packed:,}, as a zip bomb does: it was not read."
        if why:
            sizes = {"size": member.file_size, "packed": member.compress_size}
            self.problems.append(say(why, name=shown(member.filename), **sizes))
        return not why

    def _bytes(self, name: str, most: int) -> bytes:
        with self.archive.open(self.members[name]) as file:
            return file.read(most)


class Joined(Files):
    """A submission with what is in its .zips: of one by its names, of several each below its own.

    Raises Refused where there is one, which cannot be read.
    """

    def __init__(self, outer: Files, archives: list[str]):
        super().__init__(problems=list(outer.problems))
        self.places: dict[str, tuple[Files, str]] = {}
        room = FILE  # bytes of all of them together, as they are held in memory
        for name in archives[:ARCHIVES]:
            try:
                data = outer.read(name, room)
                room -= len(data)
                inner = Archive(data)
            except Refused as error:
                said = str(error) if str(error).startswith(shown(name)) else f"{shown(name)}: {error}"
                if len(archives) == 1:
                    raise Refused(said) from error
                self.problems.append(said)
                continue
            self.problems += inner.problems
            self._add(inner, f"{name[:-4]}/" if len(archives) > 1 else "")
        self._add(outer, "", set(archives))

    def _add(self, files: Files, below: str, without: Collection[str] = ()) -> None:
        for name in files.sizes:
            if name not in without and (taken := self._take(below + name, files.sizes[name])):
                self.places[taken] = files, name

    def _bytes(self, name: str, most: int) -> bytes:
        files, own = self.places[name]
        return files._bytes(own, most)


def directory_size(file, size: int) -> int:
    """The bytes of a .zip's list of files, as the record at its end says; 0 where there is none."""
    file.seek(max(0, size - 65_557 - 76))  # a comment has 65,535 bytes at most; the records before it 98
    tail = file.read()
    file.seek(0)
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        return 0
    listed = struct.unpack_from("<I", tail, end + 12)[0]
    if listed == 0xFFFFFFFF and end >= 76 and tail[end - 76 : end - 72] == b"PK\6\6":
        listed = struct.unpack_from("<Q", tail, end - 76 + 40)[0]
    return listed


def named(member: zipfile.ZipInfo) -> tuple[str, int]:
    return member.orig_filename, member.file_size  # not `filename`, which ends where a NUL stands


def safe_name(raw: str) -> str | None:
    """A name that stays below its folder on every system, with / between its parts; None where there is no such.

    It is a key, under which nothing is ever written: what no name should have, as the blanks and signs of other systems
    and scripts, is left out of it or becomes �.
    """
    parts = [readable(part.strip()) for part in raw.replace("\\", "/").split("/")]
    parts = [part for part in parts if part not in ("", ".")]
    if raw[:1] in ("/", "\\") or len(parts) > DEPTH + 2 or any(re.match(r"[A-Za-z]:", part) for part in parts[:1]):
        return None
    if any(part == ".." or len(part.encode(errors="replace")) > 200 for part in parts):
        return None
    return "/".join(parts) or None


def readable(name: str) -> str:
    """A file's name as text that can be written: bytes that are no UTF-8, as of other systems, become �."""
    return "".join(letter if letter.isprintable() else "�" for letter in name)


def shown(name: str) -> str:
    """A stranger's words in a sentence of ours: one line, printable, not long."""
    words = readable(name)
    return words if len(words) <= 80 else f"{words[:50]}…{words[-25:]}"


def reason(error: Exception) -> str:
    """What an error says, as a part of a sentence of ours: without a full stop of its own at the end."""
    return shown(str(error) or type(error).__name__).rstrip(" .…。")


def opened(path: Path) -> Files:
    """The files of a submission; where hardly a picture lies in it but a .zip does, those in that and those beside it.

    Raises Refused where it is neither folder nor .zip, OSError where it cannot be read.
    """
    if path.is_symlink():
        raise Refused(say("It is a link: it was not followed."))
    if not path.is_dir():
        files: Files = Archive(path)
    else:
        files = Folder(path)
    archives = [name for name in files.sizes if name.lower().endswith(".zip")]
    pictures = [PurePosixPath(name) for name in files.sizes if name.lower().endswith(".png")]
    if archives and sum(not DRAWN.search(path.stem) for path in pictures) < FEW:
        return Joined(files, archives)
    said = "{name} was not opened, as images lie beside it."
    files.problems += [say(said, name=shown(name)) for name in archives[:ARCHIVES]]
    return files


def fingerprint(path: Path) -> str:
    """A hash that changes with a submission: of its bytes, or where it is too large, of size and time."""
    found = hashlib.sha256()
    whole = not path.is_dir() or path.is_symlink()
    files = {"": path} if whole else {name: Path(file) for name, file in Folder(path).paths.items()}
    for name, file in sorted(files.items()):
        about = file.lstat()
        found.update(f"{name}\0{about.st_size}\0".encode(errors="surrogateescape"))
        if not stat.S_ISREG(about.st_mode) or about.st_size > ARCHIVE:
            found.update(f"{about.st_mode} {about.st_mtime_ns}".encode())
            continue
        with open(file, "rb") as data:
            while block := data.read(MB):
                found.update(block)
    return found.hexdigest()


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height of a picture, before it is decoded. Raises Refused where it is none, or has too many pixels."""
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":  # many times as quick
            size = struct.unpack_from(">II", data, 16)
        else:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                size = image.size
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise Refused(say("it does not decode as a picture")) from error
    if max(size) > SIDE:
        said = "it has {width:,}×{height:,} pixels, more than {most:,} on a side: it was not decoded"
        raise Refused(say(said, width=size[0], height=size[1], most=SIDE))
    return size
