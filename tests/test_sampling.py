"""The reverse loop: whole trajectories against diffusers, and against distributions that are known in closed form."""

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import TINY, in_float64
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hwkit.diffusion import Denoiser, ddim_step, ddpm_step, diffusion_loss
from hwkit.sampling import Frame, ImageNoise, Sampler, nodes, sample, times, trajectory
from hwkit.schedule import cosine, linear
from hwkit.solvers import dpm_solver_step, unipc_step
from hwkit.unet import UNet

T = 1000


def normal(*shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fresh_noise(shape, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator, dtype=torch.float64)


def close(actual, expected, atol=1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0, check_dtype=False)


def last_of(frames) -> torch.Tensor:
    *_, last = frames
    return last.x_t


# The times


@given(st.integers(1, 1500).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T))))
def test_times_fall_evenly_from_T_to_0(T_and_steps):
    T, steps = T_and_steps
    ts = times(T, steps)
    assert ts[0] == T and ts[-1] == 0 and len(ts) == steps + 1
    assert all(t > s for t, s in pairwise(ts))
    assert all(abs(t - T * (steps - i) / steps) <= 0.5 for i, t in enumerate(ts))


@given(st.integers(7, 1500).flatmap(lambda T: st.tuples(st.just(T), st.integers(7, T))))
def test_times_hold_every_node_of_a_figure(T_and_steps):
    check_nodes(*T_and_steps)


def test_times_hold_every_node_of_a_figure_where_times_are_scarce():
    for T in range(7, 31):
        for steps in range(7, T + 1):
            check_nodes(T, steps)


def check_nodes(T, steps):
    ts = times(T, steps, through=nodes(T))
    assert set(nodes(T)) <= set(ts)
    assert ts[0] == T and ts[-1] == 0 and len(ts) == steps + 1
    assert all(t > s for t, s in pairwise(ts))


def test_830_with_50_steps_starts_at_830_and_ends_at_0():
    ts = times(830, 50)
    assert (ts[0], ts[1], ts[-2], ts[-1]) == (830, 813, 17, 0) and len(ts) == 51
    asked = []

    def denoise(x_t, t):
        asked.append(t)
        return x_t, x_t

    frames = list(sample(denoise, torch.zeros(1, 3, 4, 4), ts, linear(830).alpha_bar))
    assert asked == ts[:-1], "the network is asked first at T, and never at 0"
    assert [frame.t for frame in frames] == ts


def test_nodes_hold_both_ends():
    assert nodes(830) == [830, 711, 593, 474, 356, 237, 119, 0]
    assert nodes(1000, 3) == [1000, 500, 0]


def test_all_steps_are_all_times():
    assert times(30, 30) == list(range(30, -1, -1))


@pytest.mark.parametrize("steps", [0, -1, 831])
def test_steps_that_do_not_fit_are_refused(steps):
    with pytest.raises(ValueError, match=f"{steps} sampling steps do not fit a schedule of T = 830: choose 1 to 830"):
        times(830, steps)


@pytest.mark.parametrize("through", [nodes(830), [831], [-1], [500, 400, 300, 200, 100, 50]])
def test_nodes_that_do_not_fit_are_refused(through):
    with pytest.raises(ValueError, match=r"cannot pass through .*: use more steps"):
        times(830, 5, through)


# Whole trajectories against diffusers


def network(alpha_bar):
    """ε̂(x_t, t) that speaks for an x̂_0 in [−1.5, 1.5], so that clipping acts."""

    def eps_hat(x_t, t):
        t = int(t[0]) if isinstance(t, torch.Tensor) else t
        x0_hat = 1.5 * torch.tanh(x_t.roll(1, -1) + 0.5 * x_t.roll(1, -2) + math.sin(t))
        return (x_t - alpha_bar[t] ** 0.5 * x0_hat) / (1 - alpha_bar[t]) ** 0.5

    return eps_hat


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("steps", [T, 50])
@pytest.mark.parametrize("variance, theirs", [("posterior", "fixed_small"), ("beta", "fixed_large")])
def test_ddpm_is_that_of_diffusers(variance, theirs, steps, clip):
    schedule, x_T = linear(T), normal(2, 3, 4, 4)
    denoise = Denoiser(network(schedule.alpha_bar), schedule, "epsilon", clip)
    ts = times(T, steps)
    frames = sample(
        denoise, x_T, ts, schedule.alpha_bar, partial(ddpm_step, variance=variance), fresh_noise(x_T.shape, 9)
    )
    states = {frame.t: frame.x_t for frame in frames}

    scheduler = in_float64(DDPMScheduler(T, variance_type=theirs, clip_sample=clip, timestep_spacing="trailing"))
    scheduler.set_timesteps(steps)
    generator, x = torch.Generator().manual_seed(9), x_T
    for t, s in zip((scheduler.timesteps + 1).tolist(), ts[1:], strict=True):
        output = network(schedule.alpha_bar)(x, t)
        if s == 0 and steps < T:  # diffusers adds noise in the last step when that is not t = 1; x̂_0 is what is meant
            x = scheduler.step(output, t - 1, x, generator=generator).pred_original_sample
        else:
            x = scheduler.step(output, t - 1, x, generator=generator).prev_sample
        close(states[s], x)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("steps", [T, 50, 8])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_is_that_of_diffusers(eta, steps, clip):
    schedule, x_T = linear(T), normal(2, 3, 4, 4)
    denoise = Denoiser(network(schedule.alpha_bar), schedule, "epsilon", clip)
    ts = times(T, steps)
    noise = fresh_noise(x_T.shape, 9)
    frames = sample(denoise, x_T, ts, schedule.alpha_bar, partial(ddim_step, eta=eta), noise)
    states = {frame.t: frame.x_t for frame in frames}

    scheduler = in_float64(
        DDIMScheduler(T, clip_sample=clip, timestep_spacing="trailing", set_alpha_to_one=True, steps_offset=0)
    )
    scheduler.set_timesteps(steps)
    noise, x = fresh_noise(x_T.shape, 9), x_T
    for t, s in zip((scheduler.timesteps + 1).tolist(), ts[1:], strict=True):
        output = network(schedule.alpha_bar)(x, t)
        x = scheduler.step(output, t - 1, x, eta=eta, use_clipped_model_output=True, variance_noise=noise()).prev_sample
        close(states[s], x)


def test_ddim_with_eta_1_over_all_steps_is_ddpm_with_the_posterior_variance():
    schedule, x_T = linear(830), normal(2, 3, 4, 4)
    denoise = Denoiser(network(schedule.alpha_bar), schedule, "epsilon")
    ddim, ddpm = (
        list(sample(denoise, x_T, times(830, 830), schedule.alpha_bar, step, fresh_noise(x_T.shape, 9)))
        for step in (partial(ddim_step, eta=1.0), ddpm_step)
    )
    for one, other in zip(ddim, ddpm, strict=True):
        close(one.x_t, other.x_t)


# With the exact denoiser of a Gaussian, the samples have its mean and covariance

MEAN = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
AXES = torch.linalg.qr(normal(3, 3, seed=4)).Q
SPREAD = torch.tensor([1.5, 0.6, 0.25], dtype=torch.float64)  # standard deviations along the axes
COVARIANCE = AXES @ torch.diag(SPREAD**2) @ AXES.T


def exact_denoiser(schedule, mean=MEAN, covariance=COVARIANCE):
    """E[x_0 | x_t] = m + √ᾱ S (ᾱ S + (1−ᾱ) I)⁻¹ (x_t − √ᾱ m) for x_0 ~ N(m, S); states are (B, D)."""

    def denoise(x_t, t):
        a = schedule.alpha_bar[t]
        marginal = a * covariance + (1 - a) * torch.eye(len(mean), dtype=torch.float64)
        gain = a.sqrt() * covariance @ torch.linalg.inv(marginal)
        x0_hat = mean + (x_t - a.sqrt() * mean) @ gain.T
        return x0_hat, (x_t - a.sqrt() * x0_hat) / (1 - a).sqrt()

    return denoise


def standard_normal(count: int, dimensions: int) -> torch.Tensor:
    """Noise (count, dimensions) whose own mean is 0 and covariance I, so that x_T brings no sampling error."""
    x = normal(count, dimensions)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / count)).T


@pytest.mark.parametrize("make", [linear, cosine])
@pytest.mark.parametrize(
    "step, steps, atol",
    [(ddim_step, 830, 0.02), (dpm_solver_step, 100, 0.01), (unipc_step, 100, 0.01)],
    ids=["ddim", "dpm++", "unipc"],
)
def test_every_sampler_without_noise_recovers_a_gaussian(step, steps, atol, make):
    schedule, x_T = make(830), standard_normal(500, 3)  # that many suffice: there is no sampling error
    found = last_of(sample(exact_denoiser(schedule), x_T, times(830, steps), schedule.alpha_bar, step))
    in_axes = (found - MEAN) @ AXES / SPREAD  # should be N(0, I)
    close(in_axes.mean(0), torch.zeros(3), atol=atol)
    close(in_axes.T.cov(), torch.eye(3), atol=atol)


@pytest.mark.parametrize("make", [linear, cosine])
@pytest.mark.parametrize(
    "step",
    [ddpm_step, partial(ddpm_step, variance="beta"), partial(ddim_step, eta=1.0), partial(ddim_step, eta=0.5)],
    ids=["ddpm", "ddpm beta", "ddim η=1", "ddim η=0.5"],
)
def test_every_sampler_with_noise_recovers_a_gaussian(step, make):
    schedule, x_T = make(830), standard_normal(5_000, 3)
    noise = fresh_noise(x_T.shape, seed=9)
    found = last_of(sample(exact_denoiser(schedule), x_T, times(830, 830), schedule.alpha_bar, step, noise))
    in_axes = (found - MEAN) @ AXES / SPREAD
    close(in_axes.mean(0), torch.zeros(3), atol=0.07)  # five standard errors of a mean
    close(in_axes.T.cov(), torch.eye(3), atol=0.1)  # and of a variance


def flow(schedule, x_T):
    """Where the probability-flow ODE takes x_T: on each axis, as many standard deviations from the mean as before."""
    a = schedule.alpha_bar[-1]
    spread_T = (a * SPREAD**2 + 1 - a).sqrt()
    return MEAN + (x_T - a.sqrt() * MEAN) @ AXES * (SPREAD / spread_T) @ AXES.T


@pytest.mark.parametrize(
    "step, steps, order, atol",
    [(ddim_step, 830, 1, 0.02), (dpm_solver_step, 208, 2, 0.01), (unipc_step, 104, 2, 0.01)],
)
def test_deterministic_samplers_find_the_probability_flow_with_their_order(step, steps, order, atol):
    """On Gaussian data the flow is known in closed form; half the steps, 2^order times the error.

    (UniPC's is 3 but for its first step and its last one, which are of first order.)
    """
    schedule, x_T = linear(830), normal(100, 3)
    errors = [
        (
            last_of(sample(exact_denoiser(schedule), x_T, times(830, n), schedule.alpha_bar, step))
            - flow(schedule, x_T)
        ).abs()
        for n in (steps // 4, steps // 2, steps)
    ]
    assert errors[-1].max() < atol
    rates = [math.log2(rough.mean() / fine.mean()) for rough, fine in pairwise(errors)]
    assert rates == pytest.approx([order, order], abs=0.5)


def test_beta_is_the_exact_variance_for_data_of_unit_variance():
    """For x_0 ~ N(m, I) the reverse step has variance β whatever the stride (Ho et al., §3.2): five steps suffice."""
    mean, unit = 0.2 * MEAN, torch.eye(3, dtype=torch.float64)
    schedule, x_T = linear(830), standard_normal(20_000, 3)
    denoise = exact_denoiser(schedule, mean, unit)
    step = partial(ddpm_step, variance="beta")
    states = list(sample(denoise, x_T, times(830, 5), schedule.alpha_bar, step, fresh_noise(x_T.shape)))
    close(states[-2].x_t.T.cov(), unit, atol=0.05)
    close(states[-2].x_t.mean(0), schedule.alpha_bar[times(830, 5)[-2]].sqrt() * mean, atol=0.03)


@pytest.mark.parametrize("step", [ddpm_step, partial(ddim_step, eta=1.0), ddim_step, dpm_solver_step, unipc_step])
@pytest.mark.parametrize("steps", [1, 2, 50])
def test_data_of_a_single_image_comes_out_as_that_image(step, steps):
    schedule, image = linear(830), normal(3, 4, 4).clamp(-1, 1)

    def denoise(x_t, t):
        a = schedule.alpha_bar[t]
        return image.expand_as(x_t), (x_t - a.sqrt() * image) / (1 - a).sqrt()

    x_T = normal(2, 3, 4, 4)
    found = last_of(sample(denoise, x_T, times(830, steps), schedule.alpha_bar, step, fresh_noise(x_T.shape)))
    close(found, image.expand_as(x_T), atol=1e-9)


# The loop


@pytest.mark.parametrize("step", [ddpm_step, partial(ddpm_step, variance="beta"), partial(ddim_step, eta=1.0)])
def test_noise_of_the_last_step_does_not_reach_the_image(step):
    schedule, calls = linear(830), []

    def noise():
        calls.append(1)
        return torch.full((1, 3, 4, 4), math.nan if len(calls) == 5 else 0.5)

    def run(noise):
        return last_of(
            sample(lambda x, t: (x.tanh(), x), torch.ones(1, 3, 4, 4), times(830, 5), schedule.alpha_bar, step, noise)
        )

    close(run(noise), run(lambda: torch.full((1, 3, 4, 4), 0.5)))
    assert run(lambda: torch.full((1, 3, 4, 4), -0.5)).ne(run(lambda: torch.full((1, 3, 4, 4), 0.5))).all()


def test_a_frame_holds_the_state_and_the_image_predicted_from_it():
    alpha_bar, x_T = linear(10).alpha_bar, normal(2, 3, 4, 4)
    frames = list(sample(lambda x, t: (x / t, x), x_T, [10, 4, 0], alpha_bar, lambda x, *_, noise: x + 1))
    assert [frame.t for frame in frames] == [10, 4, 0]
    assert all(isinstance(frame, Frame) for frame in frames)
    for frame, steps in zip(frames, range(3), strict=True):
        close(frame.x_t, x_T + steps)
    close(frames[0].x0_hat, x_T / 10)
    close(frames[1].x0_hat, (x_T + 1) / 4)
    assert frames[2].x0_hat is frames[2].x_t


def test_a_step_is_given_both_levels_and_fresh_noise():
    alpha_bar, given = linear(10).alpha_bar, []

    def step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise):
        given.append((x0_hat.item(), eps_hat.item(), alpha_bar_t, alpha_bar_s, noise))
        return x_t

    noise = iter(["first", "second"]).__next__
    list(sample(lambda x, t: (x + t, x - t), torch.zeros(1, 1, 1, 1), [10, 4, 0], alpha_bar, step, noise))
    a = alpha_bar.tolist()
    assert given == [(10, -10, a[10], a[4], "first"), (4, -4, a[4], 1.0, "second")]


def test_sampling_is_lazy():
    asked = []
    frames = sample(lambda x, t: asked.append(t) or (x, x), torch.zeros(1, 3, 4, 4), [10, 5, 0], linear(10).alpha_bar)
    assert asked == []
    assert next(frames).t == 10 and asked == [10]


# The noise of each image


def test_an_image_draws_the_same_noise_in_any_batch():
    together = ImageNoise(3, range(1, 8), shape=(3, 4, 4))
    first, second = together(), together()
    assert not torch.equal(first, second)
    for k in (1, 4, 7):
        alone = ImageNoise(3, [k], shape=(3, 4, 4))
        assert torch.equal(alone(), first[k - 1 : k]) and torch.equal(alone(), second[k - 1 : k])


def test_every_image_and_every_seed_has_noise_of_its_own():
    seen = torch.cat([ImageNoise(seed, range(1, 5001), shape=(2,))() for seed in (0, 1)])
    assert len(seen.unique(dim=0)) == 10_000
    assert not torch.equal(ImageNoise(1, [2], (9,))(), ImageNoise(2, [1], (9,))())


def test_image_noise_is_what_it_always_was():
    """Another generator, or another seed from (seed, k), would change every image of every seed that was ever given."""
    first, second = (ImageNoise(seed, [k], shape=(2, 2))() for seed, k in ((0, 1), (5, 77)))
    close(first.flatten(), torch.tensor([0.4559847, -2.1591032, -2.129957, -0.765699]), atol=1e-6)
    close(second.flatten(), torch.tensor([-1.1670588, 0.5635624, -1.2863573, -1.0659148]), atol=1e-6)
    whole = ImageNoise(0, [1])()
    close(whole.flatten()[:4], torch.tensor([0.4559847, -2.1591032, -2.129957, -0.765699]), atol=1e-6)
    close(whole.flatten()[-2:], torch.tensor([0.9359866, -1.3567388]), atol=1e-6)


def test_image_noise_is_standard_normal():
    noise = ImageNoise(0, range(1, 21))()
    assert noise.shape == (20, 3, 28, 28) and noise.dtype == torch.float32
    pixels = noise.double().numpy().ravel()
    n = len(pixels)
    assert abs(pixels.mean()) < 5 / math.sqrt(n)
    assert abs(pixels.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((pixels**4).mean() - 3) < 5 * math.sqrt(96 / n)
    correlations = np.corrcoef(noise.reshape(20, -1).double())[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 5 / math.sqrt(3 * 28 * 28)


# The sampler as a choice


def test_the_defaults_are_those_that_the_kits_numbers_were_measured_with():
    names = ("ddim", "ddpm", "dpm++", "dpm++sde", "unipc")
    expected = {
        "ddim": (50, 0, 1, 1),
        "ddpm": (830, 0, 1, 1),
        "dpm++": (15, 0, 1, 1),
        "dpm++sde": (16, 1, 1, 1),
        "unipc": (15, 0, 1, 1),
    }
    for asked in (None, 1.0, 1.3):  # no guide; one that is not needed, as the kit's weights say; and another
        found = {name: Sampler(name).resolve(830, asked) for name in names}
        led = {"dpm++sde": (16, 1, 1.3, 1.25)} if asked == 1.3 else {}
        assert {name: (s.steps, s.eta, s.guidance, s.power) for name, s in found.items()} == expected | led


@pytest.mark.parametrize(
    "sampler, words",
    [
        (Sampler(steps=50), "ddim-50"),
        (Sampler("ddim", 50, eta=0.5), "ddim-50 η=0.5"),
        (Sampler("ddpm", 830), "ddpm-830"),
        (Sampler("ddpm", 830, variance="beta"), "ddpm-830 β"),
        (Sampler("unipc", 15), "unipc-15"),
        (Sampler("dpm++sde", 20), "dpm++sde-20"),
        (Sampler("dpm++sde", 20, eta=0.5), "dpm++sde-20 η=0.5"),
        (Sampler("dpm++sde", 20, eta=0), "dpm++sde-20 η=0"),
        (Sampler("dpm++sde", 20, power=1.25), "dpm++sde-20 power 1.25"),
        (Sampler("dpm++sde", 20, guidance=1.3, power=1.25), "dpm++sde-20 guided 1.3"),
        (Sampler("dpm++sde", 20, guidance=1.3, power=1.0), "dpm++sde-20 power 1 guided 1.3"),
        (Sampler("ddim", 20, guidance=1.3, power=1.0), "ddim-20 guided 1.3"),
    ],
)
def test_a_sampler_in_words_leaves_nothing_out(sampler, words):
    assert str(sampler) == words


@pytest.mark.parametrize(
    "choice, named",
    [
        ({"name": "euler"}, "'euler'.*ddim.*ddpm.*unipc"),
        ({"eta": 1.5}, "eta is 1.5"),
        ({"eta": -0.1}, "eta is -0.1"),
        ({"eta": math.nan}, "eta is nan"),
        ({"name": "ddpm", "eta": 0.5}, "eta is 0.5 with ddpm.*with one of ddim.* dpm\\+\\+sde"),
        ({"name": "dpm++", "eta": 1.0}, "eta is 1.0 with dpm"),
        ({"name": "ddpm", "variance": "nonsense"}, "variance is 'nonsense'.*posterior.*beta"),
        ({"variance": "nonsense"}, "variance is 'nonsense'.*posterior"),
        ({"variance": "beta"}, "variance is 'beta'.*ddpm"),
    ],
    ids=str,
)
def test_an_impossible_sampler_is_refused(choice, named):
    with pytest.raises(ValueError, match=named):
        Sampler(**choice)


@pytest.mark.parametrize("steps", [0, -1, 31])
def test_steps_that_do_not_fit_the_schedule_are_refused(steps):
    with pytest.raises(ValueError, match=f"{steps} sampling steps do not fit a schedule of T = 30"):
        Sampler(steps=steps).resolve(30)


@pytest.mark.parametrize(
    "sampler, expected",
    [(Sampler(), 50), (Sampler("dpm++"), 15), (Sampler("unipc"), 15), (Sampler("ddpm"), 830), (Sampler("ddim", 7), 7)],
)
def test_steps_not_named_are_those_of_the_sampler(sampler, expected):
    assert sampler.resolve(830).steps == expected
    assert sampler.resolve(10).steps == min(expected, 10)


@pytest.mark.parametrize("T, steps", [(830, 16), (830, 830), (30, 29), (1000, 1), (8, 5)])
@pytest.mark.parametrize("power", [1.0, 1.25, 3.0])
def test_times_with_a_power_are_whole_different_and_as_near_to_it_as_that_allows(T, steps, power):
    found = times(T, steps, power=power)
    assert len(found) == steps + 1 and found[0] == T and found[-1] == 0
    assert all(a > b for a, b in pairwise(found)) and all(type(t) is int for t in found)
    wanted = [T * (1 - i / steps) ** power for i in range(steps + 1)]
    for t, s, exact in zip(found, found[1:], wanted, strict=False):
        assert abs(t - exact) <= 0.5 or t == s + 1, "moved only where it would have been the next one"


def test_even_times_are_what_they_were_before_there_was_a_power_also_at_exact_halves():
    assert times(830, 20)[15:] == [208, 166, 124, 83, 42, 0]  # 207.5, 166, 124.5, 83, 41.5: halves go to even numbers


@pytest.mark.parametrize("power", [0.5, 4, float("nan")])
def test_another_power_is_refused(power):
    with pytest.raises(ValueError, match=r"power is .*, but must be between 1 \(times evenly spaced\) and 3"):
        Sampler("ddim", power=power)


@pytest.mark.parametrize(
    "sampler, step",
    [
        (Sampler(), ddim_step),
        (Sampler("ddim", eta=0.5), partial(ddim_step, eta=0.5)),
        (Sampler("ddpm"), ddpm_step),
        (Sampler("ddpm", variance="beta"), partial(ddpm_step, variance="beta")),
        (Sampler("dpm++"), dpm_solver_step),
        (Sampler("dpm++sde"), partial(dpm_solver_step, eta=1.0)),
        (Sampler("dpm++sde", power=1.25), partial(dpm_solver_step, eta=1.0)),
        (Sampler("dpm++sde", eta=0.3), partial(dpm_solver_step, eta=0.3)),
        (Sampler("unipc"), unipc_step),
    ],
    ids=lambda value: str(value) if isinstance(value, Sampler) else None,
)
def test_a_trajectory_is_the_loop_over_the_samplers_step(sampler, step):
    """From the first noise of each image, with the noise after it in each step."""
    schedule = linear(30)
    denoise = Denoiser(lambda x, t: torch.tanh(x.roll(1, -1) + math.sin(int(t[0]))), schedule, "x0")
    noise, sampler = ImageNoise(3, [5, 9]), replace(sampler, steps=6)
    ts = [30, 24, 18, 13, 8, 3, 0] if sampler.power else [30, 25, 20, 15, 10, 5, 0]
    expected = sample(denoise, noise(), ts, schedule.alpha_bar, step, noise)
    for ours, theirs in zip(trajectory(denoise, sampler, 3, [5, 9]), expected, strict=True):
        assert ours.t == theirs.t and torch.equal(ours.x_t, theirs.x_t)


def test_the_stochastic_solver_without_noise_is_dpm_solver():
    denoise = Denoiser(lambda x, t: x.tanh(), linear(30), "x0")
    for one, other in zip(*(trajectory(denoise, s, 0, [1]) for s in (Sampler("dpm++", 6), STILL)), strict=True):
        assert torch.equal(one.x_t, other.x_t)


NOISY = [Sampler("ddpm", 6), Sampler("ddim", 6, eta=0.5), Sampler("dpm++sde", 6)]
STILL = Sampler("dpm++sde", 6, eta=0, power=1.0)


@pytest.mark.parametrize("sampler", [*NOISY, STILL, Sampler("ddim", 6)], ids=str)
def test_a_trajectory_passes_the_nodes_that_are_asked_for(sampler):
    schedule = linear(30)
    denoise = Denoiser(lambda x, t: x.tanh(), schedule, "x0")
    frames = list(trajectory(denoise, sampler, 3, [1, 2], through=[30, 17, 4, 0]))
    assert len(frames) == 7 and {30, 17, 4, 0} <= {frame.t for frame in frames}


@pytest.mark.parametrize("sampler", NOISY, ids=str)
def test_every_step_adds_noise_of_its_own(sampler):
    """Not that of another step, of another image, or that from which the image began.

    With x̂_0 = 0 a step is a x_t + b noise, so the noise is what is left of x_s when a x_t is taken away.
    """
    schedule = linear(30)
    denoise = Denoiser(lambda x, t: torch.zeros_like(x), schedule, "x0")
    frames = list(trajectory(denoise, sampler, 0, [1, 2]))
    found = [frames[0].x_t]
    for before, after in list(pairwise(frames))[:-1]:
        levels = schedule.alpha_bar[before.t].item(), schedule.alpha_bar[after.t].item()
        silent = sampler.step(before.x_t, *denoise(before.x_t, before.t), *levels, noise=torch.zeros_like(before.x_t))
        found.append(after.x_t - silent)
    found = torch.cat(found).flatten(1)
    assert len(found) == 2 * 6 and found.std(1).min() > 0.01
    assert found.corrcoef().triu(1).abs().max() < 0.15


def test_the_steps_noise_may_come_from_elsewhere():
    schedule, given = linear(30), []
    denoise = Denoiser(lambda x, t: x.tanh(), schedule, "x0")
    fresh = lambda: given.append(1) or torch.full((2, 3, 28, 28), 0.5)  # noqa: E731
    first, second, *_ = trajectory(denoise, NOISY[0], 0, [1, 2], fresh=fresh)
    assert torch.equal(first.x_t, ImageNoise(0, [1, 2])()), "x_T is the images' own"
    levels = schedule.alpha_bar[first.t].item(), schedule.alpha_bar[second.t].item()
    close(second.x_t, ddpm_step(first.x_t, *denoise(first.x_t, first.t), *levels, torch.tensor(0.5)))
    assert len(given) == 6
    list(trajectory(denoise, Sampler("ddim", 6), 0, [1, 2], fresh=fresh))
    assert len(given) == 6, "DDIM with η = 0 asks for none"


# A Mac's GPU has no float64, in which a schedule is


class LikeMPS(TorchDispatchMode):
    """Within it the device `meta`, whose tensors have no content, refuses float64 as MPS does."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in filter(torch.is_tensor, tree_leaves(result)):
            if tensor.device.type == "meta" and tensor.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return result


@pytest.mark.parametrize(
    "sampler",
    [Sampler("ddpm"), Sampler("ddpm", variance="beta"), Sampler("ddim", 6, 0.5), *map(Sampler, ("dpm++sde", "unipc"))],
    ids=str,
)
def test_sampling_needs_no_float64_on_the_device(sampler):
    denoise = TINY.denoiser(UNet(TINY.model).to("meta"))
    with LikeMPS():
        frames = list(trajectory(denoise, sampler, 0, [1, 2], "meta"))
    assert all((frame.x_t.device.type, frame.x_t.dtype) == ("meta", torch.float32) for frame in frames)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_training_needs_no_float64_on_the_device(prediction):
    model, x_0 = UNet(TINY.model).to("meta"), torch.zeros(2, 3, 28, 28, device="meta")
    table = TINY.make_schedule().alpha_bar
    with LikeMPS():
        alpha_bar = table.to("meta", torch.float32)  # as a run does
        diffusion_loss(model, x_0, torch.tensor([1, 7]).to("meta"), x_0, alpha_bar, prediction, "min_snr").backward()
        with pytest.raises(TypeError, match="float64"):  # it would be noticed
            table.to("meta")
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())
