"""The solvers of second order: against diffusers' schedulers, the papers' algorithms and integrals that are known."""

import math
from functools import partial
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from conftest import in_float64
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

from hwkit.diffusion import ddim_step
from hwkit.sampling import sample, times
from hwkit.schedule import cosine, linear
from hwkit.solvers import dpm_solver_step, unipc_step

STEPS = pytest.mark.parametrize("step", [dpm_solver_step, unipc_step], ids=["dpm++", "unipc"])
sde_step = partial(dpm_solver_step, eta=1.0)


def normal(*shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(actual, expected, atol=1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0, check_dtype=False)


def denoise(x_t, t):
    """An x̂_0 that depends on x_t and on the time; the solvers do without ε̂."""
    return torch.tanh(x_t.roll(1, -1) + math.sin(t)), None


def guess(x_t, alpha_bar_t, seed=7):
    """An x̂_0 in [−1, 1], and the ε̂ that agrees with it on x_t."""
    x0_hat = normal(*x_t.shape, seed=seed).clamp(-1, 1)
    return x0_hat, (x_t - alpha_bar_t**0.5 * x0_hat) / (1 - alpha_bar_t) ** 0.5


def alpha_bar_at(lambdas) -> list[float]:
    """ᾱ where half the log-SNR is λ."""
    return [1 / (1 + math.exp(-2 * value)) for value in lambdas]


# Whole trajectories against diffusers

SCHEDULES = pytest.mark.parametrize("make, name", [(linear, "linear"), (cosine, "squaredcos_cap_v2")])
LENGTHS = pytest.mark.parametrize("T, steps", [(1000, 20), (830, 15), (830, 50), (1000, 2), (100, 100)])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers
@pytest.mark.parametrize("algorithm, step", [("dpmsolver++", dpm_solver_step), ("sde-dpmsolver++", sde_step)])
@SCHEDULES
@LENGTHS
def test_dpm_solver_is_that_of_diffusers(make, name, T, steps, algorithm, step):
    """The stochastic one, too, where both are given the same noise."""
    alpha_bar, x, ts = make(T).alpha_bar, normal(2, 3, 4, 4).float(), times(T, steps)
    drawn = [normal(2, 3, 4, 4, seed=i) for i in range(steps)]
    ours = list(sample(denoise, x.double(), ts, alpha_bar, step, iter(drawn).__next__))
    scheduler = DPMSolverMultistepScheduler(
        T,
        beta_schedule=name,
        algorithm_type=algorithm,
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        lower_order_final=steps < 3,  # theirs lowers the last step but one, too, where it knows of fewer than 15 steps
        prediction_type="sample",
    )
    in_float64(scheduler).set_timesteps(timesteps=[t - 1 for t in ts[:-1]])
    for t, noise, frame in zip(ts, drawn, ours[1:], strict=False):
        x = scheduler.step(denoise(x, t)[0], t - 1, x, variance_noise=noise.float()).prev_sample
        close(frame.x_t, x)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@SCHEDULES
@LENGTHS
def test_unipc_is_that_of_diffusers(make, name, T, steps):
    alpha_bar, x, ts = make(T).alpha_bar, normal(2, 3, 4, 4), times(T, steps)
    ours = list(sample(denoise, x, ts, alpha_bar, unipc_step))
    scheduler = UniPCMultistepScheduler(
        T,
        beta_schedule=name,
        solver_order=2,
        solver_type="bh2",
        final_sigmas_type="zero",
        prediction_type="sample",
        timestep_spacing="trailing",
    )
    in_float64(scheduler).set_timesteps(steps)
    assert scheduler.timesteps.tolist() == [t - 1 for t in ts[:-1]]
    for t, frame in zip(ts, ours[1:], strict=False):
        x = scheduler.step(denoise(x, t)[0], t - 1, x).prev_sample
        close(frame.x_t, x)


# One step


@STEPS
def test_without_a_past_a_step_is_ddim(step):
    x = normal(1, 3, 4, 4)
    x0_hat, eps_hat = guess(x, 0.2)
    close(step(x, x0_hat, eps_hat, 0.2, 0.5), ddim_step(x, x0_hat, eps_hat, 0.2, 0.5), atol=1e-12)


@STEPS
@pytest.mark.parametrize("length", [0, 1, 2])
def test_the_last_step_ends_in_the_predicted_image(step, length):
    x = normal(1, 3, 4, 4)
    past = [(0.1, normal(1, 3, 4, 4, seed=1)), (0.2, normal(1, 3, 4, 4, seed=2))][:length]
    x0_hat, eps_hat = guess(x, 0.5)
    assert torch.equal(step(x, x0_hat, eps_hat, 0.5, 1.0, past=past), x0_hat)


@STEPS
def test_noise_and_eps_are_of_no_use_to_a_solver(step):
    x, nan = normal(1, 3, 4, 4), torch.full((1, 3, 4, 4), math.nan)
    past = [(0.1, normal(1, 3, 4, 4, seed=1)), (0.2, normal(1, 3, 4, 4, seed=2))]
    x0_hat, eps_hat = guess(x, 0.5)
    assert torch.equal(step(x, x0_hat, nan, 0.5, 0.7, nan, past), step(x, x0_hat, eps_hat, 0.5, 0.7, past=past))


def test_the_second_dpm_step_uses_the_x0_before():
    """Lu et al. 2022, algorithm 2, with λ evenly spaced by h = log 4, so that r = 1 and D = 1.5 new − 0.5 old."""
    alpha_bar = [1 / (1 + 4.0 ** (-2 * k)) for k in range(-1, 2)]  # λ = k log 4
    x, old, new = (normal(1, 3, 4, 4, seed=s) for s in (1, 2, 3))
    ours = dpm_solver_step(x, new, None, *alpha_bar[1:], past=[(alpha_bar[0], old)])
    sigma_t, sigma_s = (math.sqrt(1 - a) for a in alpha_bar[1:])
    expected = sigma_s / sigma_t * x - math.sqrt(alpha_bar[2]) * (1 / 4 - 1) * (1.5 * new - 0.5 * old)
    close(ours, expected, atol=1e-12)
    older = [(0.01, normal(1, 3, 4, 4, seed=4)), (alpha_bar[0], old)]
    assert torch.equal(dpm_solver_step(x, new, None, *alpha_bar[1:], past=older), ours), "the one before that is not"


@pytest.mark.parametrize("alpha_bar_t, alpha_bar_s", [(0.001, 0.01), (0.2, 0.5), (0.5, 0.999)])
def test_without_a_past_the_stochastic_step_has_the_variance_of_ddpm(alpha_bar_t, alpha_bar_s):
    """Lu et al. 2022, §6: of first order, the SDE step is DDIM with η = 1 — the same mean and the same noise."""
    x, noise = normal(1, 3, 4, 4), normal(1, 3, 4, 4, seed=1)
    x0_hat, eps_hat = guess(x, alpha_bar_t)
    ours = sde_step(x, x0_hat, None, alpha_bar_t, alpha_bar_s, noise)
    close(ours, ddim_step(x, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, eta=1.0), atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("alpha_bar_t, alpha_bar_s", [(0.001, 0.01), (0.2, 0.5), (0.5, 0.999)])
def test_any_share_of_fresh_noise_leaves_the_marginal_as_it_is(eta, alpha_bar_t, alpha_bar_s):
    """From x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε and x̂_0 = x_0, x_s is √ᾱ_s x_0 + √(1−ᾱ_s) ε'."""
    x_0 = normal(1, 3, 4, 4)
    zero, one = torch.zeros_like(x_0), torch.ones_like(x_0)

    def step(x_t, noise):
        return dpm_solver_step(x_t, x_0, None, alpha_bar_t, alpha_bar_s, noise, eta=eta)

    mean = step(alpha_bar_t**0.5 * x_0, zero)
    close(mean, alpha_bar_s**0.5 * x_0, atol=1e-12)
    of_eps = step(alpha_bar_t**0.5 * x_0 + (1 - alpha_bar_t) ** 0.5, zero) - mean
    of_noise = step(alpha_bar_t**0.5 * x_0, one) - mean
    close(of_eps**2 + of_noise**2, (1 - alpha_bar_s) * one, atol=1e-12)
    assert (of_noise.abs().max() > 0) == (eta > 0)


def test_the_stochastic_solver_leaves_no_noise_behind_and_needs_none_at_the_end():
    x = normal(1, 3, 4, 4)
    x0_hat, _ = guess(x, 0.5)
    assert torch.equal(sde_step(x, x0_hat, None, 0.5, 1.0), x0_hat)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_the_stochastic_solver_draws_a_gaussian_in_closed_form(eta):
    """x_0 ~ N(0.3, 0.5²), whose exact denoiser is known: mean and variance of x_s follow from a step's linearity.

    A step is linear in x_t, in both x̂_0 and in the noise, so no sample has to be drawn. What is left is the solver's
    error, of second order in the variance; the mean is exact.
    """
    mu, s = 0.3, 0.5

    def solved(count: int) -> tuple[float, float]:
        a = alpha_bar_at(np.linspace(-4, 3, count + 1))
        # A state is a vector: its mean, and its share of each unit variable (x_T's own, then each step's noise).
        basis = torch.eye(count + 2, dtype=torch.float64)
        x, past = a[0] ** 0.5 * mu * basis[0] + (a[0] * s**2 + 1 - a[0]) ** 0.5 * basis[1], []
        for i, (now, then) in enumerate(pairwise(a)):
            gain = now**0.5 * s**2 / (now * s**2 + 1 - now)
            x0_hat = mu * basis[0] + gain * (x - now**0.5 * mu * basis[0])
            x, past = dpm_solver_step(x, x0_hat, None, now, then, basis[i + 2], past, eta), [(now, x0_hat)]
        return x[0].item() - a[-1] ** 0.5 * mu, x[1:].square().sum().item() - (a[-1] * s**2 + 1 - a[-1])

    (mean, rough), (_, fine) = (np.abs(solved(count)) for count in (40, 160))
    assert mean < 1e-12 and rough < 0.01 and fine < rough / 10, (mean, rough, fine)


LAMBDAS = [-1.0, -0.4, 0.5, 0.9]
A = alpha_bar_at(LAMBDAS)


def corrected(past, x_t, x0_hat) -> torch.Tensor:
    """x_t as UniPC's corrector leaves it: what the predictor, which is linear in x_t, must have been given."""
    ours = unipc_step(x_t, x0_hat, None, A[2], A[3], past=past)
    uncorrected = dpm_solver_step(x_t, x0_hat, None, A[2], A[3], past=past)
    return x_t + (ours - uncorrected) / math.sqrt((1 - A[3]) / (1 - A[2]))


def test_the_corrector_of_unipc_is_exact_where_x0_is_a_parabola():
    """Along λ the ODE is d(x/σ) = e^λ x̂_0 dλ, whose integral over a parabola is known (by quadrature here)."""
    image, x_1 = normal(1, 3, 4, 4), normal(1, 3, 4, 4, seed=1)

    def x0_hat(value):
        return (0.3 - 0.7 * value + 0.9 * value**2) * image

    def integral(begin, end):
        nodes, weights = np.polynomial.legendre.leggauss(20)
        at = (end - begin) / 2 * nodes + (end + begin) / 2
        return (end - begin) / 2 * sum(w * math.exp(v) * x0_hat(v) for w, v in zip(weights, at, strict=True))

    sigma = [math.sqrt(1 - a) for a in A]
    past = [(a, x0_hat(value)) for a, value in zip(A[:2], LAMBDAS, strict=False)]
    x_2 = dpm_solver_step(x_1, x0_hat(LAMBDAS[1]), None, A[1], A[2], past=past[:1])
    exact = sigma[2] * (x_1 / sigma[1] + integral(LAMBDAS[1], LAMBDAS[2]))
    assert (x_2 - exact).abs().max() > 0.01, "the predictor alone is not exact"
    close(corrected(past, x_2, x0_hat(LAMBDAS[2])), exact, atol=1e-12)


def test_the_first_correction_takes_the_mean_of_both_x0():
    """Zhao et al. 2023, for order 1: had the step taken the mean of both x̂_0 for the first one, it had ended there."""
    x_1, before, now = (normal(1, 3, 4, 4, seed=s) for s in (1, 2, 3))
    x_2 = dpm_solver_step(x_1, before, None, A[1], A[2])
    by_the_mean = dpm_solver_step(x_1, (before + now) / 2, None, A[1], A[2])
    close(corrected([(A[1], before)], x_2, now), by_the_mean, atol=1e-12)


# The loop remembers, the steps do not


@STEPS
def test_a_trajectory_that_was_left_does_not_leak_into_the_next(step):
    alpha_bar, ts = linear(830).alpha_bar, times(830, 10)
    x, y = normal(2, 2, 3, 4, 4)
    alone = list(sample(denoise, y, ts[4:], alpha_bar, step))
    list(islice(sample(denoise, x, ts, alpha_bar, step), 5))  # somebody looked at five frames
    after = list(sample(denoise, y, ts[4:], alpha_bar, step))
    left, interleaved = sample(denoise, x, ts[4:], alpha_bar, step), []
    for frame in sample(denoise, y, ts[4:], alpha_bar, step):
        interleaved.append(frame)
        next(left, None)
    for one, two, three in zip(alone, after, interleaved, strict=True):
        assert torch.equal(one.x_t, two.x_t) and torch.equal(one.x_t, three.x_t)


def given_past(step_of) -> list:
    """What `sample` gives as `past` over four steps to a step made by `step_of(note)`, and the frames."""
    notes = []
    step = step_of(lambda past: notes.append([(a, x.item()) for a, x in past]))
    frames = list(sample(lambda x, t: (x + t, x), torch.zeros(1, 1, 1, 1), [9, 6, 4, 1, 0], linear(9).alpha_bar, step))
    return [notes, frames]


def asking(note):
    def step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=()):
        note(past)
        return x_t + 1

    return step


def with_an_option(note):
    def step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=(), rise=0.0):
        note(past)
        return x_t + rise

    return partial(step, rise=1.0)


@pytest.mark.parametrize("step_of", [asking, with_an_option], ids=["a function", "a partial"])
def test_a_step_that_asks_for_its_past_is_given_the_last_two_predictions(step_of):
    notes, frames = given_past(step_of)
    a = linear(9).alpha_bar.tolist()
    assert [frame.x_t.item() for frame in frames] == [0, 1, 2, 3, 4]
    first, second, third = (a[9], 9.0), (a[6], 7.0), (a[4], 6.0)  # x̂_0 = x + t
    assert notes == [[], [first], [first, second], [second, third]]


def test_what_a_step_was_given_is_not_changed_afterwards():
    kept = []

    def step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=()):
        kept.append((past, len(past)))
        return x_t

    list(sample(denoise, normal(1, 3, 4, 4), times(30, 5), linear(30).alpha_bar, step))
    assert [len(past) for past, _ in kept] == [length for _, length in kept] == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("partially", [False, True])
def test_a_step_that_does_not_ask_for_a_past_is_given_none(partially):
    def step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0):  # past=… would be a TypeError
        return x_t

    frames = sample(
        denoise,
        normal(1, 3, 4, 4),
        times(30, 5),
        linear(30).alpha_bar,
        partial(step, eta=0.5) if partially else step,
    )
    assert len(list(frames)) == 6


# Their order, on noise levels as fine as wanted


def flow_error(step, count: int) -> float:
    """How far `count` steps over λ from −3 to 2 end from the exact flow, over data of four standard deviations s.

    For x_0 ~ N(0, s²) it is x_t ∝ (ᾱ s² + 1 − ᾱ)^½, and x̂_0 = √ᾱ s² x_t / (ᾱ s² + 1 − ᾱ).
    """
    s, alpha_bar = torch.tensor([0.2, 0.5, 1.5, 2.0], dtype=torch.float64), alpha_bar_at(np.linspace(-3, 2, count + 1))

    def width(a):
        return (a * s**2 + 1 - a) ** 0.5

    x, past = torch.ones_like(s), []
    for a, b in pairwise(alpha_bar):
        x0_hat = a**0.5 * s**2 * x / width(a) ** 2
        x, before = step(x, x0_hat, None, a, b, past=past), past
        past = [*before[-1:], (a, x0_hat)]
    return (x - width(alpha_bar[-1]) / width(alpha_bar[0])).norm().item()


@pytest.mark.parametrize("step, order", [(dpm_solver_step, 2), (unipc_step, 3)], ids=["dpm++", "unipc"])
def test_half_the_steps_are_two_to_the_order_times_the_error(step, order):
    """UniPC-2 is of third order by its corrector (Zhao et al. 2023, §3.3)."""
    errors = [flow_error(step, count) for count in (100, 200, 400)]
    rates = [math.log2(rough / fine) for rough, fine in pairwise(errors)]
    assert rates == pytest.approx([order, order], abs=0.2) and errors[-1] < 1e-4, (rates, errors)
