"""MNIST from every kind of source, the folder of PNGs, the tensor and its cache, and the batches."""

import contextlib
import gzip
import hashlib
import http.server
import importlib.util
import io
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import socket
import socketserver
import struct
import threading
import time
import types
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MNIST
from PIL import Image

from hwkit.mnist import folder as folder_
from hwkit.mnist import sources
from hwkit.mnist.batches import PNGFolder, batches, normalize, to_uint8
from hwkit.mnist.folder import encode_png, file_name, load_folder, mend, open_png, read_png
from hwkit.mnist.sources import SAMPLE, download, prepare, read_idx, read_source


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_files(digits) -> dict[str, bytes]:
    """The four files of MNIST, with 64 training and 32 test digits."""
    pixels, labels = digits[:, 0].numpy(), np.arange(96, dtype=np.uint8) % 10
    return {
        "train-images-idx3-ubyte": idx(pixels[:64]),
        "train-labels-idx1-ubyte": idx(labels[:64]),
        "t10k-images-idx3-ubyte": idx(pixels[64:]),
        "t10k-labels-idx1-ubyte": idx(labels[64:]),
    }


def write_pngs(folder: Path, images) -> Path:
    """Images uint8 (N, 1 or 3, 28, 28) as grey or RGB PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(np.asarray(images), 1):
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(folder / file_name(k))
    return folder


@pytest.fixture
def colored(digits):
    """The digits, each in a colour of its own: uint8 (96, 3, 28, 28)."""
    tint = np.random.default_rng(0).integers(40, 255, (96, 3, 1, 1))
    return (digits.numpy() * tint // 255).astype(np.uint8)


@pytest.fixture
def pngs(digits, tmp_path):
    return write_pngs(tmp_path / "pngs", digits)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(sources, "download", lambda *_: None)


@pytest.fixture
def small_sample(monkeypatch, digits, tmp_path):
    """Stands for the embedded sample, which would take a second to write."""
    path = tmp_path / "mnist_sample.npz"
    np.savez(path, images=digits[:30, 0].numpy(), labels=np.arange(30, dtype=np.uint8) % 10)
    monkeypatch.setattr(sources, "SAMPLE", path)


# Every kind of source


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("inside", [".", "MNIST/raw", "raw", "archive", "a/b"])
@pytest.mark.parametrize("dot", [False, True], ids=["-idx", ".idx"])
def test_idx_files_are_read(digits, tmp_path, packed, inside, dot):
    folder = tmp_path / inside
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in idx_files(digits).items():
        name = name.replace("-idx", ".idx") if dot else name
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    train, test = read_source(tmp_path, "train"), read_source(str(tmp_path), "test")
    assert np.array_equal(train.images, digits[:64]) and np.array_equal(test.images, digits[64:])
    assert train.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1] and test.labels[0] == 4


@pytest.mark.parametrize(
    "where",
    [
        "{name}/{name}",  # an unpacker made a folder of the file's own name
        "mnist/{name}/{name}",
        "{name}/data",
        "{part}/{name}",
        "{name}.gz",  # plain: a browser unpacked it, and kept the name
        "{name} (1)",
        "test-{name}",
    ],
)
def test_idx_files_are_found_by_their_names_and_read_by_what_they_hold(digits, tmp_path, where):
    for name, content in idx_files(digits).items():
        if where.startswith("test-"):
            path = tmp_path / name.replace("t10k", "test")
        else:
            path = tmp_path / where.format(name=name, part="train" if "train" in name else "test")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if path.suffix == ".gz" else gzip.compress(content))
    for split, part in (("train", slice(64)), ("test", slice(64, None))):
        found = read_source(tmp_path, split)
        assert np.array_equal(found.images, digits[part])
        assert np.array_equal(found.labels, np.arange(96)[part] % 10)


def test_mnist_is_chosen_among_its_likes(digits, tmp_path):
    """torchvision keeps them all beside each other; of two copies without a name, a person has to choose."""
    for name, images in (("FashionMNIST", digits.flip(0)), ("MNIST", digits)):
        (tmp_path / name / "raw").mkdir(parents=True)
        for file, content in idx_files(images).items():
            (tmp_path / name / "raw" / file).write_bytes(content)
    assert np.array_equal(read_source(tmp_path).images, digits[:64])
    (tmp_path / "MNIST").rename(tmp_path / "mine")
    (tmp_path / "FashionMNIST").rename(tmp_path / "clothes")
    with pytest.raises(ValueError, match="several sets, in clothes/raw, mine/raw: name one"):
        read_source(tmp_path)


def test_idx_labels_may_be_missing(digits, tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_files(digits)["train-images-idx3-ubyte"])
    assert read_source(tmp_path).labels is None


def test_of_two_copies_the_plain_file_is_read(digits, tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_files(digits)["train-images-idx3-ubyte"])
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"half of a download")
    assert np.array_equal(read_source(tmp_path).images, digits[:64])


def test_an_idx_file_may_be_named_itself(digits, tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_files(digits)["train-images-idx3-ubyte"])
    assert np.array_equal(read_source(tmp_path / "train-images-idx3-ubyte").images, digits[:64])


def test_a_folder_of_grey_pngs_is_read(digits, pngs):
    assert np.array_equal(read_source(pngs).images, digits)
    assert read_source(pngs).labels is None


def test_a_folder_of_rgb_pngs_is_read(colored, digits, tmp_path):
    assert np.array_equal(read_source(write_pngs(tmp_path / "rgb", colored)).images, colored)
    grey_in_rgb = digits.expand(-1, 3, -1, -1)
    assert np.array_equal(read_source(write_pngs(tmp_path / "grey", grey_in_rgb)).images, digits)


WORDS = ["zero", "One", "TWO", "three", "four", "five", "six", "seven", "eight", "nine"]
PARTS = [
    ("train", "test"),
    ("training", "testing"),
    ("Training", "Testing"),
    ("mnist_png/training", "mnist_png/testing"),
    ("train/train", "test/test"),
    ("MNIST - PNG - training", "MNIST - PNG - testing"),
    ("trainingSet", "testSet"),
    ("mnist_train/images", "mnist_test/images"),
]


@pytest.mark.parametrize("train, test", PARTS, ids=[train for train, _ in PARTS])
def test_pngs_may_stand_in_train_and_test(digits, tmp_path, train, test):
    write_pngs(tmp_path / train, digits[:64])
    write_pngs(tmp_path / test, digits[64:])
    write_pngs(tmp_path / train.lower().replace("training", "valid").replace("train", "val"), digits[:5])
    assert np.array_equal(read_source(tmp_path, "train").images, digits[:64])
    assert np.array_equal(read_source(tmp_path, "test", whole=True).images, digits[64:])


@pytest.mark.parametrize("train, test", [*PARTS, ("", None)], ids=[train or "." for train, _ in [*PARTS, ("", None)]])
@pytest.mark.parametrize("named", ["{}", "class_{}", "Digit {}", "0{}", "{} ", "{1}", "{0} - {1}"])
def test_pngs_may_stand_in_a_folder_for_each_class(digits, tmp_path, train, test, named):
    for part, first in ((train, 0), (test, 64)):
        for digit in range(10 * (part is not None)):
            folder = tmp_path / part / named.format(digit, WORDS[digit])
            write_pngs(folder, digits[first + digit : first + 30 + digit : 10])
    write_pngs(tmp_path / ".ipynb_checkpoints" / "0", digits[:5])
    for split, first in (("train", 0), ("test", 64))[: 2 if test else 1]:
        found = read_source(tmp_path, split)
        by_name = sorted(range(10), key=lambda digit: named.format(digit, WORDS[digit]))
        assert found.labels.tolist() == [digit for digit in by_name for _ in range(3)]
        assert np.array_equal(found.images, torch.cat([digits[first + d : first + 30 + d : 10] for d in by_name]))


def test_the_training_digits_may_lie_in_folders_of_classes_and_the_others_flat(digits, tmp_path):
    """As Kaggle has it, where nobody knows the labels of the test set."""
    for k, image in enumerate(digits[:64].numpy()):
        folder = tmp_path / "trainingSet" / "trainingSet" / str(k % 10)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"img_{k}.png").write_bytes(encode_png(image))
    write_pngs(tmp_path / "testSet" / "testSet", digits[64:])
    train, test = (read_source(tmp_path, split) for split in ("train", "test"))
    assert len(train.images) == 64 and sorted(train.labels.tolist()) == sorted(k % 10 for k in range(64))
    assert np.array_equal(test.images, digits[64:].numpy()) and test.labels is None


def test_what_lies_nearest_is_read(digits, pngs):
    """A folder of images may hold another one; but a divided set comes before a stray picture."""
    write_pngs(pngs / "old", digits[:3])
    assert np.array_equal(read_source(pngs).images, digits)
    write_pngs(pngs / "mnist" / "train", digits[:7])
    assert np.array_equal(read_source(pngs).images, digits[:7])


def test_leftovers_of_programs_are_passed_over(digits, pngs):
    for name in ("._00001.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png"):
        (pngs / name).write_bytes(b"\0\5\26\7")
    for name in ("__MACOSX", ".ipynb_checkpoints", "@eaDir"):
        (pngs / name).mkdir()
        (pngs / name / "00001.png").write_bytes(b"\0")
    assert np.array_equal(read_source(pngs).images, digits)
    assert torch.equal(load_folder(pngs), digits)
    assert len(PNGFolder(pngs)) == 96


# An .npz, under any name and in any layout


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (1, 28, 28), (28, 28, 3), (3, 28, 28), (784,)], ids=str)
@pytest.mark.parametrize(
    "train, test, labels",
    [
        ("x_train", "x_test", "y_train"),
        ("X_train", "X_test", "Y_train"),
        ("train_images", "test_images", "train_labels"),
        ("xtrain", "xtest", "ytrain"),
        ("train_x", "test_x", "train_y"),
        ("images_train", "images_test", "labels_train"),
        ("training/data", "testing/data", "training/label"),
        ("trainImages", "testImages", "trainLabels"),
        ("train", "t10k", "train_label"),
    ],
)
def test_an_npz_of_two_parts_is_read(digits, tmp_path, train, test, labels, shape):
    grey = digits.reshape(96, 784) if shape == (784,) else digits.reshape(96, *(1 if n == 3 else n for n in shape))
    pixels = grey.expand(96, *shape).numpy()
    known = np.arange(64)[:, None] if "images" in train else np.arange(64)  # MedMNIST's are (N, 1)
    np.savez(tmp_path / "m.npz", **{train: pixels[:64], labels: known, test: pixels[64:], "val_images": pixels[:9]})
    found = read_source(tmp_path / "m.npz")
    assert np.array_equal(found.images[:, :1], digits[:64]) and np.array_equal(found.labels, np.arange(64))
    found = read_source(tmp_path / "m.npz", "test")
    assert np.array_equal(found.images[:, :1], digits[64:]) and found.labels is None


@pytest.mark.parametrize("name", ["images", "x", "X", "data", "arr_0", "samples"])
def test_the_last_tenth_of_an_npz_of_images_is_its_test_split(colored, tmp_path, name):
    path = tmp_path / "m.npz"
    np.savez(path, **{name: colored[:50], "labels": np.arange(50), "mu": np.zeros(7), "sigma": np.eye(7)})
    assert np.array_equal(read_source(path).images, colored[:45])
    assert np.array_equal(read_source(path).labels, np.arange(45))
    assert np.array_equal(read_source(path, "test").images, colored[45:50])
    for split in ("train", "test"):
        assert np.array_equal(read_source(path, split, whole=True).images, colored[:50])


@pytest.mark.parametrize("count, held_out", [(1, 0), (9, 0), (10, 1), (19, 1), (20, 2)])
def test_a_few_images_have_no_test_split(digits, tmp_path, count, held_out):
    np.savez(tmp_path / "few.npz", images=digits[:count])
    assert np.array_equal(read_source(tmp_path / "few.npz").images, digits[: count - held_out])
    if held_out:
        assert np.array_equal(read_source(tmp_path / "few.npz", "test").images, digits[count - held_out : count])
    else:
        with pytest.raises(ValueError, match=r"few\.npz holds images uint8"):
            read_source(tmp_path / "few.npz", "test")
    assert len(read_source(tmp_path / "few.npz", "test", whole=True).images) == count


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.float32),
        lambda x: x / 255,
        lambda x: (x / 255).astype(np.float32),
        lambda x: x / 127.5 - 1,
        lambda x: (x / 127.5 - 1).astype(np.float32),
    ],
    ids=["int64", "float", "0…1", "0…1 float32", "−1…1", "−1…1 float32"],
)
def test_other_ranges_of_values_are_converted(digits, tmp_path, convert):
    np.savez(tmp_path / "m.npz", images=convert(digits[:40].numpy()))
    found = read_source(tmp_path / "m.npz", whole=True).images
    assert found.dtype == np.uint8 and np.array_equal(found, digits[:40])


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int32, np.float32])
def test_zeros_and_ones_are_black_and_white(digits, tmp_path, kind):
    np.savez(tmp_path / "m.npz", images=(digits.numpy() > 99).astype(kind))
    assert np.array_equal(read_source(tmp_path / "m.npz", whole=True).images, (digits.numpy() > 99) * 255)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: (x / 255 - 0.1307) / 0.3081,
        lambda x: x.astype(np.int32) * 257,
        lambda x: x / 255 - 0.5,
        lambda x: x / -510,
    ],
    ids=["standardised", "16 bits", "−½…½", "negative"],
)
def test_a_range_that_could_be_anything_is_refused_with_the_line_that_converts(digits, tmp_path, convert):
    path = tmp_path / "m.npz"
    x = convert(digits.numpy())
    np.savez(path, images=x)
    with pytest.raises(ValueError, match=r"m\.npz holds images from .* to .*") as refusal:
        read_source(path)
    exec(line_of(refusal, path), {"np": np, "x": x})
    upright = digits if convert(np.float64(9)) > convert(np.float64(1)) else 255 - digits
    assert np.array_equal(read_source(path, whole=True).images, upright)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(digits, tmp_path, value):
    images = digits.numpy() / 255
    images[5, 0, 3, 3] = value
    np.savez(tmp_path / "m.npz", images=images)
    with pytest.raises(ValueError, match=r"m\.npz holds images in which some values are NaN or infinite"):
        read_source(tmp_path / "m.npz")


# A .zip of any of these


def zipped(folder: Path, path: Path, inside: str = "") -> Path:
    """As Finder packs it: with a second file beside each, in __MACOSX."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                name = inside + file.relative_to(folder).as_posix()
                archive.write(file, name)
                archive.writestr(f"__MACOSX/{Path(name).with_name('._' + Path(name).name)}", b"\0\5\26\7")
        archive.writestr(f"{inside}.DS_Store", b"\0")
    return path


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x,
        lambda x: x[:, None],
        lambda x: x[..., None],
        lambda x: x.reshape(len(x), -1),
        lambda x: np.repeat(x[:, None], 3, axis=1),
        lambda x: x / 255,
    ],
)
@pytest.mark.parametrize("edge", [2, 18])
def test_images_of_an_npz_with_a_frame_lose_it_by_the_line_that_is_named(digits, tmp_path, layout, edge):
    """MNIST for LeNet is 32×32. The line spares the other part of the file."""
    wide = np.pad(digits[:, 0].numpy(), [(0, 0), (edge, edge), (edge, edge)])
    arrays = {"x_train": layout(wide[:70]), "x_test": layout(wide[70:])}
    np.savez(tmp_path / "m.npz", **arrays, y_train=np.zeros(70))
    with pytest.raises(ValueError, match="not images of 28×28 pixels") as refusal:
        read_source(tmp_path / "m.npz")
    exec(line_of(refusal, tmp_path / "m.npz"), {"np": np, **arrays})
    for split, part in (("train", digits[:70]), ("test", digits[70:])):
        assert np.array_equal(read_source(tmp_path / "m.npz", split).images[:, :1], part)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x,
        lambda x: x[..., None] / 255,
        lambda x: x[:, None] / 127.5 - 1,
        lambda x: np.where(x > 0, x / 255, -0.03),  # as bicubic enlarging leaves it
        lambda x: (x / 255 - 0.1307) / 0.3081,  # torchvision's Normalize
        lambda x: x.astype(np.uint16) * 257,
        lambda x: x.astype(np.int64) * 1000 - 7,
    ],
    ids=["255", "1", "−1…1", "overshoot", "normalised", "16 bits", "any"],
)
def test_enlarged_images_of_an_npz_are_resized_by_the_line_that_is_named(digits, tmp_path, convert):
    large = convert(np.stack([Image.fromarray(x[0]).resize((64, 64), Image.LANCZOS) for x in digits.numpy()]))
    np.savez(tmp_path / "m.npz", images=large, count=len(large))
    with pytest.raises(ValueError, match="not images of 28×28 pixels") as refusal:
        read_source(tmp_path / "m.npz")
    exec(line_of(refusal, tmp_path / "m.npz"), {"np": np, "Image": Image, "images": large})
    made = read_source(tmp_path / "m.npz", whole=True).images
    assert made.shape == digits.shape and np.abs(made - digits.numpy().astype(float)).mean() < 4


@pytest.mark.parametrize("kind", [bool, "U1", object])
def test_enlarged_pictures_of_another_kind_end_in_a_sentence(digits, tmp_path, kind):
    large = np.pad(digits[:, 0].numpy() > 127, [(0, 0), (2, 2), (2, 2)]).astype(kind)
    np.savez(tmp_path / "m.npz", images=large)
    with pytest.raises(ValueError, match=r"m\.npz") as refusal:
        read_source(tmp_path / "m.npz")
    if kind is bool:
        exec(line_of(refusal, tmp_path / "m.npz"), {"np": np, "images": large})
        made = read_source(tmp_path / "m.npz", whole=True).images
        assert np.array_equal(made, 255 * (digits.numpy() > 127))


def line_of(refusal, path: Path) -> str:
    """The line in a refusal that makes an .npz, which here goes to `path`."""
    return re.search(r"np\.savez\(.*\)(?= makes)", str(refusal.value))[0].replace("mnist.npz", str(path))


@pytest.mark.parametrize("inside", ["", "mnist/", "a/b/"], ids=["top", "folder", "deeper"])
@pytest.mark.parametrize("kind", ["idx", "gz", "classes", "train and test", "npz"])
def test_a_zip_is_read(digits, tmp_path, kind, inside):
    folder = tmp_path / "source"
    folder.mkdir()
    if kind in ("idx", "gz"):
        for name, content in idx_files(digits).items():
            (folder / name).write_bytes(gzip.compress(content) if kind == "gz" else content)
    elif kind == "npz":
        np.savez(folder / "mnist.npz", x_train=digits[:64], x_test=digits[64:])
    else:
        sub = "7/" * (kind == "classes")
        write_pngs(folder / f"train/{sub}", digits[:64]), write_pngs(folder / f"test/{sub}", digits[64:])
    path = zipped(folder, tmp_path / "mnist.zip", inside)
    before = set(tmp_path.iterdir())
    assert np.array_equal(read_source(path).images, digits[:64])
    assert np.array_equal(read_source(path, "test").images, digits[64:])
    assert all(new.name.endswith(".cache.npz") for new in set(tmp_path.iterdir()) - before), "nothing is unpacked"
    assert np.array_equal(read_source(path.rename(tmp_path / "upload")).images, digits[:64]), "whatever its name"


def test_a_zip_with_the_slashes_of_windows_has_its_splits_and_labels(digits, tmp_path):
    """Old packers write `train\\0\\1.png`, which Python takes for one long name on other systems."""
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for k, image in enumerate(digits.numpy()):
            part = "train" if k < 64 else "test"
            member = zipfile.ZipInfo("x")
            member.filename = f"{part}\\{k % 10}\\{k:03d}.png"
            archive.writestr(member, encode_png(image))
            archive.writestr(f"__MACOSX\\{part}\\._{k}.png", b"")
    for split, part, first in (("train", digits[:64], 0), ("test", digits[64:], 64)):
        found = read_source(tmp_path / "m.zip", split)
        order = sorted(range(first, first + len(part)), key=lambda k: (k % 10, k))
        assert np.array_equal(found.images[:, 0], digits[order, 0].numpy())
        assert found.labels.tolist() == [k % 10 for k in order]


@pytest.mark.parametrize("folders", [["generate"], [str(k) for k in range(10)]], ids=["images", "classes"])
@pytest.mark.parametrize("side", [28, 300])
def test_a_few_figures_at_the_top_are_not_the_images(digits, tmp_path, folders, side):
    """As in the zip that is handed in, or a preview beside the folders of the classes."""
    many = np.concatenate([digits.numpy()] * 2)
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for k, image in enumerate(many):
            archive.writestr(f"{folders[k % len(folders)]}/{k:03d}.png", encode_png(image))
        figure = io.BytesIO()
        Image.new("RGB", (side, side), "white").save(figure, "PNG")
        for name in ("diffusion_grid_ddim", "network", "samples"):
            archive.writestr(f"{name}.png", figure.getvalue())
    found = read_source(tmp_path / "m.zip")
    assert sorted(image.tobytes() for image in found.images) == sorted(image.tobytes() for image in many)
    assert (found.labels is None) == (folders == ["generate"])


def test_a_zip_of_a_flat_folder_is_read_again_when_it_changes(digits, tmp_path):
    path = zipped(write_pngs(tmp_path / "a", digits[:9]), tmp_path / "m.zip")
    assert np.array_equal(read_source(path).images, digits[:9])
    zipped(write_pngs(tmp_path / "b", digits[9:18]), path)
    os.utime(path, ns=(1, 1))
    assert np.array_equal(read_source(path, "test", whole=True).images, digits[9:18])


def patched(path: Path, name: str, size: int) -> None:
    """Lets a .zip declare another size for one of its files, in both places."""
    content = bytearray(path.read_bytes())
    for signature, at, name_at in ((b"PK\1\2", 24, 46), (b"PK\3\4", 22, 30)):
        places = (found.start() for found in re.finditer(re.escape(signature), content))
        start = next(place for place in places if content[place + name_at :].startswith(name.encode()))
        content[start + at : start + at + 4] = struct.pack("<I", size)
    path.write_bytes(content)


def test_a_zip_bomb_is_refused_by_the_size_that_it_declares(digits, tmp_path):
    path = zipped(write_pngs(tmp_path / "a", digits[:9]), tmp_path / "bomb.zip")
    patched(path, "00004.png", 3 * 2**29), patched(path, "00007.png", 3 * 2**29)
    with pytest.raises(ValueError, match=r"bomb\.zip .* would unpack to 3,22.,...,... bytes"):
        read_source(path)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz", "00001.png", "mnist.npz"])
def test_a_zip_bomb_that_lies_about_its_size_is_refused_all_the_same(tmp_path, name):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(3_000_000))
    patched(path, name, 1000)
    with pytest.raises(ValueError, match=re.escape(name)):
        read_source(path)


def test_a_gz_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "LARGEST", 10_000)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((100, 28, 28), np.uint8))))
    with pytest.raises(ValueError, match="too large"):
        read_source(tmp_path)


@pytest.mark.parametrize("name", ["../1.png", "a/../../1.png", "/tmp/1.png", "..\\1.png"])
def test_a_zip_that_leads_out_of_its_folder_is_refused(digits, tmp_path, name):
    path = zipped(write_pngs(tmp_path / "a", digits[:9]), tmp_path / "m.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, encode_png(digits[0].numpy()))
    with pytest.raises(ValueError, match=r"m\.zip .*1\.png would leave its folder"):
        read_source(path)


@pytest.mark.parametrize("damage", ["text", "html", "empty", "truncated", "flipped"])
def test_a_broken_zip_is_named(digits, tmp_path, damage):
    path = zipped(write_pngs(tmp_path / "a", digits[:9]), tmp_path / "m.zip")
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    whole = {"text": b"PK?", "html": b"<!DOCTYPE html>", "empty": b"", "truncated": content[:-100]}
    path.write_bytes(whole.get(damage, content))
    with pytest.raises(ValueError, match=r"m\.zip"):
        read_source(path)


def test_an_encrypted_zip_is_named(digits, tmp_path):
    path = zipped(write_pngs(tmp_path / "a", digits[:1]), tmp_path / "m.zip")
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for found in re.finditer(re.escape(signature), bytes(content)):
            content[found.start() + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.zip.*00001\.png"):
        read_source(path)


# What comes with the kit


def test_the_embedded_sample_is_5000_digits_interleaved_by_class():
    with np.load(SAMPLE) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    assert images.shape == (5000, 28, 28) and images.dtype == np.uint8
    assert np.array_equal(labels, np.arange(5000) % 10)
    assert len(np.unique(images.reshape(5000, -1), axis=0)) > 4990
    train, test = read_source(SAMPLE), read_source(SAMPLE, "test")
    assert np.bincount(train.labels).tolist() == [450] * 10 and np.bincount(test.labels).tolist() == [50] * 10


def test_mnist_itself_is_read():
    """The whole of it where HWKIT_MNIST names it: the mean and spread that everyone normalises MNIST with tell."""
    pixels = read_source(MNIST).images / 255
    assert pixels.mean() == pytest.approx(0.1307, abs=0.003)
    assert pixels.std() == pytest.approx(0.3081, abs=0.003)


# Sources that cannot be read say why


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"", "not a whole IDX file"),
        (b"not an IDX file at all", "not a whole IDX file"),
        (idx(np.zeros((2, 28, 28), np.uint8))[:-1], "not a whole IDX file"),
        (idx(np.zeros((2, 28, 28), np.uint8)) + b"?", "not a whole IDX file"),
        (idx(np.zeros((0, 28, 28), np.uint8)), "not a whole IDX file"),
        (idx(np.zeros((2, 32, 32), np.uint8)), "32×32 pixels, not 28×28"),
        (idx(np.zeros(5, np.uint8)), "not a whole IDX file of 3-dimensional bytes"),
    ],
)
def test_a_broken_idx_file_is_named(tmp_path, content, sentence):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as refusal:
        read_idx(path, 3)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "html", "text"])
def test_a_broken_gz_file_is_named(digits, tmp_path, damage):
    packed = bytearray(gzip.compress(idx(digits[:9, 0].numpy())))
    packed[len(packed) // 2] ^= 255 if damage == "flipped" else 0
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes({"truncated": packed[:-9], "flipped": packed, "html": b"<!DOCTYPE html>", "text": b""}[damage])
    with pytest.raises(ValueError, match=r"is not a whole (gzip|IDX) file.*: fetch it again") as refusal:
        read_source(tmp_path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    "arrays, sentence",
    [
        ({"x": np.zeros((2, 32, 32), np.uint8)}, r"holds x uint8 \(2, 32, 32\), not images of 28×28 pixels"),
        ({"images": np.zeros((0, 28, 28), np.uint8)}, r"holds images uint8 \(0, 28, 28\)"),
        ({"images": np.zeros((2, 28, 28, 4), np.uint8)}, r"holds images uint8 \(2, 28, 28, 4\)"),
        ({"images": np.zeros((28, 28), np.uint8)}, r"holds images uint8 \(28, 28\)"),
        ({"images": np.full((2, 28, 28), "a")}, r"holds images <U1 \(2, 28, 28\)"),
        ({"a": np.zeros((2, 28, 28)), "b": np.zeros((2, 28, 28))}, "holds a .*, b .*, but one array"),
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, "holds mu float64 .*, sigma float64"),
        ({"x_test": np.zeros((2, 28, 28), np.uint8)}, "is wanted for the train split"),
        ({}, "holds nothing, but one array"),
    ],
)
def test_an_npz_of_something_else_is_named(tmp_path, arrays, sentence):
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(ValueError, match=sentence) as refusal:
        read_source(tmp_path / "m.npz")
    assert str(tmp_path / "m.npz") in str(refusal.value)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "npy", "flipped"])
def test_a_broken_npz_is_named(digits, tmp_path, damage):
    path = tmp_path / "m.npz"
    np.savez_compressed(path, images=digits[:, 0].numpy())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255 if damage == "flipped" else 0
    path.write_bytes({"truncated": content[:-100], "empty": b"", "text": b"digits"}.get(damage, content))
    if damage == "npy":
        with open(path, "wb") as file:
            np.save(file, digits[:, 0].numpy())
    with pytest.raises(ValueError, match=r"is not a whole \.npz file") as refusal:
        read_source(path)
    assert str(path) in str(refusal.value)


CIRCULAR = ("-m hwkit data", "fetch it again")


@pytest.mark.parametrize("read", [read_source, load_folder], ids=["source", "images"])
@pytest.mark.parametrize(
    "typed, meant",
    [
        ("genrate", "generate"),
        ("Generate", "generate"),
        ("mnist", "MNIST"),
        ("OTHER", "other"),
        ("genrate/x", "generate"),
    ],
)
def test_a_misspelt_folder_is_asked_after(tmp_path, monkeypatch, read, typed, meant):
    for name in ("generate", "MNIST", "other", ".cache"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"There is no {tmp_path / typed}: did you mean {tmp_path / meant}\\?"):
        read(typed)
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/xyz: {tmp_path} holds MNIST, generate, other\."):
        read("xyz")


def test_a_path_into_a_file_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"There is no .*a\.zip/train: .*a\.zip is a file"):
        read_source(tmp_path / "a.zip" / "train")


def unread(folder: Path, kind: str, digits) -> Path:
    """Something that is not read as it is."""
    path = folder / "source"
    path.mkdir()
    if kind in ("jpg", "bmp"):
        for digit in (3, 4):
            (path / "train" / str(digit)).mkdir(parents=True)
            Image.fromarray(digits[digit, 0].numpy()).save(path / "train" / str(digit) / f"1.{kind}")
    elif kind == "a png":
        path = write_pngs(path, digits[:1]) / "00001.png"
    elif kind != "nothing":
        (path / f"mnist_train.{kind}").write_bytes(b"label,1x1" if kind == "csv" else b"?")
    return path


@pytest.mark.parametrize(
    "kind, there, way",
    [
        ("csv", r"source holds 1 \.csv \(mnist_train\.csv\)", "np.loadtxt(r,"),
        ("parquet", r"1 \.parquet \(mnist_train\.parquet\)", "read_parquet(path)"),
        ("jpg", r"2 \.jpg \(train/3/1\.jpg, train/4/1\.jpg\)", "as PNG: Image.open(path)"),
        ("bmp", r"2 \.bmp \(train/3/1\.bmp, train/4/1\.bmp\)", "as PNG: Image.open(path)"),
        ("tar.gz", r"1 \.gz \(mnist_train\.tar\.gz\)", "unpack it"),
        ("7z", r"1 \.7z ", "unpack it"),
        ("zip", r"1 \.zip ", "unpack it"),
        ("npy", r"1 \.npy ", "np.load(path)"),
        ("html", r"1 \.html ", "name what holds it"),
        ("nothing", "source holds nothing,", "name what holds it"),
        ("a png", r"00001\.png is a file", "source: name that folder"),
    ],
)
def test_what_is_there_instead_of_mnist_is_said_and_the_way_on(digits, tmp_path, kind, there, way):
    path = unread(tmp_path, kind, digits)
    with pytest.raises(ValueError, match=there) as refusal:
        read_source(path)
    assert way in str(refusal.value) and not any(words in str(refusal.value) for words in CIRCULAR)
    assert "MNIST (IDX files, PNGs, an .npz, or a .zip of them) is wanted" in str(refusal.value)
    if kind in ("csv", "parquet", "npy"):
        with pytest.raises(ValueError, match=rf"mnist_train\.{kind} is a file, but MNIST") as refusal:
            read_source(path / f"mnist_train.{kind}")
        assert way in str(refusal.value)


def test_the_line_for_a_csv_makes_mnist_of_it(digits, tmp_path):
    path, made = tmp_path / "mnist_train.csv", tmp_path / "mnist.npz"
    rows = np.hstack([np.arange(96)[:, None] % 10, digits.reshape(96, 784).numpy()])
    pixels = [f"{k // 28}x{k % 28}" for k in range(784)]
    tables = [(rows, ["label", *pixels]), (rows[:, 1:], pixels)]  # Kaggle's train.csv and test.csv
    tables += [(np.roll(rows, -1, axis=1), [*pixels, "class"]), (rows, []), (rows / 2, [])]  # OpenML's; without names
    tables[-1][0][:, 1:] *= 2 / 255
    tables += [
        (rows, [*map(str, range(785))]),
        (np.hstack([np.arange(96)[:, None], rows]), ["", *map(str, range(785))]),
    ]
    tables += [(rows.astype(float), [])]  # as NumPy writes them by itself
    for k, (table, names) in enumerate(tables):
        names = {"header": ",".join(names), "comments": ""} if names else {}
        fmt = "%.18e" if k == len(tables) - 1 else "%g" if table.dtype.kind == "f" else "%d"
        np.savetxt(path, table, fmt, delimiter=",", **names)
        for text in as_others_write_it(path.read_text()):
            path.write_text(text, encoding="utf-8")
            with pytest.raises(ValueError) as refusal:
                read_source(tmp_path / "mnist_train.csv")
            exec(advice(refusal, made), {"np": np, "path": path})
            assert np.array_equal(read_source(made, whole=True).images, digits)
    with pytest.raises(ValueError, match=r"r = t\.splitlines"):
        read_source(path.rename(path.with_suffix(".tsv")))


def as_others_write_it(table: str) -> list[str]:
    """A table as NumPy wrote it; with tabs; and as Excel does: with a mark of UTF-8, in Europe with decimal commas."""
    german = table.replace(",", ";").replace(".", ",")
    return [table, table.replace(",", "\t"), "\ufeff" + table.replace("\n", "\r\n"), "\ufeff" + german]


@pytest.mark.parametrize("shape", [(-1, 784), (-1, 28, 28)])
def test_the_line_for_a_pickle_makes_mnist_of_it(digits, tmp_path, shape):
    """The mnist.pkl of deeplearning.net, of Python 2, and mnielsen's: training, validation and test, from 0 to 1."""
    path, made, x = tmp_path / "mnist.pkl", tmp_path / "mnist.npz", (digits.numpy() / 255).astype(np.float32)
    parts = [(part.reshape(shape), np.zeros(len(part))) for part in (x[:60], x[60:70], x[70:])]
    path.write_bytes(pickle.dumps(tuple(parts), protocol=2))
    with pytest.raises(ValueError, match="only if you trust its origin") as refusal:
        read_source(tmp_path)
    exec(advice(refusal, made), {"np": np, "pickle": pickle, "path": path})
    for split, its_own in (("train", digits[:60]), ("test", digits[70:])):
        assert np.array_equal(read_source(made, split).images, its_own)


def test_the_line_for_a_parquet_file_makes_mnist_of_it(digits, tmp_path):
    """As the Hub has it: a column `image` of PNGs, which pandas gives as dictionaries."""
    path, made = tmp_path / "train-00000-of-00001.parquet", tmp_path / "mnist.npz"
    path.write_bytes(b"PAR1")
    with pytest.raises(ValueError) as refusal:
        read_source(tmp_path)
    column = []
    for digit in digits:
        Image.fromarray(digit[0].numpy()).save(buffer := io.BytesIO(), "PNG")
        column.append({"bytes": buffer.getvalue(), "path": None})
    table = types.SimpleNamespace(image=column)
    pandas = types.SimpleNamespace(read_parquet=lambda file: table if file == path else None)
    exec(advice(refusal, made), {"np": np, "io": io, "Image": Image, "pandas": pandas, "path": path})
    assert np.array_equal(read_source(made, whole=True).images, digits)


def advice(refusal, made: Path) -> str:
    """The line of Python in a refusal, which writes to `made`."""
    line = re.search(r"make an \.npz: (.*)\.$", str(refusal.value))[1]
    return line.replace('path.with_suffix(".npz")', repr(str(made)))


def test_the_line_for_jpegs_makes_pngs_of_them(digits, tmp_path):
    source = unread(tmp_path, "jpg", digits)
    with pytest.raises(ValueError) as refusal:
        read_source(source)
    for path in sorted(source.rglob("*.jpg")):
        exec(re.search(r"Image\.open.*\)\)", str(refusal.value))[0], {"Image": Image, "path": path})
    assert read_source(source).labels.tolist() == [3, 4]


def test_a_split_that_is_not_there_is_named(digits, tmp_path):
    with pytest.raises(ValueError, match="split is 'valid'"):
        read_source(tmp_path, "valid")
    with pytest.raises(FileNotFoundError, match=r"pngs holds no test split: put a folder test/ of PNGs"):
        read_source(write_pngs(tmp_path / "pngs", digits[:2]), "test")
    assert len(read_source(tmp_path / "pngs", "test", whole=True).images) == 2, "a floor that a person named"
    write_pngs(tmp_path / "half" / "test", digits[:2])
    with pytest.raises(FileNotFoundError, match=r"half holds no train split"):
        read_source(tmp_path / "half", "train")
    assert len(read_source(tmp_path / "half", "train", whole=True).images) == 2
    write_pngs(tmp_path / "half" / "validation", digits[:9])
    assert len(read_source(tmp_path / "half", "train", whole=True).images) == 2


def test_two_npz_files_called_train_and_test_are_the_two_parts(digits, tmp_path):
    """As the lines for two tables leave them; neither is divided again."""
    for folder, names in ((tmp_path / "a", ("train.npz", "test.npz")), (tmp_path / "b", ("train/x.npz", "test/x.npz"))):
        for name, part in zip(names, (digits[:60], digits[60:]), strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            np.savez(folder / name, images=part)
        for split, part in (("train", digits[:60]), ("test", digits[60:])):
            assert np.array_equal(read_source(folder, split).images, part)
    np.savez(tmp_path / "a" / "train 2.npz", images=digits[:9])
    with pytest.raises(ValueError, match=r"several sets, in train 2\.npz, train\.npz: name one"):
        read_source(tmp_path / "a")


def test_a_copy_of_a_split_that_a_program_made_is_not_read_with_it(digits, tmp_path):
    """Unzipped twice: `train 2`, `train - Copy`, `train (1)`."""
    write_pngs(tmp_path / "train" / "7", digits[:5])
    write_pngs(tmp_path / "test" / "7", digits[5:9])
    assert len(read_source(tmp_path).images) == 5
    write_pngs(tmp_path / "train 2" / "7", digits[:5])
    with pytest.raises(ValueError, match="several sets, in train 2, train: name one"):
        read_source(tmp_path)


def test_folders_of_classes_may_hold_the_splits(digits, tmp_path):
    for k in range(10):
        write_pngs(tmp_path / str(k) / "train", digits[k : k + 1])
        write_pngs(tmp_path / str(k) / "test", digits[10 + k : 11 + k])
    assert len(read_source(tmp_path).images) == len(read_source(tmp_path, "test").images) == 10


def test_a_macs_zip_of_arrays_is_no_npz(digits, tmp_path):
    with zipfile.ZipFile(tmp_path / "mnist.zip", "w") as archive:
        archive.writestr("x_train.npy", b"\x93NUMPY")
        archive.writestr("__MACOSX/._x_train.npy", b"\0\5\x16\7")
    with pytest.raises(ValueError, match=r"make an \.npz"):
        read_source(tmp_path / "mnist.zip")


def test_mnist_is_chosen_beside_its_likes_of_another_kind(digits, tmp_path):
    """As Keras lays its sets: mnist.npz beside fashion-mnist/ with IDX files."""
    np.savez(tmp_path / "mnist.npz", x_train=digits[:40], x_test=digits[40:])
    (tmp_path / "fashion-mnist").mkdir()
    for name, content in idx_files(digits.flip(0)).items():
        (tmp_path / "fashion-mnist" / name).write_bytes(content)
    write_pngs(tmp_path, 255 - digits[:1])  # a logo
    assert np.array_equal(read_source(tmp_path).images, digits[:40])
    assert len(read_source(tmp_path / "fashion-mnist").images) == 64, "where it is named, it is read"


def test_the_digits_of_emnist_are_set_upright(digits, tmp_path):
    (tmp_path / "emnist-digits-train-images-idx3-ubyte").write_bytes(idx(digits[:, 0].numpy().swapaxes(1, 2)))
    assert np.array_equal(read_source(tmp_path).images, digits)


@pytest.mark.parametrize("name", ["mnist.npz.1", "mnist.npz?download=1", "samples"])
def test_an_npz_under_a_browsers_name_is_read(digits, tmp_path, name):
    np.savez(tmp_path / "m.npz", images=digits)
    (tmp_path / "m.npz").rename(tmp_path / name)
    assert np.array_equal(read_source(tmp_path / name, whole=True).images, digits)


def test_the_lines_for_torchvisions_and_matlabs_files_make_mnist_of_them(digits, tmp_path):
    import scipy.io

    torch.save((digits[:, 0], torch.zeros(96)), tmp_path / "training.pt")
    scipy.io.savemat(tmp_path / "mnist-original.mat", {"data": digits.reshape(96, -1).numpy().T, "label": np.zeros(96)})
    for name, start in (("training.pt", "x, _ = "), ("mnist-original.mat", "x = ")):
        with pytest.raises(ValueError) as refusal:
            read_source(tmp_path / name)
        line = re.search(rf"{start}.*\)(?=\.$| makes)", str(refusal.value))[0]
        exec(line, {"np": np, "torch": torch, "scipy": scipy, "path": tmp_path / name})
        made = read_source((tmp_path / name).with_suffix(".npz"), whole=True).images
        assert np.array_equal(made, digits)


def test_of_several_npz_files_a_person_has_to_choose(digits, tmp_path):
    np.savez(tmp_path / "b.npz", images=digits)
    assert np.array_equal(read_source(tmp_path, whole=True).images, digits)
    np.savez(tmp_path / "a.npz", images=digits)
    with pytest.raises(ValueError, match=r"several sets, in a\.npz, b\.npz: name one of these"):
        read_source(tmp_path)


def test_a_home_folder_is_the_home_folder(digits, pngs, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(read_source("~/pngs").images) == len(load_folder("~/pngs")) == len(PNGFolder(Path("~/pngs"))) == 96
    monkeypatch.setenv("HWKIT_MNIST", "~/pngs")
    assert prepare(out="~/out") == tmp_path / "out/mnist/train"
    assert not list(Path().iterdir())


# The order of sources, and the folder that is made of them


def prepared(folder: Path) -> np.ndarray:
    """What stands in a folder of PNGs, read with Pillow alone."""
    images = [Image.open(folder / file_name(k)) for k in range(1, len(list(folder.iterdir())) + 1)]
    assert {image.mode for image in images} == {"RGB"} and {image.size for image in images} == {(28, 28)}
    return np.stack([np.asarray(image) for image in images])


def test_a_source_becomes_numbered_rgb_pngs(digits_npz, digits, tmp_path):
    folder = prepare(digits_npz, "train", tmp_path / "out")
    assert folder == tmp_path / "out/mnist/train"
    assert sorted(os.listdir(folder)) == [f"{k:05d}.png" for k in range(1, 65)]
    assert np.array_equal(prepared(folder), np.repeat(digits[:64].permute(0, 2, 3, 1).numpy(), 3, axis=3))
    assert np.array_equal(prepared(prepare(digits_npz, "test", tmp_path / "out"))[..., 0], digits[64:, 0])


def test_the_order_of_sources(monkeypatch, small_sample, digits, digits_npz, tmp_path, capsys):
    """Named, by the environment, prepared before, downloaded, embedded: each is said, and used before the next."""
    downloads = tmp_path / "downloaded"
    downloads.mkdir()
    for name, content in idx_files(digits.flip(0)).items():
        (downloads / name).write_bytes(content)
    asked = []
    answer = {"download": downloads}
    monkeypatch.setattr(sources, "download", lambda *_: asked.append("download") or answer["download"])
    other = write_pngs(tmp_path / "other", digits[50:60])

    def first_image(source, out):
        return prepared(prepare(source, "train", tmp_path / out))[0, ..., 0]

    monkeypatch.setenv("HWKIT_MNIST", str(digits_npz))
    assert np.array_equal(first_image(other, "named"), digits[50, 0])
    assert str(other) in capsys.readouterr().out
    assert np.array_equal(first_image(None, "environment"), digits[0, 0])
    assert str(digits_npz) in capsys.readouterr().out
    monkeypatch.delenv("HWKIT_MNIST")
    assert np.array_equal(first_image(None, "environment"), digits[0, 0])
    assert "64 images are prepared" in capsys.readouterr().out
    assert asked == []
    assert np.array_equal(first_image(None, "fresh"), digits[-1, 0])
    assert asked == ["download"]
    answer["download"] = None
    capsys.readouterr()
    folder = prepare(None, "train", tmp_path / "offline")
    assert folder == tmp_path / "offline/sample/train" and len(prepared(folder)) == 27
    said = capsys.readouterr().out
    assert "embedded sample" in said and "WARNING" in said and "HWKIT_MNIST" in said


def test_the_words_download_and_sample_choose_a_source(small_sample, offline, digits_npz, tmp_path, monkeypatch):
    prepare(digits_npz, "train", tmp_path)
    assert prepare("sample", "train", tmp_path) == tmp_path / "sample/train"
    monkeypatch.setenv("HWKIT_MNIST", "sample")
    assert prepare(None, "test", tmp_path) == tmp_path / "sample/test"
    with pytest.raises(FileNotFoundError, match="MNIST could not be downloaded"):
        prepare("download", "train", tmp_path)


@pytest.mark.parametrize("word", ["download", "sample"])
def test_a_folder_of_ones_own_may_be_called_as_those_words(digits, tmp_path, monkeypatch, offline, word):
    """With a ./ before it, by which a person tells it from the word."""
    write_pngs(tmp_path / "here" / word, digits[:20])
    monkeypatch.chdir(tmp_path / "here")
    made = load_folder(prepare(f"./{word}", out=tmp_path / "out"))
    assert torch.equal(made, digits[:20])


@pytest.mark.parametrize("content", ["[]", "{}", "3", '{"count": 3}'])
def test_a_record_of_another_program_is_named(digits_npz, tmp_path, content):
    (tmp_path / "out" / "mnist").mkdir(parents=True)
    (tmp_path / "out" / "mnist" / "train.json").write_text(content)
    with pytest.raises(ValueError, match=r"train\.json is no record of this kit's: move it away"):
        prepare(digits_npz, out=tmp_path / "out")


def test_a_half_written_folder_is_completed_and_a_whole_one_left_alone(digits_npz, digits, tmp_path, capsys):
    folder = prepare(digits_npz, "train", tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    for k in (1, 30, 64):
        (folder / file_name(k)).unlink()
    capsys.readouterr()
    prepare(digits_npz, "train", tmp_path / "out")
    assert "(3 new)" in capsys.readouterr().out
    assert np.array_equal(prepared(folder)[..., 0], digits[:64, 0])
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {name for name in after if after[name] != before[name]} <= {"00001.png", "00030.png", "00064.png"}
    prepare(digits_npz, "train", tmp_path / "out")
    assert "new)" not in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == after


def test_an_empty_png_is_made_again(digits_npz, digits, tmp_path, monkeypatch, offline, small_sample):
    """What a power failure leaves of files that were not flushed."""
    folder = prepare(digits_npz, "train", tmp_path / "out")
    (folder / file_name(30)).write_bytes(b"")
    assert prepare(None, "train", tmp_path / "out") == tmp_path / "out/sample/train", "it is not whole"
    prepare(digits_npz, "train", tmp_path / "out")
    assert np.array_equal(prepared(folder)[..., 0], digits[:64, 0])


@pytest.mark.parametrize("damage", ["", "[", '{"count": 3'])
def test_a_damaged_record_of_what_is_prepared_is_named(digits_npz, tmp_path, damage):
    prepare(digits_npz, "train", tmp_path)
    (tmp_path / "mnist/train.json").write_text(damage)
    for source in (None, digits_npz):
        with pytest.raises(ValueError, match=r"train\.json is damaged"):
            prepare(source, "train", tmp_path)
    (tmp_path / "mnist/train.json").unlink()
    with pytest.raises(ValueError, match="holds the images of another source: move it away"):
        prepare(digits_npz, "train", tmp_path)


def test_leftovers_in_the_folder_do_not_stop_a_preparation(digits_npz, tmp_path):
    (tmp_path / "mnist/train/.ipynb_checkpoints").mkdir(parents=True)
    (tmp_path / "mnist/train/.DS_Store").write_bytes(b"\0")
    prepare(digits_npz, "train", tmp_path)
    assert len(load_folder(tmp_path / "mnist/train")) == 64


def test_what_is_prepared_never_goes_into_an_installed_kit(tmp_path):
    """A checkout's data/ is read and written; an installed kit brings data of its own, which is only read."""
    kit = Path(sources.__file__).parent.parent
    assert kit.parent / "data" == sources.DATA and (sources.DATA / "mnist_sample.npz").is_file()
    for folder in ("site/hwkit/mnist", "site/hwkit/data", "site/data"):
        (tmp_path / folder).mkdir(parents=True)
    copied = shutil.copy(sources.__file__, tmp_path / "site/hwkit/mnist")
    specification = importlib.util.spec_from_file_location("installed", copied)
    installed = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(installed)
    assert tmp_path / "site/hwkit/data" == installed.DATA and Path("data") == installed.PREPARED


def test_preparation_that_is_interrupted_goes_on(monkeypatch, digits_npz, digits, offline, small_sample, tmp_path):
    write_many, calls = folder_.files.write_many, []

    def interrupted(folder, files):
        calls.append(1)
        write_many(folder, dict(list(files.items())[:20]))
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_.files, "write_many", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(digits_npz, "train", tmp_path)
    monkeypatch.setattr(folder_.files, "write_many", write_many)
    assert len(os.listdir(tmp_path / "mnist/train")) == 20
    assert prepare(None, "train", tmp_path) == tmp_path / "sample/train", "a part of a split is not taken for the whole"
    assert np.array_equal(prepared(prepare(digits_npz, "train", tmp_path))[..., 0], digits[:64, 0])


def test_the_images_of_another_source_are_not_mixed_in(digits_npz, digits, tmp_path):
    prepare(digits_npz, "train", tmp_path / "out")
    other = write_pngs(tmp_path / "other", digits[:64].flip(0))
    with pytest.raises(ValueError, match="out/mnist/train holds the images of another source"):
        prepare(other, "train", tmp_path / "out")


# The download


@contextlib.contextmanager
def serving(handler):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


class Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(monkeypatch, digits):
    """A mirror on this machine that serves 64 + 32 digits; torchvision knows their checksums."""
    from torchvision.datasets import MNIST

    files = {name + ".gz": gzip.compress(content) for name, content in idx_files(digits).items()}
    monkeypatch.setattr(MNIST, "resources", [(name, hashlib.md5(gz).hexdigest()) for name, gz in files.items()])
    monkeypatch.setenv("no_proxy", "*")

    class Mirror(Quiet):
        def do_GET(self):
            content = files[self.path.lstrip("/")]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with serving(Mirror) as address:
        yield address


def use_mirrors(monkeypatch, *addresses):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", list(addresses))


class Silent(socketserver.BaseRequestHandler):
    """Takes the call and never answers."""

    def handle(self):
        time.sleep(3)


class HalfSilent(Quiet):
    """Begins to answer, and falls silent."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "10000")
        self.end_headers()
        self.wfile.write(b"\x1f\x8b")
        self.wfile.flush()
        time.sleep(3)


class Missing(Quiet):
    def do_GET(self):
        self.send_error(404)


class Forged(Quiet):
    """Delivers something else (the login page of a hotel, say)."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Welcome!</html>")


class Broken(socketserver.BaseRequestHandler):
    """Hangs up at once."""

    def handle(self):
        pass


class Foreign(socketserver.BaseRequestHandler):
    """Speaks another protocol."""

    def handle(self):
        self.request.recv(1000)
        self.request.sendall(b"220 smtp.example.org ESMTP\r\n")


def test_a_mirror_delivers(monkeypatch, mirror, digits, tmp_path):
    use_mirrors(monkeypatch, mirror)
    folder = prepare("download", "train", tmp_path)
    assert np.array_equal(prepared(folder)[..., 0], digits[:64, 0])
    use_mirrors(monkeypatch, "http://127.0.0.1:9/nobody/")
    assert len(prepared(prepare("download", "test", tmp_path))) == 32, "what is downloaded is not downloaded again"


@pytest.mark.parametrize("behaviour", [Silent, HalfSilent, Missing, Forged, Broken, Foreign])
def test_a_mirror_that_does_not_deliver_is_passed_over(monkeypatch, mirror, digits, tmp_path, behaviour, capsys):
    with serving(behaviour) as bad:
        use_mirrors(monkeypatch, bad, mirror)
        started = time.monotonic()
        root = download(tmp_path / "download", timeout=1)
        assert time.monotonic() - started < 8
    assert np.array_equal(read_source(root).images, digits[:64])
    said = capsys.readouterr().out.splitlines()
    assert [bad in said[0], "did not deliver" in said[1], mirror in said[2]] == [True] * 3 and len(said) == 3


def test_without_any_mirror_there_is_no_download(monkeypatch, tmp_path):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(7.5)  # whatever the program has set is left as it was
    try:
        with serving(Silent) as bad:
            use_mirrors(monkeypatch, bad)
            assert download(tmp_path / "download", timeout=0.2) is None
        assert not (tmp_path / "download").exists()
        assert socket.getdefaulttimeout() == 7.5
    finally:
        socket.setdefaulttimeout(before)


# The tensor


def test_a_folder_becomes_a_tensor(pngs, digits):
    images = load_folder(pngs)
    assert images.dtype == torch.uint8 and torch.equal(images, digits)
    assert torch.equal(load_folder(str(pngs)), digits)


def test_colour_is_kept(colored, digits, tmp_path):
    write_pngs(tmp_path / "pngs", [*colored[:3], *digits[3:4].expand(-1, 3, -1, -1).numpy()])
    images = load_folder(tmp_path / "pngs")
    assert images.shape == (4, 3, 28, 28)
    assert np.array_equal(images[:3], colored[:3])
    assert torch.equal(images[3], digits[3].expand(3, -1, -1))


def test_other_files_and_subfolders_are_passed_over(pngs, digits):
    (pngs / "notes.txt").write_text("hello")
    write_pngs(pngs / "more", digits[:2])
    assert torch.equal(load_folder(pngs), digits)


@pytest.fixture
def reads(monkeypatch):
    """Counts how many PNGs are decoded."""
    counted = []
    monkeypatch.setattr(folder_, "read_png", lambda path: counted.append(path) or read_png(path))
    return counted


def test_a_folder_is_decoded_once(pngs, digits, reads):
    load_folder(pngs)
    assert len(reads) == 96
    assert torch.equal(load_folder(pngs), digits)
    assert len(reads) == 96


@pytest.mark.parametrize("change", ["rewritten", "added", "removed", "renamed"])
def test_the_cache_is_stale_when_the_folder_changes(pngs, digits, change):
    load_folder(pngs)
    expected = digits
    if change == "rewritten":  # with as many bytes, and another time
        name = pngs / file_name(3)
        size = name.stat().st_size
        blank = np.zeros((28, 28), np.uint8)
        Image.fromarray(blank).save(name)
        assert name.stat().st_size < size
        name.write_bytes(name.read_bytes().ljust(size, b"\0"))
        expected = torch.cat([digits[:2], torch.zeros_like(digits[:1]), digits[3:]])
    elif change == "added":
        Image.fromarray(digits[0, 0].numpy()).save(pngs / file_name(97))
        expected = torch.cat([digits, digits[:1]])
    elif change == "removed":
        (pngs / file_name(96)).unlink()
        expected = digits[:95]
    else:
        (pngs / file_name(1)).rename(pngs / "99999.png")
        expected = torch.cat([digits[1:], digits[:1]])
    assert torch.equal(load_folder(pngs), expected)
    assert torch.equal(load_folder(pngs), expected)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign", "a folder"])
def test_a_broken_cache_is_passed_over(pngs, digits, damage):
    load_folder(pngs)
    [cache] = pngs.parent.glob(".pngs*.npz")
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 255 if damage == "flipped" else 0
    cache.unlink()
    if damage == "a folder":
        cache.mkdir()
    elif damage == "foreign":
        np.savez(cache, something=np.zeros(3))
    else:
        cache.write_bytes({"truncated": content[:-50], "empty": b"", "flipped": content}[damage])
    assert torch.equal(load_folder(pngs), digits)


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, pngs, digits, capsys):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_.files, "whole_file", full)
    assert torch.equal(load_folder(pngs), digits)
    assert "no cache" in capsys.readouterr().out


# Pictures that are none


def truncated(path):
    path.write_bytes(path.read_bytes()[:-60])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def image_of(size, mode):
    return lambda path: Image.new(mode, size).save(path, "PNG")


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (truncated, "does not decode as an image"),
        (flipped, "does not decode as an image"),
        (lambda path: path.write_text("I am no picture"), "does not decode as an image"),
        (lambda path: path.write_bytes(b""), "does not decode as an image"),
        (image_of((32, 32), "RGB"), "is 32×32 pixels in mode RGB, not 28×28 in .*: .*Image"),
        (image_of((28, 32), "L"), "is 28×32 pixels in mode L, not 28×28 in .*: .*Image"),
        (image_of((28, 28), "RGBA"), "is 28×28 pixels in mode RGBA, not .*: .*Image"),
        (image_of((28, 28), "P"), "is 28×28 pixels in mode P, not .*: .*Image"),
        (image_of((28, 28), "I;16"), "is 28×28 pixels in mode I.*, not .*: .*Image"),
    ],
    ids=["truncated", "flipped", "text", "empty", "32×32", "28×32", "RGBA", "palette", "16 bits"],
)
def test_a_png_that_cannot_be_used_is_named(pngs, spoil, sentence):
    spoil(pngs / file_name(17))
    with pytest.raises(ValueError, match=sentence) as refusal:
        load_folder(pngs)
    assert str(pngs / file_name(17)) in str(refusal.value)


@pytest.mark.parametrize("read", [load_folder, PNGFolder])
def test_a_folder_without_pngs_is_refused(digits, tmp_path, read):
    """Generated images: what is said never sends anyone after MNIST."""

    def refused(path) -> str:
        with pytest.raises(ValueError, match="but a folder of PNGs is wanted: ") as refusal:
            read(path)
        assert not any(words in str(refusal.value) for words in CIRCULAR)
        return str(refusal.value)

    with pytest.raises(FileNotFoundError, match=f"There is no {tmp_path}/none: {tmp_path} holds nothing"):
        read(tmp_path / "none")
    assert f"{tmp_path} holds nothing, but" in refused(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    assert f"{tmp_path} holds 1 .txt (notes.txt), but" in refused(tmp_path)
    write_pngs(tmp_path / "student" / "generate", digits[:4])
    said = refused(tmp_path / "student")
    assert "holds 4 .png (generate/00001.png, generate/00002.png, generate/00003.png, …), but" in said
    assert f"the images are in {tmp_path}/student/generate: name that folder" in said
    write_pngs(tmp_path / "classes" / "0", digits[:2]), write_pngs(tmp_path / "classes" / "1", digits[:1])
    assert f"the images are in {tmp_path}/classes/0, {tmp_path}/classes/1: name that" in refused(tmp_path / "classes")
    assert "s.zip is a file, but" in (said := refused(zipped(tmp_path / "student", tmp_path / "s.zip"))), said
    assert f"{tmp_path}/s.zip/generate" in said
    np.savez(tmp_path / "samples.npz", arr_0=digits)
    assert "samples.npz is a file, but" in (said := refused(tmp_path / "samples.npz"))
    assert "read_source(path, whole=True).images reads it" in said
    assert f"{tmp_path}/classes/0: name that" in refused(tmp_path / "classes" / "0" / "00001.png")


def bomb(path: Path, side: int) -> None:
    """A PNG that says it has side × side pixels; above the limit at which Pillow warns it need not hold them."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head, body = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), zlib.compress(bytes(side * (1 + 3 * side) % 2**23))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


@pytest.mark.parametrize("read", [load_folder, read_source])
@pytest.mark.parametrize(
    "side, said",
    [(20_000, "does not decode"), (14_000, "does not decode"), (10_000, "does not decode"), (1_000, "is 1000×1000")],
)
def test_a_decompression_bomb_is_named_and_pillow_is_silent(pngs, read, side, said):
    bomb(pngs / file_name(7), side)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match=rf"00007\.png {said}"):
            read(pngs)
    assert not warned


def test_an_image_of_any_size_and_mode_can_be_opened(tmp_path):
    Image.new("LA", (5, 7)).save(tmp_path / "a.png")
    assert open_png(tmp_path / "a.png").size == (5, 7)
    with pytest.raises(ValueError, match=r"b\.png does not decode"):
        open_png(tmp_path / "b.png")


def padded(image: np.ndarray, by: int, value: int = 0) -> Image.Image:
    return Image.fromarray(np.pad(image, by, constant_values=value))


MENDED = {  # what a digit may have become → how the same digit, 28×28, comes back
    "16 bits": lambda x: Image.fromarray(x.astype(np.uint16) * 257),
    "16 bits, padded": lambda x: Image.fromarray(np.pad(x.astype(np.uint16) * 257, 2)),
    "a border of 2": lambda x: padded(x, 2),
    "a border of 18": lambda x: padded(x, 18),
    "grey with alpha": lambda x: Image.fromarray(np.dstack([x, np.full_like(x, 255)])),
    "RGBA": lambda x: Image.fromarray(x).convert("RGBA"),
    "a palette": lambda x: Image.fromarray(x).convert("P"),
    "a palette and a border": lambda x: padded(x, 2).convert("P"),
    "a grey frame of 4": lambda x: padded(x, 4, 128),
    "a white frame of 1": lambda x: padded(x, 1, 255),
    "a faint frame of 2": lambda x: padded(x, 2, 20),
    "doubled": lambda x: Image.fromarray(x.repeat(2, 0).repeat(2, 1)),
    "white on transparent": lambda x: Image.fromarray(np.dstack([*[np.full_like(x, 255)] * 3, x])),
}


@pytest.mark.parametrize("kind", MENDED)
def test_the_advice_keeps_the_picture(digits, tmp_path, kind):
    """Whoever follows the advice for every file, and reads the folder again, has the digits that were drawn."""
    folder = write_pngs(tmp_path / "g", digits[:5])
    for k in range(5):
        MENDED[kind](digits[k, 0].numpy()).save(folder / file_name(k + 1))
    with pytest.raises(ValueError, match=r"00001\.png is ") as refusal:
        load_folder(folder)
    for path in sorted(folder.iterdir()):
        exec(str(refusal.value).split(": ")[-1], {"Image": Image, "np": np, "path": path})
    assert torch.equal(load_folder(folder), digits[:5])


@pytest.mark.parametrize("gap", [0, 2])
@pytest.mark.parametrize("side", [3, 8])
def test_a_sheet_of_many_digits_is_not_resized(digits, gap, side):
    """With a gap as torchvision's `save_image` draws it."""
    cells = np.pad(digits[: side**2, 0].numpy(), ((0, 0), (gap, 0), (gap, 0))).reshape(side, side, gap + 28, gap + 28)
    sheet = np.pad(cells.transpose(0, 2, 1, 3).reshape(side * (28 + gap), -1), ((0, gap), (0, gap)))
    assert "many images" in mend(Image.fromarray(sheet)) and "resize" not in mend(Image.fromarray(sheet))


def test_a_strip_and_a_sheet_whose_last_row_is_short_are_not_resized(digits):
    strip = digits[:8, 0].numpy().transpose(1, 0, 2).reshape(28, -1)
    cells = np.pad(digits[:16, 0].numpy(), ((0, 0), (2, 0), (2, 0)))
    cells[10:] = 0
    for sheet in (strip, cells.reshape(2, 8, 30, 30).transpose(0, 2, 1, 3).reshape(60, 240)):
        assert "many images" in mend(Image.fromarray(sheet))


def test_a_lone_digit_is_no_sheet_however_tightly_it_was_cut(digits):
    for digit in digits[:, 0].numpy():
        rows, columns = (np.flatnonzero(digit.any(axis)) for axis in (1, 0))
        tight = Image.fromarray(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        for drawn in (tight.resize((64, 64), Image.BILINEAR), Image.fromarray(digit).resize((64, 64), Image.LANCZOS)):
            assert "resize((28, 28)" in mend(drawn)


def test_a_picture_on_a_page_is_cut_out_and_not_squeezed(digits, tmp_path):
    """As plt.imshow and plt.savefig leave it: a white page around a black square."""
    page = Image.new("RGB", (640, 480), "white")
    page.paste(Image.fromarray(digits[3, 0].numpy()).resize((370, 370), Image.NEAREST), (143, 58))
    page.save(tmp_path / "00001.png")
    line = mend(open_png(tmp_path / "00001.png"))
    assert line.startswith("cut out the picture")
    exec(line.partition(": ")[2], {"Image": Image, "np": np, "path": tmp_path / "00001.png"})
    assert np.abs(read_png(tmp_path / "00001.png")[0].astype(int) - digits[3, 0].numpy()).mean() < 12


def test_floats_from_minus_1_to_1_are_not_wrapped(digits, tmp_path):
    for k, levels in enumerate((digits[0, 0] / 127.5 - 1, (digits[0, 0] / 255 - 0.13) / 0.31), 1):
        Image.fromarray(levels.numpy().astype(np.float32)).save(tmp_path / f"{k}.tif")
    line = mend(open_png(tmp_path / "1.tif"))
    exec(
        line.partition(": ")[2].replace("save(path)", "save(made)"),
        {"Image": Image, "np": np, "path": tmp_path / "1.tif", "made": tmp_path / "1.png"},
    )
    assert np.abs(read_png(tmp_path / "1.png")[0].astype(int) - digits[0, 0].numpy()).max() <= 1
    assert mend(open_png(tmp_path / "2.tif")) == "make these again, with levels from 0 to 255"
    Image.fromarray(np.where(digits[0, 0] > 0, digits[0, 0] / 255, -0.03).astype(np.float32)).save(tmp_path / "3.tif")
    assert "np.clip(" in mend(open_png(tmp_path / "3.tif")), "black stays black"


def test_what_has_no_border_is_not_cut(digits):
    drawn = Image.fromarray(digits[0, 0].numpy()).resize((40, 40))
    drawn.putpixel((0, 39), 200)
    assert "crop" not in mend(drawn) and "resize((28, 28)" in mend(drawn)


# Levels


def test_a_png_holds_the_pixels_as_rgb(digits, colored, tmp_path):
    for image in (digits[0].numpy(), colored[0]):
        (tmp_path / "one.png").write_bytes(encode_png(image))
        with Image.open(tmp_path / "one.png") as found:
            assert found.mode == "RGB" and found.format == "PNG"
            assert np.array_equal(
                np.asarray(found), image.transpose(1, 2, 0) if len(image) == 3 else np.stack([image[0]] * 3, 2)
            )


def test_every_grey_level_survives_the_way_there_and_back():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    x = normalize(levels)
    assert x.shape == (1, 3, 16, 16) and x.dtype == torch.float32
    assert x.min() == -1 and x.max() == 1
    torch.testing.assert_close(x[0, 2].flatten(), torch.linspace(-1, 1, 256))
    assert torch.equal(to_uint8(x), levels.expand(-1, 3, -1, -1))


def test_to_uint8_clips_and_rounds_to_the_nearest_level():
    x = torch.tensor([-7, -1, -1 + 0.9 / 255, -1 + 1.1 / 255, 1 - 0.9 / 255, 1, 7]).view(1, 1, 1, -1)
    assert to_uint8(x).flatten().tolist() == [0, 0, 0, 1, 255, 255, 255]


# The batches


def epoch_of(images, batch_size=10, seed=0, epoch=1, **options) -> torch.Tensor:
    return torch.stack(list(batches(images, batch_size, seed, epoch, **options)))


def test_batches_are_rgb_in_minus_1_to_1(digits):
    x = epoch_of(digits)
    assert x.shape == (9, 10, 3, 28, 28) and x.dtype == torch.float32
    assert x.min() == -1 and x.max() == 1
    assert torch.equal(x[:, :, 0], x[:, :, 1]) and torch.equal(x[:, :, 0], x[:, :, 2])


@pytest.mark.parametrize("batch_size, expected", [(10, 90), (96, 96), (97, 0)])
def test_an_epoch_shows_an_image_once_at_the_most(digits, batch_size, expected):
    found = list(batches(digits, batch_size, seed=0, epoch=1))
    shown = [to_uint8(x)[0].numpy().tobytes() for batch in found for x in batch[:, :1]]
    assert len(shown) == len(set(shown)) == expected
    assert set(shown) <= {image.numpy().tobytes() for image in digits[:, 0]}


def test_the_order_depends_on_seed_and_epoch_alone(digits):
    torch.manual_seed(1)
    first = epoch_of(digits, seed=3, epoch=2)
    torch.manual_seed(2)
    np.random.seed(2)
    assert torch.equal(epoch_of(digits, seed=3, epoch=2), first)
    assert not torch.equal(epoch_of(digits, seed=3, epoch=3), first)
    assert not torch.equal(epoch_of(digits, seed=2, epoch=2), first)
    assert not torch.equal(epoch_of(digits, seed=2, epoch=3), first)


def test_the_order_of_an_epoch_never_changes():
    """A run that another version began goes on exactly only if that is so."""
    levels = torch.arange(96, dtype=torch.uint8).view(96, 1, 1, 1)
    order = to_uint8(epoch_of(levels, batch_size=12, seed=3, epoch=2))[0, :, 0, 0, 0]
    assert order.tolist() == [29, 68, 16, 24, 14, 60, 27, 89, 62, 59, 19, 92]


@pytest.mark.parametrize("start", [0, 1, 8, 9])
def test_an_epoch_goes_on_from_any_batch(digits, start):
    found, whole = list(batches(digits, 10, 0, 1, start=start)), epoch_of(digits)
    assert len(found) == 9 - start
    assert all(torch.equal(x, y) for x, y in zip(found, whole[start:], strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_that_is_not_held_in_memory_gives_the_same_batches(pngs, digits, workers):
    images = PNGFolder(pngs)
    assert len(images) == 96
    streamed = torch.stack(list(batches(images, 10, 0, 1, start=2, part=slice(3, 9), workers=workers)))
    assert torch.equal(streamed, epoch_of(digits)[2:, 3:9])


def test_ctrl_c_does_not_stop_the_workers(pngs, digits):
    """It reaches every process of the terminal; what it means is for the training process alone to decide."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
    try:
        found = batches(PNGFolder(pngs), 8, 0, 1, workers=2)
        shown = [next(found), next(found)]  # one from each worker: both have begun
        workers = multiprocessing.active_children()
        assert workers
        for worker in workers:
            os.kill(worker.pid, signal.SIGINT)
        shown += found
    finally:
        signal.signal(signal.SIGINT, before)
    assert torch.equal(torch.stack(shown), epoch_of(digits, batch_size=8))


def test_the_digits_are_moved_to_the_device_once(digits):
    """A tensor that is there already is not copied, and no image is fetched from the CPU for a batch."""
    moved = []

    class Images(torch.Tensor):
        def to(self, *args, **kwargs):
            moved.append(self.shape[0])
            return super().to(*args, **kwargs)

    list(batches(digits.as_subclass(Images), 32, 0, 1, device="cpu"))
    assert moved[0] == 96
    [first, *_] = batches(digits, 32, 0, 1, device="meta")
    assert first.device.type == "meta" and first.shape == (32, 3, 28, 28)


def test_a_stream_names_a_broken_png(pngs):
    truncated(pngs / file_name(17))
    with pytest.raises(ValueError, match=r"00017\.png does not decode"):
        list(batches(PNGFolder(pngs), 10, 0, 1, workers=0))
    shutil.rmtree(pngs)
    with pytest.raises(FileNotFoundError, match="There is no "):
        PNGFolder(pngs)
