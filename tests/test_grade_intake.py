"""What strangers hand in: archives that lie, burst, climb or hang, and whose they are. Nothing leaves its place."""

import contextlib
import io
import os
import stat
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit.grade import intake
from hwkit.grade.intake import Archive, Folder, Refused, fingerprint, opened, picture_size, safe_name
from hwkit.grade.roster import Entry, Student, entries, owners, read_roster, safe_id, unique

PIXEL = b"\x89PNG\r\n\x1a\n"


def zipped(files: dict[str, bytes], packing=zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PIXEL + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# Names


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("generate/00001.png", "generate/00001.png"),
        ("./generate/00001.png", "generate/00001.png"),
        ("作業 三/00001.png", "作業 三/00001.png"),
        ("a\\b.png", "a/b.png"),  # as some Windows programs write it
        ("../00001.png", None),
        ("generate/../../00001.png", None),
        ("..\\00001.png", None),
        ("/etc/passwd", None),
        ("\\\\server\\share", None),
        ("C:\\windows\\system32", None),
        ("c:x", None),
        ("a//b", "a/b"),  # as of a Big5 name whose second byte is a backslash's
        ("作業三\u3000王小明/00001.png", "作業三�王小明/00001.png"),
        ("HW3 /00001.png", "HW3/00001.png"),
        ("\udca7\udcf8/00001.png", "��/00001.png"),  # bytes of another system
        ("", None),
        (".", None),
        ("\u3000", None),
        ("a/ .. /b", None),
        ("./C:/x", None),
        ("a\0b.png", "a�b.png"),
        ("a\nb.png", "a�b.png"),
        ("\u202egnp.exe", "�gnp.exe"),  # a sign that turns what follows around
        ("a/" * 40 + "b", None),
        ("x" * 300, None),
        ("a /b", "a/b"),
    ],
)
def test_a_name_stays_below_its_folder_or_is_none(raw, name):
    assert safe_name(raw) == name


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["..", ".", "a", "/", "\\", "C:", "\0", " "]), max_size=12).map("".join)
)
def test_no_name_leaves_the_folder_on_any_system(raw):
    name = safe_name(raw)
    if name is None:
        return
    for system in (os.path, __import__("ntpath"), __import__("posixpath")):
        top = system.join("C:\\top" if system.__name__ == "ntpath" else "/top")
        assert system.normpath(system.join(top, name)).startswith(top)
    assert name.isprintable() and safe_name(name) == name


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.binary(max_size=30), max_size=6))
@settings(max_examples=100)
def test_an_archive_of_any_names_is_read_by_safe_names_or_refused(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            try:
                archive.writestr(name, data)
            except (UnicodeEncodeError, ValueError, IndexError):
                return  # a name that zipfile does not write
    try:
        found = Archive(buffer.getvalue())
    except Refused:
        return
    for name in found.sizes:
        assert safe_name(name) == name
        found.read(name)


def test_a_file_is_read_whatever_its_name_is_called_here(tmp_path):
    """Under a name that another system's zip gave it, or with blanks that no name here may have."""
    names = ["HW3 \u3000/generate\\00001.png", "a\u3000b.txt"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    files = Folder(tmp_path)
    assert {files.read(name).decode() for name in files.sizes} == set(names) and files.problems == []
    assert set(files.sizes) == {"HW3/generate/00001.png", "a�b.txt"} and len(fingerprint(tmp_path)) == 64


def test_the_zip_of_the_images_is_opened_also_beside_many_figures(tmp_path):
    """Of figures the kit draws nine, and a preview of each epoch."""
    for name in ("samples", "diffusion_grid_ddim", "ddpm", *(f"epoch_{k:04d}" for k in range(1, 13))):
        (tmp_path / f"{name}.png").write_bytes(PIXEL)
    (tmp_path / "generate.zip").write_bytes(zipped({f"generate/{k:05d}.png": PIXEL for k in range(1, 21)}))
    files = opened(tmp_path)
    assert "generate/00020.png" in files.sizes and "ddpm.png" in files.sizes and files.problems == []


def test_a_zip_beside_the_images_is_said_to_be_left_closed(tmp_path):
    for k in range(1, 13):
        (tmp_path / f"{k:05d}.png").write_bytes(PIXEL)
    (tmp_path / "all.zip").write_bytes(zipped({"x.png": PIXEL}))
    files = opened(tmp_path)
    assert "x.png" not in files.sizes and files.problems == ["all.zip was not opened, as images lie beside it."]


# Archives


def test_what_an_archive_holds_is_read_by_name():
    files = Archive(zipped({"generate/00001.png": b"one", "run.json": b"{}"}))
    assert files.sizes == {"generate/00001.png": 3, "run.json": 2}
    assert files.read("generate/00001.png") == b"one" and files.problems == []


def test_a_name_that_is_a_zero_byte_stops_nothing():
    """zipfile takes it for an empty name, which has no last letter."""
    files = Archive(zipped({"Q": b"1", "a.png": b"2"}).replace(b"Q", b"\0"))
    assert list(files.sizes) == ["�", "a.png"] and files.read("a.png") == b"2"


def test_what_programs_leave_behind_is_passed_over():
    files = Archive(zipped({"__MACOSX/._a.png": b"1", ".DS_Store": b"1", "a/.hidden": b"1", "a/b.png": b"1"}))
    assert list(files.sizes) == ["a/b.png"] and files.problems == []


@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil.png", "a/../../evil.png", "..\\evil.png"])
def test_a_name_that_leaves_the_folder_is_not_read_and_said(name, tmp_path):
    files = Archive(zipped({name: b"evil", "good.png": b"good"}))
    assert list(files.sizes) == ["good.png"]
    assert len(files.problems) == 1 and "leaves its folder" in files.problems[0]


def test_a_link_in_an_archive_is_not_read():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("generate/00001.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("generate/00002.png", b"2")
    files = Archive(buffer.getvalue())
    assert list(files.sizes) == ["generate/00002.png"] and "is a link" in files.problems[0]


def test_an_encrypted_file_is_said():
    data = bytearray(zipped({"a.png": b"secret", "b.png": b"open"}))
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + at] |= 1
    files = Archive(bytes(data))
    assert list(files.sizes) == ["b.png"] and "is encrypted" in files.problems[0]


def test_another_packing_than_deflate_is_not_unpacked():
    files = Archive(zipped({"a.png": bytes(1000)}, zipfile.ZIP_BZIP2))
    assert not files.sizes and "method" in files.problems[0]


def test_a_declared_bomb_is_not_read():
    files = Archive(zipped({"a.png": bytes(32 * intake.MB), "b.png": b"1"}))
    assert list(files.sizes) == ["b.png"] and "zip bomb" in files.problems[0]


def test_a_bomb_that_lies_about_its_size_is_stopped_there():
    """It says 100 bytes, and would unpack to 200 million."""
    data = bytearray(zipped({"a.png": bytes(200_000_000)}))
    for mark, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", data, data.index(mark) + at, 100)
    files = Archive(bytes(data))
    assert files.sizes == {"a.png": 100}
    tracemalloc.start()
    with pytest.raises(Refused, match=r"a\.png cannot be read"):
        files.read("a.png")
    assert tracemalloc.get_traced_memory()[1] < 5 * intake.MB
    tracemalloc.stop()


def test_a_bomb_whose_files_overlap_is_refused():
    """A thousand entries of the directory show to the same data (as in Fifield's bomb)."""
    data = zipped({"a.png": bytes(5_000_000)})
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry, record = data[start:end], bytearray(data[end:])
    directory = b"".join(entry.replace(b"a.png", f"{k:05d}".encode()) for k in range(1000))
    struct.pack_into("<HHII", record, 8, 1000, 1000, len(directory), start)
    overlapping = data[:start].replace(b"a.png", b"00000") + directory + bytes(record)
    with pytest.raises(Refused, match="overlap"):
        Archive(overlapping)


def test_an_archive_of_too_many_files_is_refused_before_they_are_listed(monkeypatch):
    record = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 2**31, 0, 0)
    started = time.monotonic()
    with pytest.raises(Refused, match="list of files alone"):
        Archive(record)
    assert time.monotonic() - started < 1
    monkeypatch.setattr(intake, "MEMBERS", 3)
    with pytest.raises(Refused, match="more than 3 files"):
        Archive(zipped({f"{k}.png": b"" for k in range(4)}))


def test_much_that_is_declared_in_many_files_is_refused(monkeypatch):
    monkeypatch.setattr(intake, "UNPACKED", 1000)
    with pytest.raises(Refused, match=r"would unpack to 1,200 bytes"):
        Archive(zipped({"a": bytes(600), "b": bytes(600)}))


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_any_bytes_are_read_or_refused(data):
    for content in (data, zipped({"a.png": b"1" * 50})[:80] + data, zipped({"a": b"1" * 50}) + data):
        try:
            files = Archive(content)
        except Refused as error:
            assert "\n" not in str(error)
        else:
            for name in files.sizes:
                try:
                    files.read(name)
                except Refused as error:
                    assert len(str(error)) < 400


def test_a_truncated_archive_is_refused():
    with pytest.raises(Refused, match=r"no \.zip that can be read"):
        Archive(zipped({"a.png": b"1" * 1000})[:-30])


# Folders


def test_links_and_devices_in_a_folder_are_not_opened(tmp_path):
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "submission"
    (folder / "generate").mkdir(parents=True)
    (folder / "generate" / "00001.png").write_bytes(b"1")
    (folder / "generate" / "00002.png").symlink_to(tmp_path / "secret")
    (folder / "all").symlink_to(tmp_path)
    os.mkfifo(folder / "run.json")  # to open it would wait for ever
    files = Folder(folder)
    assert files.sizes == {"generate/00001.png": 1}
    assert sorted(problem.split(" is ")[1] for problem in files.problems) == [
        "a link: it was not read.",
        "a link: it was not read.",
        "no plain file, or a folder too deep down: it was not read.",
    ]


def test_a_file_that_becomes_a_link_meanwhile_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("1234")
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "a").write_text("1234")
    files = Folder(folder)
    (folder / "a").unlink()
    (folder / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(Refused):
        files.read("a")


def test_a_file_of_ten_gigabytes_costs_nothing(tmp_path):
    folder = tmp_path / "submission"
    folder.mkdir()
    for path in (folder / "00001.png", tmp_path / "large.zip"):
        with open(path, "wb") as file:
            file.truncate(10 * 2**30)  # of nothing: it takes no place on the disk
    started = time.monotonic()
    files = Folder(folder)
    with pytest.raises(Refused, match=r"10,737,418,240 bytes, more than"):
        files.read("00001.png")
    with pytest.raises(Refused, match="more than"):
        opened(tmp_path / "large.zip")
    assert fingerprint(folder) and fingerprint(tmp_path / "large.zip")
    assert time.monotonic() - started < 2


def test_a_submission_that_is_itself_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(Refused, match="link"):
        opened(tmp_path / "link")


def test_an_archive_in_a_folder_or_in_an_archive_is_opened_once(tmp_path):
    inner = zipped({"generate/00001.png": b"1"})
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "homework.zip").write_bytes(inner)
    (tmp_path / "student" / "comments.txt").write_text("see the zip")
    (tmp_path / "twice.zip").write_bytes(zipped({"hw/homework.zip": inner}))
    (tmp_path / "thrice.zip").write_bytes(zipped({"a.zip": zipped({"b.zip": inner})}))
    assert list(opened(tmp_path / "student").sizes) == ["generate/00001.png", "comments.txt"]
    assert list(opened(tmp_path / "twice.zip").sizes) == ["generate/00001.png"]
    assert list(opened(tmp_path / "thrice.zip").sizes) == ["b.zip"]


def test_what_lies_beside_a_zip_belongs_to_the_submission_too(tmp_path):
    """As a platform exports who uploaded the images as a .zip, and report and figures one by one."""
    (folder := tmp_path / "student").mkdir()
    (folder / "hw.zip").write_bytes(zipped({"generate/00001.png": b"1", "run.json": b"inner"}))
    (folder / "report.html").write_bytes(b"words")
    (folder / "grid_ddpm.png").write_bytes(b"figure")
    (folder / "run.json").write_bytes(b"outer")
    files = opened(folder)
    wanted = {"generate/00001.png": b"1", "run.json": b"inner", "report.html": b"words", "grid_ddpm.png": b"figure"}
    assert {name: files.read(name) for name in files.sizes} == wanted
    assert len(files.problems) == 1 and "run.json is there twice" in files.problems[0]


def test_several_zips_are_all_opened_and_a_broken_one_is_a_problem(tmp_path):
    (folder := tmp_path / "student").mkdir()
    (folder / "images.zip").write_bytes(zipped({"generate/00001.png": b"1"}))
    (folder / "code.zip").write_bytes(zipped({"02.ipynb": b"{}", "../out.py": b"x"}))
    (folder / "old.zip").write_bytes(b"broken")
    files = opened(folder)
    assert {n: files.read(n) for n in files.sizes} == {"images/generate/00001.png": b"1", "code/02.ipynb": b"{}"}
    assert any("old.zip" in said for said in files.problems) and any("leaves its folder" in s for s in files.problems)


def test_all_that_is_read_of_several_zips_has_one_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "UNPACKED", 3000)
    (folder := tmp_path / "student").mkdir()
    for k in range(3):
        (folder / f"{k}.zip").write_bytes(zipped({"a.bin": os.urandom(900), "b.bin": os.urandom(900)}))
    files = opened(folder)
    files.left = 3000
    with pytest.raises(Refused, match="were read of this submission already"):
        for name in files.sizes:
            files.read(name)


def test_several_zips_are_held_in_memory_up_to_one_limit(tmp_path, monkeypatch):
    (folder := tmp_path / "student").mkdir()
    for k in range(3):
        (folder / f"{k}.zip").write_bytes(zipped({f"{k}.bin": os.urandom(900)}))
    monkeypatch.setattr(intake, "FILE", 2 * (folder / "0.zip").stat().st_size + 10)
    files = opened(folder)
    assert set(files.sizes) == {"0/0.bin", "1/1.bin"}
    assert len(files.problems) == 1 and files.problems[0].startswith("2.zip has")


def test_the_fingerprint_is_of_what_is_in_it(tmp_path):
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    before = fingerprint(folder)
    os.utime(folder / "a", (0, 0))
    assert fingerprint(folder) == before
    (folder / "a").write_bytes(b"2")
    assert fingerprint(folder) != before


# Pictures


def test_forty_thousand_pixels_are_refused_before_they_are_decoded():
    with pytest.raises(Refused, match="40,000×40,000 pixels"):
        picture_size(png_header(40_000, 40_000))
    assert picture_size(png_header(28, 28)) == (28, 28)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_size_or_refused(data):
    for content in (data, PIXEL + data, b"GIF89a" + data, b"BM" + data, b"RIFF" + data):
        with contextlib.suppress(Refused):
            assert max(picture_size(content)) <= intake.SIDE


# Whose it is

CLASS = [
    Student("B01", "Lin Mei"),
    Student("B02", "王小明"),
    Student("B03", "O'Neill, Tom"),
    Student("B010", "Ana Cruz"),
]


@pytest.mark.parametrize(
    ("stem", "ids"),
    [
        ("B01", ["B01"]),
        ("b01_homework", ["B01"]),
        ("Lin Mei_10231_assignsubmission_file_", ["B01"]),  # Moodle
        ("linmei_10231_8812_hw", ["B01"]),  # Canvas
        ("meilin_late_10231_8812_hw", ["B01"]),
        ("王小明_20993_作業", ["B02"]),
        ("Ｂ０２", ["B02"]),  # full width
        ("oneilltom_1_2_hw", ["B03"]),
        ("B010-hw", ["B010"]),  # not B01
        ("hw3", []),
        ("xB01x", []),
        ("linmei_1_2_B02", ["B01", "B02"]),  # who names another in the file's name is still who the platform says
    ],
)
def test_a_file_is_of_whom_the_platform_names(stem, ids):
    assert [student.id for student in owners(stem, CLASS)] == ids


@pytest.mark.parametrize(
    ("stem", "first"),
    [
        ("weicheng_10231_8812_hw", "C"),
        ("weichen_10230_8811_hw", "A"),
        ("chengwei_1_2_hw", "C"),
        ("王明華_1_2_作業", "D"),
        ("王明_1_2_作業", "E"),
    ],
)
def test_a_name_that_begins_with_anothers_is_its_own(stem, first):
    names = {"A": "Wei Chen", "C": "Wei Cheng", "D": "王明華", "E": "王明"}
    assert owners(stem, [Student(*each) for each in names.items()])[0].id == first


def test_an_id_may_have_the_name_right_behind_it():
    """學號姓名.zip, as files are often called; an id that is the beginning of another is not meant."""
    students = [Student("B123"), Student("B1234")]
    assert [s.id for s in owners("B123王小明", students)] == ["B123"]
    assert [s.id for s in owners("作業B1234", students)] == ["B1234"]
    seats = [Student("1"), Student("12")]
    assert [s.id for s in owners("作業1_12", seats)] == ["12"], "a seat's number is no part of a title"


@pytest.mark.parametrize("names", [["submissions.zip"], ["submission_1/", "submission_2/", "submission_metadata.yml"]])
def test_a_class_of_which_nobody_is_found_is_not_graded_as_absent(tmp_path, names):
    """The one .zip of a platform, or Gradescope's folders: all would have 0 points."""
    for name in names:
        path = tmp_path / name
        path.mkdir() if name.endswith("/") else path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no name in it fits the roster.*unpack that"):
        entries(tmp_path, CLASS)
    assert len(entries(tmp_path, None)) == len([name for name in names if not name.endswith(".yml")])


def test_entries_are_by_the_roster_and_who_handed_in_nothing_is_there(tmp_path):
    for name in ("linmei_late_1_2_B02.zip", "unknown.zip", "notes.rar"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "B010").mkdir()
    (tmp_path / ".DS_Store").write_bytes(b"")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "roster.csv").write_text("id\n")
    found = {entry.id: entry for entry in entries(tmp_path, CLASS)}
    assert set(found) == {"B01", "B02", "B03", "B010", "unknown", "notes"}
    assert found["B01"].late and found["B01"].path.name == "linmei_late_1_2_B02.zip"
    assert "also fits B02" in found["B01"].doubts[0]
    assert found["B02"].path is None and found["B03"].path is None
    assert found["B010"].path.is_dir() and not found["B010"].late
    assert "No student" in found["unknown"].doubts[0]


def test_two_submissions_of_one_student_stay_two_and_neither_counts_by_itself(tmp_path):
    for name in ("B01.zip", "B01 again.zip", "B01~1.zip"):
        (tmp_path / name).write_bytes(b"")
    found = entries(tmp_path, CLASS[:1])
    assert len({entry.id.casefold() for entry in found}) == 3 and "B01" not in {entry.id for entry in found}
    assert all("decide which one counts" in entry.doubts[-1] for entry in found)


@given(
    st.lists(
        st.text(max_size=12) | st.sampled_from(["a", "A", "a~1", "CON", "con", "..", "/", "ä", "a\u0308"]), max_size=8
    )
)
def test_ids_are_names_of_files_that_differ_on_every_system(names):
    found = unique([Entry(name, "", None) for name in names])
    assert len({entry.id.casefold() for entry in found}) == len(names)
    for entry in found:
        assert entry.id and all(c.isalnum() or c in "_-~" for c in entry.id) and len(entry.id.encode()) < 200
        assert entry.id.casefold() not in ("con", "nul", "prn", "aux") and Path(entry.id).name == entry.id


def test_an_id_keeps_its_letters():
    assert safe_id("王小明 (B12)") == "王小明_B12"
    assert safe_id("../../etc/passwd") == "etc_passwd"


def test_the_id_of_the_roster_stays_beside_the_one_that_is_a_files_name(tmp_path):
    (tmp_path / "mei.lin@uni.edu hw3.zip").write_bytes(b"")
    [found] = entries(tmp_path, [Student("mei.lin@uni.edu", "Lin Mei")])
    assert (found.id, found.student) == ("mei_lin_uni_edu", "mei.lin@uni.edu")


def roster(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("id,name\nB01,Lin Mei\n", "utf-8"),
        ("\ufeffID;Section;Full name\r\nB01;A;Lin Mei\r\n", "utf-8"),
        ("Student Number\tName\nB01\tLin Mei\n", "utf-8"),
        ("姓名,學號\nLin Mei,B01\n", "utf-8"),
        ('name,id\n"Lin Mei",B01\n,\n', "utf-8"),
        ("id,name\rB01,Lin Mei\r", "utf-8"),  # Excel for the Mac
    ],
)
def test_a_roster_is_read_in_the_forms_that_spreadsheets_write(text, encoding, tmp_path):
    assert read_roster(roster(tmp_path / "r.csv", text, encoding)) == [Student("B01", "Lin Mei")]


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        ("name\nLin Mei\n", "utf-8", "columns name, but none called id"),
        ("", "utf-8", "columns nothing"),
        ("id\nB01\nb01\n", "utf-8", "b01 more than once"),
        ("id,name\nB01,王\n", "big5", "is not UTF-8"),
    ],
)
def test_a_roster_that_cannot_be_used_is_refused_in_a_sentence(text, encoding, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        read_roster(roster(tmp_path / "r.csv", text, encoding))


def test_a_csv_of_the_roster_is_no_submission(tmp_path):
    roster(tmp_path / "r.csv", "id\nB01\n")
    with pytest.raises(ValueError, match="holds no submissions"):
        entries(tmp_path, [])
