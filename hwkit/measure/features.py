"""Statistics of images, then the Fréchet distance between them; the feature extractor is an argument.

    extractor = DigitFeatures()  # or InceptionFeatures(), the report's
    features = extractor(images)  # uint8 (N, C, 28, 28) → (N, D)
    frechet_distance(*statistics(features), *read_statistics("mnist.npz"))

Heusel et al. 2017 (FID, arXiv:1706.08500), Bińkowski et al. 2018 (KID, arXiv:1801.01401), Kynkäänniemi et al. 2019
(precision and recall, arXiv:1904.06991).
"""

import hashlib
import json
import os
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hwkit.files import load_npz
from hwkit.measure.distances import read_statistics, spaced, statistics, write_statistics
from hwkit.mnist.sources import DATA, SAMPLE, read_source

DIGITS = DATA / "digit_features"
KEPT = 5_000  # real features kept for KID, precision and recall: evenly spaced over the reference


class DigitClassifier(nn.Module):
    """Grey digits (B, 1, 28, 28) in [0, 1] → eleven logits (B, 11): the digits 0 to 9, and 10 for "no digit"."""

    def __init__(self):
        super().__init__()
        sizes = [(1, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]  # channels in, out, stride
        self.convs = nn.ModuleList(nn.Conv2d(c_in, c_out, 3, stride, padding=1) for c_in, c_out, stride in sizes)
        self.feature = nn.Linear(64 * 7 * 7, 128)
        self.head = nn.Linear(128, 11)

    def features(self, x: Tensor) -> Tensor:
        """What the digits protocol measures: the 128 values before the logits, ≥ 0."""
        for conv in self.convs:
            x = conv(x).relu()
        return self.feature(x.flatten(1)).relu()  # (B, 128)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@cache
def digit_classifier() -> DigitClassifier:
    """The classifier that comes with the kit (see `data/digit_features/README.md`), in eval mode on the CPU."""
    from safetensors.torch import load_file

    net = DigitClassifier().eval().requires_grad_(False).to(memory_format=torch.channels_last)
    weights = load_file(DIGITS / "digit_classifier.safetensors")
    net.load_state_dict({name: value.float() for name, value in weights.items()})
    return net


@torch.no_grad()
def digit_features(images, net: DigitClassifier | None = None) -> np.ndarray:
    """uint8 images (N, C, 28, 28), or grey (N, 28, 28) → features (N, 128) float64.

    Each channel is read as a grey digit, and an image's features are the mean over its channels: so colour, which no
    digit of MNIST has, moves them, and a grey image has the same features as its RGB copy.
    """
    net = net or digit_classifier()

    def extract(x: Tensor) -> Tensor:
        x = x[:, :1] if (x == x[:, :1]).all() else x  # three times as quick
        grey = x.flatten(0, 1)[:, None].contiguous(memory_format=torch.channels_last)  # (B·C, 1, 28, 28)
        return net.features(grey).view(len(x), -1, 128).mean(dim=1)

    return _in_batches(extract, images, 250, 128, "digit features")


@torch.no_grad()
def classify(features: np.ndarray, net: DigitClassifier | None = None) -> np.ndarray:
    """Digit features (N, 128) → classes (N,): 0 to 9, and 10 for "no digit"."""
    return (net or digit_classifier()).head(torch.from_numpy(features).float()).argmax(dim=1).numpy()


class DigitFeatures:
    """The digits protocol: features of a small digit classifier, as LeNet's in Bińkowski et al. 2018; no download."""

    name, label, dims = "digits", "digit-FID", 128

    def __init__(self):
        self.weights_sha256 = _sha256((DIGITS / "digit_classifier.safetensors").read_bytes())

    def __call__(self, images) -> np.ndarray:
        return digit_features(images)


class InceptionFeatures:
    """The report's protocol, as `python -m pytorch_fid`: block 2048 of its InceptionV3, batches of 50, fp32.

    The weights are `weights`, else the file that HWKIT_INCEPTION names, else pytorch-fid's own copy, which its code
    downloads on first use. Raises FileNotFoundError or ValueError with what to do where they cannot be had.
    """

    name, label, dims = "inception", "FID", 2048
    official = "6726825d"  # how the SHA-256 of the weights begins that all published values were made with

    def __init__(self, weights: Path | str | None = None, device: torch.device | str = "cpu"):
        weights = weights or os.environ.get("HWKIT_INCEPTION")
        path = Path(weights) if weights else inception_path()
        if weights and not path.is_file():
            raise FileNotFoundError(f"There are no Inception weights {path}: check --weights or HWKIT_INCEPTION.")
        self.model = _inception(path if path.is_file() else None).to(device).eval()
        self.device, self.weights_sha256 = device, _sha256(path.read_bytes())

    @torch.no_grad()
    def __call__(self, images) -> np.ndarray:
        """uint8 images (N, C, H, W), or grey (N, H, W) → features (N, 2048) float64."""

        def extract(x: Tensor) -> Tensor:
            return self.model(x.expand(-1, 3, -1, -1).to(self.device))[0].flatten(1)

        with torch.backends.cudnn.flags(allow_tf32=False):
            return _in_batches(extract, images, 50, 2048, "Inception features")


def inception_path() -> Path:
    """Where pytorch-fid keeps its weights, whether they are there or not."""
    from pytorch_fid.inception import FID_WEIGHTS_URL

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(FID_WEIGHTS_URL).name


def _inception(path: Path | None) -> nn.Module:
    """pytorch-fid's network with the weights at `path`, or those that its own code downloads."""
    from pytorch_fid import inception

    download, timeout = inception.load_state_dict_from_url, socket.getdefaulttimeout()
    try:
        if path:  # its one way to take a file from elsewhere than its own folder
            inception.load_state_dict_from_url = lambda *_, **__: torch.load(path, "cpu", weights_only=True)
        socket.setdefaulttimeout(20)  # torch names none of its own
        return inception.InceptionV3([3])
    except OSError as error:
        raise FileNotFoundError(
            f"The Inception weights cannot be downloaded ({error}): fetch {inception.FID_WEIGHTS_URL} elsewhere and "
            "name the file with --weights or HWKIT_INCEPTION. The digits protocol needs no download."
        ) from error
    except Exception as error:  # of torch.load there are many kinds: RuntimeError, UnpicklingError, EOFError, …
        path = path or inception_path()
        raise ValueError(f"{path} does not hold pytorch-fid's Inception weights: fetch them again.") from error
    finally:
        inception.load_state_dict_from_url = download
        socket.setdefaulttimeout(timeout)


def _in_batches(extract: Callable, images, size: int, dims: int, name: str) -> np.ndarray:
    images = np.asarray(images)
    images = images[:, None] if images.ndim == 3 else images
    features = np.empty((len(images), dims))
    with tqdm(total=len(images), unit="image", desc=name, delay=2, leave=False) as bar:
        for start in range(0, len(images), size):
            x = torch.from_numpy(images[start : start + size].astype(np.float32)) / 255  # (B, C, H, W) in [0, 1]
            features[start : start + size] = extract(x).cpu().numpy()
            bar.update(len(x))
    return features


class Reference(NamedTuple):
    """What generated images are compared with."""

    name: str
    mu: np.ndarray
    sigma: np.ndarray
    features: np.ndarray | None  # some (≤ KEPT, D), where the images themselves are at hand
    count: int | None = None  # images that mu and sigma were taken of, where that is known


def reference(extractor, source: Path | str | None = None) -> Reference:
    """The statistics of `source`: an .npz of statistics, or images as `data.read_source` knows them.

    Without one: MNIST's 60,000 training digits, for the digits protocol as they come with the kit, else as prepared in
    `data/mnist/train`. Statistics of images are kept beside them, for as long as images and weights stay the same.
    """
    if source is None and extractor.name == "digits":
        mu, sigma = read_statistics(DIGITS / "digit_stats_train.npz", 128)
        return Reference("MNIST train", mu, sigma, _sample_features(), 60_000)
    source = Path(source or DATA / "mnist" / "train").expanduser()
    if source.suffix == ".npz" and source.is_file() and _holds_statistics(source):
        return Reference(source.name, *read_statistics(source, extractor.dims), None)
    if not source.exists():
        raise FileNotFoundError(
            f"There is no {source} to compare with: run `python -m hwkit data`, or see --reference."
        )
    images = read_source(source, "train").images
    images = images.transpose(0, 3, 1, 2) if images.ndim == 4 else images
    return _cached(extractor, images, source)


def _cached(extractor, images: np.ndarray, source: Path) -> Reference:
    key = _sha256(np.ascontiguousarray(images)) + extractor.weights_sha256
    path = source.with_name(f".{source.name}.{extractor.name}.npz")
    kept = _read_cache(path, key)
    if kept is None:
        features = extractor(images)
        mu, sigma = statistics(features)
        kept = {"mu": mu, "sigma": sigma, "features": spaced(features, KEPT).astype(np.float32)}
        try:
            write_statistics(path, **kept, key=key)
        except OSError as error:  # the statistics are here all the same; only the next time will be slower
            print(f"Statistics are not kept beside {source} ({error})")
    return Reference(source.name, kept["mu"], kept["sigma"], kept["features"], len(images))


def _read_cache(path: Path, key: str) -> dict | None:
    """The arrays that were kept, or None where there are none, or of other images or weights, or broken ones."""
    try:
        arrays = load_npz(path)
    except ValueError:
        return None
    return arrays if str(arrays.get("key")) == key else None


@cache
def _sample_features() -> np.ndarray:
    """Digit features (5000, 128) of the embedded digits, so that KID, precision and recall need no other data."""
    with np.load(SAMPLE) as arrays:
        return digit_features(arrays["images"])


def _holds_statistics(path: Path) -> bool:
    try:
        return "mu" in load_npz(path)
    except ValueError:  # what is wrong with it is said where its images are read
        return False


def _sha256(data) -> str:
    return hashlib.sha256(data).hexdigest()


def floors() -> dict:
    """What real digits score in the digits protocol, as `data/digit_features/train_classifier.py` measured it."""
    return json.loads((DIGITS / "floors.json").read_text())
