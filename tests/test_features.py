"""What images become before they are compared: digit features, Inception's, and the statistics of a reference."""

import contextlib
import functools
import hashlib
import http.server
import inspect
import os
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MNIST
from scipy.ndimage import gaussian_filter

from hwkit.files import write_many
from hwkit.measure.distances import frechet_distance, read_statistics, statistics
from hwkit.measure.features import (
    DigitFeatures,
    InceptionFeatures,
    classify,
    digit_features,
    floors,
    inception_path,
    reference,
)
from hwkit.measure.graded import pytorch_fid
from hwkit.measure.score import digit_fid
from hwkit.mnist.folder import encode_png, file_name, load_folder
from hwkit.mnist.sources import SAMPLE, Digits, read_source

WHOLE = len(read_source(MNIST, "train").images) == 60_000


@pytest.fixture(scope="module")
def sample() -> Digits:
    """All 5,000 embedded digits, (5000, 1, 28, 28)."""
    return read_source(SAMPLE, whole=True)


def folder_of(images, folder: Path) -> Path:
    write_many(folder, {file_name(k): encode_png(image) for k, image in enumerate(np.asarray(images), 1)})
    return folder


# The digits protocol


def test_accuracy_of_the_classifier():
    test = read_source(MNIST, "test")
    accuracy = (classify(digit_features(test.images)) == test.labels).mean()
    assert accuracy >= 0.993
    if WHOLE:
        assert accuracy == pytest.approx(floors()["test_accuracy"], abs=2e-4)


def test_the_committed_floor():
    """With the whole of MNIST it is the floor itself; the embedded digits, part of the reference, come close too."""
    value, error = digit_fid(read_source(MNIST, "test").images)
    known = floors()["test-vs-train"]["by_images"]
    if WHOLE:
        assert value == pytest.approx(known["10000"], rel=1e-3)
    assert 0.02 < value < 2 * known["1000"] + 1
    assert 0 < error < value


def test_statistics_that_are_committed_are_those_of_mnist(sample):
    """Not of the labels alone: mean and covariance agree with the embedded digits', up to sampling."""
    against = reference(DigitFeatures())
    features = digit_features(sample.images)
    assert np.trace(against.sigma) == pytest.approx(100, rel=1e-3)
    assert np.abs(features.mean(axis=0) - against.mu).max() < 0.1
    assert frechet_distance(*statistics(features), against.mu, against.sigma) < 0.5
    assert np.array_equal(against.features, features)


def test_colour_moves_the_features_and_grey_rgb_does_not(sample):
    grey = sample.images[:300]
    rgb = np.repeat(grey, 3, axis=1)
    assert np.abs(digit_features(rgb) - digit_features(grey)).max() < 1e-5
    assert np.array_equal(digit_features(grey[:, 0]), digit_features(grey))
    tinted = (rgb * np.array([1, 0.5, 0.5])[:, None, None]).astype(np.uint8)
    assert np.abs(digit_features(tinted) - digit_features(grey)).mean() > 0.01


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_images_that_are_no_bytes_are_refused(sample, dtype):
    with pytest.raises(ValueError, match=f"uint8.*{dtype.__name__}"):
        digit_features(sample.images[:2].astype(dtype))


def blurred(images, amount):
    return gaussian_filter(images.astype(float), (0, 0, amount, amount)).astype(np.uint8)


def noisy(images, amount):
    noise = np.random.default_rng(0).normal(size=images.shape) * amount
    return (images + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("spoil", "amounts"), [(blurred, (0.5, 0.75, 1, 1.5, 2.5)), (noisy, (10, 25, 40, 80, 160))])
def test_it_grows_with_blur_and_noise(sample, spoil, amounts):
    images = sample.images[:1000]
    values = [digit_fid(spoilt)[0] for spoilt in (images, *(spoil(images, amount) for amount in amounts))]
    assert values == sorted(values)
    assert values[-1] > 20 * values[0]


def test_it_grows_as_classes_go_missing(sample):
    images, labels = sample.images[:3000], sample.labels[:3000]
    values = [digit_fid(images[labels < classes])[0] for classes in (10, 8, 6, 4, 2, 1)]
    assert values == sorted(values)
    assert values[-1] > 50 * values[0]


def test_pictures_of_no_digit_are_said_to_be_none(sample):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, size=(50, 1, 28, 28), dtype=np.uint8)
    assert (classify(digit_features(noise)) == 10).all()
    assert (classify(digit_features(np.zeros((1, 1, 28, 28), np.uint8))) == 10).all()
    assert (classify(digit_features(sample.images[:500])) == 10).mean() < 0.01


# References


class Means:
    """A cheap extractor, means of columns, that counts what it is given."""

    name, label, dims = "means", "mean-FID", 28

    def __init__(self, weights: bytes = b""):
        self.seen, self.weights_sha256 = 0, hashlib.sha256(weights).hexdigest()

    def __call__(self, images):
        self.seen += len(images)
        return np.asarray(images, np.float64).mean(axis=(1, 2))


def test_reference_statistics_are_computed_once_and_again_when_an_image_changes(digits, tmp_path):
    folder = folder_of(digits, tmp_path / "real")
    extractor = Means()
    first, second = reference(extractor, folder), reference(extractor, folder)
    assert extractor.seen == 96 == first.count == second.count
    assert np.array_equal(first.mu, second.mu) and np.array_equal(first.sigma, second.sigma)
    assert np.array_equal(first.features, second.features) and len(first.features) == 96
    (folder / "00001.png").write_bytes(encode_png(np.zeros((1, 28, 28), np.uint8)))
    changed = reference(extractor, folder)
    assert extractor.seen == 2 * 96
    assert not np.array_equal(first.mu, changed.mu)


def test_reference_statistics_of_other_weights_are_not_taken(digits, tmp_path):
    """Extractors of one name that differ in their weights, as Inception's published weights and any others do."""
    folder = folder_of(digits, tmp_path / "real")
    reference(Means(b"published"), folder)
    others = Means(b"others")
    reference(others, folder)
    assert others.seen == 96


@pytest.mark.parametrize("damage", [b"", b"broken", "half", "other arrays"])
def test_damaged_statistics_are_made_again(digits, tmp_path, damage):
    folder = folder_of(digits, tmp_path / "real")
    first = reference(Means(), folder)
    (kept,) = tmp_path.glob(".real.means*")
    if damage == "other arrays":
        np.savez(kept, images=np.zeros(3))
    else:
        kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2] if damage == "half" else damage)
    extractor = Means()
    assert np.array_equal(reference(extractor, folder).mu, first.mu) and extractor.seen == 96
    assert reference(extractor, folder).count == 96 == extractor.seen  # and kept again


def test_where_nothing_can_be_kept_the_reference_is_there_all_the_same(digits, tmp_path):
    folder = folder_of(digits, tmp_path / "real")
    (tmp_path / ".real.means.npz").mkdir()
    assert reference(Means(), folder).count == 96


def packed(images, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as out:
        for k, image in enumerate(images, 1):
            out.writestr(f"samples/{file_name(k)}", encode_png(image))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("images.npz", lambda images, path: np.savez(path, images=images[:, 0])),
        ("keras.npz", lambda images, path: np.savez(path, x_train=images[:, 0], x_test=images[:7, 0])),
        ("medmnist.npz", lambda images, path: np.savez(path, train_images=images[:, 0], test_images=images[:7, 0])),
        ("samples.npz", lambda images, path: np.savez(path, images.transpose(0, 2, 3, 1).repeat(3, axis=3))),
        ("channels_first.npz", lambda images, path: np.savez(path, images.repeat(3, axis=1))),
        ("samples.zip", packed),
    ],
)
def test_a_reference_of_images_is_used_whole(digits, tmp_path, name, write):
    images = digits[:50].numpy()
    write(images, tmp_path / name)
    found = reference(Means(), tmp_path / name)
    assert found.count == 50
    assert found.mu == pytest.approx(images.mean(axis=(0, 1, 2)))


def test_statistics_are_a_reference_without_features(digits, tmp_path):
    mu, sigma = statistics(digit_features(digits))
    np.savez(tmp_path / "s.npz", mu=mu, sigma=sigma, arr_0=digits.numpy())
    found = reference(DigitFeatures(), tmp_path / "s.npz")
    assert np.array_equal(found.mu, mu) and found.features is None and found.name == "s.npz"


@pytest.mark.parametrize("names", [("mean", "cov"), ("m", "s"), ("mu", "cov"), ("avg", "sigma")])
def test_statistics_under_other_names_are_not_taken_for_images(digits, tmp_path, names):
    np.savez(tmp_path / "s.npz", **dict(zip(names, statistics(digit_features(digits)), strict=True)))
    with pytest.raises(ValueError, match=r"mu .* and sigma .* are wanted"):
        reference(DigitFeatures(), tmp_path / "s.npz")


def test_a_reference_that_is_none_ends_in_a_sentence(tmp_path):
    np.savez(tmp_path / "good.npz", mu=np.zeros(24), sigma=np.eye(24))
    np.savez(tmp_path / "dict.npz", {"mu": np.zeros(128), "sigma": np.eye(128)})
    np.savez(tmp_path / "half.npz", mu=np.zeros(128))
    with pytest.raises(ValueError, match="24 features, but this protocol has 128"):
        reference(DigitFeatures(), tmp_path / "good.npz")
    with pytest.raises(ValueError, match="plain arrays"):
        reference(DigitFeatures(), tmp_path / "dict.npz")
    with pytest.raises(ValueError, match="wanted"):
        reference(DigitFeatures(), tmp_path / "half.npz")
    np.savez(tmp_path / "features.npz", features=np.zeros((500, 128)))
    with pytest.raises(ValueError, match=r"features float64 \(500, 128\).*an \.npz with mu \(D,\) and sigma \(D, D\)"):
        reference(DigitFeatures(), tmp_path / "features.npz")
    with pytest.raises(FileNotFoundError, match="python -m hwkit data"):
        reference(Means())
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        reference(Means(), tmp_path / "nowhere.npz")


# The Inception protocol, with random weights where pytorch-fid looks for its own


def random_inception(path: Path) -> None:
    """Writes weights of the right shapes, as pytorch-fid's file holds them."""
    from pytorch_fid import inception

    class Stop(Exception):
        """Carries the network out of pytorch-fid's constructor, before it would load weights."""

    def keep(*_, **__):
        raise Stop(inspect.currentframe().f_back.f_locals["inception"])

    original, inception.load_state_dict_from_url = inception.load_state_dict_from_url, keep
    try:
        torch.manual_seed(0)
        inception.fid_inception_v3()
    except Stop as stop:
        for module in stop.args[0].modules():
            if isinstance(module, torch.nn.Conv2d):  # features of about 1, where torch's own start leaves 1e-8
                torch.nn.init.kaiming_normal_(module.weight)
        torch.save(stop.args[0].state_dict(), path)
    finally:
        inception.load_state_dict_from_url = original


@pytest.fixture(scope="module")
def torch_home(tmp_path_factory) -> Path:
    """A TORCH_HOME that holds such weights, under the name and in the place of pytorch-fid's."""
    from pytorch_fid import inception

    home = tmp_path_factory.mktemp("torch_home")
    weights = home / "hub" / "checkpoints" / Path(inception.FID_WEIGHTS_URL).name
    weights.parent.mkdir(parents=True)
    random_inception(weights)
    return home


@pytest.fixture
def weights(torch_home, monkeypatch) -> Path:
    """The file of these weights; torch looks for downloaded ones in a folder that is not there."""
    monkeypatch.delenv("HWKIT_INCEPTION", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(torch_home.parent / "empty"))
    (path,) = torch_home.rglob("*.pth")
    return path


def test_statistics_equal_those_of_the_command_pytorch_fid(torch_home, sample, tmp_path, monkeypatch):
    """`python -m pytorch_fid --save-stats` in its own process; then the distance of what it wrote to darker images."""
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    folder = folder_of(sample.images[:6], tmp_path / "a")
    command = [sys.executable, "-m", "pytorch_fid", "--save-stats", "--num-workers", "0", "--device", "cpu"]
    subprocess.run([*command, str(folder), str(tmp_path / "a.npz")], check=True, capture_output=True)
    theirs = read_statistics(tmp_path / "a.npz", 2048)
    features = InceptionFeatures(device="cpu")(torch.cat([load_folder(folder), load_folder(folder) // 2]))
    ours, darker = statistics(features[:6]), features[6:]
    for mine, yours in zip(ours, theirs, strict=True):
        assert np.abs(mine - yours).max() < 1e-5 * np.abs(yours).max()
    kept = slice(None, None, 16)  # of the features, as the root of a 2048 × 2048 matrix takes a while
    others = statistics(darker[:, kept])
    value = frechet_distance(ours[0][kept], ours[1][kept, kept], *others)
    assert value > 0.1
    assert value == pytest.approx(frechet_distance(theirs[0][kept], theirs[1][kept, kept], *others), rel=1e-4)


def test_the_kit_runs_that_command_with_the_weights_that_are_named(weights, sample, tmp_path, monkeypatch):
    monkeypatch.setenv("HWKIT_INCEPTION", str(weights))
    folder = folder_of(sample.images[:6], tmp_path / "a")
    command, output = pytorch_fid("--save-stats", folder, tmp_path / "a.npz")
    assert command.endswith(f"--save-stats {folder} {tmp_path / 'a.npz'}") and "Saving statistics" in output
    theirs = read_statistics(tmp_path / "a.npz", 2048)
    ours = statistics(InceptionFeatures(device="cpu")(load_folder(folder)))
    for mine, yours in zip(ours, theirs, strict=True):
        assert np.abs(mine - yours).max() < 1e-5 * np.abs(yours).max()


@pytest.mark.skipif(
    "HWKIT_SLOW" not in os.environ, reason="minutes: the root of a 2048 × 2048 matrix; set HWKIT_SLOW=1"
)
def test_value_equals_that_of_the_command_pytorch_fid(torch_home, sample, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    folders = [
        folder_of(sample.images[:64], tmp_path / "a"),
        folder_of(blurred(sample.images[64:128], 1), tmp_path / "b"),
    ]
    command = [sys.executable, "-m", "pytorch_fid", "--num-workers", "0", "--device", "cpu"]
    run = subprocess.run([*command, *map(str, folders)], check=True, capture_output=True, text=True)
    extractor = InceptionFeatures(device="cpu")
    ours = frechet_distance(*(s for f in folders for s in statistics(extractor(load_folder(f)))))
    assert ours > 0.1
    assert ours == pytest.approx(float(run.stdout.split("FID:")[1]), rel=1e-4)


def test_weights_may_be_named_and_pytorch_fids_own_stay_as_they_are(weights, digits, tmp_path, monkeypatch):
    """Whether it has a copy or not, and whatever is in it; torch.hub looks where it did before, now and later."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HWKIT_INCEPTION", str(weights))
    own = inception_path()
    by_environment = InceptionFeatures(device="cpu")
    assert not own.exists()
    own.parent.mkdir(parents=True)
    own.write_bytes(b"of another program")
    by_argument = InceptionFeatures(weights, "cpu")
    assert own.read_bytes() == b"of another program" and inception_path() == own
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "later"))
    assert inception_path().is_relative_to(tmp_path / "later")
    features = by_environment(digits[:2])
    assert features.shape == (2, 2048) and features.dtype == np.float64
    assert np.array_equal(features, by_argument(digits[:2]))
    assert by_argument.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_inception_runs_by_cudnn_in_float32_whatever_is_set(weights, digits):
    """What a GPU would be told, seen from within the network; afterwards all is as it was before."""

    def told():
        cudnn = torch.backends.cudnn
        return cudnn.enabled, cudnn.allow_tf32, torch.get_float32_matmul_precision()

    extractor, seen = InceptionFeatures(weights, "cpu"), []
    extractor.model.blocks[0].register_forward_hook(lambda *_: seen.append(told()))
    before = told()
    torch.set_float32_matmul_precision("high")  # as training does
    try:
        extractor(digits[:1])
        assert seen == [(True, False, "highest")]
        assert told() == (*before[:2], "high")
    finally:
        torch.set_float32_matmul_precision(before[2])


@contextlib.contextmanager
def serving(content: bytes | None):
    """The address of a web server that has `content` to give, or of none at all."""

    class Handler(http.server.BaseHTTPRequestHandler):
        log_message = functools.partialmethod(lambda *_: None)

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) + (content == b"half")))
            self.end_headers()
            self.wfile.write(content)

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}/weights.pth"
    if content is None:
        server.server_close()
        yield address
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield address
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "refused"), (b"<html>login</html>", "other bytes"), (b"half", "")]
)
def test_weights_that_cannot_be_downloaded(weights, tmp_path, monkeypatch, content, reason):
    from pytorch_fid import inception

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    before = socket.getdefaulttimeout()
    with serving(content) as address, pytest.raises(FileNotFoundError, match=f"{reason}.*HWKIT_INCEPTION.*digits prot"):
        monkeypatch.setattr(inception, "FID_WEIGHTS_URL", address)
        InceptionFeatures()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert socket.getdefaulttimeout() == before


def test_weights_are_downloaded_to_where_pytorch_fid_keeps_them(weights, tmp_path, monkeypatch, digits):
    from pytorch_fid import inception

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    content = weights.read_bytes()
    monkeypatch.setattr(InceptionFeatures, "official", hashlib.sha256(content).hexdigest()[:8])
    with serving(content) as address:
        monkeypatch.setattr(inception, "FID_WEIGHTS_URL", address)
        InceptionFeatures(device="cpu")
    assert inception_path().read_bytes() == content and inception_path().is_relative_to(tmp_path)
    monkeypatch.setattr(inception, "FID_WEIGHTS_URL", "http://nowhere.invalid/weights.pth")
    assert InceptionFeatures(device="cpu")(digits[:1]).shape == (1, 2048)


class Code:
    """Of a pickle that runs a command when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_file_that_holds_no_weights_is_named(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        InceptionFeatures(tmp_path / "nowhere.pth")
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 not weights")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "page.pth").write_bytes(b"<!DOCTYPE html><html></html>")
    (tmp_path / "half.pth").write_bytes(weights.read_bytes()[:1_000_000])
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    torch.save({"code": Code(tmp_path / "was run")}, tmp_path / "code.pth")
    for name in ("broken", "empty", "page", "half", "other", "tensor", "code"):
        with pytest.raises(ValueError, match=rf"{name}\.pth does not hold"):
            InceptionFeatures(tmp_path / f"{name}.pth")
    assert not (tmp_path / "was run").exists()
