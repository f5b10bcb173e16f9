"""MNIST from wherever it is: IDX files, PNGs, an .npz, a .zip of them, a download, or the sample of the kit."""

import io
import math
import os
import re
import socket
import struct
import zlib
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hwkit.files import expanded, load_npz
from hwkit.language import say
from hwkit.mnist.folder import (
    LARGEST,
    SIDE,
    File,
    files_in,
    listed,
    missing_images,
    read_pngs,
    recorded,
    refusal,
    write_folder,
)

KIT = Path(__file__).resolve().parent.parent
DATA = KIT / "data" if (KIT / "data").is_dir() else KIT.parent / "data"  # of an installed kit, or a checkout
PREPARED = Path("data") if DATA.parent == KIT else DATA  # where `prepare` writes
SAMPLE = DATA / "mnist_sample.npz"
SPLIT = re.compile(r"(?<![a-z])[xy]?(train|test|t10k|val)(ing|id|idation)?(set|images?|labels?|data|[xy])?(?![a-z])")
CLASS = re.compile(r"(?:class|digit|label)?[ _-]*0*(\d)(?:[ _-]+\1)?")  # a folder of one class, words as digits
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
OTHERS = re.compile(r"fashion|kmnist|kuzushiji|emnist|cifar", re.I)  # of which MNIST is told by its name
FEW = 20  # a set is passed over beside one that is so many times as large: figures, or a preview
IDX, PNG, NPZ = r"(?:train|test|t10k)-images[-._]idx3[-._]ubyte", r"\.png$", r"\.npz$"


class Digits(NamedTuple):
    """Images uint8 (N, 1, 28, 28), or (N, 3, 28, 28) if any has colour, and labels uint8 (N,) where known."""

    images: np.ndarray
    labels: np.ndarray | None


def prepare(source: str | Path | None = None, split: str = "train", out: Path | str | None = None) -> Path:
    """Makes sure that a folder of 28×28 RGB PNGs, `00001.png` …, stands ready, and returns it.

    Tried in this order: `source`, or what HWKIT_MNIST names (the words `download` and `sample` choose those below);
    what is prepared already in `out`/mnist, by default in `PREPARED`; a download; the 5,000 digits of the kit. Raises
    FileNotFoundError or ValueError for a source that is missing or broken, and where `out` holds another one.
    """
    source, out = str(source or os.environ.get("HWKIT_MNIST") or ""), expanded(out or PREPARED)
    folder, record = out / "mnist" / split, out / "mnist" / f"{split}.json"
    if not source and record.is_file() and not missing_images(folder, count := recorded(record, "count")):
        print(say("Data: {count:,} images are prepared in {folder}", count=count, folder=folder))
        return folder
    if source in ("", "download"):
        source = download(out / "download") or source
    if source == "download":
        raise FileNotFoundError(say("MNIST could not be downloaded: name a copy of it with --source or HWKIT_MNIST."))
    if source in ("", "sample"):
        source, folder = SAMPLE, out / "sample" / split
        text = "WARNING: only the embedded sample of 5,000 digits is used; FID will be worse. HWKIT_MNIST names MNIST."
        print(say(text))
    print(say("Data: {split} split from {source}", split=split, source=source))
    return write_folder(read_source(source, split).images, folder, str(source))


def download(root: Path, timeout: float = 10) -> Path | None:
    """MNIST in `root`, from torchvision's mirrors, or None; one that is silent for `timeout` seconds is passed over."""
    if root.is_dir():
        return root
    from torchvision.datasets import MNIST, utils  # a slow import, seldom needed

    partial, before = root.with_name(root.name + ".partial"), socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)  # torchvision names none of its own
    try:
        for mirror in MNIST.mirrors:
            print(say("Data: trying to download MNIST from {mirror}", mirror=mirror))
            try:
                for name, md5 in MNIST.resources:
                    utils.download_url(mirror + name, partial, md5=md5)
                return partial.rename(root)
            except (OSError, HTTPException, RuntimeError) as error:  # URLError, time-outs; torchvision's RuntimeError
                print(say("Data: that mirror did not deliver ({error})", error=str(error).splitlines()[-1]))
    finally:
        socket.setdefaulttimeout(before)


def read_source(source: Path | str, split: str = "train", whole: bool = False) -> Digits:
    """One split of MNIST: IDX files, plain or gzip; PNGs, flat or in a folder for each class; an .npz.

    They may lie in subfolders, such as train/ and test/, or in a .zip. What is not divided is the training split; of an
    undivided .npz the last tenth is the test split. `whole`: what is not divided is given in full, as either split.
    Raises FileNotFoundError or ValueError with a sentence that names the file, what is there instead, and the way on.
    """
    if split not in ("train", "test"):
        raise ValueError(say("split is {split!r}, but must be 'train' or 'test'.", split=split))
    source = Path(os.path.abspath(expanded(source)))  # "." has no name to put a cache beside
    files = files_in(source) if source.exists() and source.suffix.lower() != ".png" else {}
    files = {name: file for name, file in files.items() if not OTHERS.search(name)} or files
    counts = {kind: sum(bool(re.search(kind, name.lower())) for name in files) for kind in (PNG, NPZ)}
    for kind in (IDX, PNG, NPZ):
        if kind is PNG and counts[NPZ] and counts[PNG] < FEW:  # a logo beside mnist.npz
            continue
        if parts := _parts(files, kind, source):
            break
    else:
        raise refusal(source, say("MNIST (IDX files, PNGs, an .npz, or a .zip of them)"))
    only = [part for part in parts if part != "val"]
    part = split if split in parts or (split == "test" and kind is not NPZ) else None
    part = only[0] if whole and len(only) == 1 else part
    if part not in parts:
        text = "{source} holds no {split} split: put a folder {split}/ of PNGs, or IDX files, there."
        raise FileNotFoundError(say(text, source=source, split=split))
    if kind is NPZ:
        return _read_npz(parts[part][0], split, whole or part is not None)
    if kind is PNG:
        images = read_pngs(parts[part], source.parent / f".{source.name}{'.' + part if part else ''}.cache.npz")
        digits = [_digit(file.parent.name) for file in parts[part]]
        return Digits(images, None if None in digits else np.array(digits, np.uint8))
    path = min(parts[part], key=lambda file: len(str(file)))  # plain rather than .gz, where both are there
    name = re.sub("images(.idx)3", r"labels\g<1>1", str(path)).removesuffix(".gz")
    labels = [read_idx(file, 1) for file in files.values() if str(file).removesuffix(".gz") == name]
    images = read_idx(path, 3)
    if "emnist" in path.name.lower():  # whose digits lie on their side
        images = np.ascontiguousarray(images.swapaxes(1, 2))
    return Digits(images[:, None], labels[0] if labels else None)


def _parts(files: dict[str, File], kind: str, source: Path) -> dict[str | None, list[File]]:
    """The files of one kind by split; of several sets those of the divided one, else of the one nearest to the top."""
    sets: dict = {}
    roots: dict = {}  # of each part the folders that name it
    lasts = {_split(name.split("/")[-1]) for name in files if re.search(NPZ, name.lower())}
    apart = kind is NPZ and {"train", "test"} <= lasts  # train.npz and test.npz are the two parts
    for name, file in files.items():
        if re.search(kind, name.lower()):
            *above, last = name.split("/")
            splits = [None, *filter(None, map(_split, [*above, last] if kind is IDX or apart else above))]
            kinds = ("0…9" if _digit(part) is not None else part for part in above if not _split(part))
            # Folders of classes are a set of their own beside pictures at the top, but part of a divided one.
            folder = tuple(kind for kind in kinds if kind != "0…9" or splits[-1] is None)
            folder += (last,) * (kind is NPZ and not (apart and _split(last)))
            named = ("0…9" if _digit(part) is not None else part for part in above)
            root = "/".join([*named][: next((i + 1 for i, part in enumerate(above) if _split(part)), 0)])
            roots.setdefault((folder, splits[-1]), []).append(root or last)
            sets.setdefault(folder, {}).setdefault(splits[-1], []).append(file)
    size = {folder: sum(map(len, parts.values())) for folder, parts in sets.items()}
    sets = {f: parts for f, parts in sets.items() if FEW * size[f] >= max(size.values())}
    order = {f: (not {"train", "test"} & set(sets[f]), len(f), "mnist" not in map(str.lower, f)) for f in sets}
    best = sorted(sets, key=order.__getitem__)
    if len(best) > 1 and order[best[0]] == order[best[1]]:
        several = listed(["/".join(f) for f in best])
        text = "{source} holds several sets, in {several}: name one of these."
        raise ValueError(say(text, source=source, several=several))
    for part in sets[best[0]] if best and kind is not IDX else ():
        if part and len(copies := dict.fromkeys(roots[best[0], part])) > 1:  # train/ and train 2/, as Finder calls it
            text = "{source} holds several sets, in {several}: name one of these."
            raise ValueError(say(text, source=source, several=listed(copies)))
    return sets[best[0]] if best else {}


def _split(name: str) -> str | None:
    """train, test or val, where a name says so."""
    found = SPLIT.search(name.lower())
    return {"t10k": "test"}.get(found[1], found[1]) if found else None


def _digit(folder: str) -> int | None:
    """The digit of a folder of one class: `7`, `class_07`, `Seven`, `7 - seven` (as torchvision names the classes)."""
    name = folder.lower().strip()
    for digit, word in enumerate(WORDS):
        name = name.replace(word, str(digit))
    found = CLASS.fullmatch(name)
    return int(found[1]) if found else None


def read_idx(path: File, dimensions: int) -> np.ndarray:
    """An IDX file (yann.lecun.com/exdb/mnist) as uint8: images (N, 28, 28) or labels (N,). ValueError if broken."""
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":  # not by its name: a browser unpacks a file, and leaves the name
            unpacker = zlib.decompressobj(31)
            raw = unpacker.decompress(raw, LARGEST)
            if not unpacker.eof:
                raise EOFError(say("it breaks off, or is too large"))
    except (zlib.error, EOFError) as error:
        text = "{path} is not a whole gzip file ({error}): fetch it again."
        raise ValueError(say(text, path=path, error=error)) from error
    header = 4 + 4 * dimensions
    shape = struct.unpack_from(f">{dimensions}I", raw.ljust(header, b"\0"), 4)
    size = int(np.prod(shape, dtype=object))
    if raw[:4] != bytes([0, 0, 8, dimensions]) or len(raw) != header + size or not size:
        text = "{path} is not a whole IDX file of {dimensions}-dimensional bytes: fetch it again."
        raise ValueError(say(text, path=path, dimensions=dimensions))
    if shape[1:] not in ((), (SIDE, SIDE)):
        text = "{path} holds images of {high}×{wide} pixels, not 28×28."
        raise ValueError(say(text, path=path, high=shape[1], wide=shape[2]))
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape).copy()  # torch wants it writable


def _read_npz(path: File, split: str, whole: bool) -> Digits:
    """The one array of images whose name tells of this split, or of none, in any layout and range; and its labels."""
    arrays = load_npz(path if isinstance(path, Path) else io.BytesIO(path.read_bytes()), str(path))
    found = {name: images for name, array in arrays.items() if (images := _channels_first(array)) is not None}
    part = split if {"train", "test"} & set(map(_split, found)) else None
    names = [name for name in found if _split(name) == part]
    images = found[names[0]] if len(names) == 1 else np.empty(0)
    undivided = part is None and not whole
    cut = len(images) - len(images) // 10 * undivided
    kept = slice(cut, None) if undivided and split == "test" else slice(cut)
    if not len(images[kept]):
        holds = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items()) or say("nothing")
        if line := _fitted(arrays):
            text = "{path} holds {holds}, not images of 28×28 pixels: {line} makes a file of those."
            raise ValueError(say(text, path=path, holds=holds, line=line))
        text = (
            "{path} holds {holds}, but one array of 28×28 images is wanted for the {split} split (or ten images, of "
            "which the last is that): np.savez('mnist.npz', x_train=…, x_test=…), both uint8 (N, 28, 28), makes a file."
        )
        raise ValueError(say(text, path=path, holds=holds, split=split))
    if not np.isfinite(images).all():
        text = "{path} holds {name} in which some values are NaN or infinite: make it again."
        raise ValueError(say(text, path=path, name=names[0]))
    low, high = images.min(), images.max()
    zero, scale = (-1, 127.5) if -1 <= low < -0.9 and high <= 1 else (0, 255 if high <= 1 else 1)
    if not zero <= low <= high <= zero + 255 / scale:
        line = "np.savez('mnist.npz', images=(x - x.min()) / np.ptp(x))"
        text = "{path} holds {name} from {low:.3g} to {high:.3g}, not 0 to 255 or 1: {line} makes it so."
        raise ValueError(say(text, path=path, name=names[0], low=low, high=high, line=line))
    images = images if images.dtype == np.uint8 and scale == 1 else ((images - zero) * scale).round().astype(np.uint8)
    labels = [a.reshape(-1) for name, a in arrays.items() if _split(name) == part and a.size == len(images)]
    return Digits(np.ascontiguousarray(images[kept]), labels[0][kept] if labels else None)


def _fitted(arrays: Mapping[str, np.ndarray]) -> str | None:
    """A line of Python that makes 28×28 of all arrays of larger square images; None where there are none."""
    parts = []
    for name, x in arrays.items():
        side = max(x.shape[1:], default=0) if x.ndim > 2 else math.isqrt(math.prod(x.shape[1:]))
        code, edge = name, (side - SIDE) // 2
        if x.shape[1:] == (side * side,):
            x, code = x.reshape(-1, side, side), f"{code}.reshape(-1, {side}, {side})"
        elif x.shape[2:] == (side, side):
            x, code = np.moveaxis(x, 1, -1), f"np.moveaxis({code}, 1, -1)"
        pictures = x.shape[1:3] == (side, side) and x.shape[3:] in ((), (1,), (3,)) and x.dtype.kind in "buif"
        if side <= SIDE or not pictures or not len(x):
            continue
        outside = np.ones((side, side), bool)
        outside[edge : edge + SIDE, edge : edge + SIDE] = False
        frame = x[:, outside] if side == SIDE + 2 * edge else x
        if frame.size and frame.min() == frame.max():  # a frame around MNIST's own pixels
            parts.append(f"{name}={code}[:, {edge}:-{edge}, {edge}:-{edge}]")
        else:
            code += "[..., 0]" * (x.shape[3:] == (1,))
            code = f"np.uint8({_levels(code, float(x.min()), float(x.max()))})"
            parts.append(f"{name}=[Image.fromarray(x).resize((28, 28), Image.LANCZOS) for x in {code}]")
    return f"np.savez('mnist.npz', {', '.join(parts)})" if parts else None


def _levels(code: str, low: float, high: float) -> str:
    """Python that makes 0 to 255 of values from low to high."""
    if -1 <= low < -0.9 and high <= 1:
        return f"({code} + 1) * 127.5"
    if low > -0.2 and high < 1.2:  # what was enlarged may lie a little outside
        return f"np.clip({code}, 0, 1) * 255"
    return code if low >= 0 and high <= 255 else f"({code} - {low:.7g}) / {high - low:.7g} * 255"


def _channels_first(x: np.ndarray) -> np.ndarray | None:
    """Images (N, 784), (N, 28, 28), (N, 28, 28, C) or (N, C, 28, 28) as (N, C, 28, 28); None for what is none."""
    x = x.reshape(-1, 1, SIDE, SIDE) if x.shape[1:] in ((SIDE, SIDE), (SIDE * SIDE,)) else x
    x = x.transpose(0, 3, 1, 2) if x.ndim == 4 and x.shape[3] in (1, 3) else x
    return x if x.shape[1:] in ((1, SIDE, SIDE), (3, SIDE, SIDE)) and len(x) and x.dtype.kind in "buif" else None
