"""What is measured of folders of images, which of them may be averaged, and what is said and kept of it."""

import json
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hwkit.files import write_json, write_many
from hwkit.measure.distances import (
    frechet_distance,
    frechet_with_error,
    kernel_distance,
    precision_recall,
    read_statistics,
    statistics,
)
from hwkit.measure.features import STATISTICS, DigitFeatures, InceptionFeatures, digit_features, floors
from hwkit.measure.memorisation import compare
from hwkit.measure.score import (
    Score,
    digit_fid,
    floor_at,
    groups,
    load_images,
    read_scores,
    results_of,
    score,
)
from hwkit.mnist.folder import encode_png, file_name, load_folder
from hwkit.mnist.sources import SAMPLE, read_source
from hwkit.sampling import Sampler


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    """All 5,000 embedded digits, uint8 (5000, 1, 28, 28)."""
    return read_source(SAMPLE, whole=True).images


def folder_of(images, folder: Path, **made_by) -> Path:
    """A folder of PNGs, with a manifest as `python -m hwkit sample` leaves it, if anything is said of it."""
    write_many(folder, {file_name(k): encode_png(image) for k, image in enumerate(np.asarray(images), 1)})
    if made_by:
        write_json(folder.with_name(folder.name + ".json"), manifest(**made_by))
    return folder


def manifest(seed: int, sampler: Sampler = Sampler("ddim", 50), sha256: str = "1f3a" * 16, **more) -> dict:
    return {"checkpoint": "e.pt", "checkpoint_sha256": sha256, "sampler": asdict(sampler), "seed": seed, **more}


class Means:
    """A cheap extractor in the place of Inception, whose 2,048 dimensions take a while: means of columns."""

    name, label, dims, weights_sha256 = "inception", "FID", 28, "0" * 64

    def __call__(self, images):
        return np.asarray(images, np.float64).mean(axis=(1, 2)) / 255


@pytest.fixture(scope="module")
def whole(sample, tmp_path_factory) -> Score:
    """The score of 300 training digits with everything that can be known of them."""
    folder = folder_of(sample[:300], tmp_path_factory.mktemp("run") / "generate", seed=4)
    found = score(DigitFeatures(), [folder], [load_folder(folder)])
    return replace(found, memorisation=compare(sample[:300], SAMPLE)[0])


# The numbers


def test_the_numbers_of_one_folder(sample, tmp_path):
    """Each from the functions that are held to other people's code."""
    images, real = sample[:300], folder_of(sample[300:800], tmp_path / "real")
    found = score(Means(), [tmp_path / "generate"], [images], real)
    x, y = Means()(images), Means()(sample[300:800])
    assert found.value == pytest.approx(frechet_distance(*statistics(x), *statistics(y)))
    assert found.error == pytest.approx(frechet_with_error(x, *statistics(y))[1])
    assert (found.kid, found.kid_error) == pytest.approx(kernel_distance(y, x), rel=1e-3)
    assert (found.precision, found.recall) == pytest.approx(precision_recall(y, x), abs=0.01)
    assert (found.images, found.values, found.reference, found.reference_images) == (300, (found.value,), "real", 500)
    assert found.sampler is found.seeds is found.checkpoint is found.checkpoint_sha256 is found.classes is None


def test_digit_fid_is_the_value_of_the_digits_protocol(sample, whole):
    assert digit_fid(sample[:300]) == pytest.approx((whole.value, whole.error))
    x, against = digit_features(sample[:300]), read_statistics(STATISTICS)
    assert whole.value == pytest.approx(frechet_distance(*statistics(x), *against))
    assert sum(whole.classes) == 300 and whole.classes[10] < 5
    assert (whole.protocol, whole.metric, whole.reference_images) == ("digits", "digit-FID", 60_000)


def test_identical_images_have_distance_zero(sample, tmp_path):
    found = score(Means(), [tmp_path / "a"], [sample[:200]], folder_of(sample[:200], tmp_path / "b"))
    assert found.words()[0].startswith("FID 0.00 ± 0.00 (200 images; against b; floor test-vs-train 1.1")
    assert found.precision == found.recall == 1


def test_statistics_alone_give_no_kid(sample, tmp_path):
    mu, sigma = statistics(Means()(sample[:500]))
    np.savez(tmp_path / "s.npz", mu=mu, sigma=sigma)
    found = score(Means(), [tmp_path / "a"], [sample[500:600]], tmp_path / "s.npz")
    assert found.kid is found.kid_error is found.precision is found.recall is found.reference_images is None
    assert not [line for line in found.words() if "KID" in line or "precision" in line]
    assert Score.from_json(json.loads(json.dumps(found.to_json()))) == found


# Several folders


@pytest.fixture
def real(sample, tmp_path) -> Path:
    return folder_of(sample[:500], tmp_path / "real")


def model_folders(tmp_path, count, **made_by) -> list[Path]:
    """Manifests of folders of one model and different seeds; the images are handed over beside them."""
    folders = [tmp_path / f"seed{seed}" for seed in range(count)]
    for seed, folder in enumerate(folders):
        write_json(folder.with_name(folder.name + ".json"), manifest(seed, **made_by))
    return folders


@pytest.mark.parametrize("apart", [False, True])
def test_the_error_of_several_is_the_larger_of_spread_and_finite_sample(sample, real, tmp_path, apart):
    """Folders that are much alike, then a fainter one among them: once the one error is larger, once the other."""
    sets = [sample[2200 + 200 * k : 2400 + 200 * k] for k in range(3)]
    if apart:
        sets[1] = sets[1] // 2
    folders = model_folders(tmp_path, 3)
    single = [score(Means(), [folder], [images], real) for folder, images in zip(folders, sets, strict=True)]
    found = score(Means(), folders, sets, real)
    spread = {key: np.std([getattr(s, key) for s in single], ddof=1) for key in ("value", "kid")}
    own = np.mean([s.error for s in single])
    assert (spread["value"] > 2 * own) if apart else (own > 2 * spread["value"])
    assert found.error == pytest.approx(spread["value"] if apart else own)
    assert found.kid_error == pytest.approx(spread["kid"])
    assert found.values == pytest.approx([s.value for s in single])
    for key in ("value", "kid", "precision", "recall"):
        assert getattr(found, key) == pytest.approx(np.mean([getattr(s, key) for s in single]))
    assert (found.seeds, found.images, len(found.folders)) == ((0, 1, 2), 200, 3)
    assert "200 images, 3 seed ranges" in found.words()[0]


@pytest.mark.parametrize(
    "other",
    [
        {"sha256": "beef" * 16},
        {"sampler": Sampler("ddim", 20)},
        {"sampler": Sampler("ddim", 50, eta=0.5)},
        {"sampler": Sampler("ddpm", 50, variance="beta")},
        {"device_noise": True},
        None,
    ],
)
def test_folders_of_different_models_are_not_averaged(sample, real, tmp_path, other):
    """Nor those of unknown origin; each of them can be measured alone."""
    first = {"sampler": Sampler("ddpm", 50)} if other and other.get("sampler", Sampler()).name == "ddpm" else {}
    sets = [sample[k * 50 : k * 50 + 50] for k in range(3)]
    folders = [folder_of(sets[k], tmp_path / str(k), seed=k, **first) for k in range(2)]
    folders.append(folder_of(sets[2], tmp_path / "other", **({"seed": 2, **other} if other else {})))
    with pytest.raises(ValueError, match="one checkpoint and sampler: measure them one by one"):
        score(Means(), folders, sets, real)
    parts = groups(folders, sets)
    assert [part for part, _ in parts] == [folders[:2], folders[2:]]
    assert [len(score(Means(), *part, real).values) for part in parts] == [2, 1]


def test_two_folders_of_unknown_origin_are_two(sample, real, tmp_path):
    folders = [folder_of(sample[:50], tmp_path / "A"), folder_of(sample[50:100], tmp_path / "B")]
    sets = [load_folder(folder) for folder in folders]
    assert [part for part, _ in groups(folders, sets)] == [[folder] for folder in folders]
    with pytest.raises(ValueError, match=r"Nothing tells.*A, .*B.*one by one"):
        score(Means(), folders, sets, real)
    assert "images of unknown origin" in score(Means(), folders[:1], sets[:1], real).words()[0]


@pytest.mark.parametrize("known", [False, True])
def test_equal_images_in_two_folders_are_refused(sample, tmp_path, known):
    """A folder that is given twice, a copy of it, and one that has an image of it, in colour."""
    made_by = [{"seed": seed} if known else {} for seed in range(3)]
    a = folder_of(sample[:20], tmp_path / "a", **made_by[0])
    copy = folder_of(sample[:20], tmp_path / "copy", **made_by[1])
    tinted = np.repeat(sample[40:60], 3, axis=1) // np.array([1, 2, 1], np.uint8)[:, None, None]
    tinted[7] = sample[3]
    some = folder_of(tinted, tmp_path / "some", **made_by[2])
    for other in (a, copy, some):
        sets = [load_folder(a), load_folder(other)]
        with pytest.raises(ValueError, match=rf"{a} and {other} hold the same images"):
            groups([a, other], sets)
        with pytest.raises(ValueError, match="hold the same images"):
            score(Means(), [a, other], sets)


def test_two_folders_may_each_have_a_black_image(sample, tmp_path):
    """Two students whose sampler failed once have not copied from each other."""
    sets = [
        np.concatenate([sample[:20], np.zeros_like(sample[:1])]),
        np.concatenate([np.zeros_like(sample[:1]), sample[20:40]]),
    ]
    folders = [folder_of(images, tmp_path / name) for name, images in zip("ab", sets, strict=True)]
    assert [part for part, _ in groups(folders, [load_folder(folder) for folder in folders])] == [[f] for f in folders]


def test_one_seed_twice_is_refused_though_rounding_tells_the_images_apart(sample, tmp_path):
    folders = [tmp_path / "cpu", tmp_path / "gpu"]
    for folder in folders:
        write_json(folder.with_name(folder.name + ".json"), manifest(0))
    with pytest.raises(ValueError, match="same images"):
        groups(folders, [sample[:20], sample[:20] // 2])


def test_folders_of_different_numbers_of_images_are_refused(sample, tmp_path):
    folders = model_folders(tmp_path, 2)
    with pytest.raises(ValueError, match=r"\[50, 40\] images.*one by one"):
        score(Means(), folders, [sample[:50], sample[50:90]])


def test_a_damaged_manifest_is_named(sample, tmp_path):
    (tmp_path / "a.json").write_text('{"checkpoint": ')
    with pytest.raises(ValueError, match=r"a\.json"):
        score(Means(), [tmp_path / "a"], [sample[:20]])


# What real digits score


def test_the_floor_between_measured_numbers_of_images():
    """It lies on lines in 1/N; more images than the most have the value of the most."""
    known = floors()["train-subset"]["by_images"]
    for n, value in known.items():
        assert floor_at(int(n), "train-subset") == pytest.approx(value)
    between = 1 / (0.25 / 500 + 0.75 / 250)
    assert floor_at(between, "train-subset") == pytest.approx(0.25 * known["500"] + 0.75 * known["250"])
    assert floor_at(60_000, "train-subset") == pytest.approx(known["10000"])
    slope = (known["250"] - known["500"]) / (1 / 250 - 1 / 500)
    assert floor_at(100, "train-subset") == pytest.approx(known["250"] + slope * (1 / 100 - 1 / 250))
    assert floor_at(1000) == floors()["test-vs-train"]["by_images"]["1000"]


def test_the_known_floor_is_beside_the_digits_protocol_only(sample, whole, real, tmp_path):
    known = floors()["test-vs-train"]
    assert list(whole.real) == ["test-vs-train", "train-subset"]
    assert whole.real["test-vs-train"]["value"] == pytest.approx(floor_at(300))
    assert whole.real["test-vs-train"]["precision"] == known["precision"]
    assert score(DigitFeatures(), [tmp_path / "a"], [sample[:50]], real).real == {}
    assert score(Means(), [tmp_path / "a"], [sample[:50]], real).real == {}


@pytest.mark.parametrize("layout", ["flat", "test/", "npz", "x_test"])
def test_a_floor_is_measured_as_many_real_images(sample, real, tmp_path, layout):
    """Of a source that has a test split that one, else all that is there: a named folder is the floor."""
    held_out = sample[4000:4090]
    floor = tmp_path / ("floor.npz" if layout in ("npz", "x_test") else "floor")
    if layout == "flat":
        folder_of(held_out, floor)
    elif layout == "test/":
        folder_of(sample[:7], floor / "train")
        folder_of(held_out, floor / "test")
    else:
        np.savez(
            floor, **({"images": held_out[:, 0]} if layout == "npz" else {"x_train": sample[:7], "x_test": held_out})
        )
    found = score(Means(), [tmp_path / "a"], [sample[:60]], real, floor).real
    ((name, numbers),) = found.items()
    assert name == f"60 of {floor.name}"
    chosen = Means()(held_out[np.linspace(0, 89, 60).round().astype(int)])
    against = statistics(Means()(sample[:500]))
    assert numbers["value"] == pytest.approx(frechet_distance(*statistics(chosen), *against))
    assert {"error", "kid", "precision", "recall"} < set(numbers)
    assert score(Means(), [tmp_path / "a"], [sample[:300]], real, floor).real.keys() == {f"90 of {floor.name}"}


# Where images come from


def test_images_of_a_folder_a_file_of_samples_and_a_zip_are_the_same(digits, tmp_path):
    images = digits[:12].numpy()
    folder = folder_of(images, tmp_path / "generate")
    np.savez(tmp_path / "samples.npz", images.transpose(0, 2, 3, 1).repeat(3, axis=3))
    np.savez(tmp_path / "grey.npz", images=images[:, 0])
    with zipfile.ZipFile(tmp_path / "samples.zip", "w") as out:
        for png in sorted(folder.iterdir()):
            out.write(png, f"generate/{png.name}")
    for name in ("generate", "samples.npz", "grey.npz", "samples.zip"):
        found = load_images(tmp_path / name)
        assert found.dtype == torch.uint8
        assert np.array_equal(found, np.broadcast_to(images, found.shape)), name


@pytest.mark.parametrize("name", ["genrate", "empty", "text.txt", "damaged.npz", "statistics.npz"])
def test_a_path_without_images_is_named(tmp_path, name):
    (tmp_path / "generate").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("nothing")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04")
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(128), sigma=np.eye(128))
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        load_images(tmp_path / name)
    assert name in str(refused.value)
    assert "python -m hwkit data" not in str(refused.value)


# What is said, and kept


def test_the_words_tell_what_a_value_depends_on(whole):
    first, *others = whole.words()
    assert first.startswith(f"digit-FID {whole.value:.2f} ± {whole.error:.2f} (300 images; against MNIST train; ")
    floor = f"floor test-vs-train {floor_at(300):.2f}, train-subset {floor_at(300, 'train-subset'):.2f}"
    for said in (floor, "sampler ddim-50", "e.pt 1f3a…", f"torch {torch.__version__}"):
        assert f"; {said}" in first
    text = "\n".join(others)
    for said in ("KID × 1000: ", "precision, recall: ", "(real 0.87)", "digits: 0: ", "100.00% near-copies", "none: 0"):
        assert said in text
    assert "WARNING: of 300 images FID is higher than of 10,000" in text
    assert sum(whole.classes) == 300


def test_the_table_has_the_same_words(whole):
    (metric, value), (_, context), *others = whole.rows()
    assert whole.words() == [f"{metric} {value} ({context})", *(f"  {what}: {said}" for what, said in others)]
    assert [what for what, _ in others][-2:] == ["nearest training images", "WARNING"]


def test_a_score_that_was_kept_gives_the_same_words(whole, tmp_path):
    path = whole.write(results_of(tmp_path / "generate"))
    assert path == tmp_path / "generate-evaluation" / "digits_fid.json"
    assert read_scores(path.parent) == [whole]
    assert read_scores(path.parent)[0].words() == whole.words()
    replace(whole, protocol="inception", metric="FID").write(path.parent)
    assert [s.metric for s in read_scores(path.parent)] == ["digit-FID", "FID"]
    assert read_scores(tmp_path / "none") == []


def test_enough_images_and_published_weights_need_no_warning(whole):
    def warnings(found):
        return [said for what, said in found.rows() if what == "WARNING"]

    assert warnings(replace(whole, images=10_000)) == []
    assert len(warnings(replace(whole, images=9_999))) == 1
    inception = replace(whole, protocol="inception", images=10_000, real={})
    assert "these are not the published Inception weights" in inception.words()[-1]
    assert f"weights {whole.weights_sha256[:8]}" in inception.words()[0]
    published = replace(inception, weights_sha256=InceptionFeatures.official + "0" * 56)
    assert warnings(published) == []
    assert "floor test-vs-train 1.1 to 1.25 (public figures)" in published.words()[0]
    assert "floor not measured, see --floor" in replace(whole, real={}).words()[0]


BEFORE = {  # as version 0.1 wrote it
    "protocol": "digits",
    "metric": "digit-FID",
    "sampler": "ddim-50",
    "seeds": [0],
    "checkpoint": "ema_latest.pt",
    "checkpoint_sha256": "1f3a" * 16,
    "versions": {"hwkit": "0.1.0", "torch": "2.11.0", "python": "3.13.1"},
    "images": 1000,
    "folders": ["runs/cpu/generate"],
    "value": 2.5,
    "error": 0.1,
    "kid": 0.01,
    "kid_error": 0.002,
    "precision": 0.8,
    "recall": 0.7,
    "reference": "MNIST train",
    "reference_images": 60000,
    "weights_sha256": "ab" * 32,
    "real": {
        "test-vs-train": {"by_images": {"1000": 0.8}, "kid": 0.004, "precision": 0.87, "recall": 0.86, "value": 0.8}
    },
    "classes": [100] * 10 + [0],
    "memorisation": {
        "train": "MNIST",
        "train_images": 60000,
        "median": 4.5,
        "real": {"near_copy": 1.1, "percentile_1": 1.3, "median": 4.3},
        "closer_than_real_median": 0.5,
        "closer_than_real_percentile_1": 0.01,
        "near_copies": 0.0,
    },
}


def test_a_file_of_the_former_version_is_read():
    found = Score.from_json(BEFORE)
    first, *others = found.words()
    assert first.startswith("digit-FID 2.50 ± 0.10 (1,000 images; against MNIST train; floor test-vs-train 0.80; ")
    assert "KID × 1000: 10.00 ± 2.00 (real 4.00)" in others[0]
    assert found.memorisation.train_images == 60_000
    bare = {k: v for k, v in BEFORE.items() if k not in ("kid", "kid_error", "precision", "recall", "memorisation")}
    unknown = Score.from_json({**bare, "sampler": None, "reference_images": None, "classes": None, "real": {}})
    assert "images of unknown origin" in unknown.words()[0] and unknown.kid is None


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        None,
        "text",
        {"points": []},
        {k: v for k, v in BEFORE.items() if k != "value"},
        {**BEFORE, "value": "2.5"},
        {**BEFORE, "real": {"test": {}}},
        {**BEFORE, "real": [1]},
        {**BEFORE, "memorisation": {"train": "MNIST"}},
        {**BEFORE, "classes": [1, 2, 3]},
        {**BEFORE, "versions": {}},
    ],
)
def test_what_is_no_score_is_refused_by_name(tmp_path, content):
    write_json(tmp_path / "digits_fid.json", content)
    with pytest.raises(ValueError, match=r"digits_fid\.json holds no score .*measure again"):
        read_scores(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "digits_fid.json").write_text('{"protocol": "dig')
    with pytest.raises(ValueError, match=r"digits_fid\.json"):
        read_scores(tmp_path)
