"""Whose submission is it? From the names that learning platforms give, and a roster where there is one."""

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwkit.files import is_leftover
from hwkit.grade.intake import readable
from hwkit.language import listing, say

ID_COLUMNS = ("id", "studentid", "studentnumber", "sid", "number", "學號", "学号", "學生學號")
NAME_COLUMNS = ("name", "fullname", "studentname", "student", "姓名", "學生姓名")
LATE = re.compile(r"(?<![^\W_])late(?![^\W_])", re.I)  # `_late_`, `(LATE)`, but not `Plate`
NO_SUBMISSION = (".csv", ".toml", ".html", ".yml", ".yaml", ".xlsx")  # what instructors and platforms lay beside them
LONGEST = 80  # letters of an id that is made from a file's name
RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{i}" for name in ("com", "lpt") for i in range(10))}  # on Windows


@dataclass(frozen=True)
class Student:
    """A line of the roster."""

    id: str
    name: str = ""


@dataclass(frozen=True)
class Entry:
    """A submission as it lies in the folder, and the student it is taken to be of."""

    id: str  # safe as a file's name, and no other entry's
    name: str
    path: Path | None  # None: of the roster, but nothing was handed in
    late: bool = False
    doubts: tuple[str, ...] = ()  # what a person should look at
    student: str = ""  # the id as the roster has it

    @property
    def file(self) -> str:
        """What was handed in, as it is called; "" where nothing was."""
        return readable(self.path.name) if self.path else ""


def read_roster(path: Path) -> list[Student]:
    """The students of a CSV with a column for the id and perhaps one for the name; others are left alone.

    Raises FileNotFoundError where there is none, ValueError where it has no such column, or an id twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: save it as “CSV UTF-8” in your spreadsheet.") from error
    first = text.splitlines()[:1]
    delimiter = next((mark for mark in "\t;" if first and mark in first[0] and "," not in first[0]), ",")
    rows = csv.DictReader(io.StringIO(text, newline=None), delimiter=delimiter)  # Excel for the Mac ends lines by a CR
    columns = {re.sub(r"[\W_]", "", (column or "").lower()): column for column in rows.fieldnames or ()}
    ids, names = ([columns[key] for key in known if key in columns] for known in (ID_COLUMNS, NAME_COLUMNS))
    if not ids:
        found = ", ".join(rows.fieldnames or ()) or "nothing"
        raise ValueError(f"{path} has the columns {found}, but none called id: name the column of student ids so.")
    students = [Student((row[ids[0]] or "").strip(), (row[names[0]] or "").strip() if names else "") for row in rows]
    students = [student for student in students if student.id]
    twice = [name for name, count in Counter(plain(student.id) for student in students).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has the id {twice[0]} more than once: each student needs a line of their own.")
    return students


def entries(folder: Path, roster: Sequence[Student] | None = None, ignored: Iterable[Path] = ()) -> list[Entry]:
    """What lies in the folder, by the ids: .zips and folders are submissions, and any other file is one that fails.

    With a roster each is looked up there, and who handed in nothing has an entry too. ValueError for an empty
    folder, and for one in which no name fits the roster.
    """
    ignored = {path.resolve() for path in ignored}
    paths = [p for p in folder.iterdir() if not (p.name[:1] == "." or is_leftover(p.name) or p.resolve() in ignored)]
    taken = [p for p in paths if p.is_symlink() or p.is_dir() or p.suffix.lower() not in NO_SUBMISSION]
    if not taken:
        raise ValueError(f"{folder} holds no submissions: name the folder that holds a .zip or a folder of each.")
    students, found = {student.id: student for student in roster or ()}, []
    for path in sorted(taken, key=lambda path: path.name):
        stem = readable(path.stem if path.suffix.lower() in (".zip", ".7z", ".rar", ".gz") else path.name)
        matched = owners(stem, students.values())
        doubts = []
        if roster and not matched:
            doubts.append(say("No student of the roster has this name or id."))
        elif len(matched) > 1:
            said = "The file's name also fits {others}: the first one that it names was taken."
            doubts.append(say(said, others=listing(student.id for student in matched[1:])))
        student = matched[0] if matched else Student(stem, stem)
        found.append(Entry(student.id, student.name, path, bool(LATE.search(stem)), tuple(doubts)))
    there = {entry.id for entry in found}
    if roster and not there & students.keys():
        text = (
            "{folder}: no name in it fits the roster. If it holds the one .zip that a platform gives, unpack that, but "
            "not those in it; folders such as submission_123 are to be renamed, by the platform's own list of them."
        )
        raise ValueError(say(text, folder=folder))
    found += [Entry(s.id, s.name, None) for s in students.values() if s.id not in there]
    return unique(found)


def owners(stem: str, students: Iterable[Student]) -> list[Student]:
    """The students whose id or name stands in a file's name: what comes first at first, and of two there the longer.

    Platforms put their own name for the student first, and what the student called the file after it: so nobody can
    hand in for another by a file's name.
    """
    words, squashed, found = plain(stem), re.sub(r"[\W_]", "", plain(stem)), {}
    for student in students:
        own = plain(student.id)
        # B12345王小明 begins with an id, but 作業1 does not end with the 1 of a list.
        loose = own.isascii() and len(own) >= 4
        edge = "[0-9a-z]" if loose else r"[^\W_]"
        places = [m.start() for m in re.finditer(rf"(?<!{edge}){re.escape(own)}(?!{edge})", words)]
        fits = [(len(re.sub(r"[\W_]", "", words[: places[0]])), -len(own))] if places else []
        parts = re.findall(r"[^\W_]+", plain(student.name))
        for name in {"".join(parts), "".join(parts[::-1]), "".join(parts[-1:] + parts[:-1])} if parts else ():
            if len(name) >= (2 if not name.isascii() else 4) and (at := squashed.find(name)) >= 0:
                fits.append((at, -len(name)))
        if fits:
            found[student] = min(fits)
    return sorted(found, key=found.__getitem__)


def unique(found: Sequence[Entry]) -> list[Entry]:
    """With ids that are safe as names of files and differ on every system; who shares one gets a number and a doubt."""
    safe = [safe_id(entry.id) for entry in found]
    count, seen, result = Counter(map(str.casefold, safe)), Counter(), []
    taken = set(count)
    for entry, name in zip(found, safe, strict=True):
        doubts, key = entry.doubts, name.casefold()
        if count[key] > 1:
            while True:
                seen[key] += 1
                if f"{name}~{seen[key]}".casefold() not in taken:
                    break
            said = "{count} submissions would be of {name}: decide which one counts."
            doubts += (say(said, count=count[key], name=entry.id),)
            name = f"{name}~{seen[key]}"
            taken.add(name.casefold())
        result.append(Entry(name, entry.name, entry.path, entry.late, doubts, entry.id))
    return sorted(result, key=lambda entry: entry.id)


def safe_id(text: str) -> str:
    """A name for files on every system: letters and digits of any script, - and single _; never empty or reserved."""
    text = unicodedata.normalize("NFC", text)
    safe = re.sub(r"_+", "_", "".join(c if c.isalnum() or c == "-" else "_" for c in text)).strip("_-")
    while len(safe[:LONGEST].encode()) > 180:
        safe = safe[: min(LONGEST, len(safe)) - 1]
    safe = safe[:LONGEST]
    return f"id_{safe}" if not safe or safe.casefold() in RESERVED else safe


def plain(text: str) -> str:
    """In the form in which names are compared: NFKC, small letters."""
    return unicodedata.normalize("NFKC", text).casefold()
