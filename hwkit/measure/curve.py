"""Digit-FID against network evaluations: how many steps each sampler needs."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from hwkit.diffusion import Denoiser
from hwkit.files import write_json
from hwkit.language import say
from hwkit.measure.score import Record, digit_fid, floor_at
from hwkit.runs.checkpoint import best_of, digest, load_denoiser, versions
from hwkit.runs.generate import images, side_by_side
from hwkit.runs.speed import best_device
from hwkit.sampling import GUIDANCE, Sampler

SAMPLERS = [Sampler("dpm++sde", n, guidance=1.0) for n in (10, 15, 20, 30)]
SAMPLERS += [Sampler("ddim", n) for n in (10, 20, 50)] + [Sampler("unipc", n) for n in (10, 15, 20)]
GUIDED = [Sampler("dpm++sde", n, guidance=GUIDANCE) for n in (8, 12, 16, 24)]


@dataclass(frozen=True)
class Point:
    """One sampler's digit-FID and its standard error, the network evaluations an image took, and the seconds of all."""

    sampler: str  # such as ddim-50
    name: str
    evaluations: int
    seconds: float
    value: float
    error: float


@dataclass(frozen=True)
class Curve(Record):
    """Points of one checkpoint, each of as many images of one seed, and what as many real test digits score."""

    checkpoint_sha256: str
    images: int
    seed: int
    floor: float
    versions: dict[str, str]
    points: tuple[Point, ...] = ()

    @classmethod
    def from_json(cls, content: dict) -> "Curve":
        """The curve that `to_json` gave. Other content raises what `read` puts in words."""
        return cls(**{**content, "points": tuple(Point(**point) for point in content["points"])})


def curve(
    checkpoint: Path, path: Path, n: int = 2_000, ddpm: bool = False, seed: int = 0, batch: int = 100, device=None
) -> Iterator[Curve]:
    """Measures n images each of stochastic DPM-Solver++, DDIM and UniPC at some steps, and `ddpm`: of DDPM over all T.

    Where the weights have a guide, also of stochastic DPM-Solver++ with guidance.

    Yields the curve so far after each sampler, whose point is its last: `*_, whole = curve(…)`. It is kept at `path`;
    what stands there of the same weights, n and seed is not measured again. ValueError for unfit numbers, and where
    `path` holds something else; else as `checkpoint.load_denoiser` raises.
    """
    for flag, value, least in (("n", n, 2), ("batch", batch, 1), ("seed", seed, 0)):
        if value < least:
            text = "--{flag} is {value}, but must be at least {least}."
            raise ValueError(say(text, flag=flag, value=value, least=least))
    checkpoint, device = best_of(checkpoint) if checkpoint.is_dir() else checkpoint, device or best_device()
    denoise = load_denoiser(checkpoint, device)
    T = denoise.schedule.T
    so_far = Curve(digest(checkpoint), n, seed, floor_at(n), versions())
    kept = Curve.read(path) if Path(path).is_file() else so_far
    if all(getattr(kept, key) == getattr(so_far, key) for key in ("checkpoint_sha256", "images", "seed")):
        so_far = kept
    chosen = SAMPLERS + GUIDED * (denoise.guide is not None) + [Sampler("ddpm")] * ddpm
    for sampler in [s.resolve(T, denoise.guidance) for s in chosen if (s.steps or T) <= T]:
        points = {point.sampler: point for point in so_far.points}
        point = points.pop(str(sampler), None) or measure(denoise, sampler, n, seed, batch, device)
        so_far = replace(so_far, points=(*points.values(), point))
        write_json(path, so_far.to_json())
        yield so_far


def measure(denoise: Denoiser, sampler: Sampler, n: int, seed: int, batch: int, device) -> Point:
    """Makes images 1 to n of the run `seed`, `batch` at a time, and measures their digit-FID."""
    started = time.monotonic()
    blocks = [range(k, min(k + batch, n + 1)) for k in range(1, n + 1, batch)]
    made = side_by_side(partial(images, denoise, sampler, seed, device=device), blocks, denoise)
    with contextlib.closing(made), tqdm(made, total=len(blocks), unit="batch", desc=str(sampler)) as shown:
        pictures = torch.cat([*shown])
    seconds = round(time.monotonic() - started, 1)
    name = sampler.name + " guided" * (sampler.guidance != 1)
    return Point(str(sampler), name, sampler.steps, seconds, *digit_fid(pictures))
