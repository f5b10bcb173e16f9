"""Solvers of second order: DPM-Solver++(2M), with fresh noise or without, and UniPC-2.

Lu et al. 2022 (DPM-Solver++, arXiv:2211.01095), Zhao et al. 2023 (UniPC, arXiv:2302.04867), Xue et al. 2023 (SA-Solver,
arXiv:2309.05019). They are steps like those in `diffusion.py`, with one argument more: `past`, the (ᾱ, x̂_0) of up to
two steps before, the latest last. The loop keeps it (`sampling.sample`), so a step has no memory of its own. Without a
past a step is of first order: without noise it is DDIM.
"""

import math
from collections.abc import Sequence

from torch import Tensor

Past = Sequence[tuple[float, Tensor]]


def log_snr(alpha_bar: float) -> float:
    """λ = ½ log(ᾱ/(1−ᾱ)), half the logarithm of the signal-to-noise ratio. Needs 0 < ᾱ < 1."""
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar))


def dpm_solver_step(
    x_t: Tensor,
    x0_hat: Tensor,
    eps_hat: Tensor,
    alpha_bar_t: float,
    alpha_bar_s: float,
    noise: Tensor | None = None,
    past: Past = (),
    eta: float = 0.0,
) -> Tensor:
    """x_s (B, C, H, W) by DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): DDIM, with x̂_0 taken at mid-step.

    x̂_0 is carried from λ_t to the middle of the step along its slope since the step before. The step to s = 0, where
    λ is infinite, returns x̂_0 itself. With `eta` > 0 a part of the noise in x_t is replaced by fresh noise ~ N(0, I).
    At 1 this is SDE-DPM-Solver++(2M) (ibid., §6 and appendix); between 0 and 1 that of Xue et al. 2023, with τ = η.
    eps_hat is not used, and noise only with eta > 0.
    """
    if alpha_bar_s == 1:
        return x0_hat
    lambda_t, lambda_s = log_snr(alpha_bar_t), log_snr(alpha_bar_s)
    h = lambda_s - lambda_t
    if past:
        alpha_bar_r, before = past[-1]
        x0_hat = x0_hat + (x0_hat - before) / (lambda_t - log_snr(alpha_bar_r)) * h / 2
    kept = ((1 - alpha_bar_s) / (1 - alpha_bar_t)) ** 0.5 * math.exp(-(eta**2) * h)
    x_s = kept * x_t - alpha_bar_s**0.5 * math.expm1(-(1 + eta**2) * h) * x0_hat
    return x_s + (-(1 - alpha_bar_s) * math.expm1(-2 * eta**2 * h)) ** 0.5 * noise if eta > 0 else x_s


def unipc_step(
    x_t: Tensor, x0_hat: Tensor, eps_hat: Tensor, alpha_bar_t: float, alpha_bar_s: float, noise=None, past: Past = ()
) -> Tensor:
    """x_s (B, C, H, W) by UniPC-2 (Zhao et al. 2023, algorithms 1 and 2; B(h) = e^h − 1, data prediction).

    The x̂_0 found at x_t first corrects x_t, at no further evaluation; the step on is `dpm_solver_step`, which is
    UniPC's predictor. eps_hat and noise are not used.
    """
    if past and alpha_bar_s != 1:
        h = log_snr(alpha_bar_t) - log_snr(past[-1][0])
        x_t = x_t - alpha_bar_t**0.5 * math.expm1(-h) * _correction(x0_hat, log_snr(alpha_bar_t), past)
    return dpm_solver_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, past=past)


def _correction(x0_hat: Tensor, lambda_t: float, past: Past) -> Tensor:
    """By how much the mean of x̂_0 over the last step differs from what that step took it for.

    The mean is that of the parabola through the last three x̂_0, weighted as the integral over the step weighs it.
    After the first step only two are known, and the mean of both is taken (as the paper does for order 1).
    """
    alpha_bar_r, before = past[-1]
    h, change = lambda_t - log_snr(alpha_bar_r), x0_hat - before
    if len(past) == 1:
        return change / 2
    h_before = log_snr(alpha_bar_r) - log_snr(past[-2][0])
    slope = (before - past[-2][1]) / h_before * h  # the change that the last step expected
    b1 = -1 / h - 1 / math.expm1(-h)  # integrals of the parabola's two terms, by that of 1
    bend = (b1 + 2 * b1 / h + 1 / math.expm1(-h)) / (1 + h_before / h)
    return bend * slope + (b1 - bend) * change - slope / 2
