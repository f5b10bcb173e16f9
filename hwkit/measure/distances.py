"""Statistics of features, and the distances between two clouds of them."""

import hashlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from hwkit.files import load_npz, write_npz
from hwkit.language import listing, say, sentences

KEPT = 5_000  # features that precision and recall are taken of, and that a reference keeps for them and for KID
ROUNDING = 2e-3  # of statistics that were stored in float16, relative to the largest value


def statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) → their mean (D,) and covariance (D, D), float64. ValueError unless N ≥ 2."""
    if len(features) < 2:
        raise ValueError(say("Statistics need at least 2 images, not {count}.", count=len(features)))
    mu = features.mean(axis=0, dtype=np.float64)
    sigma = np.zeros(2 * mu.shape)
    for part in blocks(features):
        z = part - mu
        sigma += z.T @ z
    return mu, sigma / (len(features) - 1)


def blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    """Features in parts, for memory: those of 10,000 images by Inception take 164 MB."""
    return (features[start : start + 2_000] for start in range(0, len(features), 2_000))


def write_statistics(path: Path | str, mu: np.ndarray, sigma: np.ndarray) -> None:
    """Writes an .npz in pytorch-fid's form (`mu`, `sigma`), which `python -m pytorch_fid` reads."""
    write_npz(path, mu=mu, sigma=sigma)


def read_statistics(path: Path | str, dims: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """`mu` (D,) and `sigma` (D, D) of an .npz in pytorch-fid's form, as float64.

    Raises FileNotFoundError where there is none. ValueError where it is broken, has other keys or shapes, is of other
    than `dims` features, or is no mean and covariance: not finite, not symmetric, of negative variance.
    """
    arrays = load_npz(path)
    mu, sigma = arrays.get("mu", np.empty(0)), arrays.get("sigma", np.empty(0))
    if mu.ndim != 1 or not mu.size or sigma.shape != 2 * mu.shape:
        way = say("Make them again: `python -m pytorch_fid --save-stats FOLDER FILE` does.")
        if names := statistics_in(arrays):
            mean, cov = (f'np.squeeze(a["{name}"])' for name in names)
            code = f"a = dict(np.load({str(path)!r})); np.savez({str(path)!r}, mu={mean}, sigma={cov})"
            way = say("This mends it: {code}", code=code)
        held = listing(f"{name} {array.shape}" for name, array in sorted(arrays.items())[:6])
        text = "{path} holds {held}, but mu (D,) and sigma (D, D) are wanted."
        raise ValueError(sentences(say(text, path=path, held=held), way))
    if dims and len(mu) != dims:
        text = (
            "{path} holds statistics of {count} features, but this protocol has {dims}: choose the --protocol that "
            "they were made for (digits has 128, inception 2048)."
        )
        raise ValueError(say(text, path=path, count=len(mu), dims=dims))
    fault = ""
    if not {mu.dtype.kind, sigma.dtype.kind} <= set("fiu"):
        fault = say("mu and sigma are {mu} and {sigma}, not real numbers", mu=mu.dtype, sigma=sigma.dtype)
    elif not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        fault = say("some values are NaN or infinite")
    elif np.abs(sigma - sigma.T).max() > ROUNDING * np.abs(sigma).max():
        fault = say("sigma is not symmetric")
    elif (eigenvalues := np.linalg.eigvalsh(sigma.astype(np.float64)))[0] < -ROUNDING * eigenvalues[-1]:
        fault = say("sigma has negative eigenvalues")
    if fault:
        text = "{path} holds no mean and covariance, {fault}: make them again, by np.mean and np.cov."
        raise ValueError(say(text, path=path, fault=fault))
    return mu.astype(np.float64), sigma.astype(np.float64)


def statistics_in(arrays: dict[str, np.ndarray]) -> tuple[str, str] | None:
    """The names of two arrays that have the shapes of a mean and its covariance, but for axes of length 1; or None."""
    shapes = {name: np.squeeze(array).shape for name, array in arrays.items() if array.size}
    pairs = ((m, s) for m, s in product(shapes, shapes) if len(shapes[m]) == 1 and shapes[s] == 2 * shapes[m])
    return next(pairs, None)


def spaced(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """d² = |μ1 − μ2|² + tr Σ1 + tr Σ2 − 2 tr (Σ1 Σ2)^½ (FID: Heusel et al. 2017, arXiv:1706.08500, eq. 6).

    The last trace is the sum of the roots of the eigenvalues of RᵀΣ2R, where RRᵀ = Σ1: a symmetric matrix, so they are
    real and ≥ 0 however singular the covariances are (fewer images than features). ValueError where the shapes differ.
    """
    check_comparable(mu1, mu2)
    root = _root(sigma1)  # (D, rank)
    roots = np.sqrt(np.linalg.eigvalsh(root.T @ sigma2 @ root).clip(0))
    d2 = ((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * roots.sum()
    return max(0.0, float(d2))  # rounding alone can bring it below 0


def check_comparable(mu1: np.ndarray, mu2: np.ndarray) -> None:
    """ValueError for means of another number of features."""
    if mu1.shape != mu2.shape:
        text = "Statistics of {one} and of {other} features cannot be compared."
        raise ValueError(say(text, one=len(mu1), other=len(mu2)))


def frechet_with_error(features: np.ndarray, mu: np.ndarray, sigma: np.ndarray) -> tuple[float, float]:
    """d²(features, (μ, Σ)), and the standard error that it has because the images are a finite sample (delta method).

    An image x of theirs moves d² by 2 (μ1 − μ)·z + zᵀ(I − M)z with z = x − μ1 and M = Σ^½ (Σ^½ Σ1 Σ^½)^−½ Σ^½, the
    derivative of the formula above; the error is the deviation of that over the images, divided by √N. One root and
    its eigenvalues serve both. ValueError as `statistics` and `frechet_distance` raise it.
    """
    mu1, sigma1 = statistics(features)
    check_comparable(mu1, mu)
    root = _root(sigma)
    eigenvalues, vectors = np.linalg.eigh(root.T @ sigma1 @ root)
    roots = np.sqrt(eigenvalues.clip(0))
    d2 = ((mu1 - mu) ** 2).sum() + np.trace(sigma1) + np.trace(sigma) - 2 * roots.sum()
    kept = eigenvalues > eigenvalues[-1] * 1e-10
    half = root @ vectors[:, kept] / eigenvalues[kept] ** 0.25  # (D, rank): M = half halfᵀ
    influence = []
    for part in blocks(features):
        z = part - mu1
        influence.append(2 * z @ (mu1 - mu) + (z**2).sum(axis=1) - ((z @ half) ** 2).sum(axis=1))
    return max(0.0, float(d2)), float(np.concatenate(influence).std() / len(features) ** 0.5)


def _root(sigma: np.ndarray) -> np.ndarray:
    """R (D, rank) with R Rᵀ = Σ; the directions in which Σ is 0 up to rounding are left out."""
    eigenvalues, vectors = np.linalg.eigh(sigma)
    kept = eigenvalues > eigenvalues[-1] * len(sigma) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(eigenvalues[kept])


def kernel_distance(real: np.ndarray, generated: np.ndarray, subsets: int = 100, size: int = 1000):
    """KID: mean and deviation over subsets of the unbiased MMD², k(x, y) = (x·y/D + 1)³ (Bińkowski et al. 2018, §4).

    Features (N, D) and (M, D); subsets are of `size`, or of N or M where that is less. Equal distributions have 0 on
    average (arXiv:1801.01401). ValueError for less than 2 images.
    """
    size = min(size, len(real), len(generated))
    if size < 2:
        raise ValueError(say("KID needs at least 2 images on either side."))
    rng, values = np.random.default_rng(0), []
    for _ in tqdm(range(subsets), desc="KID", delay=2, leave=False):
        x, y = (f[rng.choice(len(f), size, replace=False)].astype(np.float64) for f in (real, generated))
        k_xx, k_yy, k_xy = (a @ b.T / a.shape[1] + 1 for a, b in ((x, x), (y, y), (x, y)))
        k_xx, k_yy, k_xy = (k * k * k for k in (k_xx, k_yy, k_xy))  # many times as quick as k**3
        within = (k_xx.sum() - np.trace(k_xx) + k_yy.sum() - np.trace(k_yy)) / (size * (size - 1))
        values.append(within - 2 * k_xy.mean())
    return float(np.mean(values)), float(np.std(values))


def precision_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> tuple[float, float]:
    """The share of generated images within the real manifold, and the reverse (Kynkäänniemi et al. 2019, eq. 1 and 2).

    A set's manifold: balls about its features (N, D), each as wide as the way to the k-th nearest other. Of each set
    KEPT images at most are used, as the values depend on the numbers. ValueError where a set has no k others.
    """
    if min(len(real), len(generated)) <= k:
        raise ValueError(say("Precision and recall need more than {k} images on either side.", k=k))
    real, generated = (torch.from_numpy(spaced(f, KEPT)) for f in (real, generated))

    def covered(points: Tensor, centres: Tensor) -> float:
        centres = centres.double()
        radius = _radii(centres, k)
        parts = (part.double() for part in points.split(500))  # for memory
        inside = [(torch.cdist(part, centres) <= radius).any(dim=1) for part in parts]
        return torch.cat(inside).double().mean().item()

    return covered(generated, real), covered(real, generated)


def _radii(centres: Tensor, k: int) -> Tensor:
    """How far the k-th nearest other of each float64 feature is; kept for the reference, which many are compared with.

    It is kept by a hash of the centres, which may take much more memory.
    """
    key = hashlib.sha256(centres.numpy()).hexdigest(), k
    radius = _kept.pop(key, None)
    if radius is None:
        far = [torch.cdist(part, centres).kthvalue(k + 1, dim=1).values for part in centres.split(500)]  # for memory
        radius = torch.cat(far)  # k + 1: the nearest is the centre itself
    _kept[key] = radius  # the last one used is the last to go
    while len(_kept) > 2:
        del _kept[next(iter(_kept))]
    return radius


_kept: dict[tuple[str, int], Tensor] = {}
