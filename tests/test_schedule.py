"""The ᾱ tables against diffusers' and against the papers' formulas."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from hwkit.schedule import Schedule, cosine, linear

THEIR_NAME = {linear: "linear", cosine: "squaredcos_cap_v2"}


def theirs(make, T: int) -> DDPMScheduler:
    return DDPMScheduler(T, beta_schedule=THEIR_NAME[make])


@pytest.mark.parametrize("T", [1, 50, 830, 1000])
@pytest.mark.parametrize("make", [linear, cosine])
def test_alpha_bar_and_beta_are_those_of_diffusers(make, T):
    schedule, scheduler = make(T), theirs(make, T)
    assert schedule.T == T and schedule.alpha_bar.shape == (T + 1,)
    torch.testing.assert_close(schedule.alpha_bar[1:].float(), scheduler.alphas_cumprod, atol=1e-5, rtol=0)
    torch.testing.assert_close(schedule.beta[1:].float(), scheduler.betas, atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", [linear, cosine])
def test_posterior_variance_is_that_of_diffusers(make):
    scheduler = theirs(make, 830)
    expected = torch.stack([scheduler._get_variance(t, variance_type="fixed_small") for t in range(830)])
    torch.testing.assert_close(make(830).posterior_variance[1:].float(), expected, atol=1e-5, rtol=0)


def test_linear_is_the_cumulative_product_of_evenly_rising_betas():
    beta = np.linspace(1e-4, 2e-2, 830)
    np.testing.assert_allclose(linear(830).alpha_bar[1:], np.cumprod(1 - beta), rtol=1e-12)
    np.testing.assert_allclose(
        linear(10, 0.1, 0.4).alpha_bar[1:], np.cumprod(1 - np.linspace(0.1, 0.4, 10)), rtol=1e-12
    )


def test_cosine_is_the_formula_until_a_beta_is_capped():
    T, s = 830, 0.008
    f = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    np.testing.assert_allclose(cosine(T).alpha_bar[:T], np.array(f[:T]) / f[0], rtol=1e-9)
    assert cosine(T).beta.max().item() == pytest.approx(0.999)  # f(T) = 0: only the cap leaves x_T a trace of the image


@pytest.mark.parametrize("schedule", [linear(830), cosine(830), linear(1), cosine(1)], ids=str)
def test_a_clean_image_stands_at_time_0(schedule):
    assert schedule.alpha_bar.dtype == torch.float64
    assert schedule.alpha_bar[0] == 1
    assert schedule.beta[0] == 0
    assert schedule.posterior_variance[0] == 0 and schedule.posterior_variance[1] == 0
    assert schedule.snr[0] == math.inf


def test_snr_is_signal_power_over_noise_power():
    schedule = Schedule("by hand", torch.tensor([1, 0.8, 0.5, 0.2], dtype=torch.float64))
    np.testing.assert_allclose(schedule.snr[1:], [4, 1, 0.25])


def test_a_printed_schedule_says_how_much_of_the_image_is_left():
    left = math.sqrt(np.prod(1 - np.linspace(1e-4, 2e-2, 830)))
    assert f"√ᾱ_T = {left:.4f}" in str(linear(830)) and "T = 830" in str(linear(830)) and "linear" in str(linear(830))
    assert "cosine" in str(cosine(830))


@pytest.mark.parametrize("make", [linear, cosine])
@pytest.mark.parametrize("T", [0, -1])
def test_a_schedule_needs_a_noise_level(make, T):
    with pytest.raises(ValueError, match=f"T ≥ 1 noise levels, not T = {T}"):
        make(T)


@pytest.mark.parametrize("start, end", [(0, 0.02), (0.02, 0.01), (0.01, 1.0), (-0.1, 0.02)])
def test_betas_lie_between_0_and_1(start, end):
    with pytest.raises(ValueError, match="needs 0 < start ≤ end < 1"):
        linear(10, start, end)


@pytest.mark.parametrize(
    "table, sentence",
    [
        ([0.9, 0.5], "start at 1"),
        ([1, 0.5, 0.5], "fall strictly"),
        ([1, 0.5, 0.6], "fall strictly"),
        ([1, 0.5, 0.0], "not to, 0"),
        ([1, 0.5, math.nan], "fall strictly"),
        ([1], "T \\+ 1 ≥ 2 values"),
        ([[1, 0.5]], "T \\+ 1 ≥ 2 values"),
    ],
)
def test_an_impossible_table_is_refused(table, sentence):
    with pytest.raises(ValueError, match=sentence):
        Schedule("by hand", torch.tensor(table, dtype=torch.float64))


def test_a_schedule_is_float64_and_frozen():
    with pytest.raises(ValueError, match="float64"):
        Schedule("by hand", torch.tensor([1, 0.5], dtype=torch.float32))
    with pytest.raises(dataclasses.FrozenInstanceError):
        linear(10).alpha_bar = torch.ones(3)
