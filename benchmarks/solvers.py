"""How far each solver and spacing of its times ends from the exact solution: `python -m benchmarks.solvers`.

Exact is DPM-Solver++(2M) with 166 steps, five times finer than any candidate. All start from the same noise.
"""

import math
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from hwkit.diffusion import Denoiser, ddim_step
from hwkit.runs.checkpoint import EXPORTED, PRETRAINED, load_denoiser
from hwkit.sampling import ImageNoise, sample, times
from hwkit.solvers import dpm_solver_step, unipc_step

NUMBERS = range(1, 101)
Times = list[int]


def power(T: int, steps: int, exponent: float) -> Times:
    """Times that fall as a power: denser towards 0 (above 1)."""
    return distinct(T * np.linspace(1, 0, steps + 1) ** exponent)


def even_in_log_snr(alpha_bar: Tensor, steps: int, last: int = 15) -> Times:
    """Evenly spaced in log-SNR from T to the time `last`, from which x̂_0 is taken; both ends were tried."""
    log_snr = (alpha_bar[1:] / (1 - alpha_bar[1:])).log().double().numpy()
    wanted = np.linspace(log_snr[-1], log_snr[last - 1], steps)
    return distinct([*(np.abs(log_snr - value).argmin() + 1 for value in wanted), 0])


def distinct(ts) -> Times:
    """Rounded, and moved up where two fall together."""
    ts = np.round(ts).astype(int).tolist()
    for i in reversed(range(len(ts) - 1)):
        ts[i] = max(ts[i], ts[i + 1] + 1)
    return ts


def solved(denoise: Denoiser, ts: Times, step: Callable) -> Tensor:
    *_, last = sample(denoise, ImageNoise(0, NUMBERS)(), ts, denoise.schedule.alpha_bar, step)
    return last.x_t


def by_heun(denoise: Denoiser, ts: Times) -> Tensor:
    """Heun's method in log-SNR (Karras et al. 2022, algorithm 1): two evaluations a step, but for the last."""
    x, alpha_bar = ImageNoise(0, NUMBERS)(), denoise.schedule.alpha_bar
    for t, s in pairwise(ts[:-1]):
        a_t, a_s = alpha_bar[t].item(), alpha_bar[s].item()
        x0_hat, _ = denoise(x, t)
        x0_hat_s, _ = denoise(ddim_step(x, *both(x, x0_hat, a_t), a_t, a_s), s)
        x = ddim_step(x, *both(x, (x0_hat + x0_hat_s) / 2, a_t), a_t, a_s)
    return denoise(x, ts[-2])[0]


def both(x: Tensor, x0_hat: Tensor, alpha_bar: float) -> tuple[Tensor, Tensor]:
    return x0_hat, (x - math.sqrt(alpha_bar) * x0_hat) / math.sqrt(1 - alpha_bar)


def main(weights: Path) -> None:
    denoise = load_denoiser(weights)
    T, alpha_bar = denoise.schedule.T, denoise.schedule.alpha_bar
    candidates = [
        ("DDIM", "even in t", times(T, 50), ddim_step),
        ("DPM-Solver++(2M)", "even in t", times(T, 17), dpm_solver_step),
        ("DPM-Solver++(2M)", "t^1.2", power(T, 17, 1.2), dpm_solver_step),
        ("DPM-Solver++(2M)", "t^2", power(T, 17, 2), dpm_solver_step),
        ("DPM-Solver++(2M)", "even in log-SNR", even_in_log_snr(alpha_bar, 17), dpm_solver_step),
        *[("UniPC-2", "even in t", times(T, n), unipc_step) for n in (10, 12, 15, 17, 20)],
        ("UniPC-2", "t^1.2", power(T, 17, 1.2), unipc_step),
        ("UniPC-2", "even in log-SNR", even_in_log_snr(alpha_bar, 17), unipc_step),
        ("Heun", "even in t", times(T, 9), None),
    ]
    exact, lines = solved(denoise, times(T, 166), dpm_solver_step), []
    for name, spacing, ts, step in tqdm(candidates):
        found = solved(denoise, ts, step) if step else by_heun(denoise, ts)
        distance = (found - exact).square().mean((1, 2, 3)).sqrt()
        evaluations = len(ts) - 1 if step else 2 * (len(ts) - 1) - 1
        lines.append(f"| {name} | {evaluations} | {spacing} | {distance.mean():.4f} | {distance.median():.4f} |")
    print("| solver | evaluations | times | mean | median |\n| --- | --- | --- | --- | --- |", *lines, sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PRETRAINED / EXPORTED)
