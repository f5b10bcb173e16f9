"""Training batches, and the way between bytes and numbers in [−1, 1]."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hwkit.mnist.folder import PNGFolder, read_png


def normalize(images: Tensor) -> Tensor:
    """uint8 images (B, 1 or 3, 28, 28) → what the network sees: float32 (B, 3, 28, 28) in [−1, 1]."""
    return (images.float() / 127.5 - 1).expand(-1, 3, -1, -1)


def to_uint8(x: Tensor) -> Tensor:
    """The reverse: float (B, C, H, W), clipped to [−1, 1] → uint8, rounded to the nearest of 256 levels."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def batches(
    images: Tensor | PNGFolder,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int = 0,
    device: torch.device | str = "cpu",
    part: slice = slice(None),
    workers: int = min(4, os.cpu_count() or 1),
) -> Iterator[Tensor]:
    """One epoch of training batches, float32 (B, 3, 28, 28) in [−1, 1] on `device`, from batch `start` on.

    Of each batch only the slice `part`, for a process that does only that. The order is a permutation seeded by (seed,
    epoch), the same for a tensor, which is moved to `device` whole, and for a `PNGFolder`, which `workers` processes
    read. The last, incomplete batch is left out.
    """
    order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(len(images)))
    indices = order[: len(images) // batch_size * batch_size].view(-1, batch_size)[start:, part]
    if isinstance(images, PNGFolder):
        how = {"num_workers": workers, "collate_fn": _read, "worker_init_fn": _ignore_ctrl_c}
        how["pin_memory"] = torch.device(device).type == "cuda"
        found = DataLoader(images, batch_sampler=indices.tolist(), **how)
    else:
        images = images.to(device)
        found = (images[index] for index in indices.to(device))
    for batch in found:
        yield normalize(batch.to(device, non_blocking=True))


def _read(files: list[Path]) -> Tensor:
    return torch.from_numpy(np.stack([read_png(file) for file in files]))


def _ignore_ctrl_c(worker: int) -> None:  # which reaches every process, but is for the training process alone
    signal.signal(signal.SIGINT, signal.SIG_IGN)
