"""The check of a submission: a good folder, and broken ones of many kinds."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwkit.files import write_many
from hwkit.measure.check import check, rows
from hwkit.mnist.folder import encode_png, file_name
from hwkit.mnist.sources import SAMPLE, read_source

N = 100


@pytest.fixture(scope="module")
def unseen() -> np.ndarray:
    """500 digits that the embedded training set does not hold."""
    return read_source(SAMPLE, "test").images


def write(images: np.ndarray, folder: Path) -> Path:
    write_many(folder, {file_name(k): encode_png(image) for k, image in enumerate(images, 1)})
    return folder


@pytest.fixture(scope="module")
def template(unseen, tmp_path_factory) -> Path:
    return write(unseen[:N], tmp_path_factory.mktemp("check") / "good")


@pytest.fixture
def folder(template, tmp_path) -> Path:
    """A good folder, to be broken."""
    return shutil.copytree(template, tmp_path / "generate")


def test_a_good_folder_passes(folder, capsys):
    assert check(folder, N) == 0
    printed = capsys.readouterr().out
    assert "✗" not in printed and "–" not in printed
    assert printed.count("✓") == len(list(rows(folder, N)))
    assert printed.endswith(f"{folder}: everything passes.\n")


def test_ten_thousand_images_by_default(unseen, tmp_path, capsys):
    """500 digits moved to twenty places each."""
    shifts = [(dy, dx) for dy in (-2, -1, 0, 1) for dx in (-2, -1, 0, 1, 2)]
    folder = write(np.concatenate([np.roll(unseen, shift, axis=(1, 2)) for shift in shifts]), tmp_path / "all")
    assert check(folder) == 0
    (folder / "10000.png").unlink()
    assert check(folder) == 1
    printed = capsys.readouterr().out
    assert "✗ 10,000 files     9,999" in printed
    assert "1 missing: 10000.png" in printed


def resave(path: Path, mode: str = "RGB", size: tuple[int, int] = (28, 28)) -> None:
    Image.open(path).convert(mode).resize(size).save(path)


def missing_number(folder):
    (folder / "00017.png").rename(folder / "00101.png")


def one_too_few(folder):
    (folder / "00100.png").unlink()


def grey_mode(folder):
    resave(folder / "00003.png", "L")


def alpha(folder):
    for path in folder.iterdir():
        resave(path, "RGBA")


def too_large(folder):
    resave(folder / "00042.png", size=(32, 32))


def subfolder(folder):
    (folder / "epoch_1").mkdir()


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


def duplicate(folder):
    Image.open(folder / "00007.png").save(folder / "00008.png", compress_level=1)  # other bytes, the same picture


def short_names(folder):
    for path in list(folder.iterdir()):
        path.rename(folder / f"{int(path.stem)}.png")


def other_file(folder):
    (folder / ".DS_Store").write_bytes(b"\0")


def blank(folder):
    Image.new("RGB", (28, 28)).save(folder / "00031.png")


def all_equal(folder):
    for path in folder.glob("*.png"):
        if path.name != "00001.png":
            shutil.copy(folder / "00001.png", path)


def training_images(folder):
    write(read_source(SAMPLE, "train").images[:N], folder)


def noise(folder):
    write(np.random.default_rng(0).integers(0, 256, size=(N, 28, 28, 3), dtype=np.uint8), folder)


def only_ones(folder):
    test = read_source(SAMPLE, "test")
    ones = test.images[test.labels == 1]
    write(np.concatenate([ones, np.roll(ones, 1, axis=2)])[:N], folder)


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def not_a_folder(folder):
    shutil.rmtree(folder)
    folder.write_bytes(b"PK")


def nothing_there(folder):
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("spoil", "failing", "named", "mend"),
    [
        (missing_number, ["names"], "1 missing: 00017.png; 1 other: 00101.png", "five digits"),
        (one_too_few, ["100 files", "names"], "1 missing: 00100.png", "make the missing"),
        (grey_mode, ["RGB"], "00003.png is grey (L)", 'convert("RGB")'),
        (alpha, ["RGB"], "100 of 100 are not: 00001.png is RGBA", 'convert("RGB")'),
        (too_large, ["28×28"], "00042.png is 32×32", "resize"),
        (subfolder, ["no subfolders"], "epoch_1", "delete the subfolder"),
        (jpg, ["names", "PNG"], "00001.jpg", "save the images as .png"),
        (jpg_by_another_name, ["PNG"], "00009.png is JPEG", "save these as PNG"),
        (truncated, ["every file opens"], "00055.png", "make these again"),
        (text_by_another_name, ["every file opens"], "00056.png", "make these again"),
        (duplicate, ["no duplicates"], "00007.png = 00008.png", "again"),
        (short_names, ["names"], "1.png", "five digits"),
        (other_file, ["100 files", "names"], "1 other: .DS_Store", "delete"),
        (blank, ["not blank"], "00031.png", "again"),
        (all_equal, ["no duplicates", "all ten digits"], "100 share 1 pictures: 00001.png = 00002.png", "seed"),
        (training_images, ["no copies"], "100 of 100", "memorised"),
        (noise, ["all ten digits"], "none: 100", "look like no digit"),
        (only_ones, ["all ten digits"], "0: 0", "far too seldom"),
        (empty, ["100 files", "names"], "100 missing: 00001.png, 00002.png, 00003.png, …", "make the missing"),
        (not_a_folder, ["folder"], "is a file", "unpacked"),
        (nothing_there, ["folder"], "there is no", "name the folder"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_broken_folders(folder, capsys, spoil, failing, named, mend):
    spoil(folder)
    assert check(folder, N) == 1
    printed = capsys.readouterr().out
    failed = [line[2:18].strip() for line in printed.splitlines() if line.startswith("✗")]
    assert failed == failing
    assert named in printed
    assert mend in printed
    assert f"{len(failing)} of the checks failed" in printed


def test_numbers_that_make_no_sense(folder):
    with pytest.raises(ValueError, match="n is 0"):
        check(folder, 0)
