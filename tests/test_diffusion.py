"""The equations, each against diffusers' schedulers or against numbers worked out apart from the library."""

import math

import numpy as np
import pytest
import torch
from conftest import in_float64
from diffusers import DDIMScheduler, DDPMScheduler
from torch import nn

from hwkit.diffusion import (
    Denoiser,
    Guided,
    ddim_step,
    ddpm_step,
    diffusion_loss,
    loss_weight,
    predict_x0_eps,
    q_sample,
    target,
)
from hwkit.schedule import cosine, linear

PREDICTIONS = ("epsilon", "x0", "v")
T = 1000


def normal(*shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(actual, expected, atol=1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0, check_dtype=False)


@pytest.fixture
def x_0():
    return normal(5, 3, 4, 4, seed=1).clamp(-1, 1)


@pytest.fixture
def eps():
    return normal(5, 3, 4, 4, seed=2)


ALPHA_BAR_T = linear(T).alpha_bar[[1, 17, 250, 831, 1000]].view(-1, 1, 1, 1)


# The forward process and the loss


def test_q_sample_is_add_noise_of_diffusers(x_0, eps):
    theirs = DDPMScheduler(T).add_noise(x_0, eps, torch.tensor([1, 17, 250, 831, 1000]) - 1)
    close(q_sample(x_0, ALPHA_BAR_T, eps), theirs)


def test_q_sample_at_time_0_is_the_image(x_0, eps):
    assert torch.equal(q_sample(x_0, 1.0, eps), x_0)


def test_the_v_target_is_get_velocity_of_diffusers(x_0, eps):
    theirs = DDPMScheduler(T).get_velocity(x_0, eps, torch.tensor([1, 17, 250, 831, 1000]) - 1)
    close(target(x_0, ALPHA_BAR_T, eps, "v"), theirs)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_target_and_predict_x0_eps_are_inverses(prediction, x_0, eps):
    x_t = q_sample(x_0, ALPHA_BAR_T, eps)
    x0_hat, eps_hat = predict_x0_eps(target(x_0, ALPHA_BAR_T, eps, prediction), x_t, ALPHA_BAR_T, prediction)
    close(x0_hat, x_0)
    close(eps_hat, eps)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_whatever_a_network_puts_out_x0_and_eps_agree_on_x_t(prediction):
    output, x_t = normal(5, 3, 4, 4, seed=3), normal(5, 3, 4, 4, seed=4)
    x0_hat, eps_hat = predict_x0_eps(output, x_t, ALPHA_BAR_T, prediction)
    close(q_sample(x0_hat, ALPHA_BAR_T, eps_hat), x_t)


def test_an_unknown_prediction_or_weighting_is_named(x_0, eps):
    with pytest.raises(ValueError, match="prediction is 'score', but must be 'epsilon', 'x0' or 'v'"):
        target(x_0, 0.5, eps, "score")
    with pytest.raises(ValueError, match="prediction is 'score', but must be 'epsilon', 'x0' or 'v'"):
        predict_x0_eps(eps, x_0, 0.5, "score")
    with pytest.raises(ValueError, match="weighting is 'snr', but must be 'uniform' or 'min_snr'"):
        loss_weight(ALPHA_BAR_T, "x0", "snr")


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_is_one_and_the_same_weight_in_the_space_of_x0(prediction, x_0, eps):
    """A network that errs by δ in x̂_0, whatever it predicts, pays min(SNR, γ) δ² (Hang et al. 2023, eq. 5)."""
    delta = 0.01 * normal(5, 3, 4, 4, seed=5)
    x_t = q_sample(x_0, ALPHA_BAR_T, eps)
    wrong_x0 = x_0 + delta
    wrong_eps = (x_t - ALPHA_BAR_T**0.5 * wrong_x0) / (1 - ALPHA_BAR_T) ** 0.5
    error = target(wrong_x0, ALPHA_BAR_T, wrong_eps, prediction) - target(x_0, ALPHA_BAR_T, eps, prediction)
    snr = ALPHA_BAR_T / (1 - ALPHA_BAR_T)
    assert snr.min() < 5 < snr.max()
    expected = torch.where(snr < 5, snr, torch.tensor(5.0)) * delta**2
    torch.testing.assert_close(loss_weight(ALPHA_BAR_T, prediction, "min_snr") * error**2, expected)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_uniform_weights_are_1(prediction):
    assert torch.equal(loss_weight(ALPHA_BAR_T, prediction, "uniform"), torch.ones_like(ALPHA_BAR_T))


@pytest.mark.parametrize("weighting", ["uniform", "min_snr"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_the_weighted_mean_squared_error_of_what_the_network_sees(prediction, weighting, x_0, eps):
    alpha_bar, t = linear(T).alpha_bar, torch.tensor([1, 17, 250, 831, 1000])
    seen = {}

    def network(x_t, times):
        seen.update(x_t=x_t, t=times)
        return torch.full_like(x_t, 0.25)

    loss = diffusion_loss(network, x_0, t, eps, alpha_bar, prediction, weighting)

    assert torch.equal(seen["t"], t)
    expected = []
    for i, time in enumerate(t.tolist()):
        signal, noise = math.sqrt(alpha_bar[time]), math.sqrt(1 - alpha_bar[time])
        snr = (signal / noise) ** 2
        close(seen["x_t"][i], signal * x_0[i] + noise * eps[i])
        wanted = {"epsilon": eps[i], "x0": x_0[i], "v": signal * eps[i] - noise * x_0[i]}[prediction]
        least = min(snr, 5)
        weight = {"epsilon": least / snr, "x0": least, "v": least / (snr + 1)}[prediction]
        expected.append((weight if weighting == "min_snr" else 1) * np.mean((0.25 - wanted.numpy()) ** 2))
    assert loss.item() == pytest.approx(np.mean(expected), abs=1e-9)


class Constant(nn.Module):
    """A network that puts out the same value everywhere, and notes what it was asked."""

    def __init__(self, value):
        super().__init__()
        self.value, self.asked = value, []

    def forward(self, x, t):
        self.asked.append(t)
        return torch.full_like(x, self.value)


@pytest.mark.parametrize("t", [1, 400, T])
@pytest.mark.parametrize("prediction, value", [("epsilon", 0.1), ("x0", 3.0), ("x0", -0.5), ("v", 0.7)])
def test_the_denoiser_clips_x0_and_derives_eps_again(prediction, value, t):
    schedule, x_t = linear(T), 2 * normal(4, 3, 4, 4, seed=6)
    model = Constant(value)
    x0_hat, eps_hat = Denoiser(model, schedule, prediction)(x_t, t)
    raw, _ = predict_x0_eps(torch.full_like(x_t, value), x_t, schedule.alpha_bar[t], prediction)
    close(x0_hat, raw.clip(-1, 1))
    close(q_sample(x0_hat, schedule.alpha_bar[t], eps_hat), x_t)
    [asked] = model.asked
    assert asked.tolist() == [t] * 4


def test_without_clipping_the_denoiser_passes_on_what_the_network_says():
    schedule, x_t = linear(T), normal(4, 3, 4, 4, seed=6)
    x0_hat, eps_hat = Denoiser(Constant(3.0), schedule, "x0", clip=False)(x_t, 400)
    assert (x0_hat == 3).all()
    close(q_sample(x0_hat, schedule.alpha_bar[400], eps_hat), x_t)


def test_the_denoiser_keeps_no_graph_for_gradients():
    model = nn.Conv2d(3, 3, 1)
    denoise = Denoiser(lambda x, t: model(x), linear(10), "x0")
    x0_hat, eps_hat = denoise(torch.zeros(1, 3, 4, 4), 5)
    assert not x0_hat.requires_grad and not eps_hat.requires_grad


# One step


def guess(x_t, alpha_bar_t, seed=7):
    """An x̂_0 in [−1, 1], and the ε̂ that agrees with it on x_t."""
    x0_hat = normal(*x_t.shape, seed=seed).clamp(-1, 1)
    return x0_hat, (x_t - alpha_bar_t**0.5 * x0_hat) / (1 - alpha_bar_t) ** 0.5


@pytest.mark.parametrize("make, name", [(linear, "linear"), (cosine, "squaredcos_cap_v2")])
@pytest.mark.parametrize("variance, theirs", [("posterior", "fixed_small"), ("beta", "fixed_large")])
@pytest.mark.parametrize("t", [1, 2, 17, 500, 999, 1000])
def test_a_ddpm_step_is_that_of_diffusers(make, name, variance, theirs, t):
    alpha_bar = make(T).alpha_bar
    x_t = normal(2, 3, 4, 4)
    x0_hat, eps_hat = guess(x_t, alpha_bar[t])
    scheduler = in_float64(DDPMScheduler(T, beta_schedule=name, variance_type=theirs, clip_sample=False))
    expected = scheduler.step(eps_hat, t - 1, x_t, generator=torch.Generator().manual_seed(3)).prev_sample
    noise = normal(2, 3, 4, 4, seed=3)
    ours = ddpm_step(x_t, x0_hat, eps_hat, alpha_bar[t].item(), alpha_bar[t - 1].item(), noise, variance=variance)
    close(ours, expected)


@pytest.mark.parametrize("t", [2, 17, 500, 830])
def test_the_ddpm_step_has_the_posterior_mean_and_variance_of_the_paper(t):
    """Measured from the step: its value without noise, and the square of what unit noise adds (Ho et al., eq. 7)."""
    schedule = linear(830)
    beta = np.linspace(1e-4, 2e-2, 830)[t - 1]
    before, now = schedule.alpha_bar[t - 1].item(), schedule.alpha_bar[t].item()
    x_t, x_0 = normal(1, 3, 4, 4), normal(1, 3, 4, 4, seed=1)
    mean = math.sqrt(before) * beta / (1 - now) * x_0 + math.sqrt(1 - beta) * (1 - before) / (1 - now) * x_t
    silent = ddpm_step(x_t, x_0, None, now, before, torch.zeros_like(x_t))
    close(silent, mean, atol=1e-9)
    for variance, expected in [("posterior", (1 - before) / (1 - now) * beta), ("beta", beta)]:
        loud = ddpm_step(x_t, x_0, None, now, before, torch.ones_like(x_t), variance=variance)
        close((loud - mean) ** 2, torch.full_like(x_t, expected), atol=1e-9)
    assert schedule.posterior_variance[t].item() == pytest.approx((1 - before) / (1 - now) * beta)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("t", [20, 40, 500, 1000])
def test_a_ddim_step_is_that_of_diffusers(t, eta):
    alpha_bar = linear(T).alpha_bar
    x_t, noise = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=3)
    x0_hat, eps_hat = guess(x_t, alpha_bar[t])
    scheduler = DDIMScheduler(
        T, beta_schedule="linear", timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True
    )
    scheduler = in_float64(scheduler)
    scheduler.set_timesteps(50)
    assert t - 1 in scheduler.timesteps
    expected = scheduler.step(eps_hat, t - 1, x_t, eta=eta, variance_noise=noise).prev_sample
    ours = ddim_step(x_t, x0_hat, eps_hat, alpha_bar[t].item(), alpha_bar[t - 20].item(), noise, eta=eta)
    close(ours, expected)


@pytest.mark.parametrize("t", [1, 2, 500, 830])
def test_ddim_with_eta_1_is_ddpm_with_the_posterior_variance(t):
    alpha_bar = linear(830).alpha_bar.tolist()
    x_t, noise = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=3)
    step = (x_t, *guess(x_t, alpha_bar[t]), alpha_bar[t], alpha_bar[t - 1], noise)
    close(ddim_step(*step, eta=1.0), ddpm_step(*step), atol=1e-9)


LAST = (linear(830).alpha_bar[17].item(), 1.0)


@pytest.mark.parametrize("noise", [math.nan, 1e6])
@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_no_noise_is_added_in_the_last_ddpm_step(variance, noise):
    x_t, noise = normal(2, 3, 4, 4), torch.full((2, 3, 4, 4), noise, dtype=torch.float64)
    x0_hat, eps_hat = guess(x_t, LAST[0])
    close(ddpm_step(x_t, x0_hat, eps_hat, *LAST, noise, variance=variance), x0_hat)
    earlier = ddpm_step(x_t, x0_hat, eps_hat, 0.5, 0.6, noise, variance=variance)
    assert not (earlier.abs() < 100).any(), "before the last step noise is added"


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_no_noise_is_added_in_the_last_ddim_step(eta):
    x_t, noise = normal(2, 3, 4, 4), torch.full((2, 3, 4, 4), math.nan)
    x0_hat, eps_hat = guess(x_t, LAST[0])
    close(ddim_step(x_t, x0_hat, eps_hat, *LAST, noise, eta=eta), x0_hat)


def test_a_deterministic_step_needs_no_noise():
    x_t = normal(2, 3, 4, 4)
    x0_hat, eps_hat = guess(x_t, 0.5)
    close(ddim_step(x_t, x0_hat, eps_hat, 0.5, 0.6), ddim_step(x_t, x0_hat, eps_hat, 0.5, 0.6, torch.ones(1)))


def test_an_unknown_variance_is_named():
    x = normal(1, 3, 4, 4)
    with pytest.raises(ValueError, match="variance is 'learned', but must be 'posterior' or 'beta'"):
        ddpm_step(x, x, x, 0.5, 0.6, x, variance="learned")


# Autoguidance


def pair(good: float, bad: float, T: int = 100) -> tuple[Denoiser, Denoiser]:
    return Denoiser(Constant(good), linear(T), "x0"), Denoiser(Constant(bad), linear(T), "x0")


@pytest.mark.parametrize("weight, expected", [(0.0, 0.1), (1.0, 0.3), (1.5, 0.4), (2.0, 0.5), (6.0, 1.0)])
def test_guidance_goes_on_from_the_bad_to_the_good_and_beyond(weight, expected):
    """Karras et al. 2024, eq. 3; at 6 it would be 1.3, and is clipped to where images live."""
    x_t = torch.linspace(-2, 2, 48).reshape(1, 3, 4, 4)
    x0_hat, eps_hat = Guided(*pair(0.3, 0.1), weight)(x_t, 40)
    torch.testing.assert_close(x0_hat, torch.full_like(x_t, expected))
    alpha_bar_t = linear(100).alpha_bar[40].item()
    torch.testing.assert_close(alpha_bar_t**0.5 * x0_hat + (1 - alpha_bar_t) ** 0.5 * eps_hat, x_t)


def test_guidance_over_two_schedules_is_refused():
    with pytest.raises(ValueError, match=r"Guided: the schedules differ.*T = 100.*T = 90"):
        Guided(Denoiser(Constant(0), linear(100), "x0"), Denoiser(Constant(0), linear(90), "x0"), 1.5)
