"""N images into a folder, resumable, with a seed for each image."""

import contextlib
import json
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from hwkit import checkpoint
from hwkit.data import encode_png, file_name, to_uint8
from hwkit.diffusion import Denoiser, DPMSolverPP2M, UniPC2, ddim_step, ddpm_step
from hwkit.processes import processes
from hwkit.samplers import ImageNoise, sample, times
from hwkit.workspace import only_process, write_json, write_many

STEPS = {"ddim": 50, "ddpm": None, "dpm++": 15, "unipc": 15}  # by default; None is all T


@dataclass(frozen=True)
class Sampler:
    """How noise becomes an image. The default is the report's: DDIM, 50 steps, η = 0."""

    name: Literal["ddim", "ddpm", "dpm++", "unipc"] = "ddim"
    steps: int | None = None  # network evaluations an image; by default as in STEPS
    eta: float = 0.0  # of ddim: 0 adds no noise, 1 as much as ddpm
    variance: Literal["posterior", "beta"] = "posterior"  # of ddpm

    def __post_init__(self):
        if self.name not in STEPS:
            raise ValueError(f"sampler is {self.name!r}, but must be 'ddim', 'ddpm', 'dpm++' or 'unipc'.")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}, but must be between 0 and 1.")
        if self.eta and self.name != "ddim":
            raise ValueError(f"eta is {self.eta}, but only the sampler ddim has an eta.")

    def resolve(self, T: int) -> "Sampler":
        """With the default number of steps filled in. ValueError where the steps do not fit T."""
        steps = self.steps if self.steps is not None else min(STEPS[self.name] or T, T)
        times(T, steps)
        return replace(self, steps=steps)

    def step(self):
        """The step function, new for each trajectory."""
        if self.name == "ddpm":
            return partial(ddpm_step, variance=self.variance)
        if self.name == "ddim":
            return partial(ddim_step, eta=self.eta)
        return DPMSolverPP2M() if self.name == "dpm++" else UniPC2()

    def __str__(self) -> str:
        return f"{self.name}-{self.steps}" + (f" η={self.eta:g}" if self.eta else "")


def trajectory(
    denoise: Denoiser,
    sampler: Sampler,
    seed: int,
    numbers: Sequence[int],
    device: torch.device | str = "cpu",
    through: Sequence[int] = (),
):
    """The frames (see `samplers.sample`) of images `numbers` of the run `seed`, noisiest first."""
    sampler = sampler.resolve(denoise.schedule.T)
    noise = ImageNoise(seed, numbers, device=device)
    needs_noise = sampler.name == "ddpm" or sampler.eta > 0
    steps = times(denoise.schedule.T, sampler.steps, through)
    return sample(denoise, noise(), steps, denoise.schedule.alpha_bar, sampler.step(), noise if needs_noise else None)


def images(
    denoise: Denoiser, sampler: Sampler, seed: int, numbers: Sequence[int], device: torch.device | str = "cpu"
) -> Tensor:
    """Images `numbers` of the run `seed`: uint8 (B, 3, 28, 28) on the CPU. Image k depends on (seed, k) alone."""
    (last,) = deque(trajectory(denoise, sampler, seed, numbers, device), maxlen=1)  # keeps no earlier frame
    return to_uint8(last.x_t).cpu()


def generate(
    checkpoint_path: Path | str,
    folder: Path | str,
    n: int = 10_000,
    sampler: Sampler = Sampler(),
    seed: int = 0,
    batch: int = 100,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> int:
    """Writes images 1 … n as `00001.png` … into the flat folder, those that are missing, and returns how many were.

    Images are made in blocks of `batch` that always begin at the same numbers, so an interrupted folder ends with the
    same bytes as an undisturbed one. `<folder>.json`, beside it, says what made them.
    Under `accelerate launch` the processes share the blocks; the folder is the same.
    Raises ValueError for n < 1, for a folder with other files, or with images of another checkpoint, sampler or seed.
    """
    folder, path = Path(os.path.abspath(folder)), Path(checkpoint_path)  # "." has no name to put a manifest beside
    if not 1 <= n <= 99_999:
        raise ValueError(f"n is {n}, but must be between 1 and 99,999 (file names have five digits).")
    for name, value, least in (("batch", batch, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}, but must be at least {least}.")
    world = processes(torch.device(device).type)
    denoise = checkpoint.load_denoiser(path, device)
    sampler = sampler.resolve(denoise.schedule.T)
    with only_process(folder) if world.rank == 0 else contextlib.nullcontext():
        present = world.first(lambda: _claim(folder, _manifest(path, sampler, seed, batch), n))
        missing = [k for k in range(1, n + 1) if k not in present]
        blocks = sorted({(k - 1) // batch for k in missing})[world.rank :: world.count]
        share = len(present) + sum((k - 1) // batch in blocks for k in missing)
        silent = not progress or world.rank > 0
        with tqdm(total=share, initial=len(present), unit="image", desc=str(sampler), disable=silent) as bar:
            for index in blocks:
                block = range(index * batch + 1, min((index + 1) * batch, n) + 1)
                made = images(denoise, sampler, seed, block, device).permute(0, 2, 3, 1).contiguous().numpy()
                new = {file_name(k): encode_png(made[i]) for i, k in enumerate(block) if k not in present}
                write_many(folder, new)
                bar.update(len(new))
        with world.together():
            world.wait()
    return len(missing)


def _manifest(path: Path, sampler: Sampler, seed: int, batch: int) -> dict:
    identity = {"checkpoint_sha256": checkpoint.digest(path), "sampler": asdict(sampler), "seed": seed, "batch": batch}
    return {**identity, "checkpoint": path.name, "versions": checkpoint.versions()}


def _read_manifest(file: Path) -> dict:
    """The manifest as it was written; nothing where it is missing or damaged, so that no image is taken for ours."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _claim(folder: Path, manifest: dict, n: int) -> set[int]:
    """The numbers of the images that the folder holds already, after a check that they are of this very run."""
    file = folder.with_name(folder.name + ".json")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder: choose another --folder.")
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    numbers = {k for k in range(1, 100_000) if file_name(k) in names} if names else set()
    others = sorted(names - {file_name(k) for k in numbers})
    if others:
        raise ValueError(f"{folder} also holds {', '.join(others[:3])}: choose an empty --folder for the images.")
    if numbers and max(numbers) > n:
        raise ValueError(f"{folder} holds {len(numbers):,} images, up to {file_name(max(numbers))}, but n is {n:,}.")
    if numbers:
        before = _read_manifest(file)
        identity = ("checkpoint_sha256", "sampler", "seed", "batch")
        other = [key for key in identity if before.get(key) != manifest[key]]
        if other:
            what = ", ".join(other)
            raise ValueError(
                f"{folder} holds images of another run (other {what}): choose another --folder, or delete it."
            )
    write_json(file, manifest)
    return numbers
