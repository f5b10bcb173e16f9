"""The right answers that the library does not hold in this form; the others are in the lesson and in `measure`."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwkit.solvers import log_snr


def alpha_bar_table(beta: Tensor) -> Tensor:
    """β_1 … β_T (T,) float64 → ᾱ_0 … ᾱ_T (T+1,) float64, with ᾱ_0 = 1 (Ho et al. 2020, eq. 4)."""
    return torch.cat([torch.ones(1, dtype=beta.dtype), (1 - beta).cumprod(0)])


def draw_t_and_eps(x_0: Tensor, T: int) -> tuple[Tensor, Tensor]:
    """For images (B, C, H, W): times t (B,) in {1, …, T}, and ε ~ N(0, I) of x_0's shape (Ho et al. 2020, alg. 1)."""
    return torch.randint(1, T + 1, (len(x_0),), device=x_0.device), torch.randn_like(x_0)


def time_embedding(t: Tensor, dim: int) -> Tensor:
    """t (B,) → (B, dim): sines, then cosines, of t / 10000^(i/h), i = 0 … h − 1, h = dim/2 (Vaswani et al. 2017)."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(dim // 2, device=t.device) / (dim // 2))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def update_weights(model: nn.Module, ema: nn.Module, optimizer, loss: Tensor, clip=1.0, decay=0.999) -> Tensor:
    """One descent on a loss (scalar), by a gradient of length `clip` at most; the average keeps `decay` of itself.

    Returns the gradient's length before clipping, a scalar.
    """
    optimizer.zero_grad()
    loss.backward()
    length = nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    with torch.no_grad():
        for average, weight in zip(ema.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
    return length


def ddpm_mean_eps(x_t: Tensor, eps_hat: Tensor, alpha_bar_t: float, alpha_bar_s: float) -> Tensor:
    """The mean of p(x_s | x_t), (B, C, H, W), from ε̂ (Ho et al. 2020, eq. 11); s < t is t − 1 in the paper."""
    alpha = alpha_bar_t / alpha_bar_s
    return (x_t - (1 - alpha) / (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha**0.5


def second_order_step(
    x_t: Tensor,
    x0_hat: Tensor,
    eps_hat: Tensor,
    alpha_bar_t: float,
    alpha_bar_s: float,
    noise: Tensor | None = None,
    past: Sequence[tuple[float, Tensor]] = (),
) -> Tensor:
    """x_s (B, C, H, W) by DPM-Solver++(2M): DDIM, with x̂_0 carried to mid-step (Lu et al. 2022, algorithm 2)."""
    if past and alpha_bar_s < 1:
        alpha_bar_r, before = past[-1]
        here = log_snr(alpha_bar_t)
        slope = (x0_hat - before) / (here - log_snr(alpha_bar_r))
        x0_hat = x0_hat + slope * (log_snr(alpha_bar_s) - here) / 2
    eps_hat = (x_t - alpha_bar_t**0.5 * x0_hat) / (1 - alpha_bar_t) ** 0.5
    return alpha_bar_s**0.5 * x0_hat + (1 - alpha_bar_s) ** 0.5 * eps_hat
