"""How close images come to training images, beside how close unseen real digits come."""

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from hwkit.language import marked, say
from hwkit.measure.distances import spaced
from hwkit.measure.features import floors
from hwkit.mnist import sources
from hwkit.mnist.folder import load_folder

TRIED = 8  # pairs for each picture, the nearest by their coarse parts, are compared in full first
MANY = 800  # further ones, from which on all are compared in full at once


@dataclass(frozen=True)
class Copies:
    """How near the images are to training images; distances are Euclidean over 784 pixels in [0, 1], shares 0 to 1."""

    train: str  # the name of the training images
    train_images: int
    median: float  # distance of an image to its nearest training image
    real: dict[str, float]  # such distances of unseen real digits, see `quantiles`
    closer_than_real_median: float  # the share of the images; of unseen real digits it is 0.5
    closer_than_real_percentile_1: float  # of unseen real digits 0.01
    near_copies: float  # closer than all but 0.1 % of unseen real digits

    def words(self) -> str:
        """All of it in one line."""
        text = (
            "of {train_images:,} ({train}): {closer_than_real_median:.1%} closer than half of unseen real digits (real "
            "50 %), {closer_than_real_percentile_1:.1%} closer than the closest 1 % of them (real 1 %), "
            "{near_copies:.2%} near-copies (real 0.1 %)"
        )
        return say(text, **asdict(self) | {"train": say(self.train)})


class Pairs(NamedTuple):
    """Images and their nearest training images, uint8 (K, 28, 28) each, the closest first; distances (K,)."""

    images: np.ndarray
    nearest: np.ndarray
    distances: np.ndarray
    numbers: list[int]  # of the images, from 1


def compare(images, train: Path | str | tuple[str, np.ndarray] | None = None) -> tuple[Copies, Pairs]:
    """Compares uint8 images (N, C, 28, 28), or grey (N, 28, 28), with the training images; also the ten closest pairs.

    `train` is what `training_images` takes, or what it has returned.
    A model that copies has far larger shares than unseen real digits. So has one that blurs, or prefers thin digits:
    the pairs show which. Raises as `mnist.sources.read_source` does.
    """
    images, (name, reference) = grey(images), train if isinstance(train, tuple) else training_images(train)
    if len(reference) < 2:  # they are compared with each other, too
        raise ValueError(say("{name}: two training images at least are wanted to compare with.", name=name))
    distances, indices = nearest(images, reference)
    # Of MNIST it was measured, else the reference is compared with itself.
    real = floors()["nearest"].get(hashlib.sha256(np.ascontiguousarray(reference)).hexdigest())
    real = real or quantiles(nearest(spaced(reference, 2_000), reference, others=True)[0])
    shares = [float((distances < real[key]).mean()) for key in ("median", "percentile_1", "near_copy")]
    order = np.argsort(distances, kind="stable")[:10]
    pairs = Pairs(images[order], reference[indices[order]], distances[order], (order + 1).tolist())
    return Copies(name, len(reference), float(np.median(distances)), real, *shares), pairs


def nearest(images: np.ndarray, reference: np.ndarray, others: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """For each grey uint8 image (N, 28, 28) the distance (N,) to its nearest in `reference` (M, 28, 28), and its index.

    `others`: the images are part of the reference, and the nearest that is not the image itself is wanted.

    Two pictures are at least as far apart as their coarse parts (`coarse`), so only those pairs are compared in full
    whose coarse parts are nearer than the best pair in full: the same answer in a third of the time.
    """
    images, reference = (np.ascontiguousarray(a).reshape(len(a), -1) for a in (images, reference))
    parts, rank = np.array_split(reference, max(1, len(reference) // 3_000)), 2 if others else 1
    short, found = torch.cat([coarse(part) for part in parts]), []
    lengths = half_lengths(short)
    for start in tqdm(range(0, len(images), 125), unit="batch", desc="nearest training images", delay=1, leave=False):
        block = images[start : start + 125]
        x = coarse(block)
        nearness = half_products(x, short, lengths)  # (B, M): ½|x|² − ½|x − y|² of the coarse parts
        first = nearness.topk(min(TRIED, len(reference)), dim=1).indices.T.numpy()
        most = np.sort([half_square(block, reference[column]) for column in first], axis=0)[rank - 1]
        least = (x**2).sum(dim=1) / 2 - torch.from_numpy(most * (1 + 1e-5) + 1e-3)  # but for rounding
        hits = np.flatnonzero((nearness >= least[:, None]).numpy())
        if len(hits) > MANY * len(block):  # pictures that are near to nothing, such as noise
            nearness = torch.cat([half_products(scaled(block), scaled(part)) for part in parts], dim=1)
            first = nearness.topk(rank, dim=1).indices.numpy()
            hits = (first + len(reference) * np.arange(len(block))[:, None]).ravel()
        i, j = np.divmod(hits, len(reference))
        full = np.concatenate([half_square(block[i[p : p + 5_000]], reference[j[p : p + 5_000]]) for p in steps(i)])
        order = np.lexsort((full, i))[np.searchsorted(np.sort(i), range(len(block))) + rank - 1]
        found.append((np.sqrt(2 * full[order]), j[order]))
    distances, indices = zip(*found, strict=True)
    return np.concatenate(distances), np.concatenate(indices)


def coarse(pictures: np.ndarray) -> Tensor:
    """uint8 (N, 784) → (N, 145): the 12×12 lowest frequencies of each picture, and the length of what they leave out.

    The cosines are orthonormal, so lengths stay: |x − y|² ≥ |Px − Py|² + (|x − Px| − |y − Py|)².
    """
    cosines = np.cos(np.pi * (np.arange(28) + 0.5)[:, None] * np.arange(12) / 28) * np.sqrt(2 / 28)  # (28, 12)
    cosines[:, 0] /= np.sqrt(2)
    x = scaled(pictures)
    low = x @ torch.from_numpy(np.kron(cosines, cosines).astype(np.float32))  # (784, 144)
    rest = (2 * (half_lengths(x) - half_lengths(low))).clamp(min=0).sqrt()
    return torch.cat([low, rest[:, None]], dim=1)


def scaled(pictures: np.ndarray) -> Tensor:
    """uint8 → float32 in [0, 1]."""
    return torch.from_numpy(pictures.astype(np.float32)) / 255


def half_products(x: Tensor, y: Tensor, lengths: Tensor | None = None) -> Tensor:
    """½|x|² − ½|x − y|² of all rows of (B, D) and (M, D): the larger, the nearer. lengths: ½|y|², where it is known."""
    return torch.addmm(half_lengths(y) if lengths is None else lengths, x, y.T, beta=-1)


def half_lengths(y: Tensor) -> Tensor:
    """½|y|² of the rows of (M, D)."""
    return (y * y).sum(dim=1) / 2


def steps(rows: np.ndarray) -> range:
    """The starts of blocks of rows that fit into the memory."""
    return range(0, len(rows), 5_000)


def half_square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """½|x − y|² of the rows of uint8 (N, 784), in [0, 1]: by difference, so that a copy has exactly 0."""
    apart = x.astype(np.float32) - y
    return np.einsum("ij,ij->i", apart, apart) / (2 * 255**2)


def training_images(source: Path | str | None = None) -> tuple[str, np.ndarray]:
    """A name and the grey training images (M, 28, 28): `source`, HWKIT_MNIST, what is prepared, or else the sample."""
    named = source or os.environ.get("HWKIT_MNIST")
    if named and str(named) not in ("download", "sample"):
        return str(source or "MNIST"), grey(sources.read_source(named, "train").images)
    prepared = sources.PREPARED / "mnist" / "train"
    if prepared.is_dir() and any(prepared.glob("*.png")):
        return "MNIST", grey(load_folder(prepared))
    name = marked("the embedded sample only; HWKIT_MNIST names all of MNIST")
    return name, grey(sources.read_source(sources.SAMPLE).images)


def quantiles(distances: np.ndarray) -> dict[str, float]:
    """What is asked of the distances of unseen real digits: the median, and what 1 % and 0.1 % of them stay below."""
    wanted = {"near_copy": 0.001, "percentile_1": 0.01, "median": 0.5}
    return {name: float(np.quantile(distances, q)) for name, q in wanted.items()}


def grey(images) -> np.ndarray:
    """uint8 images (N, C, 28, 28) or (N, 28, 28) → the mean of their channels, uint8 (N, 28, 28)."""
    images = np.asarray(images)
    if images.ndim == 3 or images.shape[1] == 1:
        return images if images.ndim == 3 else images[:, 0]
    return images.mean(axis=1, dtype=np.float32).round().astype(np.uint8)
