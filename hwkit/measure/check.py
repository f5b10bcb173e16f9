"""The check of a submission: what course staff would look at in a folder of images, ours or anyone's."""

import hashlib
import os
import struct
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from PIL import Image
from tqdm.auto import tqdm

from hwkit.measure.features import classify, digit_features, floors
from hwkit.measure.memorisation import grey, memorisation
from hwkit.mnist.folder import SIDE, file_name

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}  # files that should decode
BROKEN = (OSError, SyntaxError, ValueError, zlib.error, struct.error, Image.DecompressionBombError)  # as Pillow says it
COPIES = 0.01  # the share of near-copies that passes; of unseen real digits 0.001 are
NO_DIGITS = 0.05  # the share that passes of images which the classifier takes for no digit


class Row(NamedTuple):
    """One line of the table. `passed` is None where an earlier failure leaves nothing to look at."""

    what: str
    passed: bool | None
    found: str
    mend: str = ""  # what to do where it failed


class Images(NamedTuple):
    """What the files hold, by name."""

    pixels: dict[str, np.ndarray]  # of those of the right size: uint8 (28, 28, 3)
    broken: list[str]
    formats: dict[str, str]
    sizes: dict[str, tuple[int, int]]
    modes: dict[str, str]


def check(folder: Annotated[Path, tyro.conf.Positional], n: int = 10_000, train: Path | None = None) -> int:
    """Checks a folder of images before it is handed in: a table of what passes, what fails, and how to mend it.

    Exit code 0 where everything passes, else 1.

    Args:
        folder: the images, 00001.png … 10000.png.
        n: how many there should be.
        train: the training images, to look for copies; by default MNIST where it is at hand, else the sample.
    """
    if not 1 <= n <= 99_999:
        raise ValueError(f"n is {n}, but must be between 1 and 99,999 (file names have five digits).")
    failures = 0
    for row in rows(folder, n, train):
        print({True: "✓", False: "✗", None: "–"}[row.passed], f"{row.what:<16} {row.found}")
        if row.passed is False:
            failures += 1
            print(f"  {'':<16} → {row.mend}")
    print(f"{folder}: " + (f"{failures} of the checks failed." if failures else "everything passes."))
    return 1 if failures else 0


def rows(folder: Path, n: int = 10_000, train: Path | None = None) -> Iterator[Row]:
    """The table, line by line: first the files, then what they hold, then all of the pictures together."""
    if not folder.is_dir():
        found = f"{folder} is a file" if folder.exists() else f"there is no {folder}"
        yield Row("folder", False, found, "name the folder that holds the images; a .zip must be unpacked first")
        return
    with os.scandir(folder) as entries:
        kinds = {entry.name: entry.is_dir() for entry in entries}
    files = sorted(name for name, is_folder in kinds.items() if not is_folder)
    yield from file_rows(files, sorted(set(kinds) - set(files)), n)
    images = read([folder / name for name in files if Path(name).suffix.lower() in IMAGES])
    yield from image_rows(images)
    yield from picture_rows(images.pixels, train)


# The files


def file_rows(files: list[str], subfolders: list[str], n: int) -> Iterator[Row]:
    """Number and names."""
    mend = "move the images up into the folder itself, and delete the subfolder"
    yield Row("no subfolders", not subfolders, listed(subfolders) or "none", mend)
    surplus = (
        "delete those that do not belong" if len(files) > n else "make the missing ones (`python -m hwkit sample`)"
    )
    yield Row(f"{n:,} files", len(files) == n, f"{len(files):,}", surplus)
    expected = {file_name(k) for k in range(1, n + 1)}
    missing, others = sorted(expected - set(files)), sorted(set(files) - expected)
    found = "; ".join(
        f"{len(names):,} {kind}: {listed(names)}" for kind, names in (("missing", missing), ("other", others)) if names
    )
    yield Row("names", not found, found or f"{file_name(1)} … {file_name(n)}", renaming(missing, others))


def renaming(missing: list[str], others: list[str]) -> str:
    """How to come to the right names."""
    if any(Path(name).suffix.lower() in IMAGES - {".png"} for name in others):
        return f"save the images as .png, named {file_name(1)}, {file_name(2)} and so on"
    if any(Path(name).stem.isdigit() for name in others):
        return f"number the files from 1, with five digits and small letters: {file_name(1)}"
    if others:
        return "delete or rename the files that are not expected"
    return f"make the missing images, or renumber those that are there; the first is {missing[0]}" if missing else ""


# What they hold


def read(paths: Sequence[Path]) -> Images:
    """Decodes the files."""
    images = Images({}, [], {}, {}, {})
    for path in tqdm(paths, unit="image", desc="reading", delay=1, leave=False):
        try:
            with Image.open(path) as image:
                image.load()
        except BROKEN:
            images.broken.append(path.name)
            continue
        images.formats[path.name], images.sizes[path.name] = image.format, image.size
        images.modes[path.name] = image.mode
        if image.size == (SIDE, SIDE):
            images.pixels[path.name] = np.asarray(image.convert("RGB"))
    return images


def image_rows(images: Images) -> Iterator[Row]:
    """Decoding, format, size and mode."""
    if not images.sizes and not images.broken:
        for what in ("every file opens", "PNG", "28×28", "RGB"):
            yield Row(what, None, "no image to look at")
        return
    count = len(images.sizes) + len(images.broken)
    damaged = f"{len(images.broken):,} do not: {listed(images.broken)}"
    yield Row("every file opens", not images.broken, damaged if images.broken else f"{count:,}", "make these again")
    yield odd_ones("PNG", images.formats, "PNG", "save these as PNG; a new name alone does not convert them")
    side = f"resize these to {SIDE}×{SIDE} pixels, or make them again"
    sizes = {name: "×".join(map(str, size)) for name, size in images.sizes.items()}
    yield odd_ones("28×28", sizes, f"{SIDE}×{SIDE}", side)
    names = {"L": "grey (L)", "1": "black and white (1)", "P": "palette (P)", "LA": "grey with alpha (LA)"}
    modes = {name: names.get(mode, mode) for name, mode in images.modes.items()}
    yield odd_ones("RGB", modes, "RGB", 'convert these: Image.open(path).convert("RGB").save(path)')


def odd_ones(what: str, values: dict[str, str], wanted: str, mend: str) -> Row:
    """A row about one property that all images should share."""
    odd = {name: value for name, value in values.items() if value != wanted}
    found = ", ".join(f"{name} is {odd[name]}" for name in list(odd)[:3])
    if odd:
        return Row(
            what, False, f"{len(odd):,} of {len(values):,} are not: {found}{', …' if len(odd) > 3 else ''}", mend
        )
    return Row(what, True if values else None, f"all {len(values):,}" if values else "no image to look at")


# All of the pictures together


def picture_rows(pixels: dict[str, np.ndarray], train: Path | None) -> Iterator[Row]:
    """Blank ones, duplicates, copies of training images, and the digits' histogram."""
    if not pixels:
        for what in ("not blank", "no duplicates", "no copies", "all ten digits"):
            yield Row(what, None, f"no image of {SIDE}×{SIDE} pixels to look at")
        return
    names, stack = list(pixels), np.stack(list(pixels.values()))  # (N, 28, 28, 3)
    blank = [name for name, picture in pixels.items() if (picture == picture[0, 0]).all()]
    mend = "these have one colour all over: look at the sampler (NaN, or a wrong range of values?), and make them again"
    yield Row(
        "not blank", not blank, f"{len(blank):,} are blank: {listed(blank)}" if blank else f"{len(names):,}", mend
    )
    yield duplicates(pixels)
    yield copies(names, grey(stack.transpose(0, 3, 1, 2)), train)
    yield histogram(classify(digit_features(stack.transpose(0, 3, 1, 2))))


def duplicates(pixels: dict[str, np.ndarray]) -> Row:
    """Whether two files hold the same picture, whatever their bytes."""
    groups = defaultdict(list)
    for name, picture in pixels.items():
        groups[hashlib.sha256(picture.tobytes()).digest()].append(name)
    same = [group for group in groups.values() if len(group) > 1]
    pairs = listed([" = ".join(group[:2]) for group in same])
    found = f"{sum(map(len, same)):,} share {len(same):,} pictures: {pairs}" if same else f"{len(groups):,} different"
    return Row("no duplicates", not same, found, "make the second of each again, with a seed of its own for each image")


def copies(names: list[str], grey: np.ndarray, train: Path | None) -> Row:
    """Whether too many images are (nearly) training images."""
    facts, pairs = memorisation(grey, train)
    near = round(facts["near_copies"] * len(grey))
    closest = [names[number - 1] for number in pairs.numbers[:near]]
    found = f"{near:,} of {len(grey):,} nearly are one of {facts['train_images']:,} training images ({facts['train']})"
    mend = "generated images are asked for, not those of the training set; if they are, the network has memorised it"
    return Row("no copies", near <= max(2, COPIES * len(grey)), found + (f": {listed(closest)}" if near else ""), mend)


def histogram(classes: np.ndarray) -> Row:
    """Whether each digit comes about as often as in MNIST (half to twice, and what chance adds to that)."""
    counts = np.bincount(classes, minlength=11)
    expected = np.array(floors()["classes"][:10]) / sum(floors()["classes"]) * len(classes)
    slack = 4 * np.sqrt(expected)
    odd = np.flatnonzero((counts[:10] < expected / 2 - slack) | (counts[:10] > 2 * expected + slack))
    found = ", ".join(f"{digit}: {count:,}" for digit, count in enumerate(counts[:10])) + f", none: {counts[10]:,}"
    mend = f"the digits {listed([str(digit) for digit in odd], 10)} come far too seldom or too often: train for longer"
    if counts[10] > NO_DIGITS * len(classes):
        mend = "too many images look like no digit: train for longer, or sample from the EMA weights with more steps"
    return Row("all ten digits", bool(not len(odd) and counts[10] <= NO_DIGITS * len(classes)), found, mend)


def listed(names: Collection[str], shown: int = 3) -> str:
    """The first few."""
    return ", ".join(list(names)[:shown]) + (", …" if len(names) > shown else "")
