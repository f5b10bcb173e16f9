"""The check of a submission: a good folder passes, each fault is named, and who copies the advice loses nothing."""

import shutil
import struct
import warnings
import zlib
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwkit.files import write_many
from hwkit.language import speaking
from hwkit.measure.check import Row, rows
from hwkit.measure.features import classify, digit_features
from hwkit.mnist.folder import encode_png, file_name
from hwkit.mnist.sources import SAMPLE, read_source

N = 100
TEST = read_source(SAMPLE, "test").images  # (500, 1, 28, 28), digits that the embedded training set does not hold
TEST = TEST[classify(digit_features(TEST)) < 10][:, 0]  # but for those that the classifier takes for no digit
ROWS = [
    *("no subfolders", "100 files", "names", "every file opens", "PNG", "RGB", "28×28"),
    *("not blank", "grey levels", "no duplicates", "no copies", "all ten digits"),
]
SPOTS = np.random.default_rng(0).integers(0, 256, size=(N, 28, 28), dtype=np.uint8)


def write(images, folder: Path) -> Path:
    """Grey images (28, 28), or colour images (28, 28, 3), as RGB PNGs with the right names."""
    images = [image[None] if image.ndim == 2 else image.transpose(2, 0, 1) for image in images]
    write_many(folder, {file_name(k): encode_png(image) for k, image in enumerate(images, 1)})
    return folder


def save(pictures, folder: Path, name: str = "{:05d}.png", **options) -> Path:
    """Pillow's images, as they are, or arrays of any size."""
    folder.mkdir(parents=True)
    for k, picture in enumerate(pictures, 1):
        picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        picture.save(folder / name.format(k), **options)
    return folder


def found(folder: Path, what: str, n: int = N) -> Row:
    return next(row for row in rows(folder, n) if row.what == what)


def failing(folder: Path, n: int = N) -> list[str]:
    return [row.what for row in rows(folder, n) if row.passed is False]


def follow(row: Row, folder: Path) -> None:
    """Does what a person would who copies the advice: the line after the colon, for every file."""
    code = row.mend.split(": ", 1)[1]
    for path in sorted(folder.iterdir()):
        exec(code, {"Image": Image, "np": np, "path": path})


def failing_to_advice(folder: Path, n: int) -> list[Row]:
    """The rows that fail, up to the first whose advice holds a line: those after it are not waited for."""
    failed = []
    for row in rows(folder, n):
        if row.passed is False:
            failed.append(row)
            if ": " in row.mend:
                break
    return failed


def mended(folder: Path, n: int, rounds: int = 3) -> np.ndarray:
    """The grey pictures, once the first advice that holds a line was followed, over and over, until all passes."""
    while failed := failing_to_advice(folder, n):
        assert rounds and ": " in failed[-1].mend, failed
        follow(failed[-1], folder)
        rounds -= 1
    pictures = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    assert all(picture.shape == (28, 28, 3) and np.ptp(picture, axis=2).max() == 0 for picture in pictures)
    return np.stack(pictures)[..., 0]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    return write(TEST[:N], tmp_path_factory.mktemp("check") / "good")


@pytest.fixture
def folder(template, tmp_path) -> Path:
    """A good folder, to be broken."""
    return shutil.copytree(template, tmp_path / "generate")


# The whole table


def test_a_good_folder_passes(folder):
    table = list(rows(folder, N))
    assert all(row.passed is True for row in table)
    assert [row.what for row in table] == ROWS


def test_two_thousand_images_pass(tmp_path):
    """480 digits moved to a few places each, of which no two are too near one another."""
    shifts = [(0, 0), (0, 1), (1, 0), (1, 1), (-1, 0)]
    moved = np.concatenate([np.roll(TEST[:480], shift, axis=(1, 2)) for shift in shifts])[:2000]
    assert all(row.passed is True for row in rows(write(moved, tmp_path / "all"), 2000))


def test_ten_thousand_images_by_default(tmp_path):
    for k in range(1, 10_000):
        (tmp_path / file_name(k)).touch()
    table = rows(tmp_path)
    assert next(table).passed
    assert next(table)[:3] == ("10,000 files", False, "9,999")
    assert next(table)[:3] == ("names", False, "1 missing: 10000.png")
    (tmp_path / "10000.png").touch()
    assert [row.passed for row in islice(rows(tmp_path), 3)] == [True, True, True]


def resave(path: Path, mode: str = "RGB", size: tuple[int, int] = (28, 28)) -> None:
    Image.open(path).convert(mode).resize(size).save(path)


def missing_number(folder):
    (folder / "00017.png").rename(folder / "00101.png")


def one_too_few(folder):
    (folder / "00100.png").unlink()


def one_too_many(folder):
    write(TEST[N : N + 1], folder / "more")
    shutil.move(folder / "more" / "00001.png", folder / "00101.png")
    (folder / "more").rmdir()


def grey_mode(folder):
    resave(folder / "00003.png", "L")


def alpha(folder):
    for path in folder.iterdir():
        resave(path, "RGBA")


def too_large(folder):
    resave(folder / "00042.png", size=(32, 32))


def too_small(folder):
    resave(folder / "00042.png", size=(14, 14))


def subfolder(folder):
    (folder / "epoch_1").mkdir()


def subfolder_of_images(folder):
    write(TEST[:3], folder / "previews")


def jpg(folder):
    for path in list(folder.iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()


def jpg_by_another_name(folder):
    Image.open(folder / "00009.png").save(folder / "00009.png", format="JPEG")


def truncated(folder):
    path = folder / "00055.png"
    path.write_bytes(path.read_bytes()[:120])


def text_by_another_name(folder):
    (folder / "00056.png").write_text("a digit, honestly")


def nothing_in_it(folder):
    (folder / "00057.png").write_bytes(b"")


def broken_link(folder):
    (folder / "00058.png").unlink()
    (folder / "00058.png").symlink_to(folder / "nowhere.png")


def duplicate(folder):
    Image.open(folder / "00007.png").save(folder / "00008.png", compress_level=1)  # other bytes, the same picture


def short_names(folder):
    for path in list(folder.iterdir()):
        path.rename(folder / f"{int(path.stem)}.png")


def other_file(folder):
    (folder / "notes.txt").write_text("nice ones")


def all_equal(folder):
    for path in folder.glob("*.png"):
        if path.name != "00001.png":
            shutil.copy(folder / "00001.png", path)


def training_images(folder):
    write(read_source(SAMPLE, "train").images[:N, 0], folder)


def noise(folder):
    write(np.random.default_rng(0).integers(0, 256, size=(N, 28, 28, 3), dtype=np.uint8), folder)


def red(folder):
    write(TEST[:N, ..., None] * np.array([1, 0, 0], np.uint8), folder)


def only_ones(folder):
    test = read_source(SAMPLE, "test")
    ones = test.images[test.labels == 1, 0]
    write(np.concatenate([ones, np.roll(ones, 3, axis=2)])[:N], folder)


def only_symmetric_digits(folder):
    test = read_source(SAMPLE, "test")
    write(test.images[np.isin(test.labels, [0, 1, 8]), 0][:N], folder)


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def not_a_folder(folder):
    shutil.rmtree(folder)
    folder.write_bytes(b"PK")


def nothing_there(folder):
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("spoil", "fails", "named", "mend"),
    [
        (missing_number, ["names"], "1 missing: 00017.png; 1 other: 00101.png", "five digits"),
        (one_too_few, ["100 files", "names"], "1 missing: 00100.png", "make the missing"),
        (one_too_many, ["100 files", "names"], "1 other: 00101.png", "delete 00101.png"),
        (grey_mode, ["RGB"], "00003.png is L", 'convert("RGB")'),
        (alpha, ["RGB"], "100 of 100 fail: 00001.png is RGBA", 'convert("RGB")'),
        (too_large, ["28×28"], "00042.png is 32×32", "resize"),
        (too_small, ["28×28"], "00042.png is 14×14", "resize((28, 28), Image.LANCZOS)"),
        (subfolder, ["no subfolders"], "epoch_1", "delete the subfolder"),
        (subfolder_of_images, ["no subfolders"], "previews", "move"),
        (jpg, ["names", "PNG"], "00001.jpg", "save the images as .png"),
        (jpg_by_another_name, ["PNG"], "00009.png is JPEG", "save these as PNG"),
        (truncated, ["every file opens"], "00055.png", "make these again"),
        (text_by_another_name, ["every file opens"], "00056.png", "make these again"),
        (nothing_in_it, ["every file opens"], "00057.png", "make these again"),
        (broken_link, ["every file opens"], "00058.png", "make these again"),
        (duplicate, ["no duplicates"], "00007.png = 00008.png", "again"),
        (short_names, ["names"], "1.png", "five digits"),
        (other_file, ["100 files", "names"], "1 other: notes.txt", "delete notes.txt"),
        (all_equal, ["no duplicates", "all ten digits"], "99 of 100 fail: 00001.png = 00002.png", "seed"),
        (training_images, ["no copies"], "100 of 100", "memorised"),
        (noise, ["all ten digits"], "100 of 100 look like no digit; 0: 0, 1: 0", "look like no digit"),
        (red, ["all ten digits"], "of 100 look like no digit; ", "look like no digit"),
        (only_ones, ["all ten digits"], "missing: 0, 2, 3, 4, 5, 6, 8, 9; far too often: 1; 0: 0", "far too seldom"),
        (
            only_symmetric_digits,
            ["all ten digits"],
            "missing: 2, 3, 4, 5, 6, 9; far too often: 0, 8; 0: ",
            "far too seldom",
        ),
        (empty, ["100 files", "names"], "100 missing: 00001.png, 00002.png, 00003.png, …", "make the missing"),
        (not_a_folder, ["folder"], "is a file", "unpacked"),
        (nothing_there, ["folder"], "there is no", "name the folder"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_broken_folders(folder, spoil, fails, named, mend):
    spoil(folder)
    failed = [row for row in rows(folder, N) if row.passed is False]
    assert [row.what for row in failed] == fails
    assert named in "\n".join(row.found for row in failed)
    assert mend in "\n".join(row.mend for row in failed)


def test_a_misspelt_folder_is_asked_after(folder):
    (row,) = rows(folder.with_name("genrate"), N)
    assert row.mend == f"did you mean {folder}?"


@pytest.mark.parametrize("name", ["generate.json", "generate.zip"])
def test_what_is_no_folder_is_not_meant(tmp_path, name):
    """The manifest stands beside a folder of images, and its .zip on Drive."""
    (tmp_path / name).write_text("{}")
    (row,) = rows(tmp_path / "generate", N)
    assert "must be unpacked" in row.mend and "did you mean" not in row.mend


def test_numbers_that_make_no_sense(folder):
    for n in (0, -1, 100_000):
        with pytest.raises(ValueError, match=f"--n is {n},"):
            next(rows(folder, n))


def test_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert failing(Path("~/generate")) == []


@pytest.mark.parametrize("source", ["nowhere", "notes.txt"])
def test_training_images_that_cannot_be_read_are_named_before_the_first_row(folder, monkeypatch, source):
    (folder.parent / "notes.txt").write_text("no digits")
    monkeypatch.setenv("HWKIT_MNIST", str(folder.parent / source))
    with pytest.raises((ValueError, OSError), match=source):
        next(rows(folder, N))


# Advice that is followed


def over(ground: int, ink: np.ndarray) -> Image.Image:
    """A picture of one colour whose transparency alone is the digit."""
    return Image.merge("RGBA", [*[Image.new("L", ink.shape[::-1], ground)] * 3, Image.fromarray(ink)])


def see_through(x: np.ndarray, transparency: np.ndarray) -> Image.Image:
    return Image.merge("LA", [Image.fromarray(part.astype(np.uint8)) for part in (x, transparency)])


EXACT = {  # what a digit may have become → how the same digit comes back to the last grey level
    "16 bits": lambda x: x.astype(np.uint16) * 257,
    "16 bits, by a shift": lambda x: x.astype(np.uint16) << 8,
    "16 bits that hold 8": lambda x: x.astype(np.uint16),
    "grey": lambda x: x,
    "palette": lambda x: Image.fromarray(x).convert("P"),
    "grey with alpha": lambda x: see_through(x, np.full_like(x, 255)),
    "half transparent": lambda x: see_through(x, np.full_like(x, 128)),
    "premultiplied": lambda x: see_through(x, x),
    "white below what is transparent": lambda x: see_through(np.where(x > 0, x, 255), np.where(x > 0, 255, 0)),
    "white on transparent": lambda x: over(255, x),
    "black on transparent": lambda x: over(0, x),
    "border of 2": lambda x: np.pad(x, 2),
    "border of 1": lambda x: np.pad(x, 1),
    "border of 4": lambda x: np.pad(x, 4),
    "border on one side": lambda x: np.pad(x, ((0, 4), (0, 4))),
    "one column more": lambda x: np.pad(x, ((0, 0), (1, 0))),
    "border, 16 bits": lambda x: np.pad(x.astype(np.uint16) * 257, 2),
    "border, black on white": lambda x: 255 - np.pad(x, 2),
    "doubled": lambda x: x.repeat(2, 0).repeat(2, 1),
    "tripled": lambda x: x.repeat(3, 0).repeat(3, 1),
    "doubled, palette": lambda x: Image.fromarray(x.repeat(2, 0).repeat(2, 1)).convert("P"),
    "to 32 by the nearest": lambda x: Image.fromarray(x).resize((32, 32), Image.NEAREST),
    "black on white": lambda x: np.dstack([255 - x] * 3),
    "black on white and turned": lambda x: np.rot90(255 - x),
    "black on white, 16 bits": lambda x: (255 - x).astype(np.uint16) * 257,
}


@pytest.mark.parametrize("kind", EXACT)
def test_the_advice_gives_back_the_picture(tmp_path, kind):
    folder = save([EXACT[kind](x) for x in TEST[:20]], tmp_path / "g")
    assert np.array_equal(mended(folder, 20), TEST[:20])


@pytest.mark.parametrize("options", [{"format": "TIFF"}, {"format": "BMP"}, {"format": "WEBP", "lossless": True}])
def test_files_of_another_format_in_a_png_by_name(tmp_path, options):
    folder = save([np.dstack([x] * 3) for x in TEST[:20]], tmp_path / "g", **options)
    assert failing(folder, 20) == ["PNG"]
    assert np.array_equal(mended(folder, 20), TEST[:20])


def test_levels_from_0_to_1_in_floats_are_seen(tmp_path):
    pictures = [Image.fromarray((x / 255).astype(np.float32)) for x in TEST[:20]]
    assert np.array_equal(mended(save(pictures, tmp_path / "g", format="TIFF"), 20), TEST[:20])


def test_a_palette_of_few_colours_with_one_transparent(tmp_path):
    pictures = [Image.fromarray(x // 64 * 85).convert("P") for x in TEST[:20]]
    folder = save(pictures, tmp_path / "g", transparency=0)
    assert np.array_equal(mended(folder, 20), TEST[:20] // 64 * 85)


FAINT = {
    "half": lambda x: x // 2,
    "from grey to white": lambda x: 127 + x // 2,
    "black on grey": lambda x: (255 - x) // 2,
}


@pytest.mark.parametrize("kind", FAINT)
def test_grey_levels_are_spread_and_none_is_lost(tmp_path, kind):
    folder = write([FAINT[kind](x) for x in TEST[:20]], tmp_path / "g")
    assert failing(folder, 20) == ["grey levels"]
    assert np.abs(mended(folder, 20).astype(int) - TEST[:20]).max() <= 1


@pytest.mark.parametrize("sampled", [Image.BILINEAR, Image.BICUBIC, Image.LANCZOS])
@pytest.mark.parametrize("side", [32, 56])
def test_an_enlarged_digit_is_made_smaller_not_cut(tmp_path, side, sampled):
    folder = save([Image.fromarray(x).resize((side, side), sampled) for x in TEST[:20]], tmp_path / "g")
    assert "crop" not in found(folder, "28×28", 20).mend
    assert np.abs(mended(folder, 20).astype(int) - TEST[:20]).mean() < 6


@pytest.mark.parametrize(
    ("n", "quarters", "mirror"),
    [*((20, quarters, mirror) for quarters in range(4) for mirror in (False, True)), (N, 2, False), (N, 0, True)],
)
def test_turned_digits_are_turned_back(tmp_path, n, quarters, mirror):
    pictures = np.rot90(TEST[:n, :, ::-1] if mirror else TEST[:n], quarters, axes=(1, 2))
    folder = write(pictures, tmp_path / "g")
    failed = [row for row in rows(folder, n) if row.passed is False]
    assert [row.what for row in failed] == ["all ten digits"] * bool(quarters or mirror)
    assert not any("train" in row.mend for row in failed)
    assert np.array_equal(mended(folder, n), TEST[:n])


@cache
def moved_digits() -> tuple[np.ndarray, np.ndarray]:
    """All digits in nine places each, and what the classifier takes them for."""
    moved = np.concatenate([np.roll(TEST, (i, j), axis=(1, 2)) for i in (0, 1, -1) for j in (0, 1, -1)])
    return moved, classify(digit_features(moved))


def some(counts: dict[int, int], spots: int = 0) -> np.ndarray:
    """So many of each digit that are named, moved a little, and so many pictures of noise."""
    moved, labels = moved_digits()
    return np.concatenate([*(moved[labels == digit][:n] for digit, n in counts.items()), SPOTS[:spots]])


EVEN = dict.fromkeys(range(10), 90)


@pytest.mark.parametrize(
    ("counts", "spots", "words"),
    [
        (EVEN, 60, "60 of 960 look like no digit; 0: 90"),
        (EVEN | {4: 0, 7: 0}, 0, "missing: 4, 7; 0: 90"),
        (EVEN | {2: 3}, 0, "far too seldom: 2; 0: 90"),
        (EVEN | {1: 300}, 0, "far too often: 1; 0: 90"),
        (dict.fromkeys(range(10), 25) | {4: 0}, 0, "missing: 4; 0: 25"),  # of few images, too
        (EVEN | {4: 0, 1: 350}, 90, "90 of 1,160 look like no digit; missing: 4; far too often: 1; 0: 90"),
    ],
)
def test_each_fault_of_the_digits_has_words_of_its_own(tmp_path, counts, spots, words):
    pictures = some(counts, spots)
    row = found(write(pictures, tmp_path / "g"), "all ten digits", len(pictures))
    assert row.passed is False and row.found.startswith(words)


def test_few_images_may_hold_a_digit_seldom(tmp_path):
    """What chance can do is no fault: a digit less than half as often as it should be, among 240."""
    pictures = some(dict.fromkeys(range(10), 26) | {4: 6})
    assert found(write(pictures, tmp_path / "g"), "all ten digits", len(pictures)).passed


def test_the_faults_of_the_digits_in_chinese(tmp_path):
    pictures = some(EVEN | {4: 0, 2: 3, 1: 350}, 90)
    folder = write(pictures, tmp_path / "g")
    with speaking("zh-TW"):
        row = next(row for row in rows(folder, len(pictures)) if row.key == "all ten digits")
    words = "1,073 張裡有 90 張看起來不像數字；缺少：4；太少：2；太多：1；0：90、"
    assert row.found.startswith(words)


@pytest.mark.parametrize("blur", [0.5, 1.0, 1.5])
def test_poor_digits_are_not_called_turned(tmp_path, blur):
    from PIL import ImageFilter

    pictures = [np.asarray(Image.fromarray(x).filter(ImageFilter.GaussianBlur(blur))) for x in TEST[:N]]
    row = found(write(pictures, tmp_path / "g"), "all ten digits")
    assert row.passed or "train for longer" in row.mend


def test_inverted_digits_are_called_inverted(tmp_path):
    row = found(write(255 - TEST[:N], tmp_path / "g"), "all ten digits")
    assert row.passed is False and row.found.startswith("black on white; 0: ")
    assert "black on white" in row.mend and "train for longer" not in row.mend


def test_levels_0_and_1_are_a_matter_of_range(tmp_path):
    for k, pictures in enumerate((TEST[:20] // 255, np.rint(TEST[:20] / 255).astype(np.uint8))):
        folder = write(pictures, tmp_path / str(k))
        assert failing(folder, 20) == ["not blank"] and "range" in found(folder, "not blank", 20).mend


def test_advice_for_one_kind_does_no_harm_to_the_others(tmp_path):
    """A folder in which many things are wrong, mended from the top, a line at a time."""
    pictures = [Image.fromarray(np.dstack([x] * 3)) for x in TEST[:30]]
    kinds = (
        "16 bits",
        "grey",
        "palette",
        "white on transparent",
        "border of 2",
        "doubled",
        "border, 16 bits",
        "premultiplied",
    )
    for k, kind in enumerate(kinds):
        picture = EXACT[kind](TEST[k])
        pictures[k] = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    folder = save(pictures, tmp_path / "g")
    assert np.array_equal(mended(folder, 30, rounds=10), TEST[:30])


def test_few_transparent_images_among_opaque_ones(tmp_path):
    pictures = [over(255, x) if k < 3 else Image.fromarray(x).convert("RGBA") for k, x in enumerate(TEST[:20])]
    assert np.array_equal(mended(save(pictures, tmp_path / "g"), 20), TEST[:20])


def test_advice_that_is_followed_twice_does_no_harm(tmp_path):
    for kind in ("16 bits", "border of 2", "doubled", "black on white"):
        folder = save([EXACT[kind](x) for x in TEST[:20]], tmp_path / kind)
        row = next(row for row in rows(folder, 20) if row.passed is False and ": " in row.mend)
        if kind == "black on white":
            follow(row, folder)
        follow(row, folder), follow(row, folder)
        assert np.array_equal(mended(folder, 20), TEST[:20]), kind


def test_pictures_are_not_mended_before_their_files(tmp_path):
    """The line that inverts reads 8 bits: where there are files of 16, it is not offered yet."""
    pictures = [np.dstack([255 - x] * 3) for x in TEST[:30]]
    pictures[3] = (255 - TEST[3]).astype(np.uint16) * 257
    folder = save(pictures, tmp_path / "g")
    assert ": " not in found(folder, "all ten digits", 30).mend
    assert np.array_equal(mended(folder, 30), TEST[:30])


# Names


@pytest.mark.parametrize(
    "name",
    [
        *("{0}.png", "{1}.png", "{0:05d}.png", "{1:03d}.png", "{1:06d}.png", "sample_{0}.png", "run7_epoch_12_{1}.png"),
        *("img ({1}).png", "{1:05d}.PNG", "{0}.Png", "{1:05d}.jpg"),
    ],
)
def test_numbering_loses_no_image(tmp_path, name):
    """From 0 or from 1, with any number of digits, and a prefix."""
    n = 120  # so that 100.png has three digits, and 00100.png is right
    folder = write(TEST[:n], tmp_path / "g")
    for path in sorted(folder.iterdir()):
        number = int(path.stem)
        path.rename(folder / ("_" + name.format(number - 1, number)))
    for path in folder.iterdir():
        path.rename(folder / path.name[1:])
    row = found(folder, "names", n)
    assert not row.passed and "five digits" in row.mend
    follow(row, folder)
    assert found(folder, "names", n).passed
    left = sorted(np.asarray(Image.open(path))[..., 0].tobytes() for path in folder.iterdir())
    assert left == sorted(x.tobytes() for x in TEST[:n])


@pytest.mark.parametrize(
    ("spare", "named"),
    [(["1.png"], "00002.png"), (["1.png", "01.png"], "00003.png"), (["17_a.png", "x.png"], "00003.png")],
    ids=["taken", "twice", "without a number"],
)
def test_no_line_is_offered_that_would_write_over_an_image(tmp_path, spare, named):
    folder = write(TEST[:5], tmp_path / "g")
    for name in spare:
        (folder / named).replace(folder / name)
        named = file_name(int(named[:5]) + 1)
    assert not (folder / "00002.png").exists() or not (folder / "00003.png").exists()
    mend = found(folder, "names", 5).mend
    assert "five digits" in mend and ": " not in mend


def test_capital_letters_make_no_image_invisible(tmp_path):
    assert found(save(TEST[:5], tmp_path / "g", "{}.PNG"), "RGB", 5).found.startswith("5 of 5 fail: 1.PNG is L")


def test_one_too_many_is_not_a_matter_of_numbering(tmp_path):
    mend = found(write(TEST[:21], tmp_path / "g"), "names", 20).mend
    assert mend == "delete 00021.png"


# What programs leave, and folders within


JUNK = [".DS_Store", "Thumbs.db", "desktop.ini", "._00001.png", "._00101.png", "__MACOSX/", ".ipynb_checkpoints/"]


@pytest.mark.parametrize("name", JUNK)
def test_what_a_program_left_is_to_be_deleted_and_no_image(folder, name):
    if name.endswith("/"):
        (folder / name).mkdir()
        (folder / name / "._00001.png").write_bytes(b"\0")
        shutil.copy(folder / "00001.png", folder / name / "00001.png")
    else:
        (folder / name).write_bytes(b"\0")
    (row,) = [row for row in rows(folder, N) if row.passed is False]
    assert row.what in ("no subfolders", "100 files")
    assert row.mend == f"delete {name.rstrip('/')}, which programs have left"


def test_what_a_program_left_does_not_stand_for_an_image(folder):
    (folder / "00100.png").rename(folder / ".DS_Store")
    assert failing(folder) == ["100 files", "names"]
    assert (
        "make the missing" in found(folder, "100 files").mend and "delete .DS_Store" in found(folder, "100 files").mend
    )


def test_names_are_not_mended_while_a_program_has_left_files(tmp_path):
    """The line goes by the digits in a name, and `._1.png` has them too."""
    folder = save(TEST[:5], tmp_path / "g", "{}.png")
    (folder / "._1.png").write_bytes(b"\0")
    assert ": " not in found(folder, "names", 5).mend


@pytest.mark.parametrize("within", ["generate", "results/generate", "0"])
@pytest.mark.parametrize("leftover", [True, False])
def test_a_folder_around_the_folder(folder, tmp_path, within, leftover):
    around = tmp_path / "unzipped"
    shutil.copytree(folder, around / within)
    if leftover:
        (around / "__MACOSX").mkdir()
        (around / ".DS_Store").write_bytes(b"\0")
        shutil.copy(folder / "00001.png", around / "__MACOSX" / "00001.png")
    first, *others = rows(around, N)
    assert first[:2] == ("no subfolders", False) and str(around / within) in first.mend
    assert ("delete __MACOSX" in first.mend) == leftover
    assert [row.what for row in others] == ROWS[1:] and {row.passed for row in others} == {None}


def test_a_folder_for_each_digit(tmp_path):
    for digit in range(3):
        save(TEST[digit * 5 : digit * 5 + 5], tmp_path / "g" / str(digit), "{}.PNG")
    first, *others = rows(tmp_path / "g", 15)
    assert not first.passed and "names that are free" in first.mend and {row.passed for row in others} == {None}


# Damaged and enormous files


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_png(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)  # one bit a pixel
    data = zlib.compressobj(1)
    body = data.compress(bytes(min((width // 8 + 1) * height, 2**24))) + data.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [(20_000, 20_000), (10_000, 10_000), (40_000, 1), (2_000, 2_000)])
def test_an_enormous_image_is_named_without_a_warning(folder, side):
    (folder / "00007.png").write_bytes(huge_png(*side))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        failed = [row for row in rows(folder, N) if row.passed is False]
    assert failed and all("00007.png" in row.found and row.mend == "make these again" for row in failed)


@pytest.mark.parametrize("part", [b"IHDR", b"IDAT", b"\x89PNG"])
def test_damage_anywhere_in_a_png_is_named(folder, part):
    data = (folder / "00007.png").read_bytes()
    place = data.index(part)
    (folder / "00007.png").write_bytes(data[:place] + bytes(8) + data[place + 8 :])
    (row,) = [row for row in rows(folder, N) if row.passed is False]
    assert (row.what, row.mend) == ("every file opens", "make these again") and "00007.png" in row.found


# Thresholds, from both sides


@pytest.mark.parametrize(("copied", "passes"), [(3, True), (4, False)])
def test_one_in_a_hundred_may_be_a_near_copy(tmp_path, copied, passes):
    train = read_source(SAMPLE, "train").images[:300:100, 0]
    copies = np.concatenate([train, read_source(SAMPLE, "train").images[4:5, 0]])[:copied]
    assert (
        found(write(np.concatenate([copies, TEST[: 300 - copied]]), tmp_path / "g"), "no copies", 300).passed is passes
    )


@pytest.mark.parametrize(("spots", "passes"), [(5, True), (6, False)])
def test_one_in_twenty_may_be_no_digit(tmp_path, spots, passes):
    row = found(write(np.concatenate([SPOTS[:spots], TEST[: N - spots]]), tmp_path / "g"), "all ten digits")
    assert row.passed is passes and row.found.endswith(f"none: {spots}")


@pytest.mark.parametrize(("faint", "passes"), [(5, True), (6, False)])
def test_one_in_twenty_may_be_faint(tmp_path, faint, passes):
    pictures = TEST[:N].copy()
    pictures[:faint] //= 2
    assert found(write(pictures, tmp_path / "g"), "grey levels").passed is passes


def test_spreading_faint_digits_loses_no_level_where_they_are_not_alike(tmp_path):
    """Of digits that reach to 76 or to 178 none is cut off in the middle."""
    pictures = np.stack([np.round(x / 255 * (76 + 102 * (k % 2))) for k, x in enumerate(TEST[:20])]).astype(np.uint8)
    folder = write(pictures, tmp_path / "g")
    assert not found(folder, "grey levels", 20).passed
    made = mended(folder, 20)
    for before, after in zip(pictures, made, strict=True):
        levels = {int(a): int(b) for a, b in zip(before.ravel(), after.ravel(), strict=True)}
        assert len(set(levels.values())) == len(levels), "as many levels as there were"
    assert found(folder, "grey levels", 20).passed


def test_images_painted_by_a_colour_map_are_called_so(tmp_path):
    """As plt.imsave leaves them: nobody has to train for longer."""
    from matplotlib import colormaps

    folder = save([np.uint8(255 * colormaps["viridis"](x / 255)[..., :3]) for x in TEST[:40]], tmp_path / "g")
    row = found(folder, "all ten digits", 40)
    assert row.passed is False and "colour map" in row.mend and "train" not in row.mend
    noisy = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 3), np.uint8)
    assert "colour map" not in found(save(noisy, tmp_path / "n"), "all ten digits", 40).mend


def test_a_transparent_colour_is_no_plain_rgb(tmp_path):
    """Else no picture would be looked at, and all be said to pass."""
    folder = tmp_path / "g"
    folder.mkdir()
    for k, x in enumerate(TEST[:20], 1):
        image = Image.fromarray(255 - x).convert("RGB")
        image.save(folder / f"{k:05d}.png", transparency=(255, 255, 255))
    assert "RGB" in failing(folder, 20) and "in part transparent" in found(folder, "RGB", 20).found


@pytest.mark.parametrize(("levels", "passes"), [(190, False), (192, True)])
def test_how_far_the_grey_levels_reach(tmp_path, levels, passes):
    pictures = (TEST[:20] / TEST[:20].max(axis=(1, 2), keepdims=True) * levels).round().astype(np.uint8)
    assert found(write(pictures, tmp_path / "g"), "grey levels", 20).passed is passes


@pytest.mark.parametrize("ground", [0, 90, 255])
@pytest.mark.parametrize(("levels", "passes"), [(0, False), (15, False), (60, True)])
def test_an_image_of_one_colour_is_blank(folder, ground, levels, passes):
    """Black, grey or white; a little noise does not make it a picture."""
    picture = np.linspace(0, levels, 784).round().reshape(28, 28)
    picture = ground + picture if ground < 255 else ground - picture
    Image.fromarray(np.dstack([picture.astype(np.uint8)] * 3)).save(folder / "00031.png")
    row = found(folder, "not blank")
    assert row.passed is passes
    assert passes or ("00031.png" in row.found and "again" in row.mend)


def changed(image: np.ndarray, pixels: int, by: int) -> np.ndarray:
    """The image with some of its pixels, spread over it, lighter or darker."""
    flat = image.flatten().astype(int)
    where = np.linspace(3, 780, pixels).astype(int)
    flat[where] = np.where(flat[where] < 128, flat[where] + by, flat[where] - by)
    return flat.reshape(28, 28).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "by", "passes"),
    [(1, 127, False), (784, 1, False), (784, 8, False), (8, 100, False), (9, 100, True), (784, 9, True)],
)
def test_nearly_equal_pictures_are_duplicates(folder, pixels, by, passes):
    Image.fromarray(np.dstack([changed(TEST[6], pixels, by)] * 3)).save(folder / "00090.png")
    row = found(folder, "no duplicates")
    assert row.passed is passes
    assert passes or "00007.png ≈ 00090.png" in row.found


def test_duplicates_anywhere_in_a_large_folder_are_found(tmp_path):
    """Close to one another and far apart, beside many shifted digits."""
    moved = np.concatenate([np.roll(TEST[:400], shift, axis=2) for shift in (0, 1, 2)])
    moved[1150], moved[601], moved[497] = moved[3], changed(moved[7], 2, 100), moved[496]
    row = found(write(moved, tmp_path / "g"), "no duplicates", 1200)
    assert row.found == "3 of 1,200 fail: 00497.png = 00498.png, 00008.png ≈ 00602.png, 00004.png = 01151.png"
