"""MNIST from every kind of source, the folder of PNGs, the tensor and its cache, and the batches."""

import contextlib
import gzip
import hashlib
import http.server
import os
import shutil
import socket
import socketserver
import struct
import threading
import time
from pathlib import Path

import hwkit.data
import numpy as np
import pytest
import torch
from conftest import MNIST
from PIL import Image

from hwkit.mnist.batches import PNGFolder, batches, normalize, to_uint8
from hwkit.mnist.folder import encode_png, file_name, load_folder, read_png
from hwkit.mnist.sources import download, prepare, read_idx, read_source


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_files(digits) -> dict[str, bytes]:
    """The four files of MNIST, with 64 training and 32 test digits."""
    pixels, labels = digits[:, 0].numpy(), np.arange(96, dtype=np.uint8) % 10
    return {
        "train-images-idx3-ubyte": idx(pixels[:64]),
        "train-labels-idx1-ubyte": idx(labels[:64]),
        "t10k-images-idx3-ubyte": idx(pixels[64:]),
        "t10k-labels-idx1-ubyte": idx(labels[64:]),
    }


def write_pngs(folder: Path, images) -> Path:
    """Images uint8 (N, 28, 28) or (N, 28, 28, 3) as grey or RGB PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(images, 1):
        Image.fromarray(np.asarray(image)).save(folder / file_name(k))
    return folder


@pytest.fixture
def colored(digits):
    """The digits, each in a colour of its own: uint8 (96, 28, 28, 3)."""
    tint = np.random.default_rng(0).integers(40, 255, (96, 1, 1, 3))
    return (digits[:, 0, :, :, None].numpy() * tint // 255).astype(np.uint8)


@pytest.fixture
def pngs(digits, tmp_path):
    return write_pngs(tmp_path / "pngs", digits[:, 0])


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(hwkit.data, "download", lambda *_: None)


@pytest.fixture
def small_sample(monkeypatch, digits, tmp_path):
    """Stands for the embedded sample, which would take a second to write."""
    path = tmp_path / "mnist_sample.npz"
    np.savez(path, images=digits[:30, 0].numpy(), labels=np.arange(30, dtype=np.uint8) % 10)
    monkeypatch.setattr(hwkit.data, "SAMPLE", path)


# Every kind of source


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("inside", [".", "MNIST/raw", "raw"])
@pytest.mark.parametrize("dot", [False, True], ids=["-idx", ".idx"])
def test_idx_files_are_read(digits, tmp_path, packed, inside, dot):
    folder = tmp_path / inside
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in idx_files(digits).items():
        name = name.replace("-idx", ".idx") if dot else name
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    train, test = read_source(tmp_path, "train"), read_source(str(tmp_path), "test")
    assert np.array_equal(train.images, digits[:64, 0]) and np.array_equal(test.images, digits[64:, 0])
    assert train.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1] and test.labels[0] == 4


def test_idx_labels_may_be_missing(digits, tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_files(digits)["train-images-idx3-ubyte"])
    assert read_source(tmp_path).labels is None


def test_a_folder_of_grey_pngs_is_read(digits, pngs):
    assert np.array_equal(read_source(pngs).images, digits[:, 0])


def test_a_folder_of_rgb_pngs_is_read(colored, digits, tmp_path):
    assert np.array_equal(read_source(write_pngs(tmp_path / "rgb", colored)).images, colored)
    grey_in_rgb = np.repeat(digits.permute(0, 2, 3, 1).numpy(), 3, axis=3)
    assert np.array_equal(read_source(write_pngs(tmp_path / "grey", grey_in_rgb)).images, digits[:, 0])


def test_pngs_may_stand_in_train_and_test(digits, tmp_path):
    write_pngs(tmp_path / "train", digits[:64, 0])
    write_pngs(tmp_path / "test", digits[64:, 0])
    assert np.array_equal(read_source(tmp_path, "train").images, digits[:64, 0])
    assert np.array_equal(read_source(tmp_path, "test").images, digits[64:, 0])


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1)], ids=str)
def test_the_npz_of_keras_is_read(digits, tmp_path, shape):
    pixels = digits.numpy().reshape(96, *shape)
    np.savez(tmp_path / "m.npz", x_train=pixels[:64], y_train=np.arange(64), x_test=pixels[64:])
    assert np.array_equal(read_source(tmp_path / "m.npz").images, digits[:64, 0])
    assert np.array_equal(read_source(tmp_path / "m.npz").labels, np.arange(64))
    assert np.array_equal(read_source(tmp_path / "m.npz", "test").images, digits[64:, 0])
    assert read_source(tmp_path / "m.npz", "test").labels is None


def test_the_last_tenth_of_an_npz_of_images_is_its_test_split(colored, tmp_path):
    np.savez(tmp_path / "m.npz", images=colored[:50], labels=np.arange(50))
    assert np.array_equal(read_source(tmp_path / "m.npz").images, colored[:45])
    assert np.array_equal(read_source(tmp_path / "m.npz").labels, np.arange(45))
    assert np.array_equal(read_source(tmp_path / "m.npz", "test").images, colored[45:50])
    np.savez(tmp_path / "few.npz", images=colored[:5])
    assert np.array_equal(read_source(tmp_path / "few.npz").images, colored[:5])


def test_the_embedded_sample_is_5000_digits_interleaved_by_class():
    with np.load(hwkit.data.SAMPLE) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    assert images.shape == (5000, 28, 28) and images.dtype == np.uint8
    assert np.array_equal(labels, np.arange(5000) % 10)
    assert len(np.unique(images.reshape(5000, -1), axis=0)) > 4990
    train, test = read_source(hwkit.data.SAMPLE), read_source(hwkit.data.SAMPLE, "test")
    assert np.bincount(train.labels).tolist() == [450] * 10 and np.bincount(test.labels).tolist() == [50] * 10


def test_mnist_itself_is_read():
    """The whole of it where HWKIT_MNIST names it: the mean and spread that everyone normalises MNIST with tell."""
    pixels = read_source(MNIST).images / 255
    assert pixels.mean() == pytest.approx(0.1307, abs=0.003)
    assert pixels.std() == pytest.approx(0.3081, abs=0.003)


# Sources that cannot be read say why


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"", "not an IDX file"),
        (b"not an IDX file at all", "not an IDX file"),
        (idx(np.zeros((2, 28, 28), np.uint8))[:-1], "should hold 2 items"),
        (idx(np.zeros((2, 28, 28), np.uint8)) + b"?", "should hold 2 items"),
        (idx(np.zeros((0, 28, 28), np.uint8)), "should hold 0 items"),
        (idx(np.zeros((2, 32, 32), np.uint8)), "32×32 pixels, not 28×28"),
        (idx(np.zeros(5, np.uint8)), "not an IDX file of 3-dimensional bytes"),
    ],
)
def test_a_broken_idx_file_is_named(tmp_path, content, sentence):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as refusal:
        read_idx(path, 3)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not gzip"])
def test_a_broken_gz_file_is_named(digits, tmp_path, damage):
    packed = bytearray(gzip.compress(idx(digits[:9, 0].numpy())))
    packed[len(packed) // 2] ^= 255 if damage == "flipped" else 0
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes({"truncated": packed[:-9], "flipped": packed, "not gzip": b"plain text"}[damage])
    with pytest.raises(ValueError, match="is not a whole gzip file") as refusal:
        read_source(tmp_path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    "arrays, sentence",
    [
        ({"x": np.zeros((2, 28, 28), np.uint8)}, "holds \\['x'\\], but no array x_train or images"),
        ({"images": np.zeros((2, 32, 32), np.uint8)}, "shape \\(2, 32, 32\\), but uint8 \\(N, 28, 28\\) is needed"),
        ({"images": np.zeros((2, 28, 28))}, "holds float64 images"),
        ({"images": np.zeros((0, 28, 28), np.uint8)}, "shape \\(0, 28, 28\\)"),
        ({"images": np.zeros((2, 28, 28, 4), np.uint8)}, "4 channels, but they must be grey or RGB"),
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, "holds FID statistics"),
    ],
)
def test_an_npz_of_something_else_is_named(tmp_path, arrays, sentence):
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(ValueError, match=sentence) as refusal:
        read_source(tmp_path / "m.npz")
    assert str(tmp_path / "m.npz") in str(refusal.value)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "npy", "flipped"])
def test_a_broken_npz_is_named(digits, tmp_path, damage):
    path = tmp_path / "m.npz"
    np.savez_compressed(path, images=digits[:, 0].numpy())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255 if damage == "flipped" else 0
    path.write_bytes({"truncated": content[:-100], "empty": b"", "text": b"digits"}.get(damage, content))
    if damage == "npy":
        with open(path, "wb") as file:
            np.save(file, digits[:, 0].numpy())
    with pytest.raises(ValueError, match=r"is not a whole \.npz file") as refusal:
        read_source(path)
    assert str(path) in str(refusal.value)


def test_a_source_that_is_not_there_is_named(tmp_path, digits):
    with pytest.raises(FileNotFoundError, match=f"There is no folder {tmp_path}/nowhere"):
        read_source(tmp_path / "nowhere")
    (tmp_path / "digits.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"digits\.zip is a file, but not an \.npz"):
        read_source(tmp_path / "digits.zip")
    with pytest.raises(ValueError, match="split is 'valid'"):
        read_source(tmp_path, "valid")
    with pytest.raises(FileNotFoundError, match="holds no test split"):
        read_source(write_pngs(tmp_path / "pngs", digits[:2, 0]), "test")


# The order of sources, and the folder that is made of them


def prepared(folder: Path) -> np.ndarray:
    """What stands in a folder of PNGs, read with Pillow alone."""
    images = [Image.open(folder / file_name(k)) for k in range(1, len(list(folder.iterdir())) + 1)]
    assert {image.mode for image in images} == {"RGB"} and {image.size for image in images} == {(28, 28)}
    return np.stack([np.asarray(image) for image in images])


def test_a_source_becomes_numbered_rgb_pngs(digits_npz, digits, tmp_path):
    folder = prepare(digits_npz, "train", tmp_path / "out")
    assert folder == tmp_path / "out/mnist/train"
    assert sorted(os.listdir(folder)) == [f"{k:05d}.png" for k in range(1, 65)]
    assert np.array_equal(prepared(folder), np.repeat(digits[:64].permute(0, 2, 3, 1).numpy(), 3, axis=3))
    assert np.array_equal(prepared(prepare(digits_npz, "test", tmp_path / "out"))[..., 0], digits[64:, 0])


def test_the_order_of_sources(monkeypatch, small_sample, digits, digits_npz, tmp_path, capsys):
    """Named, by the environment, prepared before, downloaded, embedded: each is said, and used before the next."""
    downloads = tmp_path / "downloaded"
    downloads.mkdir()
    for name, content in idx_files(digits.flip(0)).items():
        (downloads / name).write_bytes(content)
    asked = []
    answer = {"download": downloads}
    monkeypatch.setattr(hwkit.data, "download", lambda *_: asked.append("download") or answer["download"])
    other = write_pngs(tmp_path / "other", digits[50:60, 0])

    def first_image(source, out):
        return prepared(prepare(source, "train", tmp_path / out))[0, ..., 0]

    monkeypatch.setenv("HWKIT_MNIST", str(digits_npz))
    assert np.array_equal(first_image(other, "named"), digits[50, 0])
    assert str(other) in capsys.readouterr().out
    assert np.array_equal(first_image(None, "environment"), digits[0, 0])
    assert str(digits_npz) in capsys.readouterr().out
    monkeypatch.delenv("HWKIT_MNIST")
    assert np.array_equal(first_image(None, "environment"), digits[0, 0])
    assert "64 images are prepared" in capsys.readouterr().out
    assert asked == []
    assert np.array_equal(first_image(None, "fresh"), digits[-1, 0])
    assert asked == ["download"]
    answer["download"] = None
    capsys.readouterr()
    folder = prepare(None, "train", tmp_path / "offline")
    assert folder == tmp_path / "offline/sample/train" and len(prepared(folder)) == 27
    said = capsys.readouterr().out
    assert "embedded sample" in said and "WARNING" in said and "HWKIT_MNIST" in said


def test_the_words_download_and_sample_choose_a_source(small_sample, offline, digits_npz, tmp_path, monkeypatch):
    prepare(digits_npz, "train", tmp_path)
    assert prepare("sample", "train", tmp_path) == tmp_path / "sample/train"
    monkeypatch.setenv("HWKIT_MNIST", "sample")
    assert prepare(None, "test", tmp_path) == tmp_path / "sample/test"
    with pytest.raises(FileNotFoundError, match="MNIST could not be downloaded"):
        prepare("download", "train", tmp_path)


def test_a_half_written_folder_is_completed_and_a_whole_one_left_alone(digits_npz, digits, tmp_path, capsys):
    folder = prepare(digits_npz, "train", tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    for k in (1, 30, 64):
        (folder / file_name(k)).unlink()
    capsys.readouterr()
    prepare(digits_npz, "train", tmp_path / "out")
    assert "(3 new)" in capsys.readouterr().out
    assert np.array_equal(prepared(folder)[..., 0], digits[:64, 0])
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {name for name in after if after[name] != before[name]} <= {"00001.png", "00030.png", "00064.png"}
    prepare(digits_npz, "train", tmp_path / "out")
    assert "new)" not in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == after


def test_preparation_that_is_interrupted_goes_on(monkeypatch, digits_npz, digits, offline, small_sample, tmp_path):
    write_many, calls = hwkit.data.write_many, []

    def interrupted(folder, files):
        calls.append(1)
        write_many(folder, dict(list(files.items())[:20]))
        raise KeyboardInterrupt

    monkeypatch.setattr(hwkit.data, "write_many", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(digits_npz, "train", tmp_path)
    monkeypatch.setattr(hwkit.data, "write_many", write_many)
    assert len(os.listdir(tmp_path / "mnist/train")) == 20
    assert prepare(None, "train", tmp_path) == tmp_path / "sample/train", "a part of a split is not taken for the whole"
    assert np.array_equal(prepared(prepare(digits_npz, "train", tmp_path))[..., 0], digits[:64, 0])


def test_the_images_of_another_source_are_not_mixed_in(digits_npz, digits, tmp_path):
    prepare(digits_npz, "train", tmp_path / "out")
    other = write_pngs(tmp_path / "other", digits[:64, 0].flip(0))
    with pytest.raises(ValueError, match="out/mnist/train holds the images of another source"):
        prepare(other, "train", tmp_path / "out")


# The download


@contextlib.contextmanager
def serving(handler):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


class Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(monkeypatch, digits):
    """A mirror on this machine that serves 64 + 32 digits; torchvision knows their checksums."""
    from torchvision.datasets import MNIST

    files = {name + ".gz": gzip.compress(content) for name, content in idx_files(digits).items()}
    monkeypatch.setattr(MNIST, "resources", [(name, hashlib.md5(gz).hexdigest()) for name, gz in files.items()])
    monkeypatch.setenv("no_proxy", "*")

    class Mirror(Quiet):
        def do_GET(self):
            content = files[self.path.lstrip("/")]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with serving(Mirror) as address:
        yield address


def use_mirrors(monkeypatch, *addresses):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", list(addresses))


class Silent(socketserver.BaseRequestHandler):
    """Takes the call and never answers."""

    def handle(self):
        time.sleep(3)


class HalfSilent(Quiet):
    """Begins to answer, and falls silent."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "10000")
        self.end_headers()
        self.wfile.write(b"\x1f\x8b")
        self.wfile.flush()
        time.sleep(3)


class Missing(Quiet):
    def do_GET(self):
        self.send_error(404)


class Forged(Quiet):
    """Delivers something else (the login page of a hotel, say)."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Welcome!</html>")


class Broken(socketserver.BaseRequestHandler):
    """Hangs up at once."""

    def handle(self):
        pass


class Foreign(socketserver.BaseRequestHandler):
    """Speaks another protocol."""

    def handle(self):
        self.request.recv(1000)
        self.request.sendall(b"220 smtp.example.org ESMTP\r\n")


def test_a_mirror_delivers(monkeypatch, mirror, digits, tmp_path):
    use_mirrors(monkeypatch, mirror)
    folder = prepare("download", "train", tmp_path)
    assert np.array_equal(prepared(folder)[..., 0], digits[:64, 0])
    use_mirrors(monkeypatch, "http://127.0.0.1:9/nobody/")
    assert len(prepared(prepare("download", "test", tmp_path))) == 32, "what is downloaded is not downloaded again"


@pytest.mark.parametrize("behaviour", [Silent, HalfSilent, Missing, Forged, Broken, Foreign])
def test_a_mirror_that_does_not_deliver_is_passed_over(monkeypatch, mirror, digits, tmp_path, behaviour):
    said = []
    with serving(behaviour) as bad:
        use_mirrors(monkeypatch, bad, mirror)
        started = time.monotonic()
        root = download(tmp_path / "download", said.append, timeout=0.2)
        assert time.monotonic() - started < 2.5
    assert np.array_equal(read_source(root).images, digits[:64, 0])
    assert [bad in said[0], "did not deliver" in said[1], mirror in said[2]] == [True] * 3 and len(said) == 3
    assert not any("\n" in line for line in said)


def test_without_any_mirror_there_is_no_download(monkeypatch, tmp_path):
    before = socket.getdefaulttimeout()
    with serving(Silent) as bad:
        use_mirrors(monkeypatch, bad)
        assert download(tmp_path / "download", lambda text: None, timeout=0.2) is None
    assert not (tmp_path / "download").exists()
    assert socket.getdefaulttimeout() == before


# The tensor


def test_a_folder_becomes_a_tensor(pngs, digits):
    images = load_folder(pngs)
    assert images.dtype == torch.uint8 and torch.equal(images, digits)
    assert torch.equal(load_folder(str(pngs)), digits)


def test_colour_is_kept(colored, digits, tmp_path):
    write_pngs(tmp_path / "pngs", [*colored[:3], digits[3, 0]])
    images = load_folder(tmp_path / "pngs")
    assert images.shape == (4, 3, 28, 28)
    assert np.array_equal(images[:3].permute(0, 2, 3, 1), colored[:3])
    assert torch.equal(images[3], digits[3].expand(3, -1, -1))


def test_other_files_and_subfolders_are_passed_over(pngs, digits):
    (pngs / "notes.txt").write_text("hello")
    write_pngs(pngs / "more", digits[:2, 0])
    assert torch.equal(load_folder(pngs), digits)


@pytest.fixture
def reads(monkeypatch):
    """Counts how many PNGs are decoded."""
    counted = []
    monkeypatch.setattr(hwkit.data, "read_png", lambda path: counted.append(path) or read_png(path))
    return counted


def test_a_folder_is_decoded_once(pngs, digits, reads):
    load_folder(pngs)
    assert len(reads) == 96
    assert torch.equal(load_folder(pngs), digits)
    assert len(reads) == 96


@pytest.mark.parametrize("change", ["rewritten", "added", "removed", "renamed"])
def test_the_cache_is_stale_when_the_folder_changes(pngs, digits, change):
    load_folder(pngs)
    expected = digits
    if change == "rewritten":  # with as many bytes, and another time
        name = pngs / file_name(3)
        size = name.stat().st_size
        blank = np.zeros((28, 28), np.uint8)
        Image.fromarray(blank).save(name)
        assert name.stat().st_size < size
        name.write_bytes(name.read_bytes().ljust(size, b"\0"))
        expected = torch.cat([digits[:2], torch.zeros_like(digits[:1]), digits[3:]])
    elif change == "added":
        Image.fromarray(digits[0, 0].numpy()).save(pngs / file_name(97))
        expected = torch.cat([digits, digits[:1]])
    elif change == "removed":
        (pngs / file_name(96)).unlink()
        expected = digits[:95]
    else:
        (pngs / file_name(1)).rename(pngs / "99999.png")
        expected = torch.cat([digits[1:], digits[:1]])
    assert torch.equal(load_folder(pngs), expected)
    assert torch.equal(load_folder(pngs), expected)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign", "a folder"])
def test_a_broken_cache_is_passed_over(pngs, digits, damage):
    load_folder(pngs)
    [cache] = pngs.parent.glob(".pngs*.npz")
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 255 if damage == "flipped" else 0
    cache.unlink()
    if damage == "a folder":
        cache.mkdir()
    elif damage == "foreign":
        np.savez(cache, something=np.zeros(3))
    else:
        cache.write_bytes({"truncated": content[:-50], "empty": b"", "flipped": content}[damage])
    assert torch.equal(load_folder(pngs), digits)


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, pngs, digits, capsys):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hwkit.data, "whole_file", full)
    assert torch.equal(load_folder(pngs), digits)
    assert "no cache" in capsys.readouterr().out


# Pictures that are none


def truncated(path):
    path.write_bytes(path.read_bytes()[:-60])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def image_of(size, mode):
    return lambda path: Image.new(mode, size).save(path, "PNG")


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (truncated, "does not decode as an image"),
        (flipped, "does not decode as an image"),
        (lambda path: path.write_text("I am no picture"), "does not decode as an image"),
        (lambda path: path.write_bytes(b""), "does not decode as an image"),
        (image_of((32, 32), "RGB"), "is 32×32 pixels, not 28×28"),
        (image_of((28, 32), "L"), "is 28×32 pixels, not 28×28"),
        (image_of((28, 28), "RGBA"), "is in mode RGBA, neither RGB nor grey"),
        (image_of((28, 28), "P"), "is in mode P, neither RGB nor grey"),
    ],
    ids=["truncated", "flipped", "text", "empty", "32×32", "28×32", "RGBA", "palette"],
)
def test_a_png_that_cannot_be_used_is_named(pngs, spoil, sentence):
    spoil(pngs / file_name(17))
    with pytest.raises(ValueError, match=sentence) as refusal:
        load_folder(pngs)
    assert str(pngs / file_name(17)) in str(refusal.value)


def test_a_folder_without_pngs_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"There is no folder {tmp_path}/none"):
        load_folder(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=f"{tmp_path} holds no .png"):
        load_folder(tmp_path)


# Levels


def test_a_png_holds_the_pixels_as_rgb(digits, colored, tmp_path):
    for image in (digits[0, 0].numpy(), colored[0]):
        (tmp_path / "one.png").write_bytes(encode_png(image))
        with Image.open(tmp_path / "one.png") as found:
            assert found.mode == "RGB" and found.format == "PNG"
            assert np.array_equal(np.asarray(found), image if image.ndim == 3 else np.stack([image] * 3, 2))


def test_every_grey_level_survives_the_way_there_and_back():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    x = normalize(levels)
    assert x.shape == (1, 3, 16, 16) and x.dtype == torch.float32
    assert x.min() == -1 and x.max() == 1
    torch.testing.assert_close(x[0, 2].flatten(), torch.linspace(-1, 1, 256))
    assert torch.equal(to_uint8(x), levels.expand(-1, 3, -1, -1))


def test_to_uint8_clips_and_rounds_to_the_nearest_level():
    x = torch.tensor([-7, -1, -1 + 0.9 / 255, -1 + 1.1 / 255, 1 - 0.9 / 255, 1, 7]).view(1, 1, 1, -1)
    assert to_uint8(x).flatten().tolist() == [0, 0, 0, 1, 255, 255, 255]


# The batches


def epoch_of(images, batch_size=10, seed=0, epoch=1, **options) -> torch.Tensor:
    return torch.stack(list(batches(images, batch_size, seed, epoch, **options)))


def test_batches_are_rgb_in_minus_1_to_1(digits):
    x = epoch_of(digits)
    assert x.shape == (9, 10, 3, 28, 28) and x.dtype == torch.float32
    assert x.min() == -1 and x.max() == 1
    assert torch.equal(x[:, :, 0], x[:, :, 1]) and torch.equal(x[:, :, 0], x[:, :, 2])


@pytest.mark.parametrize("batch_size, expected", [(10, 90), (96, 96), (97, 0)])
def test_an_epoch_shows_an_image_once_at_the_most(digits, batch_size, expected):
    found = list(batches(digits, batch_size, seed=0, epoch=1))
    shown = [to_uint8(x)[0].numpy().tobytes() for batch in found for x in batch[:, :1]]
    assert len(shown) == len(set(shown)) == expected
    assert set(shown) <= {image.numpy().tobytes() for image in digits[:, 0]}


def test_the_order_depends_on_seed_and_epoch_alone(digits):
    torch.manual_seed(1)
    first = epoch_of(digits, seed=3, epoch=2)
    torch.manual_seed(2)
    np.random.seed(2)
    assert torch.equal(epoch_of(digits, seed=3, epoch=2), first)
    assert not torch.equal(epoch_of(digits, seed=3, epoch=3), first)
    assert not torch.equal(epoch_of(digits, seed=2, epoch=2), first)
    assert not torch.equal(epoch_of(digits, seed=2, epoch=3), first)


@pytest.mark.parametrize("start", [0, 1, 8, 9])
def test_an_epoch_goes_on_from_any_batch(digits, start):
    found, whole = list(batches(digits, 10, 0, 1, start=start)), epoch_of(digits)
    assert len(found) == 9 - start
    assert all(torch.equal(x, y) for x, y in zip(found, whole[start:], strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_that_is_not_held_in_memory_gives_the_same_batches(pngs, digits, workers):
    images = PNGFolder(pngs)
    assert len(images) == 96 and torch.equal(images[5], digits[5].expand(3, -1, -1))
    streamed = torch.stack(list(batches(images, 10, 0, 1, start=2, workers=workers)))
    assert torch.equal(streamed, epoch_of(digits)[2:])


def test_a_stream_names_a_broken_png(pngs):
    truncated(pngs / file_name(17))
    with pytest.raises(ValueError, match=r"00017\.png does not decode"):
        list(batches(PNGFolder(pngs), 10, 0, 1, workers=0))
    shutil.rmtree(pngs)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        PNGFolder(pngs)
