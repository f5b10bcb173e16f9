"""What is drawn of a finished run."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from hwkit import figures
from hwkit.checkpoint import load, load_denoiser
from hwkit.data import file_name, read_png
from hwkit.diffusion import Denoiser
from hwkit.generate import Sampler, images, trajectory
from hwkit.samplers import Frame, nodes
from hwkit.schedule import cosine, linear
from hwkit.train import read_history


def draw_figures(
    run: Path, checkpoint: Path, out: Path, seed: int = 0, dpi: int = 150, device: torch.device | str = "cpu"
) -> Iterator[Path]:
    """Draws a run's figures into `out` and yields the path of each.

    Both diffusion grids (from one and the same x_T), the loss curve (where there is a history), a sheet of 100 samples,
    and the schedules.
    """
    denoise = load_denoiser(checkpoint, device)
    for sampler in (Sampler("ddpm"), Sampler("ddim")):
        sampler = sampler.resolve(denoise.schedule.T)
        title = f"{sampler.name.upper()}, {sampler.steps} steps"
        grid = figures.diffusion_grid(grid_frames(denoise, sampler, seed, device), title)
        yield figures.save(grid, out / f"diffusion_grid_{sampler.name}.png", dpi)
    history = read_history(run)
    if history:
        last = history[-1]
        title = f"{last['images_seen']:,} images, {last['seconds'] / 60:.0f} min, loss {last['loss']:.4f}"
        yield figures.save(figures.loss_curve(history, title), out / "loss_curve.png", dpi)
    yield figures.save(figures.sample_sheet(hundred_samples(run, denoise, seed, device)), out / "samples.png", dpi)
    T = denoise.schedule.T
    yield figures.save(figures.schedule_curves([linear(T), cosine(T)]), out / "schedule.png", dpi)
    epoch, seen = (load(checkpoint)[key] for key in ("epoch", "images_seen"))
    print(f"Drawn from {checkpoint.name} (epoch {epoch}, {seen:,} images seen); {denoise.schedule}")


def grid_frames(
    denoise: Denoiser, sampler: Sampler, seed: int, device: torch.device | str = "cpu", rows: int = 8
) -> list[Frame]:
    """The frames of `rows` samples at the eight nodes, T to 0. The same seed gives the same x_T for every sampler."""
    columns = nodes(denoise.schedule.T)
    frames = trajectory(denoise, sampler, seed, range(1, rows + 1), device, through=columns)
    shown = tqdm(frames, total=sampler.resolve(denoise.schedule.T).steps + 1, desc=f"grid {sampler.name}", leave=False)
    return [frame for frame in shown if frame.t in columns]


def hundred_samples(run: Path, denoise: Denoiser, seed: int, device: torch.device | str) -> np.ndarray:
    """uint8 (100, 3, 28, 28): the first images of the run's generate/, or fresh ones where it holds fewer."""
    files = [run / "generate" / file_name(k) for k in range(1, 101)]
    if all(file.is_file() for file in files):
        return np.stack([read_png(file).transpose(2, 0, 1) for file in files])
    return images(denoise, Sampler(), seed, range(1, 101), device).numpy()
