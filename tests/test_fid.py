"""Distances against closed forms and other people's code; features, references, and what is said of them."""

import inspect
import json
import os
import subprocess
import sys
import urllib.error
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MNIST
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from hwkit.files import write_json, write_many
from hwkit.measure.curve import fid_curve
from hwkit.measure.distances import (
    frechet_distance,
    frechet_error,
    kernel_distance,
    precision_recall,
    read_statistics,
    statistics,
    write_statistics,
)
from hwkit.measure.features import DIGITS, DigitFeatures, InceptionFeatures, classify, digit_features, floors, reference
from hwkit.measure.memorisation import memorisation, nearest
from hwkit.measure.score import at, fid, lines
from hwkit.mnist.folder import encode_png, file_name, load_folder
from hwkit.mnist.sources import SAMPLE, Digits, read_source
from hwkit.runs.generate import generate
from hwkit.sampling import Sampler

WHOLE = read_source(MNIST, "train").images.shape[0] == 60_000


pytestmark = pytest.mark.usefixtures("fewer")


@pytest.fixture
def fewer(monkeypatch):
    """Precision and recall with 400 real features rather than 5,000."""
    monkeypatch.setattr(fid, "KEPT", 400)


@pytest.fixture(scope="module")
def sample() -> Digits:
    """All 5,000 embedded digits."""
    with np.load(SAMPLE) as arrays:
        return Digits(arrays["images"], arrays["labels"])


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    """Two sets of correlated, skewed random features, (400, 24) and (300, 24)."""
    rng = np.random.default_rng(0)
    x, y = (np.maximum(rng.normal(size=(n, 24)) @ rng.normal(size=(24, 24)), 0) for n in (400, 300))
    return x, y + 0.3


def folder_of(images: np.ndarray, folder: Path, manifest: dict | None = None) -> Path:
    """A folder of PNGs, with a manifest as `python -m hwkit sample` leaves it."""
    write_many(folder, {file_name(k): encode_png(image) for k, image in enumerate(images, 1)})
    if manifest:
        write_json(folder.with_name(folder.name + ".json"), manifest)
    return folder


def manifest_of(seed: int, checkpoint: str = "1f3a") -> dict:
    sampler = asdict(Sampler("ddim", 50))
    return {"checkpoint": "ema_best.pt", "checkpoint_sha256": checkpoint * 16, "sampler": sampler, "seed": seed}


# The Fréchet distance


def test_gaussians_of_known_distance():
    """|Δμ|² + Σ (√λ1 − √λ2)² for covariances with common axes, in axes turned at random."""
    rng = np.random.default_rng(1)
    axes, _ = np.linalg.qr(rng.normal(size=(16, 16)))
    variances1, variances2 = rng.uniform(0, 9, size=(2, 16))
    mu1, mu2 = rng.normal(size=(2, 16))
    expected = ((mu1 - mu2) ** 2).sum() + ((variances1**0.5 - variances2**0.5) ** 2).sum()
    found = frechet_distance(mu1, axes * variances1 @ axes.T, mu2, axes * variances2 @ axes.T)
    assert found == pytest.approx(expected, rel=1e-10)


def test_agrees_with_pytorch_fid(clouds, monkeypatch):
    from pytorch_fid import fid_score

    if "disp" not in inspect.signature(fid_score.linalg.sqrtm).parameters:  # SciPy 1.18 took it away
        sqrtm = fid_score.linalg.sqrtm
        monkeypatch.setattr(fid_score.linalg, "sqrtm", lambda a, disp=True: sqrtm(a) if disp else (sqrtm(a), None))
    (mu1, sigma1), (mu2, sigma2) = map(statistics, clouds)
    expected = fid_score.calculate_frechet_distance(mu1, sigma1, mu2, sigma2)
    assert frechet_distance(mu1, sigma1, mu2, sigma2) == pytest.approx(expected, rel=1e-6)


def test_agrees_with_torch_fidelity(clouds):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(torch.from_numpy(c)) for c in clouds), verbose=False)
    ours = frechet_distance(*statistics(clouds[0]), *statistics(clouds[1]))
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


@pytest.mark.parametrize("count", [2, 20, 60])
def test_singular_covariances(count):
    """By another way: tr (Σ1 Σ2)^½ is the nuclear norm of the centred features' product."""
    rng = np.random.default_rng(count)
    x, y = rng.normal(size=(2, count, 64)) * np.linspace(0.01, 3, 64)
    a, b = ((f - f.mean(axis=0)) / (count - 1) ** 0.5 for f in (x, y))
    trace = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    expected = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * trace
    assert frechet_distance(*statistics(x), *statistics(y)) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(*statistics(x), *statistics(x)) < 1e-6


def test_a_covariance_of_nothing_but_zeros():
    zero, one = np.zeros((4, 4)), np.eye(4)
    assert frechet_distance(np.zeros(4), zero, np.zeros(4), one) == pytest.approx(4)
    assert frechet_distance(np.zeros(4), zero, np.ones(4), zero) == pytest.approx(4)


def test_distance_is_symmetric_and_zero_to_itself(clouds):
    a, b = map(statistics, clouds)
    assert frechet_distance(*a, *b) == pytest.approx(frechet_distance(*b, *a), rel=1e-9)
    assert frechet_distance(*a, *a) < 1e-9


def test_statistics_of_other_features_are_refused(clouds):
    with pytest.raises(ValueError, match="24 and of 23 features"):
        frechet_distance(*statistics(clouds[0]), *statistics(clouds[1][:, 1:]))
    with pytest.raises(ValueError, match="at least 2 images"):
        statistics(clouds[0][:1])


def test_the_error_is_the_spread_over_samples():
    rng = np.random.default_rng(2)
    mix = rng.normal(size=(8, 8))
    mu, sigma = np.zeros(8), np.eye(8)
    draws = [rng.normal(size=(500, 8)) @ mix + 1 for _ in range(200)]
    spread = np.std([frechet_distance(*statistics(x), mu, sigma) for x in draws])
    told = np.mean([frechet_error(x, mu, sigma) for x in draws[:20]])
    assert told == pytest.approx(spread, rel=0.25)


# KID, precision and recall


def test_kid_agrees_with_torch_fidelity(clouds):
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = (c[:300] for c in clouds)  # with subsets of all images there is nothing left to draw
    theirs = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=1, kid_subset_size=300, verbose=False
    )
    assert kernel_distance(x, y, subsets=1, size=300)[0] == pytest.approx(
        theirs["kernel_inception_distance_mean"], rel=1e-9
    )


def test_kid_of_equal_distributions_is_zero_on_average():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 3000, 8))
    same, spread = kernel_distance(x, y, subsets=50, size=300)
    shifted, _ = kernel_distance(x, y + 0.5, subsets=50, size=300)
    assert abs(same) < 0.5 * spread
    assert shifted > 10 * abs(same)


def test_precision_and_recall_agree_with_torch_fidelity(clouds):
    from torch_fidelity.metric_prc import prc_features_to_metric

    real, generated = clouds
    theirs = prc_features_to_metric(torch.from_numpy(generated), torch.from_numpy(real), verbose=False)
    assert precision_recall(real, generated) == pytest.approx((theirs["precision"], theirs["recall"]))
    assert 0 < theirs["precision"] < 1 and 0 < theirs["recall"] < 1


def test_half_of_the_modes_have_precision_but_half_of_the_recall():
    rng = np.random.default_rng(4)
    real = rng.normal(size=(800, 4)) + 20 * (np.arange(800)[:, None] % 2)
    precision, recall = precision_recall(real, rng.normal(size=(400, 4)))
    assert precision > 0.9
    assert 0.4 < recall < 0.55


# The digits protocol


def test_accuracy_of_the_classifier():
    test = read_source(MNIST, "test")
    accuracy = (classify(digit_features(test.images)) == test.labels).mean()
    assert accuracy >= 0.993
    if WHOLE:
        assert accuracy == pytest.approx(floors()["test_accuracy"], abs=2e-4)


def test_the_committed_floor():
    """With the whole of MNIST it is the floor itself; the embedded digits, part of the reference, come close too."""
    against = reference(DigitFeatures())
    images = read_source(MNIST, "test").images
    value = frechet_distance(*statistics(digit_features(images)), against.mu, against.sigma)
    known = floors()["test-vs-train"]["by_images"]
    if WHOLE:
        assert value == pytest.approx(known["10000"], rel=1e-3)
    assert 0.02 < value < 2 * known["1000"] + 1


def test_statistics_that_are_committed_are_those_of_mnist(sample):
    """Not of the labels alone: mean and covariance agree with the embedded digits', up to sampling."""
    mu, sigma = read_statistics(DIGITS / "digit_stats_train.npz", 128)
    features = digit_features(sample.images)
    assert np.trace(sigma) == pytest.approx(100, rel=1e-3)
    assert np.abs(features.mean(axis=0) - mu).max() < 0.1
    assert frechet_distance(*statistics(features), mu, sigma) < 0.5


def test_colour_moves_the_features_and_grey_rgb_does_not(sample):
    grey = sample.images[:300]
    rgb = np.repeat(grey[:, None], 3, axis=1)
    assert np.abs(digit_features(rgb) - digit_features(grey)).max() < 1e-5
    tinted = (rgb * np.array([1, 0.5, 0.5])[:, None, None]).astype(np.uint8)
    assert np.abs(digit_features(tinted) - digit_features(grey)).mean() > 0.01


def blurred(images, amount):
    return gaussian_filter(images.astype(float), (0, amount, amount)).astype(np.uint8)


def noisy(images, amount):
    noise = np.random.default_rng(0).normal(size=images.shape) * amount
    return (images + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("spoil", "amounts"), [(blurred, (0.5, 0.75, 1, 1.5, 2.5)), (noisy, (10, 25, 40, 80, 160))])
def test_it_grows_with_blur_and_noise(sample, spoil, amounts):
    against = reference(DigitFeatures())
    spoilt = [sample.images[:1000], *(spoil(sample.images[:1000], amount) for amount in amounts)]
    values = [
        frechet_distance(*statistics(digit_features(images)), against.mu, against.sigma)
        for images in spoilt
    ]
    assert values == sorted(values)
    assert values[-1] > 20 * values[0]


def test_it_grows_as_classes_go_missing(sample):
    against = reference(DigitFeatures())
    features = digit_features(sample.images[:3000])
    values = [
        frechet_distance(*statistics(features[sample.labels[:3000] < classes]), against.mu, against.sigma)
        for classes in (10, 8, 6, 4, 2, 1)
    ]
    assert values == sorted(values)
    assert values[-1] > 50 * values[0]


def test_pictures_of_no_digit_are_said_to_be_none(sample):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, size=(50, 28, 28), dtype=np.uint8)
    assert (classify(digit_features(noise)) == 10).all()
    assert (classify(digit_features(np.zeros((1, 28, 28), np.uint8))) == 10).all()
    assert (classify(digit_features(sample.images[:500])) == 10).mean() < 0.01


# References


class Counted:
    """A cheap extractor that counts what it is given."""

    name, label, dims, weights_sha256 = "means", "mean-FID", 28, "0" * 64

    def __init__(self):
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        return np.asarray(images, np.float64).reshape(len(images), -1, 28, 28).mean(axis=(1, 2))


def test_reference_statistics_are_computed_once_and_again_when_an_image_changes(digits, tmp_path):
    folder = folder_of(digits[:, 0].numpy(), tmp_path / "real")
    extractor = Counted()
    first, second = reference(extractor, folder), reference(extractor, folder)
    assert extractor.seen == 96
    assert np.array_equal(first.mu, second.mu) and np.array_equal(first.sigma, second.sigma)
    (folder / "00001.png").write_bytes(encode_png(np.zeros((28, 28), np.uint8)))
    changed = reference(extractor, folder)
    assert extractor.seen == 2 * 96
    assert not np.array_equal(first.mu, changed.mu)
    (tmp_path / ".real.means.npz").write_bytes(b"broken")
    assert np.array_equal(reference(extractor, folder).mu, changed.mu)


def test_statistics_are_read_and_written_as_pytorch_fid_does(clouds, tmp_path):
    from pytorch_fid.fid_score import compute_statistics_of_path

    mu, sigma = statistics(clouds[0])
    write_statistics(tmp_path / "ours.npz", mu, sigma)
    theirs = compute_statistics_of_path(str(tmp_path / "ours.npz"), None, 50, 2048, "cpu")
    assert np.array_equal(theirs[0], mu) and np.array_equal(theirs[1], sigma)
    np.savez_compressed(tmp_path / "theirs.npz", mu=mu, sigma=sigma)
    assert np.array_equal(read_statistics(tmp_path / "theirs.npz")[1], sigma)


def test_bad_statistics_end_in_a_sentence(tmp_path, clouds):
    mu, sigma = statistics(clouds[0])
    np.savez(tmp_path / "images.npz", images=mu)
    np.savez(tmp_path / "shapes.npz", mu=mu, sigma=sigma[:3])
    np.savez(tmp_path / "nan.npz", mu=mu, sigma=sigma * np.nan)
    np.savez(tmp_path / "good.npz", mu=mu, sigma=sigma)
    (tmp_path / "broken.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:900])
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        read_statistics(tmp_path / "none.npz")
    for name in ("images", "shapes", "nan", "broken"):
        with pytest.raises(ValueError, match=rf"{name}\.npz"):
            read_statistics(tmp_path / f"{name}.npz")
    with pytest.raises(ValueError, match="24 features, but this protocol has 128"):
        reference(DigitFeatures(), tmp_path / "good.npz")
    with pytest.raises(FileNotFoundError, match="python -m hwkit data"):
        reference(Counted())


# The Inception protocol, with random weights where pytorch-fid looks for its own


@pytest.fixture(scope="module")
def torch_home(tmp_path_factory) -> Path:
    """A TORCH_HOME that holds weights of the right shapes, under the name and in the place of pytorch-fid's."""
    from pytorch_fid import inception

    home = tmp_path_factory.mktemp("torch_home")
    weights = home / "hub" / "checkpoints" / Path(inception.FID_WEIGHTS_URL).name
    weights.parent.mkdir(parents=True)

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
        torch.save(stop.args[0].state_dict(), weights)
    finally:
        inception.load_state_dict_from_url = original
    return home


def test_statistics_equal_those_of_the_command_pytorch_fid(torch_home, sample, tmp_path, monkeypatch):
    """`python -m pytorch_fid --save-stats` in its own process; then the distance of what it wrote to darker images."""
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    folder = folder_of(sample.images[:6], tmp_path / "a")
    command = [sys.executable, "-m", "pytorch_fid", "--save-stats", "--num-workers", "0", "--device", "cpu"]
    subprocess.run([*command, str(folder), str(tmp_path / "a.npz")], check=True, capture_output=True)
    theirs = read_statistics(tmp_path / "a.npz", 2048)
    features = InceptionFeatures()(torch.cat([load_folder(folder), load_folder(folder) // 2]))
    ours, darker = statistics(features[:6]), features[6:]
    for mine, yours in zip(ours, theirs, strict=True):
        assert np.abs(mine - yours).max() < 1e-5 * np.abs(yours).max()
    kept = slice(None, None, 16)  # of the features, as the root of a 2048 × 2048 matrix takes a while
    others = statistics(darker[:, kept])
    value = frechet_distance(ours[0][kept], ours[1][kept, kept], *others)
    assert value > 0.1
    assert value == pytest.approx(frechet_distance(theirs[0][kept], theirs[1][kept, kept], *others), rel=1e-4)


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
    extractor = InceptionFeatures()
    ours = frechet_distance(*(s for f in folders for s in statistics(extractor(load_folder(f)))))
    assert ours > 0.1
    assert ours == pytest.approx(float(run.stdout.split("FID:")[1]), rel=1e-4)


def test_weights_may_be_named(torch_home, digits, tmp_path, monkeypatch):
    (weights,) = torch_home.rglob("*.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HWKIT_INCEPTION", str(weights))
    by_environment, by_argument = InceptionFeatures(), InceptionFeatures(weights)
    features = by_environment(digits[:2])
    assert features.shape == (2, 2048)
    assert np.array_equal(features, by_argument(digits[:2]))


def test_without_weights_a_sentence_says_what_to_do(tmp_path, monkeypatch):
    from pytorch_fid import inception

    def offline(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(inception, "load_state_dict_from_url", offline)
    with pytest.raises(FileNotFoundError, match=r"no route to host.*--weights or HWKIT_INCEPTION.*digits protocol"):
        InceptionFeatures()
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        InceptionFeatures(tmp_path / "nowhere.pth")
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 not weights")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    for name in ("broken", "other"):
        with pytest.raises(ValueError, match=rf"{name}\.pth does not hold"):
            InceptionFeatures(tmp_path / f"{name}.pth")
    assert inception.load_state_dict_from_url is offline  # what was lent is given back


# What is said, and written


def test_the_json_reproduces_what_is_printed(sample, tmp_path, capsys):
    folder = folder_of(sample.images[:300], tmp_path / "generate", manifest_of(seed=0))
    fid((folder,), protocol="digits", train=SAMPLE)
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "generate-evaluation" / "digits_fid.json").read_text())
    assert "\n".join(lines(record)) in printed
    first = printed.splitlines()[0]
    assert first.startswith(
        f"digit-FID {record['value']:.2f} ± {record['error']:.2f} (300 images; against MNIST train; "
    )
    for said in (
        "floor test-vs-train",
        "train-subset",
        "sampler ddim-50",
        "ema_best.pt 1f3a…",
        f"torch {torch.__version__}",
    ):
        assert said in first
    assert "KID × 1000" in printed and "precision" in printed and "recall" in printed
    assert "WARNING: of 300 images" in printed
    assert sum(record["classes"]) == 300
    assert record["memorisation"]["near_copies"] == 1  # these are training images
    for name in ("closest_pairs.png", "digit_histogram.png"):
        data.Image.open(tmp_path / "generate-evaluation" / name).verify()


def test_identical_folders_have_distance_zero(sample, tmp_path, capsys):
    folder = folder_of(sample.images[:200], tmp_path / "a")
    copy = folder_of(sample.images[:200], tmp_path / "b")
    fid((folder,), protocol="digits", reference=copy, quick=True)
    assert capsys.readouterr().out.startswith("digit-FID 0.00 ± 0.00 (200 images; against b; floor not measured")


def test_several_seeds_are_a_mean_and_a_spread(sample, tmp_path, capsys):
    parts = [folder_of(sample.images[i * 200 : i * 200 + 200], tmp_path / str(i), manifest_of(i)) for i in range(3)]
    fid(tuple(parts), protocol="digits", quick=True, floor=SAMPLE)
    record = json.loads((tmp_path / "0-evaluation" / "digits_fid.json").read_text())
    assert record["value"] == pytest.approx(np.mean(record["values"]))
    assert record["error"] >= np.std(record["values"], ddof=1) > 0
    assert record["kid_error"] > 0
    assert "(200 images, 3 seed ranges; against MNIST train; floor 200 of mnist_sample.npz" in capsys.readouterr().out


def test_folders_that_do_not_belong_together_are_refused(sample, tmp_path):
    def folder(name, *manifest):
        return folder_of(sample.images[:5], tmp_path / name, manifest_of(*manifest))

    with pytest.raises(ValueError, match="hold the same images"):
        fid((folder("a", 0), folder("b", 0)), protocol="digits")
    with pytest.raises(ValueError, match=r"\[5, 4\] images"):
        fid((folder("e", 0), folder_of(sample.images[:4], tmp_path / "f", manifest_of(1))), protocol="digits")
    with pytest.raises(ValueError, match="different checkpoints"):
        fid((folder("c", 0), folder("d", 1, "beef")), protocol="digits")
    with pytest.raises(ValueError, match="Name a folder"):
        fid(())


class Unpublished(Counted):
    """In the place of Inception, whose 2,048 dimensions take a while."""

    name, label = "inception", "FID"

    def __init__(self, weights, device):
        super().__init__()


def test_inception_of_few_images_is_refused_unless_asked_for(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "InceptionFeatures", Unpublished)
    monkeypatch.setattr(Unpublished, "official", InceptionFeatures.official, raising=False)
    folder = folder_of(digits[:60, 0].numpy(), tmp_path / "few")
    real = folder_of(digits[60:, 0].numpy(), tmp_path / "real")
    with pytest.raises(ValueError, match=r"holds 60 images.*2,048.*--allow-small"):
        fid((folder,), protocol="inception", reference=real)
    fid((folder,), protocol="inception", reference=real, allow_small=True, quick=True)
    printed = capsys.readouterr().out
    assert printed.startswith("digit-FID")
    said = printed[printed.index("\nFID ") :]
    assert "against real; floor test-vs-train 1.1 to 1.25 (public figures)" in said
    assert "weights 00000000;" in said
    assert "these are not the published Inception weights" in said
    assert json.loads((tmp_path / "few-evaluation" / "inception_fid.json").read_text())["images"] == 60


def test_without_inception_the_digits_are_measured_all_the_same(digits, tmp_path, monkeypatch, capsys):
    folder = folder_of(digits[:60, 0].numpy(), tmp_path / "few")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        fid((folder,), weights=tmp_path / "nowhere.pth", allow_small=True, quick=True)
    assert capsys.readouterr().out.startswith("digit-FID")


def test_the_floor_between_measured_numbers_of_images():
    known = {"1000": 1.0, "2000": 0.6, "10000": 0.2}
    assert [at(known, int(n)) for n in known] == pytest.approx(list(known.values()))
    assert at(known, 4000) == pytest.approx(0.2 + 0.4 * (1 / 4000 - 1 / 10000) / (1 / 2000 - 1 / 10000))


def test_the_curve_is_drawn_and_goes_on_where_it_stopped(vivid_checkpoint, tmp_path, monkeypatch, capsys):
    made = []
    images = generate.images
    monkeypatch.setattr(generate, "images", lambda *a, **k: made.append(str(a[1])) or images(*a, **k))
    fid_curve(vivid_checkpoint, n=6, ddpm=True, out=tmp_path)
    record = json.loads((tmp_path / "fid_curve.json").read_text())
    names = [point["sampler"] for point in record["points"]]
    steps = [(name, n) for name in ("ddim", "dpm++", "unipc") for n in (10, 20)]  # no 50, no 100 of T = 30
    assert names == [f"{name}-{n}" for name, n in [*steps, ("ddpm", 30)]] == made
    data.Image.open(tmp_path / "fid_curve.png").verify()
    record["points"].pop(1)
    write_json(tmp_path / "fid_curve.json", record)
    fid_curve(vivid_checkpoint, n=6, ddpm=True, out=tmp_path)
    assert made[7:] == ["ddim-20"]
    fid_curve(vivid_checkpoint, n=4, out=tmp_path)  # another curve
    assert len(json.loads((tmp_path / "fid_curve.json").read_text())["points"]) == 6
    with pytest.raises(ValueError, match="n is 1"):
        fid_curve(vivid_checkpoint, n=1, out=tmp_path)


# Copies of training images


def test_the_nearest_image_is_found(sample):
    images, reference = sample.images[:40], sample.images[1000:1600]
    distances, indices = nearest(images, reference)
    expected = cdist(images.reshape(40, -1) / 255, reference.reshape(600, -1) / 255)
    assert np.array_equal(indices, expected.argmin(axis=1))
    assert distances == pytest.approx(expected.min(axis=1), rel=1e-5)
    among_others, _ = nearest(reference[:50], reference, others=True)
    assert among_others.min() > 0


def test_copies_are_told_from_unseen_digits(sample):
    train, unseen = sample.images[:4000], sample.images[4500:]
    np_copies = np.concatenate([unseen[:90], train[:10]])
    facts, pairs = memorisation(np_copies, SAMPLE)
    assert facts["train_images"] == 4500
    assert 0.1 <= facts["near_copies"] < 0.13
    assert 0.4 < memorisation(unseen, SAMPLE)[0]["closer_than_real_median"] < 0.65
    assert pairs.distances == pytest.approx(np.zeros(10), abs=1e-6)
    assert sorted(pairs.numbers) == list(range(91, 101))
    assert np.array_equal(pairs.images, pairs.nearest)


def test_the_floor_of_any_number_of_images_lies_on_a_line_in_one_over_n():
    """Between the numbers that were measured, and beyond the smallest; more than the largest have its value."""
    measured = {"1000": 1.0, "2000": 0.6, "10000": 0.2}
    assert [at(measured, n) for n in (1000, 2000, 10_000)] == pytest.approx([1.0, 0.6, 0.2])
    assert at(measured, 1333) == pytest.approx(0.8, abs=1e-3)
    assert at(measured, 500) == pytest.approx(1.8)
    assert at(measured, 60_000) == pytest.approx(0.2)
