"""MNIST from wherever it is: IDX files, PNGs, an .npz, a download, or the sample that comes with the kit."""

import gzip
import os
import socket
import struct
import zlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from hwkit.files import load_npz
from hwkit.mnist.folder import SIDE, _prepared, _write_folder, load_folder

KIT = Path(__file__).resolve().parent.parent
DATA = KIT / "data" if (KIT / "data").is_dir() else KIT.parent / "data"  # installed, or a checkout
SAMPLE = DATA / "mnist_sample.npz"
Split = Literal["train", "test"]
PREFIX = {"train": "train", "test": "t10k"}
SAMPLE_WARNING = (
    "WARNING: only the embedded sample of 5,000 digits is in use (4,500 to train on, 500 held out). Digits will come "
    "out, but fewer kinds of them, and FID against MNIST's 60,000 is worse. For a result to hand in, set HWKIT_MNIST."
)


class Digits(NamedTuple):
    """Images uint8 (N, 28, 28), or (N, 28, 28, 3) where they have colour, and labels uint8 (N,) where known."""

    images: np.ndarray
    labels: np.ndarray | None


def prepare(source: str | Path | None = None, split: Split = "train", out: Path = DATA, say: Callable = print) -> Path:
    """Makes sure that a folder of 28×28 RGB PNGs, `00001.png` …, stands ready, and returns it.

    Tried in this order, each said in one line: `source` or the environment variable HWKIT_MNIST (a folder of IDX files
    or of PNGs, or an .npz; the words `download` and `sample` choose those below); what is prepared in `out`/mnist
    already; a download; the 5,000 digits that come with the kit. An interrupted preparation goes on where it stopped.

    Raises FileNotFoundError or ValueError where a named source is missing or broken, and ValueError where `out` holds
    the images of another source.
    """
    source = source or os.environ.get("HWKIT_MNIST")
    if source and str(source) not in ("download", "sample"):
        say(f"Data: {split} split from {source}")
        return _write_folder(read_source(source, split).images, out / "mnist" / split, str(source), say)
    if not source:
        prepared = _prepared(out / "mnist" / split)
        if prepared:
            say(f"Data: {prepared['count']:,} images are prepared in {out / 'mnist' / split}")
            return out / "mnist" / split
    if str(source) != "sample":
        downloaded = download(out / "download", say)
        if downloaded:
            return _write_folder(
                read_source(downloaded, split).images, out / "mnist" / split, "torchvision download", say
            )
        if source:
            raise FileNotFoundError("MNIST could not be downloaded; name a copy of it with --source or HWKIT_MNIST.")
    say(f"Data: {split} split of the embedded sample, {SAMPLE.name}")
    say(SAMPLE_WARNING)
    return _write_folder(read_source(SAMPLE, split).images, out / "sample" / split, "embedded sample", say)


def download(root: Path, say: Callable = print, timeout: float = 10) -> Path | None:
    """torchvision's download into `root`, or None; a mirror silent for `timeout` seconds is passed over."""
    if (root / "MNIST" / "raw").is_dir():
        return root
    from torchvision.datasets import MNIST  # a slow import, seldom needed

    partial = root.with_name(root.name + ".partial")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)  # torchvision names none of its own
    try:
        for mirror in MNIST.mirrors:
            say(f"Data: trying to download MNIST from {mirror}")
            try:
                type("MNIST", (MNIST,), {"mirrors": [mirror]})(partial, download=True)
            except (OSError, HTTPException, RuntimeError) as error:  # URLError, time-outs; torchvision's RuntimeError
                say(f"Data: that mirror did not deliver ({str(error).splitlines()[-1]})")
                continue
            partial.rename(root)
            return root
    finally:
        socket.setdefaulttimeout(before)
    return None


def read_source(source: str | Path, split: Split = "train") -> Digits:
    """Reads one split from a folder of IDX files (plain or .gz), a folder of PNGs, or an .npz.

    The .npz holds `x_train`/`x_test` (and `y_train`/`y_test`), as Keras's mnist.npz does, or `images` (and `labels`),
    of which the last tenth is the test split. A folder of PNGs is a training split, or holds `train/` and `test/`.
    Raises FileNotFoundError or ValueError with a sentence that names the file.
    """
    source = Path(source).expanduser()
    if split not in PREFIX:
        raise ValueError(f"split is {split!r}, but must be 'train' or 'test'.")
    if source.is_file():
        if source.suffix == ".npz":
            return _read_npz(source, split)
        raise ValueError(f"{source} is a file, but not an .npz: name a folder of IDX files or PNGs, or an .npz.")
    if not source.is_dir():
        raise FileNotFoundError(f"There is no folder {source}: check --source or HWKIT_MNIST.")
    for folder in (source, source / "MNIST" / "raw", source / "raw"):
        images = _find_idx(folder, f"{PREFIX[split]}-images-idx3-ubyte")
        if images:
            labels = _find_idx(folder, f"{PREFIX[split]}-labels-idx1-ubyte")
            return Digits(read_idx(images, 3), read_idx(labels, 1) if labels else None)
    folder = source / split if (source / split).is_dir() else source
    if split == "test" and folder == source:
        raise FileNotFoundError(
            f"{source} holds no test split: put t10k-images-idx3-ubyte there, or a folder test/ of PNGs."
        )
    images = load_folder(folder)
    return Digits(images[:, 0].numpy() if images.shape[1] == 1 else images.permute(0, 2, 3, 1).numpy(), None)


def read_idx(path: Path, dimensions: Literal[1, 3]) -> np.ndarray:
    """An IDX file (yann.lecun.com/exdb/mnist) as uint8: images (N, 28, 28) or labels (N,). ValueError if broken."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}): fetch it again.") from error
    header = 4 + 4 * dimensions
    if len(raw) < header or raw[:4] != bytes([0, 0, 8, dimensions]):
        raise ValueError(f"{path} is not an IDX file of {dimensions}-dimensional bytes: fetch it again.")
    shape = struct.unpack(f">{dimensions}I", raw[4:header])
    if shape[1:] not in ((), (SIDE, SIDE)):
        raise ValueError(f"{path} holds images of {shape[1]}×{shape[2]} pixels, not 28×28.")
    if len(raw) - header != int(np.prod(shape, dtype=object)) or not shape[0]:
        raise ValueError(f"{path} should hold {shape[0]} items, but its size is {len(raw):,} bytes: fetch it again.")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape).copy()  # torch wants it writable


def _find_idx(folder: Path, name: str) -> Path | None:
    candidates = (folder / (n + end) for n in (name, name.replace("-idx", ".idx")) for end in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _read_npz(path: Path, split: Split) -> Digits:
    arrays = load_npz(path)
    if f"x_{split}" in arrays:
        images, labels = arrays[f"x_{split}"], arrays.get(f"y_{split}")
    elif "images" in arrays:
        held_out = len(arrays["images"]) // 10
        part = slice(-held_out, None) if split == "test" else slice(None, -held_out or None)
        images, labels = arrays["images"][part], arrays["labels"][part] if "labels" in arrays else None
    elif {"mu", "sigma"} <= set(arrays):
        raise ValueError(f"{path} holds FID statistics (mu, sigma), not images: it serves as a reference for FID only.")
    else:
        raise ValueError(f"{path} holds {sorted(arrays)}, but no array x_{split} or images.")
    if images.ndim not in (3, 4) or images.shape[1:3] != (SIDE, SIDE) or images.dtype != np.uint8 or not len(images):
        raise ValueError(
            f"{path} holds {images.dtype} images of shape {images.shape}, but uint8 (N, 28, 28) is needed."
        )
    if images.shape[3:] not in ((), (1,), (3,)):
        raise ValueError(f"{path} holds images of {images.shape[3]} channels, but they must be grey or RGB.")
    return Digits(images[..., 0] if images.shape[3:] == (1,) else images, labels)
