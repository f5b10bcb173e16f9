"""Images → features, by the kit's digit classifier or by Inception; and the reference that they are compared with."""

import contextlib
import hashlib
import os
import pickle
import urllib.request
from collections.abc import Callable
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from hwkit.files import DAMAGED, cached, expanded, load_npz, read_json, write_bytes
from hwkit.language import say, sentences
from hwkit.measure.distances import KEPT, read_statistics, spaced, statistics, statistics_in
from hwkit.mnist import sources
from hwkit.runs.checkpoint import digest
from hwkit.runs.speed import best_device

DIGITS = sources.DATA / "digit_features"  # see its README.md
WEIGHTS, STATISTICS = DIGITS / "digit_classifier.safetensors", DIGITS / "digit_stats_train.npz"


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
    """The classifier that comes with the kit, in eval mode on the CPU."""
    net = DigitClassifier().eval().requires_grad_(False).to(memory_format=torch.channels_last)
    net.load_state_dict(load_file(WEIGHTS))  # float16, of which the network makes float32
    return net


def digit_features(images, net: DigitClassifier | None = None) -> np.ndarray:
    """uint8 images (N, C, 28, 28), or grey (N, 28, 28) → features (N, 128) float64. ValueError unless uint8.

    Each channel is read as a grey digit, and an image's features are the mean over its channels: so colour, which no
    digit of MNIST has, moves them, and a grey image has the same features as its RGB copy.
    """
    net = net or digit_classifier()

    def extract(x: Tensor) -> Tensor:
        x = x[:, :1] if (x == x[:, :1]).all() else x  # three times as quick
        grey = x.flatten(0, 1)[:, None].contiguous(memory_format=torch.channels_last)  # (B·C, 1, 28, 28)
        return net.features(grey).view(len(x), -1, 128).mean(dim=1)

    return _in_batches(extract, images, 250, 128, "digit features")


def logits(features: np.ndarray) -> np.ndarray:
    """Digit features (N, 128) → the classifier's eleven logits (N, 11)."""
    return digit_classifier().head(torch.from_numpy(features).float()).numpy()


def classify(features: np.ndarray) -> np.ndarray:
    """Digit features (N, 128) → classes (N,): 0 to 9, and 10 for "no digit"."""
    return logits(features).argmax(axis=1)


class DigitFeatures:
    """The digits protocol: features of a small digit classifier, as LeNet's in Bińkowski et al. 2018; no download."""

    name, label, dims = "digits", "digit-FID", 128

    def __init__(self):
        self.weights_sha256 = digest(WEIGHTS)

    def __call__(self, images) -> np.ndarray:
        return digit_features(images)


class InceptionFeatures:
    """The original's protocol, as `python -m pytorch_fid`: block 2048 of its InceptionV3, in float32.

    The weights are `weights`, else the file that HWKIT_INCEPTION names, else pytorch-fid's own, which are downloaded if
    they are not there yet. batch: images at a time, 50 as pytorch-fid's; fewer take less memory.
    Raises FileNotFoundError where there are none to be had, ValueError where a file holds none.
    """

    name, label, dims = "inception", "FID", 2048
    official = "6726825d"  # how the SHA-256 of the weights begins that all published values were made with

    def __init__(self, weights: Path | str | None = None, device: torch.device | str | None = None, batch: int = 50):
        path, self.batch = inception_weights(weights), batch
        self.device = device or best_device()
        self.model = _inception(path).to(self.device).eval()
        self.weights_sha256 = digest(path)

    def __call__(self, images) -> np.ndarray:
        """uint8 images (N, C, H, W), or grey (N, H, W) → features (N, 2048) float64. ValueError unless uint8."""

        def extract(x: Tensor) -> Tensor:
            return self.model(x.expand(-1, 3, -1, -1).to(self.device))[0].flatten(1)

        # cuDNN stays on, and nothing is rounded to TF32, whatever a training run has set.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), contextlib.ExitStack() as after:
            after.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
            return _in_batches(extract, images, self.batch, self.dims, "Inception features")


def inception_weights(weights: Path | str | None = None) -> Path:
    """The file of Inception's weights: `weights`, or as HWKIT_INCEPTION names it, or pytorch-fid's, fetched if need be.

    FileNotFoundError where there are none to be had.
    """
    named = weights or os.environ.get("HWKIT_INCEPTION")
    path = expanded(named) if named else inception_path()
    if named and not path.is_file():
        text = "There are no Inception weights {path}: check --weights or HWKIT_INCEPTION."
        raise FileNotFoundError(say(text, path=path))
    if not path.is_file():
        _download(path)
    return path


def inception_path() -> Path:
    """Where pytorch-fid keeps its weights, whether they are there or not."""
    from pytorch_fid.inception import FID_WEIGHTS_URL

    return Path(torch.hub.get_dir(), "checkpoints", Path(FID_WEIGHTS_URL).name)


def _download(path: Path) -> None:
    from pytorch_fid.inception import FID_WEIGHTS_URL

    try:
        with urllib.request.urlopen(FID_WEIGHTS_URL, timeout=20) as answer:
            content = answer.read()
        if not hashlib.sha256(content).hexdigest().startswith(InceptionFeatures.official):
            raise HTTPException(say("what came are other bytes"))
        write_bytes(path, content)
    except (OSError, HTTPException) as error:  # URLError and time-outs are OSErrors
        text = (
            "The Inception weights cannot be downloaded ({error}): fetch {address} elsewhere, and name the file with "
            "--weights or HWKIT_INCEPTION. The digits protocol needs no download."
        )
        raise FileNotFoundError(say(text, error=error, address=FID_WEIGHTS_URL)) from error


def _inception(path: Path) -> nn.Module:
    """pytorch-fid's network, which is given the weights at `path` where it would fetch its own."""
    from pytorch_fid import inception

    def load(*_, **__) -> dict[str, Tensor]:
        return torch.load(path, "cpu", weights_only=True)  # pytorch-fid itself would run code that the file may hold

    try:
        with mock.patch.object(inception, "load_state_dict_from_url", load):
            return inception.InceptionV3([3])
    except (*DAMAGED, pickle.UnpicklingError) as error:
        why = " ".join(str(error).split())[:100]
        text = "{path} does not hold pytorch-fid's Inception weights ({why}): fetch them."
        raise ValueError(say(text, path=path, why=why)) from error


@torch.no_grad()
def _in_batches(extract: Callable, images, size: int, dims: int, name: str) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype != np.uint8:
        text = "Features are taken of uint8 images (N, C, 28, 28), not of {dtype}: see `to_uint8`."
        raise ValueError(say(text, dtype=images.dtype))
    images = images[:, None] if images.ndim == 3 else images
    features = np.empty((len(images), dims))
    for start in tqdm(range(0, len(images), size), unit="batch", desc=name, delay=2, leave=False):
        x = torch.from_numpy(images[start : start + size].astype(np.float32)) / 255  # (B, C, H, W) in [0, 1]
        features[start : start + size] = extract(x).cpu().numpy()
    return features


class Reference(NamedTuple):
    """What generated images are compared with."""

    name: str
    mu: np.ndarray
    sigma: np.ndarray
    features: np.ndarray | None  # some (≤ KEPT, D), where the images themselves are at hand
    count: int | None = None  # images that mu and sigma were taken of, where that is known


def reference(extractor, source: Path | str | None = None) -> Reference:
    """The statistics of `source`: an .npz of statistics, or images as `mnist.sources.read_source` knows them.

    Without one: MNIST's 60,000 training digits, for the digits protocol as they come with the kit, else as prepared in
    `data/mnist/train`. Statistics of images are kept beside them, for as long as images and weights stay the same.
    """
    if source is None and extractor.name == "digits":
        return Reference("MNIST train", *read_statistics(STATISTICS, 128), _sample_features(), 60_000)
    source = Path(os.path.abspath(source or sources.PREPARED / "mnist" / "train"))  # "." has no name
    if not source.exists():
        text = "There is no {source} to compare with: name another, or run `python -m hwkit data`."
        raise FileNotFoundError(say(text, source=source))
    if source.suffix.lower() == ".npz":
        arrays = load_npz(source)
        if {"mu", "sigma"} & set(arrays) or statistics_in(arrays):
            return Reference(source.name, *read_statistics(source, extractor.dims), None)
    try:
        images = sources.read_source(source, "train", whole=True).images
    except ValueError as error:
        if source.suffix.lower() != ".npz":
            raise
        also = say("Statistics are taken as well: an .npz with mu (D,) and sigma (D, D).")
        raise ValueError(sentences(str(error), also)) from error

    def make() -> dict[str, np.ndarray]:
        features = extractor(images)
        mu, sigma = statistics(features)
        return {"mu": mu, "sigma": sigma, "features": spaced(features, KEPT).astype(np.float32)}

    key = hashlib.sha256(images.tobytes()).hexdigest() + extractor.weights_sha256
    kept = cached(source.with_name(f".{source.name}.{extractor.name}.npz"), key, make)
    return Reference(source.name, kept["mu"], kept["sigma"], kept["features"], len(images))


@cache
def _sample_features() -> np.ndarray:
    """Of the 5,000 embedded digits (5000, 128): so KID, precision and recall need no other data."""
    return digit_features(load_npz(sources.SAMPLE)["images"])


def floors() -> dict:
    """What real digits score in the digits protocol, as `data/digit_features/train_classifier.py` measured it."""
    return read_json(DIGITS / "floors.json")
