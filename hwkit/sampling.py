"""The reverse process: noise in, frames out, over any step function of `diffusion.py` and `solvers.py`.

*_, last = sample(denoise, x_T, times(T, 50), alpha_bar, ddim_step)
images = last.x_t
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hwkit.diffusion import Denoiser, Guided, ddim_step, ddpm_step
from hwkit.language import listing, say
from hwkit.solvers import dpm_solver_step, unipc_step

STEPS = {"ddim": 50, "ddpm": None, "dpm++": 15, "dpm++sde": 16, "unipc": 15}  # by default; None is all T
ETA = {"ddim": 0.0, "dpm++sde": 1.0}  # fresh noise by default, of the samplers that have the choice
GUIDED, GUIDANCE = ("dpm++sde",), 1.3  # those that a guide leads by default, and its weight, unless the weights say one


class Frame(NamedTuple):
    """One state of the reverse process and the clean image predicted from it; both (B, C, H, W)."""

    t: int
    x_t: Tensor
    x0_hat: Tensor  # at t = 0, the image itself


def times(T: int, steps: int, through: Sequence[int] = (), power: float = 1.0) -> list[int]:
    """`steps` + 1 falling times, evenly spaced from T to 0, both included: T = 830, 50 steps → 830, 813, 797, …, 17, 0.

    power: above 1 the times are T (1 − i/steps)^power, closer to each other where little noise is left.
    `through` names times that must be among them (the nodes of a figure): the nearest is moved onto each.
    Raises ValueError unless 1 ≤ steps ≤ T, and where the nodes are too many for the steps.
    """
    if not 1 <= steps <= T:
        text = "{steps} sampling steps do not fit a schedule of T = {T}: choose 1 to {T}."
        raise ValueError(say(text, steps=steps, T=T))
    even = torch.linspace(T, 0, steps + 1, dtype=torch.float64)
    ts = (even if power == 1 else T * (even / T) ** power).round().long().tolist()
    for i in reversed(range(steps)):
        ts[i] = max(ts[i], ts[i + 1] + 1)  # all are different, also where they lie close
    free = set(range(len(ts)))
    for node in through:
        nearest = min(free, key=lambda i: abs(ts[i] - node), default=0)
        ts[nearest] = node
        free.discard(nearest)
    if any(t <= s for t, s in pairwise(ts)) or ts[0] != T or ts[-1] != 0 or not set(through) <= set(ts):
        text = "{steps} steps from T = {T} to 0 cannot pass through {times}: use more steps."
        raise ValueError(say(text, steps=steps, T=T, times=list(through)))
    return ts


def nodes(T: int, count: int = 8) -> list[int]:
    """The times of a figure's columns: T in `count` − 1 equal parts, ends included: 830 → 830, 711, 593, …, 119, 0."""
    return torch.linspace(T, 0, count, dtype=torch.float64).round().long().tolist()


def sample(
    denoise: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    x_T: Tensor,
    times: Sequence[int],
    alpha_bar: Tensor,
    step: Callable[..., Tensor] = ddim_step,
    noise: Callable[[], Tensor] | None = None,
) -> Iterator[Frame]:
    """Yields a `Frame` at each of `times`: x_T first, the images x_0 last (Ho et al. 2020, algorithm 2).

    `denoise(x_t, t)` gives (x̂_0, ε̂); `alpha_bar` is the schedule's table (T+1,); `step(x_t, x0_hat, eps_hat,
    alpha_bar_t, alpha_bar_s, noise=…)` gives x_s; `noise()` gives fresh N(0, I) of x_T's shape, and may be left out
    for a step that needs none. x_T is (B, C, H, W) ~ N(0, I). A step that has an argument `past` is also given the
    (ᾱ, x̂_0) of the two steps before, as far as there are any (see `solvers.py`).
    """
    multistep = "past" in inspect.signature(step).parameters
    x_t, past = x_T, []
    for t, s in pairwise(times):
        x0_hat, eps_hat = denoise(x_t, t)
        yield Frame(t, x_t, x0_hat)
        more = {"past": past} if multistep else {}
        fresh = noise() if noise is not None else None
        x_t = step(x_t, x0_hat, eps_hat, alpha_bar[t].item(), alpha_bar[s].item(), noise=fresh, **more)
        past = [*past[-1:], (alpha_bar[t].item(), x0_hat)]
    yield Frame(times[-1], x_t, x_t)


class ImageNoise:
    """Noise with a generator for each image: `ImageNoise(seed, numbers)()` → N(0, I) (B, *shape) on `device`.

    Image k of a run draws from a generator seeded with (seed, k) and nothing else, so it is the same picture whatever
    batch or device it is made in (as with `StackedRandomGenerator` of Karras et al. 2022). The generators are
    numpy's, on the CPU: torch keeps only 32 bits of a seed, in which 10,000 images would begin to collide.
    """

    def __init__(self, seed: int, numbers: Sequence[int], shape: tuple[int, ...] = (3, 28, 28), device="cpu"):
        self.generators = [np.random.default_rng([seed, k]) for k in numbers]
        self.shape, self.device = shape, device

    def __call__(self) -> Tensor:
        drawn = np.stack([g.standard_normal(self.shape, dtype=np.float32) for g in self.generators])
        return torch.from_numpy(drawn).to(self.device)


@dataclass(frozen=True)
class Sampler:
    """How noise becomes an image. The default is the original's: DDIM, 50 steps, η = 0. ValueError for unfit values."""

    name: Literal["ddim", "ddpm", "dpm++", "dpm++sde", "unipc"] = "ddim"
    steps: int | None = None  # network evaluations an image; by default as in STEPS
    eta: float | None = None  # of ddim and dpm++sde: 0 adds no noise, 1 as much as ddpm; by default as in ETA
    variance: Literal["posterior", "beta"] = "posterior"  # of ddpm
    guidance: float | None = None  # weight in `Guided`, 1 without it; by default as the weights say, see GUIDED
    power: float | None = None  # of the times' spacing (see `times`); by default as in `spacing`

    def __post_init__(self):
        if self.name not in STEPS:
            text = "sampler is {name!r}, but must be one of {names}."
            raise ValueError(say(text, name=self.name, names=listing(STEPS)))
        if self.eta is None:
            object.__setattr__(self, "eta", ETA.get(self.name, 0.0))  # as a frozen dataclass must
        if not 0 <= self.eta <= (self.name in ETA):
            text = "eta is {eta} with {name}: 0 to 1 with one of {names}, else 0."
            raise ValueError(say(text, **vars(self), names=listing(ETA)))
        if self.variance not in ("posterior", "beta")[: 1 + (self.name == "ddpm")]:
            text = "variance is {variance!r} with {name}: posterior, or with ddpm also beta."
            raise ValueError(say(text, **vars(self)))
        if self.guidance is not None and not 1 <= self.guidance <= 10:
            raise ValueError(say("guidance is {guidance}, but must be between 1 (none) and 10.", **vars(self)))
        if self.power is not None and not 1 <= self.power <= 3:
            raise ValueError(say("power is {power}, but must be between 1 (times evenly spaced) and 3.", **vars(self)))

    def resolve(self, T: int, guidance: float | None = None) -> "Sampler":
        """With its defaults filled in; guidance: what the weights ask for (see `Denoiser`), None if they have no guide.

        ValueError where the steps do not fit T, and for guidance without a guide.
        """
        steps = self.steps if self.steps is not None else min(STEPS[self.name] or T, T)
        weight = self.guidance or (guidance if self.name in GUIDED else None) or 1.0
        if guidance is None and weight != 1:
            text = "guidance is {guidance:g}, but these weights have no guide: leave it out."
            raise ValueError(say(text, guidance=weight))
        power = self.power or spacing(self.name, weight)
        times(T, steps, power=power)
        return replace(self, steps=steps, guidance=weight, power=power)

    @property
    def step(self) -> Callable[..., Tensor]:
        """The step function that `sample` takes."""
        if self.name in ("ddpm", "unipc"):
            return partial(ddpm_step, variance=self.variance) if self.name == "ddpm" else unipc_step
        return partial(ddim_step if self.name == "ddim" else dpm_solver_step, eta=self.eta)

    @property
    def needs_noise(self) -> bool:
        """Whether its steps add fresh noise."""
        return self.name == "ddpm" or self.eta > 0

    def __str__(self) -> str:
        chosen = f" η={self.eta:g}" * (self.eta != ETA.get(self.name, 0.0))
        chosen += f" power {self.power:g}" if self.power not in (None, spacing(self.name, self.guidance)) else ""
        led = f" guided {self.guidance:g}" if self.guidance not in (None, 1) else ""
        return f"{self.name}-{self.steps}" + chosen + " β" * (self.variance == "beta") + led


def spacing(name: str, guidance: float | None) -> float:
    """The power of a sampler's times by default (see `times`): 1.25 for one of GUIDED with a guide, else 1, even."""
    return 1.25 if name in GUIDED and guidance not in (None, 1) else 1.0


def trajectory(
    denoise: Denoiser, sampler: Sampler, seed: int, numbers: Sequence[int], device="cpu", through=(), fresh=None
) -> Iterator[Frame]:
    """The frames (see `sample`) of images `numbers` of the run `seed`, noisiest first, at times that pass `through`.

    fresh: a source of the steps' noise, other than the images' own generators, which x_T always comes from.
    """
    schedule, noise = denoise.schedule, ImageNoise(seed, numbers, device=device)
    sampler = sampler.resolve(schedule.T, getattr(denoise, "guidance", None))
    ts = times(schedule.T, sampler.steps, through, sampler.power)
    led = denoise if sampler.guidance == 1 else Guided(denoise, denoise.guide, sampler.guidance)
    return sample(led, noise(), ts, schedule.alpha_bar, sampler.step, (fresh or noise) if sampler.needs_noise else None)
