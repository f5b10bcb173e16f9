"""MNIST from wherever it is → a flat folder of RGB PNGs → one uint8 tensor in memory."""

import gzip
import hashlib
import io
import json
import math
import os
import signal
import socket
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from hwkit.workspace import whole_file, write_json, write_many

DATA = Path(__file__).resolve().parent.parent / "data"
SAMPLE = DATA / "mnist_sample.npz"
SIDE = 28
LARGEST = 2**32  # bytes of one array: MNIST in RGB has 141 million
DAMAGED = (  # what zipfile, zlib, numpy and torch raise, between them, for a damaged archive
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, SyntaxError),
    *(OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError),
)
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


# Getting hold of MNIST


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
        return _write_folder(read_source(source, split), out / "mnist" / split, str(source), say)
    if not source:
        prepared = _prepared(out / "mnist" / split)
        if prepared:
            say(f"Data: {prepared['count']:,} images are prepared in {out / 'mnist' / split}")
            return out / "mnist" / split
    if str(source) != "sample":
        downloaded = download(out / "download", say)
        if downloaded:
            return _write_folder(read_source(downloaded, split), out / "mnist" / split, "torchvision download", say)
        if source:
            raise FileNotFoundError("MNIST could not be downloaded; name a copy of it with --source or HWKIT_MNIST.")
    say(f"Data: {split} split of the embedded sample, {SAMPLE.name}")
    say(SAMPLE_WARNING)
    return _write_folder(read_source(SAMPLE, split), out / "sample" / split, "embedded sample", say)


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


def load_npz(path: Path | str) -> dict[str, np.ndarray]:
    """All arrays of an .npz; ValueError where it is damaged, no .npz, or holds pickled objects.

    Sizes are compared before anything is read: a damaged header may promise an array that no memory could hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check_size(archive, member)
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except DAMAGED as error:
        reason = "".join(c for c in str(error)[:100] if c.isprintable())  # zipfile quotes whole headers
        raise ValueError(f"{path} is not a whole .npz file of plain arrays ({reason}): fetch it again.") from error


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """ValueError unless an array in an .npz has as many bytes as its header says."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        promised = file.tell() + math.prod(shape) * dtype.itemsize
    if promised != member.file_size or promised > LARGEST:
        raise ValueError(f"{member.filename} should have {promised:,} bytes, but has {member.file_size:,}")


# The folder of PNGs


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 image (28, 28) or (28, 28, 3) as the bytes of an RGB PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def file_name(number: int) -> str:
    """1 → `00001.png`."""
    return f"{number:05d}.png"


def _write_folder(digits: Digits, folder: Path, source: str, say: Callable) -> Path:
    """Writes the PNGs that are not there yet. `<folder>.json`, beside the folder, says what it is to hold."""
    digest = hashlib.sha256(np.ascontiguousarray(digits.images)).hexdigest()
    manifest = _manifest(folder)
    if manifest.get("sha256") != digest:
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder} holds the images of another source: move it away, or choose another --out.")
        manifest = {"source": source, "count": len(digits.images), "sha256": digest}
        write_json(_manifest_path(folder), manifest)
    missing = _missing(folder, manifest["count"])
    with tqdm(total=len(missing), unit="png", desc=f"writing {folder.name}", disable=not missing) as bar:
        for start in range(0, len(missing), 512):
            numbers = missing[start : start + 512]
            write_many(folder, {file_name(k): encode_png(digits.images[k - 1]) for k in numbers})
            bar.update(len(numbers))
    say(f"Data: {manifest['count']:,} images stand in {folder}" + (f" ({len(missing):,} new)" if missing else ""))
    return folder


def _prepared(folder: Path) -> dict | None:
    """The manifest of a folder that is whole, else None."""
    manifest = _manifest(folder)
    return manifest if manifest and not _missing(folder, manifest["count"]) else None


def _missing(folder: Path, count: int) -> list[int]:
    present = set(os.listdir(folder)) if folder.is_dir() else set()
    return [k for k in range(1, count + 1) if file_name(k) not in present]


def _manifest_path(folder: Path) -> Path:
    return folder.with_name(folder.name + ".json")


def _manifest(folder: Path) -> dict:
    try:
        return json.loads(_manifest_path(folder).read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{_manifest_path(folder)} is not JSON ({error}): delete it and {folder}.") from error


# The tensor


def load_folder(folder: Path | str) -> Tensor:
    """All PNGs of a flat folder, by name, as one uint8 tensor (N, 1, 28, 28), or (N, 3, 28, 28) if any has colour.

    Read once; afterwards from a cache beside the folder, for as long as no name, size or time of a file changes. Other
    files and subfolders are passed over. Raises FileNotFoundError where there is no folder, and ValueError where there
    is no PNG, or one is broken, not 28×28, or neither grey nor RGB (it is named).
    """
    folder = Path(os.path.abspath(Path(folder).expanduser()))  # "." has no name to put a cache beside
    files, fingerprint = _scan(folder)
    cache = folder.with_name(f".{folder.name}.cache.npz")
    cached = _read_cache(cache, fingerprint)
    if cached is not None:
        return torch.from_numpy(cached)
    images = np.empty((len(files), SIDE, SIDE, 3), np.uint8)
    for i, path in enumerate(tqdm(files, unit="png", desc=f"reading {folder.name}", delay=1, leave=False)):
        images[i] = read_png(path)
    if (images == images[..., :1]).all():
        images = images[..., :1]
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    try:
        with whole_file(cache) as temporary, open(temporary, "wb") as file:
            np.savez(file, images=images, fingerprint=fingerprint)
    except OSError as error:  # the images are here all the same; only the next load will be slower
        print(f"Data: no cache beside {folder} ({error})")
    return torch.from_numpy(images)


def read_png(path: Path) -> np.ndarray:
    """One 28×28 grey or RGB image file as uint8 (28, 28, 3). Raises ValueError, with the file's name, for any other."""
    try:
        with Image.open(path) as image:
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, zlib.error, struct.error) as error:
        raise ValueError(f"{path} does not decode as an image: replace or delete it.") from error
    if image.size != (SIDE, SIDE):
        raise ValueError(f"{path} is {image.size[0]}×{image.size[1]} pixels, not 28×28: replace or delete it.")
    if image.mode not in ("RGB", "L", "1"):
        raise ValueError(f"{path} is in mode {image.mode}, neither RGB nor grey: convert it to RGB.")
    return np.asarray(image.convert("RGB"))


def normalize(images: Tensor) -> Tensor:
    """uint8 images (B, 1 or 3, 28, 28) → what the network sees: float32 (B, 3, 28, 28) in [−1, 1]."""
    return (images.float() / 127.5 - 1).expand(-1, 3, -1, -1)


def to_uint8(x: Tensor) -> Tensor:
    """The reverse: float (B, C, H, W), clipped to [−1, 1] → uint8, rounded to the nearest of 256 levels."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _scan(folder: Path) -> tuple[list[Path], str]:
    """The folder's PNGs by name, and a fingerprint of their names, sizes and times."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}: `python -m hwkit data` makes one.")
    with os.scandir(folder) as entries:
        found = sorted((e for e in entries if e.name.lower().endswith(".png")), key=lambda e: e.name)
    if not found:
        raise ValueError(f"{folder} holds no .png: `python -m hwkit data` makes a folder of them.")
    digest = hashlib.blake2b(digest_size=16)
    for entry in found:
        status = entry.stat()
        digest.update(f"{entry.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return [Path(entry.path) for entry in found], digest.hexdigest()


def _read_cache(cache: Path, fingerprint: str) -> np.ndarray | None:
    """The cached images, or None where there is no cache, a stale one, or a broken one."""
    try:
        arrays = load_npz(cache)
    except ValueError:
        return None
    return arrays["images"] if str(arrays.get("fingerprint")) == fingerprint else None


# The batches


class PNGFolder(Dataset):
    """A folder of PNGs that is not held in memory: item i is uint8 (3, 28, 28), read when it is asked for."""

    def __init__(self, folder: Path | str):
        self.files, _ = _scan(Path(folder).expanduser())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(read_png(self.files[index]).transpose(2, 0, 1).copy())


def batches(
    images: Tensor | PNGFolder,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int = 0,
    device: torch.device | str = "cpu",
    part: slice = slice(None),
    workers: int = min(4, os.cpu_count() or 1),
) -> Iterator[Tensor]:
    """One epoch of training batches, float32 (B, 3, 28, 28) in [−1, 1] on `device`, from batch `start` on.

    Of each batch only `part`, for a process that does only that.
    The order is a permutation seeded by (seed, epoch), the same for a tensor in memory and for a `PNGFolder`, which
    `workers` processes read (with pinned memory on a GPU). The last, incomplete batch is left out.
    """
    order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(len(images)))
    indices = order[: len(images) // batch_size * batch_size].view(-1, batch_size)[start:, part]
    if isinstance(images, PNGFolder):
        cuda = torch.device(device).type == "cuda"
        found = DataLoader(
            images,
            batch_sampler=indices.tolist(),
            num_workers=workers,
            pin_memory=cuda,
            worker_init_fn=_ignore_ctrl_c,
        )
    else:
        found = (images[index] for index in indices)
    for batch in found:
        yield normalize(batch.to(device, non_blocking=True))


def _ignore_ctrl_c(worker: int) -> None:
    """Ctrl-C reaches every process; only the training process is to act on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
