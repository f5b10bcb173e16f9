"""The noise schedule: the table ᾱ_0 … ᾱ_T, from which everything else follows.

The state index t runs over {0, …, T}: x_0 is the clean image and ᾱ_0 = 1; x_T is (almost) pure noise. The papers'
β_1 … β_T are `betas[0] … betas[T-1]` in other libraries, so ᾱ_t here is `alphas_cumprod[t-1]` there.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hwkit.language import say


@dataclass(frozen=True, eq=False)
class Schedule:
    """A noise schedule; `alpha_bar` (T+1,) is float64, falls from 1 towards 0, and is all that is stored."""

    name: str
    alpha_bar: Tensor

    def __post_init__(self):
        table = self.alpha_bar
        if table.ndim != 1 or len(table) < 2 or table.dtype != torch.float64:
            text = "Schedule: ᾱ must be a float64 table of T + 1 ≥ 2 values, not {shape} {dtype}."
            raise ValueError(say(text, shape=tuple(table.shape), dtype=table.dtype))
        if table[0] != 1 or not (table.diff() < 0).all() or not table[-1] > 0:
            raise ValueError(say("Schedule: ᾱ must start at 1 and fall strictly towards, but not to, 0."))

    @property
    def T(self) -> int:
        """The number of noise levels; x_T is the noisiest state."""
        return len(self.alpha_bar) - 1

    @property
    def beta(self) -> Tensor:
        """β_0 … β_T (T+1,) float64, with β_0 = 0: β_t = 1 − ᾱ_t / ᾱ_{t−1} (Ho et al. 2020, §2)."""
        return 1 - self.alpha_bar / torch.cat([self.alpha_bar[:1], self.alpha_bar[:-1]])

    @property
    def posterior_variance(self) -> Tensor:
        """β̃_0 … β̃_T (T+1,) float64: β̃_t = β_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t), and β̃_0 = 0 (Ho et al. 2020, eq. 7)."""
        previous = torch.cat([self.alpha_bar[:1], self.alpha_bar[:-1]])
        variance = self.beta * (1 - previous) / (1 - self.alpha_bar)
        variance[0] = 0  # 0/0: a clean image has nothing left to remove
        return variance

    @property
    def snr(self) -> Tensor:
        """ᾱ / (1 − ᾱ) (T+1,) float64, the signal-to-noise ratio; infinite at t = 0."""
        return self.alpha_bar / (1 - self.alpha_bar)

    def __str__(self) -> str:
        text = "{name} schedule, T = {T}, √ᾱ_T = {left:.4f} of the image is left in x_T"
        return say(text, name=self.name, T=self.T, left=self.alpha_bar[-1].sqrt().item())


def linear(T: int, beta_start: float = 1e-4, beta_end: float = 2e-2) -> Schedule:
    """β_1 … β_T in equal steps from beta_start to beta_end (Ho et al. 2020, §4).

    Meant for T near 1000: a much smaller T leaves signal in x_T, which √ᾱ_T in `str(schedule)` shows.
    Raises ValueError unless T ≥ 1 and 0 < β < 1.
    """
    if T < 1:
        raise ValueError(say("A schedule needs T ≥ 1 noise levels, not T = {T}.", T=T))
    if not 0 < beta_start <= beta_end < 1:
        text = "linear: β runs from {start} to {end}, but needs 0 < start ≤ end < 1."
        raise ValueError(say(text, start=beta_start, end=beta_end))
    beta = torch.linspace(beta_start, beta_end, T, dtype=torch.float64)
    return Schedule("linear", _from_betas(beta))


def cosine(T: int, s: float = 0.008, beta_max: float = 0.999) -> Schedule:
    """ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s) · π/2), β capped at beta_max (Nichol & Dhariwal 2021, eq. 17).

    Raises ValueError unless T ≥ 1.
    """
    if T < 1:
        raise ValueError(say("A schedule needs T ≥ 1 noise levels, not T = {T}.", T=T))
    t = torch.arange(T + 1, dtype=torch.float64)
    f = ((t / T + s) / (1 + s) * math.pi / 2).cos() ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=beta_max)
    return Schedule("cosine", _from_betas(beta))


SCHEDULES = {"linear": linear, "cosine": cosine}


def _from_betas(beta: Tensor) -> Tensor:
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])
