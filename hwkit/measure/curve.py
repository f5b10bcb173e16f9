"""Digit-FID against network evaluations."""

import json
import time
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from tqdm.auto import tqdm

from hwkit.files import write_json
from hwkit.measure.distances import frechet_distance, frechet_error, read_statistics, statistics
from hwkit.measure.features import DIGITS, digit_features, floors
from hwkit.measure.score import at
from hwkit.runs.checkpoint import digest, load_denoiser, versions
from hwkit.runs.generate import images
from hwkit.sampling import Sampler

CURVE = [Sampler("ddim", n) for n in (10, 20, 50, 100)] + [Sampler(s, n) for s in ("dpm++", "unipc") for n in (10, 20)]


def fid_curve(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    n: int = 2_000,
    ddpm: bool = False,
    seed: int = 0,
    batch: int = 100,
    out: Path | None = None,
    device: Literal["cpu", "cuda", "mps"] | None = None,
) -> None:
    """Draws digit-FID against network evaluations for DDIM 10, 20, 50, 100, DPM-Solver++ and UniPC 10, 20.

    What is measured is kept, so that an interrupted curve goes on where it stopped.

    Args:
        checkpoint: such as runs/cpu/ema_latest.pt
        n: images for each point.
        ddpm: DDPM over all T as well.
        seed: of the images.
        batch: images made together.
        out: where fid_curve.json and fid_curve.png go; by default figures/ beside the checkpoint.
        device: by default the best that is there.
    """
    from hwkit.show.figures import fid_curve_figure, save

    if n < 2:
        raise ValueError(f"n is {n}, but at least 2 images are needed for each point.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    out = out or checkpoint.parent / "figures"
    denoise = load_denoiser(checkpoint, device)
    record = curve_so_far(out / "fid_curve.json", {"checkpoint_sha256": digest(checkpoint), "images": n, "seed": seed})
    samplers = [s for s in CURVE if s.steps <= denoise.schedule.T] + ([Sampler("ddpm")] if ddpm else [])
    for sampler in (sampler.resolve(denoise.schedule.T) for sampler in samplers):
        if any(point["sampler"] == str(sampler) for point in record["points"]):
            continue
        point = curve_point(denoise, sampler, n, seed, batch, device)
        record["points"].append(point)
        write_json(out / "fid_curve.json", record)
        print(f"{point['sampler']}: digit-FID {point['value']:.2f} ± {point['error']:.2f}, {point['seconds']:.0f} s")
    path = save(fid_curve_figure(record), out / "fid_curve.png")
    print(f"{n:,} images a point, floor (as many real test digits) {record['floor']:.2f}: {path}")


def curve_so_far(path: Path, of: dict) -> dict:
    """The curve kept at `path`, if it is of the same checkpoint, number of images and seed; else a new one."""
    floor = at(floors()["test-vs-train"]["by_images"], of["images"])
    fresh = {**of, "floor": floor, "versions": versions(), "points": []}
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return fresh
    return kept if {key: kept.get(key) for key in of} == of else fresh


def curve_point(denoise, sampler: Sampler, n: int, seed: int, batch: int, device) -> dict:
    """Makes n images and measures their digit-FID."""
    against = read_statistics(DIGITS / "digit_stats_train.npz")
    made, started = [], time.monotonic()
    with tqdm(total=n, unit="image", desc=str(sampler)) as bar:
        for first in range(1, n + 1, batch):
            block = range(first, min(first + batch, n + 1))
            made.append(images(denoise, sampler, seed, block, device))
            bar.update(len(block))
    seconds = time.monotonic() - started
    features = digit_features(torch.cat(made))
    value = frechet_distance(*statistics(features), *against)
    error = frechet_error(features, *against)
    about = {"sampler": str(sampler), "name": sampler.name, "evaluations": sampler.steps, "seconds": round(seconds, 1)}
    return {**about, "value": value, "error": error}
