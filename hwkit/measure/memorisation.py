"""How close images come to training images, beside how close unseen real digits come."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from hwkit.measure.distances import spaced
from hwkit.measure.features import floors
from hwkit.mnist.folder import load_folder
from hwkit.mnist.sources import DATA, SAMPLE, read_source


class Pairs(NamedTuple):
    """Images and their nearest training images, uint8 (K, 28, 28) each, the closest first; distances (K,)."""

    images: np.ndarray
    nearest: np.ndarray
    distances: np.ndarray
    numbers: list[int]  # of the images, from 1


def memorisation(images: np.ndarray, train: Path | str | None = None) -> tuple[dict, Pairs]:
    """Compares grey uint8 images (N, 28, 28) with the training images: the facts as plain values, and ten pairs.

    Distances are Euclidean over the 784 pixels in [0, 1]. Of unseen real digits half are closer to a training image
    than their median, 1 % than their first percentile, and 0.1 % are as close as what is called a near-copy here: a
    model that copies has far larger shares. (So has one that blurs, or prefers thin ones: the ten pairs show which.)
    """
    name, reference = training_images(train)
    distances, indices = nearest(images, reference)
    real = real_distances(reference)
    order = np.argsort(distances, kind="stable")[:10]
    facts = {
        "train": name,
        "train_images": len(reference),
        "median": float(np.median(distances)),
        "real": real,
        "closer_than_real_median": float((distances < real["median"]).mean()),
        "closer_than_real_percentile_1": float((distances < real["percentile_1"]).mean()),
        "near_copies": float((distances < real["near_copy"]).mean()),
    }
    return facts, Pairs(images[order], reference[indices[order]], distances[order], (order + 1).tolist())


def in_words(facts: dict) -> str:
    """The facts of `memorisation` as one line."""
    return (
        f"nearest of {facts['train_images']:,} training images ({facts['train']}): "
        f"{facts['closer_than_real_median']:.1%} closer than half of unseen real digits (real 50 %), "
        f"{facts['closer_than_real_percentile_1']:.1%} closer than the closest 1 % of them (real 1 %), "
        f"{facts['near_copies']:.2%} near-copies (real 0.1 %)"
    )


def nearest(images: np.ndarray, reference: np.ndarray, others: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """For each grey uint8 image (N, 28, 28) the distance (N,) to its nearest in `reference` (M, 28, 28), and its index.

    `others`: the images are part of the reference, and the nearest that is not the image itself is wanted.
    """
    x, y = (torch.from_numpy(a.reshape(len(a), -1).astype(np.float32)) / 255 for a in (images, reference))
    half_squares = (y**2).sum(dim=1) / 2
    distances, indices = [], []
    with tqdm(total=len(x), unit="image", desc="nearest training image", delay=1, leave=False) as bar:
        for block in x.split(250):
            closeness = torch.addmm(half_squares, block, y.T, beta=-1)  # (B, M): ½|x|² − ½|x − y|²
            index = closeness.topk(2, dim=1).indices[:, 1] if others else closeness.argmax(dim=1)
            distances.append((block - y[index]).norm(dim=1))  # by difference, so that a copy has exactly 0
            indices.append(index)
            bar.update(len(block))
    return torch.cat(distances).numpy(), torch.cat(indices).numpy()


def training_images(source: Path | str | None = None) -> tuple[str, np.ndarray]:
    """A name and the grey training images (M, 28, 28): `source`, HWKIT_MNIST, what is prepared, or else the sample."""
    named = source or os.environ.get("HWKIT_MNIST")
    if named and str(named) not in ("download", "sample"):
        return (str(source) if source else "MNIST"), grey(channels_first(read_source(named, "train").images))
    prepared = DATA / "mnist" / "train"
    if prepared.is_dir() and any(prepared.glob("*.png")):
        return "MNIST", grey(load_folder(prepared))
    return "the embedded sample only; HWKIT_MNIST names all of MNIST", read_source(SAMPLE, "train").images


def real_distances(reference: np.ndarray) -> dict:
    """How far unseen real digits are from the reference.

    For MNIST it is measured (see `data/digit_features/README.md`); else, how far 2,000 images of the reference are from
    their nearest others.
    """
    known = floors()["nearest"].get(hashlib.sha256(np.ascontiguousarray(reference)).hexdigest())
    return known or quantiles(nearest(spaced(reference, 2_000), reference, others=True)[0])


def quantiles(distances: np.ndarray) -> dict:
    """What the check needs to know of the distances of real digits."""
    wanted = {"near_copy": 0.001, "percentile_1": 0.01, "median": 0.5}
    return {name: float(np.quantile(distances, q)) for name, q in wanted.items()}


def channels_first(images: np.ndarray) -> np.ndarray:
    """Images of `data.read_source`, (N, 28, 28) or (N, 28, 28, 3), as (N, 28, 28) or (N, 3, 28, 28)."""
    return images.transpose(0, 3, 1, 2) if images.ndim == 4 else images


def grey(images) -> np.ndarray:
    """uint8 images (N, C, 28, 28) or (N, 28, 28) → the mean of their channels, uint8 (N, 28, 28)."""
    images = np.asarray(images)
    return images if images.ndim == 3 else images.mean(axis=1).round().astype(np.uint8)
