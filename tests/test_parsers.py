"""Thousands of damaged files: each loads as something valid, or is refused in one sentence that names it."""

import gzip
import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from conftest import TINY, vivid_unet
from hypothesis import given, settings
from hypothesis import strategies as st

from hwkit.files import load_npz
from hwkit.measure.distances import read_statistics
from hwkit.mnist.folder import encode_png, load_folder, read_png
from hwkit.mnist.sources import SAMPLE, read_idx, read_source
from hwkit.runs.checkpoint import FORMAT, export, load, save

with np.load(SAMPLE) as arrays:
    DIGITS = arrays["images"][:3, None]  # (3, 1, 28, 28)


def idx() -> bytes:
    return struct.pack(">4B3I", 0, 0, 8, 3, 3, 28, 28) + DIGITS.tobytes()


def npz(save=np.savez, **arrays_) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays_)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for k, image in enumerate(DIGITS):
            archive.writestr(f"mnist/train/{k}/1.png", encode_png(image))
    return buffer.getvalue()


def weights(suffix: str, folder) -> bytes:
    content = {name: tensor for name, tensor in vivid_unet(TINY.model).state_dict().items() if tensor.ndim == 1}
    path = folder / f"w{suffix}"
    if suffix == ".pt":
        save(path, TINY, content, epoch=1)
    else:
        export({"format": FORMAT, "weights": content, "recipe": {}}, path)
    return path.read_bytes()


def is_images(images) -> bool:
    return images.dtype == np.uint8 and images.shape[1:] in ((28, 28), (1, 28, 28), (3, 28, 28)) and len(images) > 0


# name of the file → (its bytes, what reads it, what must hold of what it gives)
PARSERS = {
    "train-images-idx3-ubyte": (lambda _: idx(), lambda p: read_idx(p, 3), is_images),
    "train-images-idx3-ubyte.gz": (lambda _: gzip.compress(idx(), mtime=0), lambda p: read_idx(p, 3), is_images),
    "mnist.npz": (lambda _: npz(x_train=DIGITS), lambda p: read_source(p).images, is_images),
    "packed.npz": (
        lambda _: npz(np.savez_compressed, x_train=DIGITS),
        lambda p: read_source(p).images,
        is_images,
    ),
    "mnist.zip": (lambda _: zipped(), lambda p: read_source(p).images, is_images),
    "00001.png": (lambda _: encode_png(DIGITS[0]), read_png, lambda image: image.shape == (3, 28, 28)),
    "statistics.npz": (
        lambda _: npz(mu=np.zeros(4), sigma=np.eye(4)),
        read_statistics,
        lambda s: s[1].shape == (len(s[0]),) * 2 and np.isfinite(s[1]).all(),
    ),
    "latest.pt": (lambda folder: weights(".pt", folder), load, lambda c: c["format"] == FORMAT),
}


@st.composite
def damage(draw, whole: bytes) -> bytes:
    """Bits flipped, a piece cut out, put in or copied elsewhere; the beginning, where headers are, more often."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, 60) | st.integers(0, len(data)) | st.integers(max(0, len(data) - 80), len(data)))
        kind, length = draw(st.sampled_from(["flip", "cut", "put", "end", "copy"])), draw(st.integers(1, 40))
        if kind == "flip" and first < len(data):
            data[first] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[first : first + length]
        elif kind == "put":
            data[first:first] = draw(st.binary(min_size=1, max_size=length))
        elif kind == "end":
            del data[first:]
        elif kind == "copy":
            data[first : first + length] = data[:length]
    return bytes(data)


@pytest.mark.parametrize("name", PARSERS)
def test_a_damaged_file_is_read_or_refused_in_one_sentence(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    make, read, valid = PARSERS[name]
    whole, path = make(folder), folder / name
    path.write_bytes(whole)
    assert valid(read(path)), "undamaged"
    refused = []

    @settings(max_examples=200)
    @given(damage(whole))
    def check(data):
        path.write_bytes(data)
        try:
            assert valid(read(path))
        except (ValueError, FileNotFoundError) as error:
            said = str(error)
            assert name in said and len(said) < 500 and said.count("\n") == 0, said
            refused.append(said)

    tracemalloc.start()
    check()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(refused) > 40
    assert peak < 300e6, "no header makes it ask for more memory than the file has"


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "mnist.npz", "statistics.npz"])
def test_a_header_that_promises_too_much_is_not_believed(name, tmp_path):
    """2³¹ images in a file of 3: refused before the memory for them is asked for."""
    path = tmp_path / name
    if name.endswith("ubyte"):
        path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 28, 28) + DIGITS.tobytes())
    else:
        header = io.BytesIO()
        shape = {"descr": "|u1", "fortran_order": False, "shape": (2**31, 28, 28)}
        np.lib.format.write_array_header_1_0(header, shape)
        with zipfile.ZipFile(path, "w") as archive:
            for array in ("x_train", "mu", "sigma"):
                archive.writestr(f"{array}.npy", header.getvalue() + DIGITS.tobytes())
    with pytest.raises(ValueError, match=name):
        PARSERS[name][1](path)


@settings(max_examples=60)
@given(st.data())
def test_a_folder_with_a_damaged_image_names_it(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("png")
    for k, image in enumerate(DIGITS, 1):
        (folder / f"{k:05d}.png").write_bytes(encode_png(image))
    (folder / "00002.png").write_bytes(data.draw(damage(encode_png(DIGITS[1]))))
    try:
        images = load_folder(folder)
    except ValueError as error:
        assert "00002.png" in str(error)
    else:
        assert images.dtype == torch.uint8 and images.shape[0] == 3 and images.shape[2:] == (28, 28)


def test_the_cache_of_images_is_no_way_in(tmp_path):
    """An .npz of pickled objects is not unpickled, wherever it lies."""
    path = tmp_path / "objects.npz"
    np.savez(path, images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"objects\.npz"):
        load_npz(path)
