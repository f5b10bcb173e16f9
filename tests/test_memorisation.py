"""Copies of training images, told from unseen digits."""

import zipfile

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from hwkit.files import write_many
from hwkit.measure.memorisation import compare, grey, nearest, quantiles, training_images
from hwkit.mnist.folder import encode_png, file_name
from hwkit.mnist.sources import SAMPLE, read_source


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    """All 5,000 embedded digits, uint8 (5000, 1, 28, 28): the first 4,500 are the training split."""
    return read_source(SAMPLE, whole=True).images


def distances_to(images, reference) -> np.ndarray:
    """Of every image to every other, by other code."""
    return cdist(images.reshape(len(images), -1) / 255, reference.reshape(len(reference), -1) / 255)


def test_the_nearest_image_is_found(sample):
    images, reference = sample[:40, 0], sample[1000:1600, 0]
    distances, indices = nearest(images, reference)
    expected = distances_to(images, reference)
    assert np.array_equal(indices, expected.argmin(axis=1))
    assert distances == pytest.approx(expected.min(axis=1), rel=1e-5)
    among_others, _ = nearest(reference[:50], reference, others=True)
    apart = distances_to(reference[:50], reference) + 99 * np.eye(50, 600)
    assert among_others == pytest.approx(apart.min(axis=1), rel=1e-5)


def test_copies_are_told_from_unseen_digits(sample):
    train, unseen = sample[:4500], sample[4500:]
    copies, pairs = compare(np.concatenate([unseen[:90], train[:10]]), SAMPLE)
    assert copies.train_images == 4500
    assert 0.1 <= copies.near_copies < 0.13
    assert 0.4 < compare(unseen, SAMPLE)[0].closer_than_real_median < 0.65
    assert pairs.distances == pytest.approx(np.zeros(10), abs=1e-6)
    assert sorted(pairs.numbers) == list(range(91, 101))
    assert np.array_equal(pairs.images, pairs.nearest)
    assert "of 4,500" in copies.words() and f"{copies.near_copies:.2%} near-copies (real 0.1 %)" in copies.words()


def test_a_near_copy_is_closer_than_999_of_1000_unseen_digits():
    assert quantiles(np.arange(10_001)) == {"near_copy": 10, "percentile_1": 100, "median": 5000}


def test_unseen_digits_of_another_data_set_are_those_of_itself(sample, tmp_path):
    """Where nothing was measured of the training images, each of them is compared with all the others."""
    train, images = sample[:400], sample[400:600]
    np.savez(tmp_path / "train.npz", x_train=train[:, 0])
    copies, pairs = compare(images, tmp_path / "train.npz")
    among_themselves = (distances_to(train, train) + 99 * np.eye(400)).min(axis=1)
    wanted = {"near_copy": 0.001, "percentile_1": 0.01, "median": 0.5}
    assert copies.real == pytest.approx({k: np.quantile(among_themselves, q) for k, q in wanted.items()}, rel=1e-5)
    own = distances_to(images, train).min(axis=1)
    shares = [(own < copies.real[key]).mean() for key in ("median", "percentile_1", "near_copy")]
    assert (copies.closer_than_real_median, copies.closer_than_real_percentile_1, copies.near_copies) == tuple(shares)
    assert copies.median == pytest.approx(np.median(own), rel=1e-5)
    assert pairs.numbers == (np.argsort(own)[:10] + 1).tolist()


def test_one_training_image_is_too_few_and_said_to_be(sample):
    with pytest.raises(ValueError, match="overfit: two training images at least"):
        compare(sample[:3], ("overfit", sample[:1, 0]))


def test_colour_is_read_as_grey(sample):
    rgb = np.repeat(sample[:20], 3, axis=1)
    assert np.array_equal(grey(rgb), sample[:20, 0]) and np.array_equal(grey(sample[:20, 0]), sample[:20, 0])
    assert compare(rgb, SAMPLE)[0] == compare(sample[:20, 0], SAMPLE)[0]


def test_training_images_are_what_is_named_or_prepared_or_the_sample(sample, tmp_path, monkeypatch):
    name, images = training_images()
    assert "sample only" in name and np.array_equal(images, sample[:4500, 0])
    prepared = tmp_path / "data" / "mnist" / "train"
    write_many(prepared, {file_name(k): encode_png(image) for k, image in enumerate(sample[:7], 1)})
    name, images = training_images()
    assert (name, len(images)) == ("MNIST", 7)
    np.savez(tmp_path / "mine.npz", x_train=sample[:9, 0], x_test=sample[9:20, 0])
    monkeypatch.setenv("HWKIT_MNIST", str(tmp_path / "mine.npz"))
    assert [len(training_images()[1]), training_images()[0]] == [9, "MNIST"]
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as out:
        for png in sorted(prepared.iterdir())[:5]:
            out.write(png, png.name)
    name, images = training_images(tmp_path / "mine.zip")
    assert name.endswith("mine.zip") and len(images) == 5
    with pytest.raises(FileNotFoundError, match="nowhere"):
        training_images(tmp_path / "nowhere")


@pytest.mark.parametrize("others", [False, True])
def test_the_nearest_is_that_of_a_search_through_all_also_of_pictures_that_are_no_digits(others):
    """The oracle computes every distance in float64; noise is near to nothing, so that nothing can be left out."""
    reference = np.load(SAMPLE)["images"][:1000]
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (130, 28, 28), dtype=np.uint8)
    for images in (reference[:150],) if others else (np.load(SAMPLE)["images"][2000:2150], noise, reference[::9]):
        x, y = (a.reshape(len(a), -1).astype(np.float64) / 255 for a in (images, reference))
        apart = np.sqrt((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T + 1e-12)
        if others:
            apart[np.arange(150), np.arange(150)] = np.inf
        distances, indices = nearest(images, reference, others)
        assert np.abs(distances - apart.min(axis=1)).max() < 1e-5
        assert np.abs(apart[np.arange(len(x)), indices] - apart.min(axis=1)).max() < 1e-5
