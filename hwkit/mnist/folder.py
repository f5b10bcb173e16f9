"""A flat folder of RGB PNGs ↔ one uint8 tensor in memory."""

import hashlib
import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm.auto import tqdm

from hwkit.files import load_npz, whole_file, write_json, write_many

SIDE = 28


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 image (1 or 3, 28, 28) as the bytes of an RGB PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(image, 3 // len(image), axis=0).transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def file_name(number: int) -> str:
    """1 → `00001.png`."""
    return f"{number:05d}.png"


def _write_folder(images: np.ndarray, folder: Path, source: str, say: Callable) -> Path:
    """Writes the PNGs that are not there yet. `<folder>.json`, beside the folder, says what it is to hold."""
    digest = hashlib.sha256(np.ascontiguousarray(images)).hexdigest()
    manifest = _manifest(folder)
    if manifest.get("sha256") != digest:
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder} holds the images of another source: move it away, or choose another --out.")
        manifest = {"source": source, "count": len(images), "sha256": digest}
        write_json(_manifest_path(folder), manifest)
    missing = _missing(folder, manifest["count"])
    with tqdm(total=len(missing), unit="png", desc=f"writing {folder.name}", disable=not missing) as bar:
        for start in range(0, len(missing), 512):
            numbers = missing[start : start + 512]
            write_many(folder, {file_name(k): encode_png(images[k - 1]) for k in numbers})
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
