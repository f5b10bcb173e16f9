"""The check of a submission: what course staff would look at in a folder of images, ours or anyone's.

What mends a row may end in a colon and a line of Python, to be run for each `path` in the folder. It loses no grey
level, leaves alone what is as it should be, and writes over nothing.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from pathlib import Path
from statistics import mode
from typing import NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from hwkit.files import expanded, is_leftover
from hwkit.language import clauses, listing, marked, say
from hwkit.measure.distances import spaced
from hwkit.measure.features import classify, digit_features, floors, logits
from hwkit.measure.memorisation import Copies, Pairs, compare, training_images
from hwkit.mnist.folder import File, file_name, files_in, listed, meant, mend, open_png

FILES = (marked("every file opens"), "PNG", "RGB", "28×28")
PICTURES = (
    marked("not blank"),
    marked("grey levels"),
    marked("no duplicates"),
    marked("no copies"),
    marked("all ten digits"),
)
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}  # files that should decode
COPIES = 0.01  # the share of near-copies that passes; of unseen real digits 0.001 are
MOST = 0.05  # the share of images that may look like no digit, or be faint
FLAT, FAINT = 16, 192  # from the darkest pixel to the brightest: less is blank, less is faint; real digits have 254
ALIKE = 8  # levels and pixels: images that differ by more in no more pixels are duplicates; real digits do in 19
# What turning to the left by no to three quarters undoes, then what mirroring and that do:
TURNED = (
    marked("turned right"),
    marked("turned by 180°"),
    marked("turned left"),
    marked("mirrored"),
    marked("transposed"),
    marked("upside down"),
    marked("transposed"),
)
READ = 'np.asarray(Image.open(path).convert("RGB"))'
SAVE = 'Image.open(path).convert("RGB").save(path)'  # the line of `mend` where nothing can be lost


class Row(NamedTuple):
    """One line of the table. `passed` is None where an earlier failure leaves nothing to look at."""

    what: str
    passed: bool | None
    found: str
    mend: str = ""  # what to do where it failed
    key: str = ""  # `what` in English, and "files" for their number, whatever the language and the number are


class Measured(NamedTuple):
    """What takes the longest: of each image the nearest training image, and the digit features (N, 128)."""

    copies: Copies
    pairs: Pairs
    features: np.ndarray


def measured(names: list[str], stack: np.ndarray, train: tuple[str, np.ndarray]) -> Measured:
    """That of uint8 pictures (N, 3, 28, 28), by the names of their files, beside `memorisation.training_images`."""
    return Measured(*compare(stack, train), digit_features(stack))


def rows(
    folder: Path | str, n: int = 10_000, train: Path | str | tuple | None = None, measure: Callable = measured
) -> Iterator[Row]:
    """The table, line by line: the files, then what they hold, then all pictures together; there should be `n`.

    train: as `memorisation.compare` takes it. measure: called as `measured` is, by who wants more of what it gives.
    Raises ValueError for a wrong `n`, and as `memorisation.training_images(train)` does, before the first row.
    """
    if not 1 <= n <= 99_999:
        raise ValueError(say("--n is {n}, but must be between 1 and 99,999 (file names have five digits).", n=n))
    folder = expanded(folder)
    if not folder.is_dir():
        text = "{folder} is a file" if folder.exists() else "there is no {folder}"
        way = say("name the folder that holds the images; a .zip must be unpacked first")
        if not folder.exists() and (near := meant(folder)) and near.is_dir():
            way = say("did you mean {near}?", near=near)
        yield Row(say("folder"), False, say(text, folder=folder), way, "folder")
        return
    if not isinstance(train, tuple):
        train = training_images(train)  # what is wrong there is said before the table begins
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    subfolders = [entry.name for entry in entries if entry.is_dir()]
    names = [entry.name for entry in entries if not entry.is_dir()]
    pictures = [path for path in files_in(folder).values() if path.suffix.lower() in IMAGES]
    inner = sorted({str(path.parent) for path in pictures if path.parent != folder})
    images = {path.name: path for path in pictures if path.parent == folder}
    yield from table(names, images, subfolders, inner, n, train, measure)


def table(
    names: list[str],
    images: Mapping[str, File],
    subfolders: list[str],
    inner: list[str],
    n: int,
    train: tuple[str, np.ndarray],
    measure: Callable = measured,
) -> Iterator[Row]:
    """The rows about a folder that has been looked into, on the disk or in an archive.

    names: of all files in it; images: those of them that are pictures; inner: folders in it that hold pictures.
    """
    gone = list(filter(is_leftover, subfolders))
    todo = [say("delete {names}, which programs have left", names=listed(gone))] * bool(gone)
    if inner:
        text = "check {folders} instead, or move the images there up, to names that are free, or elsewhere"
        todo.append(say(text, folders=listed(inner)))
    elif len(gone) < len(subfolders):
        todo.append(say("delete the subfolder"))
    found = listed(subfolders) if subfolders else say("none")
    yield Row(say("no subfolders"), not subfolders, found, clauses(*todo), "no subfolders")
    rest = ["files", marked("names"), *FILES, *PICTURES]
    for row in chain(_file_rows(names, n), _image_rows(images, train, measure)) if images or not inner else ():
        rest.remove(row.what)
        yield row._replace(what=_title(row.what, n), key=row.what)
    nothing = say("nothing to look at before the rows above are mended")
    yield from (Row(_title(what, n), None, nothing, key=what) for what in rest)


def _title(key: str, n: int) -> str:
    """What the row of this key is called in the table."""
    return say("{n:,} files", n=n) if key == "files" else say(key)


def _file_rows(names: list[str], n: int) -> Iterator[Row]:
    """Number and names. What programs have left are no images, and have no wrong names."""
    left = list(filter(is_leftover, names))
    files, expected = set(names) - set(left), [file_name(k) for k in range(1, n + 1)]
    missing, others = sorted(set(expected) - files), sorted(files - set(expected))
    todo = [say("delete {names}, which programs have left", names=listed(left))] * bool(left)
    if len(files) > n:
        todo.append(say("delete what is too much"))
    if len(files) < n:
        todo.append(say("make the missing ones (`python -m hwkit sample`)"))
    found = "{count:,}, and {left:,} that programs have left" if left else "{count:,}"
    passed = len(files) == n and not left
    yield Row("files", passed, say(found, count=len(files), left=len(left)), clauses(*todo))
    found = [say("{count:,} missing: {names}", count=len(missing), names=listed(missing))] * bool(missing)
    found += [say("{count:,} other: {names}", count=len(others), names=listed(others))] * bool(others)
    way = say("delete {names}", names=listed(others)) if others else say("make the missing ones")
    numbers = ["".join(filter(str.isdecimal, Path(name).stem.split("_")[-1])) for name in others]
    free = {file_name(int(number) or n) for number in numbers if number}  # an image 0 is there instead of image n
    kinds = sorted({Path(name).suffix for name in others if Path(name).suffix.lower() in IMAGES})
    if missing and kinds:
        way = "save the images as .png, numbered from {first} on, with five digits and small letters"
        way = say(way, first=file_name(1))
        if not left and len(free) == len(others) and free <= set(missing):  # each gets a name that is free
            way += f': if path.suffix in {kinds} and (k := "".join(filter(str.isdecimal, path.stem.split("_")[-1]))): '
            way += f'path.rename(path.with_name(f"{{int(k) or {n}:05d}}.png"))'
    yield Row("names", not found, clauses(*found) or f"{expected[0]} … {expected[-1]}", way)


def _image_rows(files: Mapping[str, File], train: tuple, measure: Callable) -> Iterator[Row]:
    """What the files hold, each for itself, then all together."""
    odd, mends, pixels = {what: {} for what in FILES}, {}, {}  # odd: the files that fail, and why
    for name, file in tqdm(files.items(), unit="image", desc="reading", delay=1, leave=False):
        try:
            image = open_png(file)
        except ValueError:
            odd["every file opens"][name], mends[name] = name, say("make these again")
            continue
        colours = image.mode
        if "transparency" in image.info and not mend(image).endswith(f": {SAVE}"):
            colours = say("{mode}, in part transparent", mode=image.mode)
        for what, fact in zip(FILES[1:], (image.format, colours, "×".join(map(str, image.size))), strict=True):
            if fact != what:
                odd[what][name], mends[name] = say("{name} is {fact}", name=name, fact=fact), _mend(name, image)
        if mend(image) == f"{say('convert these')}: {SAVE}":
            pixels[name] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    for what, failing in odd.items() if files else ():
        ways = [mends[name] for name in failing] or [""]
        first = [way for way in ways if ": " in way and not way.endswith(SAVE)]  # SAVE could spoil others of that mode
        yield _row(what, failing.values(), len(files), mode(first or ways))
    whole, names = len(pixels) == len(files), list(pixels)
    stack = np.stack(list(pixels.values())) if pixels else None
    pixels.clear()  # 10,000 are 24 MB, and what follows takes long
    for row in _picture_rows(names, stack, train, measure) if names else ():
        later = say(
            "{what}, once the rows above are mended", what=row.mend.split(": ")[0]
        )  # they read plain files only
        yield row if whole or ": " not in row.mend else row._replace(mend=later)


def _mend(name: str, image) -> str:
    """What is to be done with a file, and the line that does it to all of its mode and size."""
    what, _, line = mend(image).partition(": ")
    what = what if image.format == "PNG" else say("save these as PNG; a new name alone does not convert them")
    if Path(name).suffix.lower() != ".png":
        return say("{what}, once the names are mended", what=what)
    which = f"(Image.open(path).mode, Image.open(path).size) == {(image.mode, image.size)}"
    return f"{what}: if {which}: {line}" if line else what


def _row(what: str, odd: Collection[str], total: int, advice: str) -> Row:
    """A row about what all images should have."""
    found = "{odd:,} of {total:,} fail: {names}" if odd else "all {total:,}"
    return Row(what, not odd, say(found, odd=len(odd), total=total, names=listed(odd)), advice)


def _picture_rows(names: list[str], stack: np.ndarray, train: tuple, measure: Callable) -> Iterator[Row]:
    """Blank ones, grey levels, duplicates, copies of training images, and the digits; uint8 pictures (N, 3, 28, 28)."""
    low, high = stack.min(axis=(1, 2, 3)), stack.max(axis=(1, 2, 3))
    blank, faint = high - low < FLAT, (high - low >= FLAT) & (high - low < FAINT)
    todo = "these have one colour all over; look at the sampler (NaN, or a wrong range of values?), and make them again"
    yield _row("not blank", [names[i] for i in np.flatnonzero(blank)], len(names), say(todo))
    dark, bright = (int(np.median(level[faint if faint.any() else slice(None)])) for level in (low, high))
    todo = f"{say('spread them over 0 to 255')}: if {FLAT} <= np.ptp(v := {READ}) < {FAINT}: "
    todo += "Image.fromarray(np.rint((v - v.min()) / np.ptp(v) * 255.0).astype(np.uint8)).save(path)"
    yield Row("grey levels", bool(faint.mean() <= MOST), say("{dark} to {bright}", dark=dark, bright=bright), todo)
    if (blank | faint).mean() > 0.5:
        return
    same = [f"{names[i]} {'=' if (stack[i] == stack[j]).all() else '≈'} {names[j]}" for i, j in twins(stack)]
    yield _row("no duplicates", same, len(names), say("make the second of each again, with a seed of its own"))
    copies, pairs, features = measure(names, stack, train)
    near, most = round(copies.near_copies * len(names)), max(2, int(COPIES * len(names)))
    text = (
        "{near:,} of {count:,} come as near to one of {real:,} training images ({train}) as only 1 of 1,000 unseen "
        "real digits does; up to {most:,} may"
    )
    facts = {"near": near, "count": len(names), "real": copies.train_images, "train": say(copies.train), "most": most}
    found = say(text, **facts)
    if near:
        found = say("{found}: {names}", found=found, names=listed([names[k - 1] for k in pairs.numbers[:near]]))
    todo = "generated images are asked for, not those of the training set; if they are, the network has memorised it"
    yield Row("no copies", near <= most, found, say(todo))
    yield _digits(stack, features)


def twins(stack: np.ndarray) -> Iterator[tuple[int, int]]:
    """For each uint8 picture of (N, 3, 28, 28) that (nearly) repeats an earlier one: the index of that, and its own."""
    coarse = torch.from_numpy(stack.reshape(-1, 3, 7, 4, 7, 4).mean((1, 3, 5), np.float32).reshape(-1, 49))  # for speed
    for start in range(1, len(stack), 500):
        block, before = coarse[start : start + 500], coarse[: start + 499]
        closeness = torch.addmm(before.square().sum(1) / 2, block, before.T, beta=-1)  # ½|x|² − ½|x − y|²
        closest = (closeness + torch.full_like(closeness, -np.inf).triu(start)).argmax(dim=1).numpy()  # of earlier ones
        apart = (np.abs(stack[start : start + 500].astype(np.int16) - stack[closest]) > ALIKE).any(1).sum((1, 2))
        yield from ((int(closest[i]), start + int(i)) for i in np.flatnonzero(apart <= ALIKE))


def _digits(stack: np.ndarray, features: np.ndarray) -> Row:
    """Whether the digits are white on black, upright, and each about as often there as in MNIST."""
    inverted = bool(np.median(stack) >= FAINT)
    sample = spaced(255 - stack if inverted else stack, 250)
    ways = [np.rot90(sample[..., :: -1 if way > 3 else 1], way, (2, 3)) for way in range(8)]  # see TURNED
    clear = [logits(digit_features(pictures))[:, :10].max(axis=1).mean() for pictures in ways]
    best = int(np.argmax(clear)) if max(clear) > clear[0] + 2 + 8 / len(sample) ** 0.5 else 0  # real digits: 5 or more
    faults = [say("black on white")] * inverted + [say(TURNED[best - 1])] * (best > 0)
    counts = np.bincount(classify(features), minlength=11)
    if is_painted(stack):
        todo = "these are painted by a colour map: save the grey levels, by Image.fromarray(x) or with cmap='gray'"
        return Row("all ten digits", False, say("in colour"), say(todo))
    named = zip([*"0123456789", say("none")], counts, strict=True)
    causes, todo = _counted(counts)
    if faults:  # then what the digits seem to be says nothing
        start = f"if np.median(v := {READ}) >= {FAINT}: " if inverted else f"v = {READ}; "
        code = ("(255 - v)" if inverted else "v") + "[:, ::-1]" * (best > 3)
        code = f"np.rot90({code}, {best % 4})" if best % 4 else code
        text = "these are {one} and {other}" if len(faults) > 1 else "these are {one}"
        what = say(text, one=faults[0], other=faults[-1])
        causes, todo = faults, f"{what}: {start}Image.fromarray({code}).save(path)"
    found = clauses(*causes, listing(say("{digit}: {count:,}", digit=digit, count=count) for digit, count in named))
    return Row("all ten digits", not causes, found, todo)


def is_painted(stack: np.ndarray) -> bool:
    """Whether uint8 pictures (N, 3, 28, 28) have colours, and those of one colour map, as matplotlib's by default."""
    if (np.ptp(stack, axis=1) > 8).mean() < 0.5:  # the ground, too
        return False
    levels = stack[:100].astype(np.uint32)
    return len(np.unique(levels[:, 0] << 16 | levels[:, 1] << 8 | levels[:, 2])) <= 256


def _counted(counts: np.ndarray) -> tuple[list[str], str]:
    """What is wrong with how often each digit was found (the last of eleven: "no digit"), and what to do then."""
    digits, none, total = counts[:10], counts[10], counts.sum()
    expected = np.array(floors()["classes"][:10]) / sum(floors()["classes"]) * total
    # What chance adds or takes: the root of a count varies by a half, whether the count is large or small.
    few = np.sqrt(digits) < np.sqrt(expected / 2) - 8**0.5
    many = digits > 2 * expected + 4 * np.sqrt(expected)
    causes, todo = [], ""
    if digits.any() and (few | many).any():  # where no image is a digit, that is all there is to say
        found = {
            say("missing: {digits}"): (digits == 0) & (expected > 5),
            say("far too seldom: {digits}"): few & (digits > 0),
            say("far too often: {digits}"): many,
        }
        causes = [text.format(digits=listing(np.flatnonzero(odd))) for text, odd in found.items() if odd.any()]
        text = "the digits {digits} come far too seldom or too often, so train for longer"
        todo = say(text, digits=listing(np.flatnonzero(np.any([*found.values()], axis=0))))
    if none > MOST * total:
        causes.insert(0, say("{none:,} of {total:,} look like no digit", none=none, total=total))
        text = "too many images look like no digit, so train for longer, or sample from the EMA weights with more steps"
        todo = say(text)
    return causes, todo
