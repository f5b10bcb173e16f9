"""The equations of DDPM and DDIM, on one page, to be read beside the papers.

Ho et al. 2020 (DDPM, arXiv:2006.11239), Song et al. 2021 (DDIM, arXiv:2010.02502), Salimans & Ho 2022 (v,
arXiv:2202.00512), Hang et al. 2023 (min-SNR, arXiv:2303.09556). Solvers of second order are in `solvers.py`.

Images x are (B, C, H, W) in [−1, 1]. ᾱ_t (`alpha_bar_t`) is a number, or a tensor (B, 1, 1, 1) with one for each image.
Steps go from time t to an earlier s, both one number for all images, and know no network: they take its x̂_0 and ε̂.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from hwkit.schedule import Schedule

Prediction = Literal["epsilon", "x0", "v"]
Weighting = Literal["uniform", "min_snr"]


# The forward process and the loss


def q_sample(x_0: Tensor, alpha_bar_t, eps: Tensor) -> Tensor:
    """x_t ~ q(x_t | x_0): x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε, ε ~ N(0, I) (Ho et al. 2020, eq. 4). Same shape as x_0."""
    return alpha_bar_t**0.5 * x_0 + (1 - alpha_bar_t) ** 0.5 * eps


def target(x_0: Tensor, alpha_bar_t, eps: Tensor, prediction: Prediction) -> Tensor:
    """What the network should put out, (B, C, H, W): ε, x_0, or v = √ᾱ_t ε − √(1−ᾱ_t) x_0 (Salimans & Ho 2022, §4)."""
    if prediction == "epsilon":
        return eps
    if prediction == "x0":
        return x_0
    if prediction == "v":
        return alpha_bar_t**0.5 * eps - (1 - alpha_bar_t) ** 0.5 * x_0
    raise ValueError(f"prediction is {prediction!r}, but must be 'epsilon', 'x0' or 'v'.")


def predict_x0_eps(output: Tensor, x_t: Tensor, alpha_bar_t, prediction: Prediction) -> tuple[Tensor, Tensor]:
    """The network's output, whatever it predicts, as (x̂_0, ε̂), each (B, C, H, W), with x_t = √ᾱ_t x̂_0 + √(1−ᾱ_t) ε̂.

    Ho et al. 2020, eq. 15; Salimans & Ho 2022, §4. Needs t ≥ 1 (ᾱ_t < 1).
    """
    signal, noise = alpha_bar_t**0.5, (1 - alpha_bar_t) ** 0.5
    if prediction == "epsilon":
        return (x_t - noise * output) / signal, output
    if prediction == "x0":
        return output, (x_t - signal * output) / noise
    if prediction == "v":
        return signal * x_t - noise * output, noise * x_t + signal * output
    raise ValueError(f"prediction is {prediction!r}, but must be 'epsilon', 'x0' or 'v'.")


def loss_weight(alpha_bar_t: Tensor, prediction: Prediction, weighting: Weighting, gamma: float = 5.0) -> Tensor:
    """The weight of each image's squared error, of ᾱ_t's shape.

    `uniform`: 1 (Ho et al. 2020, eq. 14). `min_snr`: min(SNR, γ) on the error of x̂_0, which is min(SNR, γ)/SNR on
    that of ε̂ and min(SNR, γ)/(SNR + 1) on that of v̂ (Hang et al. 2023, eq. 5 and §3.4).
    """
    if weighting == "uniform":
        return torch.ones_like(alpha_bar_t)
    if weighting != "min_snr":
        raise ValueError(f"weighting is {weighting!r}, but must be 'uniform' or 'min_snr'.")
    snr = alpha_bar_t / (1 - alpha_bar_t)
    return snr.clamp(max=gamma) / {"epsilon": snr, "x0": 1, "v": snr + 1}[prediction]


def diffusion_loss(
    model: nn.Module, x_0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor, prediction="epsilon", weighting="uniform"
) -> Tensor:
    """The training loss, a scalar: the weighted mean squared error at times t (Ho et al. 2020, algorithm 1).

    x_0 and eps (B, C, H, W); t (B,) integers in {1, …, T}; alpha_bar (T+1,) on x_0's device.
    """
    alpha_bar_t = alpha_bar[t].to(x_0.dtype)[:, None, None, None]  # (B, 1, 1, 1)
    output = model(q_sample(x_0, alpha_bar_t, eps), t)
    squared_error = (output.to(x_0.dtype) - target(x_0, alpha_bar_t, eps, prediction)) ** 2
    return (loss_weight(alpha_bar_t, prediction, weighting) * squared_error).mean()


class Denoiser:
    """A trained network as the samplers see it: `denoise(x_t, t)` → (x̂_0, ε̂), each of x_t's shape.

    x̂_0 is clipped to [−1, 1], where images live, and ε̂ derived from it again, so that the two always agree on x_t.
    """

    def __init__(self, model: nn.Module, schedule: Schedule, prediction: Prediction, clip: bool = True):
        self.model, self.schedule, self.prediction, self.clip = model, schedule, prediction, clip
        self.guide = self.guidance = None  # a worse denoiser that came with it, and the weight for `Guided`

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        alpha_bar_t = self.schedule.alpha_bar[t].item()
        output = self.model(x_t, torch.full((len(x_t),), t, device=x_t.device)).to(x_t.dtype)
        x0_hat, eps_hat = predict_x0_eps(output, x_t, alpha_bar_t, self.prediction)
        if self.clip:
            x0_hat, eps_hat = predict_x0_eps(x0_hat.clamp(-1, 1), x_t, alpha_bar_t, "x0")
        return x0_hat, eps_hat


class Guided:
    """Autoguidance (Karras et al. 2024, arXiv:2406.02507, eq. 3): a denoiser, led away from a worse one's mistakes.

    x̂_0 = x̂_bad + weight · (x̂_good − x̂_bad), clipped to [−1, 1], and ε̂ so that it agrees. A weight of 1 is `good`. Both
    are denoisers over one schedule; what both get wrong alike, `bad` gets more wrong, so the difference points to what
    is right.
    """

    def __init__(self, good: Denoiser, bad: Denoiser, weight: float):
        self.good, self.bad, self.weight, self.schedule = good, bad, weight, good.schedule
        if not torch.equal(good.schedule.alpha_bar, bad.schedule.alpha_bar):
            raise ValueError(f"Guided: the schedules differ ({good.schedule}; {bad.schedule}).")

    def __call__(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        (x0_good, _), (x0_bad, _) = self.good(x_t, t), self.bad(x_t, t)
        x0_hat = torch.lerp(x0_bad, x0_good, self.weight).clamp(-1, 1)
        return predict_x0_eps(x0_hat, x_t, self.schedule.alpha_bar[t].item(), "x0")


# One step of the reverse process, from time t to an earlier time s


def ddpm_step(
    x_t: Tensor, x0_hat: Tensor, eps_hat: Tensor, alpha_bar_t, alpha_bar_s, noise: Tensor, variance="posterior"
) -> Tensor:
    """x_s ~ p(x_s | x_t), the ancestral step (Ho et al. 2020, eq. 7 for mean and β̃; §3.2 for the choice of β).

    With s = t − 1 it is the paper's. No noise is added when s = 0. noise ~ N(0, I) is of x_t's shape.
    """
    alpha = alpha_bar_t / alpha_bar_s  # α_t, or the product of the α between s and t
    beta = 1 - alpha
    mean = (alpha_bar_s**0.5 * beta * x0_hat + alpha**0.5 * (1 - alpha_bar_s) * x_t) / (1 - alpha_bar_t)
    if alpha_bar_s == 1:
        return mean
    if variance == "posterior":
        return mean + (beta * (1 - alpha_bar_s) / (1 - alpha_bar_t)) ** 0.5 * noise
    if variance == "beta":
        return mean + beta**0.5 * noise
    raise ValueError(f"variance is {variance!r}, but must be 'posterior' or 'beta'.")


def ddim_step(
    x_t: Tensor, x0_hat: Tensor, eps_hat: Tensor, alpha_bar_t, alpha_bar_s, noise: Tensor | None = None, eta=0.0
) -> Tensor:
    """x_s from x̂_0, the direction to x_t, and η σ of fresh noise (Song et al. 2021, eq. 12; σ from eq. 16).

    η = 0 needs no noise and always gives the same image; η = 1 is the DDPM step with the posterior variance.
    """
    sigma = eta * ((1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)) ** 0.5
    x_s = alpha_bar_s**0.5 * x0_hat + (1 - alpha_bar_s - sigma**2) ** 0.5 * eps_hat
    return x_s + sigma * noise if sigma > 0 else x_s
