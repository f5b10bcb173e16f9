"""Distances against closed forms and other people's code; what is taken for statistics, and what is not."""

import inspect

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from hwkit.measure.distances import (
    frechet_distance,
    frechet_with_error,
    kernel_distance,
    precision_recall,
    read_statistics,
    spaced,
    statistics,
    write_statistics,
)


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    """Two sets of correlated, skewed random features, (400, 24) and (300, 24)."""
    rng = np.random.default_rng(0)
    x, y = (np.maximum(rng.normal(size=(n, 24)) @ rng.normal(size=(24, 24)), 0) for n in (400, 300))
    return x, y + 0.3


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


# Its error


def test_the_error_is_the_spread_over_samples():
    rng = np.random.default_rng(2)
    mix = rng.normal(size=(8, 8))
    mu, sigma = np.zeros(8), np.eye(8)
    draws = [rng.normal(size=(500, 8)) @ mix + 1 for _ in range(200)]
    spread = np.std([frechet_distance(*statistics(x), mu, sigma) for x in draws])
    told = np.mean([frechet_with_error(x, mu, sigma)[1] for x in draws[:20]])
    assert told == pytest.approx(spread, rel=0.25)


def test_the_error_of_a_shift():
    """Of equal covariances d² is |μ1 − μ2|², whose deviation is 2 |μ1 − μ2| σ / √N."""
    x = np.random.default_rng(5).normal(size=(20_000, 6)) + np.array([0, 30, 0, 40, 0, 0])
    assert frechet_with_error(x, np.zeros(6), np.eye(6))[1] == pytest.approx(2 * 50 / 20_000**0.5, rel=0.02)


@pytest.mark.parametrize("deviation", [0.5, 3])
def test_the_error_of_a_scale(deviation):
    """Of equal means d² is (s − 1)² for each dimension, and a sample's s has the deviation s / √2N."""
    x = np.random.default_rng(6).normal(size=(20_000, 3)) * deviation
    expected = 2 * abs(deviation - 1) * deviation / (2 * 20_000) ** 0.5 * 3**0.5
    assert frechet_with_error(x - x.mean(axis=0), np.zeros(3), np.eye(3))[1] == pytest.approx(expected, rel=0.03)


# KID, precision and recall


def test_kid_agrees_with_torch_fidelity(clouds):
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = (c[:300] for c in clouds)  # with subsets of all images there is nothing left to draw
    theirs = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=1, kid_subset_size=300, verbose=False
    )
    value, error = kernel_distance(x, y, subsets=3, size=300)
    assert value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    assert error < 1e-9 * abs(value)


def test_the_error_of_kid_is_the_spread_over_subsets(clouds):
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = clouds
    theirs = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=400, kid_subset_size=60, verbose=False
    )
    value, error = kernel_distance(x, y, subsets=400, size=60)
    assert error == pytest.approx(theirs["kernel_inception_distance_std"], rel=0.15)
    assert value == pytest.approx(theirs["kernel_inception_distance_mean"], abs=5 * error / 400**0.5)


def test_kid_of_equal_distributions_is_zero_on_average():
    """A biased estimate would be at 2 (E k(x, x) − E k(x, y)) / size, far from 0."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 3000, 8))
    same, spread = kernel_distance(x, y, subsets=100, size=30)
    shifted, _ = kernel_distance(x, y + 0.5, subsets=50, size=300)
    bias = 2 * (((x**2).sum(axis=1) / 8 + 1) ** 3).mean() / 30 - 2 * ((x @ y[0] / 8 + 1) ** 3).mean() / 30
    assert abs(same) < 4 * spread / 100**0.5 < bias / 2
    assert shifted > 10 * abs(same)
    with pytest.raises(ValueError, match="at least 2"):
        kernel_distance(x[:1], y)


def test_precision_and_recall_agree_with_torch_fidelity(clouds):
    from torch_fidelity.metric_prc import prc_features_to_metric

    real, generated = clouds
    theirs = prc_features_to_metric(torch.from_numpy(generated), torch.from_numpy(real), verbose=False)
    assert precision_recall(real, generated) == pytest.approx((theirs["precision"], theirs["recall"]))
    assert 0 < theirs["precision"] < 1 and 0 < theirs["recall"] < 1
    with pytest.raises(ValueError, match="more than 3"):
        precision_recall(real, generated[:3])


def test_half_of_the_modes_have_precision_but_half_of_the_recall():
    rng = np.random.default_rng(4)
    real = rng.normal(size=(800, 4)) + 20 * (np.arange(800)[:, None] % 2)
    precision, recall = precision_recall(real, rng.normal(size=(400, 4)))
    assert precision > 0.9
    assert 0.4 < recall < 0.55


def test_precision_and_recall_are_of_5000_images_of_each_at_most():
    """Their values depend on the numbers. By other code, of those that are evenly spaced over 5,600."""
    chosen = np.linspace(0, 5599, 5000).round().astype(int)
    real, generated = np.random.default_rng(7).normal(size=(2, 5600, 2))

    def covered(points, centres):
        radius = cKDTree(centres).query(centres, 4)[0][:, 3]
        return (cdist(points, centres) <= radius).any(axis=1).mean()

    pairs = ((generated, real), (real, generated))
    found = precision_recall(real, generated)
    assert found == pytest.approx([covered(a[chosen], b[chosen]) for a, b in pairs], abs=1e-9)
    assert found != pytest.approx([covered(a, b) for a, b in pairs], abs=1e-4)


def test_what_is_spaced_goes_from_the_first_to_the_last():
    assert spaced(np.arange(101), 5).tolist() == [0, 25, 50, 75, 100]
    assert spaced(np.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert spaced(np.arange(3), 5).tolist() == [0, 1, 2]


# Statistics as files


def test_statistics_are_read_and_written_as_pytorch_fid_does(clouds, tmp_path):
    from pytorch_fid.fid_score import compute_statistics_of_path

    mu, sigma = statistics(clouds[0])
    write_statistics(tmp_path / "ours.npz", mu, sigma)
    theirs = compute_statistics_of_path(str(tmp_path / "ours.npz"), None, 50, 2048, "cpu")
    assert np.array_equal(theirs[0], mu) and np.array_equal(theirs[1], sigma)
    np.savez_compressed(tmp_path / "theirs.npz", mu=mu, sigma=sigma)
    assert np.array_equal(read_statistics(tmp_path / "theirs.npz")[1], sigma)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 0), (np.float32, 1e-6), (np.float16, 1e-3)])
def test_statistics_may_be_rounded(clouds, tmp_path, dtype, tolerance):
    """Of fewer images than features too, whose covariance has eigenvalues on either side of 0."""
    for features in (*clouds, clouds[0][:10]):
        mu, sigma = statistics(features)
        np.savez(tmp_path / "s.npz", mu=mu.astype(dtype), sigma=sigma.astype(dtype), extra=np.zeros((2, 28, 28, 3)))
        found = read_statistics(tmp_path / "s.npz", 24)
        assert found[0].dtype == found[1].dtype == np.float64
        assert np.abs(found[1] - sigma).max() <= tolerance * np.abs(sigma).max()


def test_a_covariance_may_be_symmetric_up_to_rounding(clouds, tmp_path):
    """As one that was multiplied out in float32 is."""
    mu, sigma = statistics(clouds[0])
    noise = np.random.default_rng(0).normal(size=sigma.shape) * 1e-7 * np.abs(sigma).max()
    np.savez(tmp_path / "s.npz", mu=mu, sigma=sigma + noise)
    found = read_statistics(tmp_path / "s.npz")
    assert frechet_distance(*found, mu, sigma) < 1e-3


def spoilt_here(sigma):
    """One variance that is missing, in the middle of a good covariance."""
    return sigma - np.diag(np.eye(len(sigma))[3] * 2 * sigma[3, 3])


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (np.triu, "not symmetric"),
        (np.tril, "not symmetric"),
        (lambda s: np.roll(s, 1, axis=1), "not symmetric"),
        (np.negative, "negative"),
        (lambda s: s - 2 * np.trace(s) * np.eye(len(s)) / len(s), "negative"),
        (spoilt_here, "negative"),
        (lambda s: s * np.nan, "NaN"),
        (lambda s: np.where(s == s.max(), np.inf, s), "infinite"),
        (lambda s: s.astype(complex), "complex128"),
        (lambda s: s.astype(str), "<U"),
    ],
)
def test_what_is_no_covariance_is_refused(clouds, tmp_path, spoil, fault):
    mu, sigma = statistics(clouds[0])
    np.savez(tmp_path / "s.npz", mu=mu, sigma=spoil(sigma))
    with pytest.raises(ValueError, match=rf"s\.npz .*{fault}"):
        read_statistics(tmp_path / "s.npz", 24)


def test_a_hole_in_the_mean_is_called_so(tmp_path):
    np.savez(tmp_path / "s.npz", mu=np.full(128, np.nan), sigma=np.eye(128))
    with pytest.raises(ValueError, match="NaN or infinite"):
        read_statistics(tmp_path / "s.npz", 128)


@pytest.mark.parametrize(
    "rename",
    [
        lambda mu, sigma: {"mean": mu, "cov": sigma},
        lambda mu, sigma: {"m": mu, "s": sigma},
        lambda mu, sigma: {"mu": mu, "covariance": sigma},
        lambda mu, sigma: {"count": np.int64(400), "Sigma": sigma[None], "Mu": mu[:, None]},
        lambda mu, sigma: {"mu": mu[None], "sigma": sigma},
        lambda mu, sigma: {"mu": mu, "sigma": sigma[..., None]},
        lambda mu, sigma: {"arr_0": mu, "arr_1": sigma},
    ],
)
def test_other_names_and_shapes_are_named_with_a_line_that_mends_them(clouds, tmp_path, monkeypatch, rename):
    mu, sigma = statistics(clouds[0])
    arrays = rename(mu, sigma)
    monkeypatch.chdir(tmp_path)
    np.savez("s.npz", **arrays)
    with pytest.raises(ValueError, match=r"mu \(D,\) and sigma \(D, D\) are wanted") as refused:
        read_statistics("s.npz")
    assert all(f"{name} {array.shape}" in str(refused.value) for name, array in arrays.items())
    exec(str(refused.value).split("mends it: ")[1], {"np": np})
    assert np.array_equal(read_statistics("s.npz")[0], mu) and np.array_equal(read_statistics("s.npz")[1], sigma)


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.zeros((2, 28, 28), np.uint8)},
        {"mu": np.zeros(5)},
        {"mu": np.zeros(5), "sigma": np.ones(5)},
        {"mu": np.zeros(5), "sigma": np.eye(4)},
        {"mu": np.zeros(0), "sigma": np.zeros((0, 0))},
        {},
    ],
)
def test_what_is_missing_is_said_with_what_is_there(tmp_path, arrays):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(ValueError, match=r"s\.npz holds .*mu \(D,\) and sigma \(D, D\) are wanted.*save-stats"):
        read_statistics(tmp_path / "s.npz")


def test_bad_files_end_in_a_sentence(tmp_path, clouds):
    mu, sigma = statistics(clouds[0])
    write_statistics(tmp_path / "good.npz", mu, sigma)
    (tmp_path / "broken.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:900])
    (tmp_path / "page.npz").write_bytes(b"<!DOCTYPE html><html>not found</html>")
    np.savez(tmp_path / "dict.npz", {"mu": mu, "sigma": sigma})
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        read_statistics(tmp_path / "none.npz")
    for name in ("broken", "page"):
        with pytest.raises(ValueError, match=rf"{name}\.npz.*fetch it again"):
            read_statistics(tmp_path / f"{name}.npz")
    with pytest.raises(ValueError, match=r"dict\.npz.*np\.savez\(path, name=array") as refused:
        read_statistics(tmp_path / "dict.npz")
    assert "fetch it again" not in str(refused.value)
    with pytest.raises(ValueError, match=r"24 features, but this protocol has 128.*--protocol"):
        read_statistics(tmp_path / "good.npz", 128)
