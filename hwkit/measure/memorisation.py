"""How close images come to training images, beside how close unseen real digits come."""

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from hwkit.language import say
from hwkit.measure.distances import spaced
from hwkit.measure.features import floors
from hwkit.mnist import sources
from hwkit.mnist.folder import load_folder


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
        return say(text, **asdict(self))


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
    """
    x, y = (torch.from_numpy(a.reshape(len(a), -1).astype(np.float32)) / 255 for a in (images, reference))
    half_squares = (y**2).sum(dim=1) / 2
    distances, indices = [], []
    for block in tqdm(x.split(250), unit="batch", desc="nearest training images", delay=1, leave=False):
        closeness = torch.addmm(half_squares, block, y.T, beta=-1)  # (B, M): ½|x|² − ½|x − y|²
        index = closeness.topk(2, dim=1).indices[:, 1] if others else closeness.argmax(dim=1)
        distances.append((block - y[index]).norm(dim=1))  # by difference, so that a copy has exactly 0
        indices.append(index)
    return torch.cat(distances).numpy(), torch.cat(indices).numpy()


def training_images(source: Path | str | None = None) -> tuple[str, np.ndarray]:
    """A name and the grey training images (M, 28, 28): `source`, HWKIT_MNIST, what is prepared, or else the sample."""
    named = source or os.environ.get("HWKIT_MNIST")
    if named and str(named) not in ("download", "sample"):
        return str(source or "MNIST"), grey(sources.read_source(named, "train").images)
    prepared = sources.PREPARED / "mnist" / "train"
    if prepared.is_dir() and any(prepared.glob("*.png")):
        return "MNIST", grey(load_folder(prepared))
    return "the embedded sample only; HWKIT_MNIST names all of MNIST", grey(sources.read_source(sources.SAMPLE).images)


def quantiles(distances: np.ndarray) -> dict[str, float]:
    """What is asked of the distances of unseen real digits: the median, and what 1 % and 0.1 % of them stay below."""
    wanted = {"near_copy": 0.001, "percentile_1": 0.01, "median": 0.5}
    return {name: float(np.quantile(distances, q)) for name, q in wanted.items()}


def grey(images) -> np.ndarray:
    """uint8 images (N, C, 28, 28) or (N, 28, 28) → the mean of their channels, uint8 (N, 28, 28)."""
    images = np.asarray(images)
    return images if images.ndim == 3 else images.mean(axis=1).round().astype(np.uint8)
