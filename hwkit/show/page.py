"""The page on which the network runs: a folder of static files that any web server hands out, and no server computes.

Its sources are in the folder `page/` beside this module: plain JavaScript that mirrors the lesson's names. Here the
weights, the networks' graphs, some digits and the runtime are put beside them.
"""

import base64
import gzip
import hashlib
import io
import os
import tarfile
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hwkit.files import expanded, write_bytes, write_json
from hwkit.language import say
from hwkit.measure import features
from hwkit.mnist.sources import SAMPLE, read_source
from hwkit.recipe import CPU, LONG, ORIGINAL
from hwkit.runs import checkpoint as checkpoints
from hwkit.runs.onnx_export import unet_inputs, without_weights
from hwkit.unet import UNet, UNetConfig

SOURCES = Path(__file__).with_name("page")
ORT = "onnxruntime-web-1.30.0"
ORT_URL = f"https://registry.npmjs.org/onnxruntime-web/-/{ORT}.tgz"
ORT_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # as npm has it
PLAIN = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # script and WebAssembly, in the package's dist/
WEBGPU = ("ort.jspi.bundle.min.mjs", "ort-wasm-simd-threaded.jspi.wasm")
OTHERS = (CPU.model, LONG.model, ORIGINAL.model)  # networks that students train, and may drop on the page
DIGITS_EACH = 4  # of each class, for the reader to begin with


class PageClassifier(features.DigitClassifier):
    """The digit classifier on images (B, 3, 28, 28) in [−1, 1] → logits (B, 11), as `digit_features` reads them."""

    def forward(self, x: Tensor) -> Tensor:
        grey = (x.clamp(-1, 1) + 1) / 2
        found = self.features(grey.reshape(-1, 1, 28, 28))  # each channel as a grey digit
        return self.head(found.reshape(-1, 3, 128).mean(dim=1))


def write_page(content: Mapping, out: Path, name: str, webgpu: bool = False) -> int:
    """Writes the page for a loaded checkpoint into the folder `out`; `name` is the run's. Returns its size in bytes.

    With `webgpu` it has a second runtime, for browsers that may compute on a graphics card.
    Raises as `runtime` and `onnx_model` do, and ValueError for distilled weights, before anything is written. Other
    files in the folder are left alone.
    """
    if steps := content.get("steps"):
        text = "These weights are distilled and know {steps} steps only, the page asks for others: take another run."
        raise ValueError(say(text, steps=steps))
    files, facts = {path.name: path.read_bytes() for path in SOURCES.iterdir() if path.is_file()}, {"name": name}
    for more, known in (runtime(webgpu), digits(), classifier(), networks(checkpoints.recipe_of(content).model)):
        files, facts = files | more, facts | known
    for file, data in files.items():
        write_bytes(out / file, data)
    content = {name: value for name, value in content.items() if name != "guide"}  # the page samples without one
    checkpoints.export(content, out / "data" / checkpoints.EXPORTED)
    write_json(out / "data" / "site.json", facts | {"weights": checkpoints.EXPORTED})
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


# Its parts: each gives files by name, and the facts about them that the page reads in site.json


def networks(config: UNetConfig) -> tuple[dict[str, bytes], dict]:
    """The graphs, without weights, of this network and of OTHERS."""
    files, facts = {}, []
    for number, each in enumerate(dict.fromkeys((config, *OTHERS))):
        model, file = UNet(each), f"network_{number}.onnx"
        files[f"data/{file}"], tensors = without_weights(model, unet_inputs(model), "output")
        facts.append({"file": file, "model": asdict(each), "tensors": tensors})
    return files, {"networks": facts}


def classifier() -> tuple[dict[str, bytes], dict]:
    """The kit's digit classifier: its graph without weights, and its weights."""
    graph, tensors = without_weights(PageClassifier(), {"x": torch.zeros(2, 3, 28, 28)}, "logits")
    files = {"data/classifier.onnx": graph, f"data/{features.WEIGHTS.name}": features.WEIGHTS.read_bytes()}
    return files, {"classifier": {"file": "classifier.onnx", "weights": features.WEIGHTS.name, "tensors": tensors}}


def digits() -> tuple[dict[str, bytes], dict]:
    """Some of MNIST's test digits for the reader to begin with, as bytes (N, 28, 28) in the order of their classes."""
    images, labels = read_source(SAMPLE, "test")
    chosen = np.concatenate([np.flatnonzero(labels == digit)[:DIGITS_EACH] for digit in range(10)])
    return {"data/digits.bin": images[chosen, 0].tobytes()}, {
        "digits": {"file": "digits.bin", "labels": labels[chosen].tolist()}
    }


# The runtime


def runtime(webgpu: bool = False) -> tuple[dict[str, bytes], dict]:
    """ONNX Runtime Web's script and its WebAssembly, compressed: many a static host does not compress on its way.

    With `webgpu` those that use WebGPU too. From the file or folder that HWKIT_ORT names, else from the user's cache,
    else from npm's registry. Raises FileNotFoundError where they are nowhere to be had, ValueError where a file is
    something else.
    """
    names = (*PLAIN, *WEBGPU) if webgpu else PLAIN
    files = {}
    for name, data in zip(names, _of_package(names), strict=True):
        zipped = name.endswith(".wasm")
        files[f"runtime/{_served(name)}"] = gzip.compress(data, 9, mtime=0) if zipped else data
    facts = {"package": ORT, **_named(PLAIN)} | ({"webgpu": _named(WEBGPU)} if webgpu else {})
    return files, {"runtime": facts}


def _named(pair: tuple[str, str]) -> dict[str, str]:
    return {"script": _served(pair[0]), "wasm": _served(pair[1])}


def _served(name: str) -> str:
    """What a file is called on the site: many hosts, such as nginx as it comes, do not know .mjs for a script."""
    return f"{name}.gz" if name.endswith(".wasm") else f"{name.removesuffix('.mjs')}.js"


def _of_package(names: tuple[str, ...]) -> list[bytes]:
    """Files of the package's dist/."""
    if named := os.environ.get("HWKIT_ORT"):
        place = expanded(named)
        if place.is_file():
            return _unpacked(place.read_bytes(), str(place), names)
        for folder in (place, place / "dist", place / "package" / "dist", place / "node_modules/onnxruntime-web/dist"):
            if all((folder / name).is_file() for name in names):
                return [(folder / name).read_bytes() for name in names]
        raise FileNotFoundError(f"HWKIT_ORT names {place}, which has no {' and '.join(names)}: fetch {ORT_URL}.")
    cache = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "hwkit" / ORT
    if not all((cache / name).is_file() for name in names):
        for name, data in zip(names, _unpacked(_download(), ORT_URL, names), strict=True):
            write_bytes(cache / name, data)
    return [(cache / name).read_bytes() for name in names]


def _download() -> bytes:
    print(f"Fetching the runtime, once: {ORT_URL} (33 MB) …")
    try:
        with urllib.request.urlopen(ORT_URL, timeout=30) as answer:
            content = answer.read()
        if base64.b64encode(hashlib.sha512(content).digest()).decode() != ORT_SHA512:
            raise HTTPException("what came are other bytes")
        return content
    except (OSError, HTTPException) as error:  # URLError and time-outs are OSErrors
        raise FileNotFoundError(
            f"The page's runtime cannot be downloaded ({error}): fetch {ORT_URL} elsewhere, and name the file with "
            "HWKIT_ORT."
        ) from error


def _unpacked(archive: bytes, where: str, names: tuple[str, ...]) -> list[bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
            return [files.extractfile(f"package/dist/{name}").read() for name in names]
    except (tarfile.TarError, OSError, EOFError, KeyError, AttributeError) as error:
        raise ValueError(f"{where} is not the npm package {ORT} ({error}): fetch {ORT_URL}.") from error
