"""Which solver, noise, guide, spacing and steps draw best from the kit's weights: `python -m benchmarks.samplers`.

Around the kit's default each choice is varied alone, at the cost of 20 evaluations of the network. What was best of
each, all together, and the default are then compared at the cost of 8, 12, 20 and 30. All of that is chosen on seed 1,
and what was chosen told on seed 2, by 5,000 images each. A point that is measured is kept, so that an interrupted
search goes on with the next one. Arguments: how many images, and the file of the points.
"""

import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.solvers import Times, distinct, even_in_log_snr, power
from hwkit.diffusion import Denoiser, Guided, ddim_step
from hwkit.files import write_json
from hwkit.measure.score import digit_fid, floor_at
from hwkit.mnist.batches import to_uint8
from hwkit.runs.checkpoint import EXPORTED, PRETRAINED, load_denoiser
from hwkit.runs.speed import best_device, quickest_precision
from hwkit.sampling import ImageNoise, sample, times
from hwkit.solvers import dpm_solver_step, unipc_step
from hwkit.training import autocast

BLOCK = 100  # images sampled together
CHOSEN, TOLD = 1, 2  # seeds
AROUND, BUDGETS = 20, (8, 12, 20, 30)  # evaluations of the network
GUIDE = 0.25  # of an evaluation is what one of the guide costs


class Way(NamedTuple):
    """How noise becomes an image."""

    solver: str = "dpm++"  # or ddim, or unipc
    eta: float = 1.0  # fresh noise
    weight: float = 1.3  # of the guide; 1 is none
    spacing: str = "t^1.25"  # of the times
    until: float = 1.0  # guided only at times up to this share of T (Kynkäänniemi et al. 2024, arXiv:2404.07724)

    def steps(self, budget: int) -> int:
        """That cost at most `budget` evaluations of the network alone; at the default's spacing of the times."""
        led = GUIDE * self.until ** (1 / 1.25) * (self.weight != 1)  # of an evaluation, for a step
        return int(budget / (1 + led))


DEFAULT = Way()
OTHERS = {  # each alone in the place of the default's
    "solver": [{"solver": "dpm++", "eta": 0.0}, {"solver": "unipc", "eta": 0.0}]
    + [{"solver": "ddim", "eta": eta} for eta in (0.0, 1.0)],
    "eta": [{"eta": eta} for eta in (0.5, 0.75)],
    "weight": [{"weight": weight} for weight in (1.0, 1.15, 1.5, 2.0)],
    "spacing": [{"spacing": spacing} for spacing in ("t", "t^1.5", "t^2", "log-SNR", "Karras")],
    "until": [{"until": until} for until in (0.25, 0.5, 0.6, 0.7, 0.85)],
}


def spaced(name: str, alpha_bar: Tensor, steps: int) -> Times:
    """Falling times from T to 0: even in t, denser towards 0 as a power, even in log-SNR, or as in EDM."""
    T = len(alpha_bar) - 1
    if name == "log-SNR":
        return even_in_log_snr(alpha_bar, steps)
    if name == "Karras":  # σ^(1/7) in equal steps (Karras et al. 2022, eq. 5)
        sigma = ((1 / alpha_bar[1:]) - 1).sqrt().double().numpy()
        wanted = np.linspace(sigma[-1] ** (1 / 7), sigma[0] ** (1 / 7), steps) ** 7
        return distinct([*(np.abs(sigma - value).argmin() + 1 for value in wanted), 0])
    return times(T, steps) if name == "t" else power(T, steps, float(name.removeprefix("t^")))


def drawn(denoise: Denoiser, way: Way, steps: int, seed: int, n: int, precision: str) -> Tensor:
    """Images uint8 (n, 3, 28, 28)."""
    schedule, made, device = denoise.schedule, [], next(denoise.model.parameters()).device
    guided = Guided(denoise, denoise.guide, way.weight) if way.weight != 1 else denoise
    last_led = way.until * schedule.T

    def led(x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return guided(x_t, t) if t <= last_led else denoise(x_t, t)

    step = {
        "dpm++": partial(dpm_solver_step, eta=way.eta),
        "ddim": partial(ddim_step, eta=way.eta),
        "unipc": unipc_step,
    }[way.solver]
    ts = spaced(way.spacing, schedule.alpha_bar, steps)
    block = BLOCK if device.type == "cpu" else 10 * BLOCK
    for first in range(1, n + 1, block):
        noise = ImageNoise(seed, range(first, min(first + block, n + 1)), device=device)
        with autocast(device, precision):
            *_, last = sample(led, noise(), ts, schedule.alpha_bar, step, noise if way.eta else None)
        made.append(to_uint8(last.x_t).cpu())
    return torch.cat(made)


class Search:
    """The points that are measured, in a file; what is asked for and not there is measured."""

    def __init__(self, path: Path, weights: Path, n: int):
        device = best_device()
        self.path, self.n, self.denoise = path, n, load_denoiser(weights, device)
        self.precision = quickest_precision(self.denoise, device)
        self.points = json.loads(path.read_text()) if path.is_file() else {}

    def __call__(self, way: Way, budget: int, seed: int = CHOSEN) -> dict:
        steps = way.steps(budget)
        guide = f"guide {way.weight:g}" + f" up to {way.until:g} T" * (way.until < 1) if way.weight != 1 else "no guide"
        name = f"{way.solver} η {way.eta:g}, {guide}, {way.spacing}, {steps} steps"
        key = f"{name}; {self.n} images of seed {seed}"
        if key not in self.points:
            started = time.monotonic()
            value, error = digit_fid(drawn(self.denoise, way, steps, seed, self.n, self.precision))
            seconds = round(time.monotonic() - started, 1)
            self.points[key] = {"name": name, "value": value, "error": error, "seconds": seconds}
            write_json(self.path, self.points)
            print(f"{key}: {value:.2f} ± {error:.2f}, {seconds:.0f} s in {self.precision}", flush=True)
        return self.points[key]


def rows(search: Search) -> Iterator[tuple[str, dict]]:
    """Measures all, and gives what it was of and the point, in the order of the table."""
    yield "the default", search(DEFAULT, AROUND)
    best = {}
    for choice, others in OTHERS.items():
        tried = {DEFAULT: search(DEFAULT, AROUND)["value"]}
        for changed in others:
            way = DEFAULT._replace(**changed)
            point = search(way, AROUND)
            tried[way] = point["value"]
            yield f"another {choice}", point
        won = min(tried, key=tried.get)
        best |= {name: value for name, value in won._asdict().items() if value != getattr(DEFAULT, name)}
    joined = DEFAULT._replace(**best)
    for budget in BUDGETS:
        ways = dict.fromkeys((DEFAULT, joined))
        for way in ways:
            yield f"{budget} evaluations", search(way, budget)
        won = min(ways, key=lambda way: search(way, budget)["value"])
        yield f"{budget} evaluations, the better one, seed {TOLD}", search(won, budget, TOLD)


def main(path: Path, n: int) -> None:
    found = list(rows(Search(path, PRETRAINED / EXPORTED, n)))
    print(f"\n{n:,} images each; as many real digits: {floor_at(n):.2f}\n\n| | | digit-FID |\n| --- | --- | --- |")
    for what, point in found:
        print(f"| {what} | {point['name']} | {point['value']:.2f} ± {point['error']:.2f} |")


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    kept = Path(__file__).parent / "results" / "samplers.json"
    main(Path(given.get(2, kept)), int(given.get(1, 5_000)))
