"""The reverse process: noise in, frames out, over any step function of `hwkit.diffusion`.

*_, last = sample(denoise, x_T, times(T, 50), step=ddim_step)
images = last.x_t
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hwkit.diffusion import ddim_step


class Frame(NamedTuple):
    """One state of the reverse process and the clean image predicted from it; both (B, C, H, W)."""

    t: int
    x_t: Tensor
    x0_hat: Tensor  # at t = 0, the image itself


def times(T: int, steps: int, through: Sequence[int] = ()) -> list[int]:
    """`steps` + 1 falling times, evenly spaced from T to 0, both included: T = 830, 50 steps → 830, 813, 797, …, 17, 0.

    `through` names times that must be among them (the nodes of a figure): the nearest is moved onto each.
    Raises ValueError unless 1 ≤ steps ≤ T, and where the nodes are too many for the steps.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"{steps} sampling steps do not fit a schedule of T = {T}: choose 1 to {T}.")
    ts = torch.linspace(T, 0, steps + 1, dtype=torch.float64).round().long().tolist()
    free = set(range(len(ts)))
    for node in through:
        nearest = min(free, key=lambda i: abs(ts[i] - node), default=0)
        ts[nearest] = node
        free.discard(nearest)
    if any(t <= s for t, s in pairwise(ts)) or ts[0] != T or ts[-1] != 0 or not set(through) <= set(ts):
        raise ValueError(f"{steps} steps from T = {T} to 0 cannot pass through {list(through)}: use more steps.")
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
    for a step that needs none. x_T is (B, C, H, W) ~ N(0, I).
    """
    x_t = x_T
    for t, s in pairwise(times):
        x0_hat, eps_hat = denoise(x_t, t)
        yield Frame(t, x_t, x0_hat)
        fresh = noise() if noise is not None else None
        x_t = step(x_t, x0_hat, eps_hat, alpha_bar[t].item(), alpha_bar[s].item(), noise=fresh)
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
