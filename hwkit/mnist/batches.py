"""Training batches, and the way between bytes and numbers in [−1, 1]."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hwkit.mnist.folder import _scan, read_png


def normalize(images: Tensor) -> Tensor:
    """uint8 images (B, 1 or 3, 28, 28) → what the network sees: float32 (B, 3, 28, 28) in [−1, 1]."""
    return (images.float() / 127.5 - 1).expand(-1, 3, -1, -1)


def to_uint8(x: Tensor) -> Tensor:
    """The reverse: float (B, C, H, W), clipped to [−1, 1] → uint8, rounded to the nearest of 256 levels."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


class PNGFolder(Dataset):
    """A folder of PNGs that is not held in memory: item i is uint8 (3, 28, 28), read when it is asked for."""

    def __init__(self, folder: Path | str):
        self.files, _ = _scan(Path(folder).expanduser())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(read_png(self.files[index]).transpose(2, 0, 1).copy())


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

    Of each batch only `part`, for a process that does only that.
    The order is a permutation seeded by (seed, epoch), the same for a tensor in memory and for a `PNGFolder`, which
    `workers` processes read (with pinned memory on a GPU). The last, incomplete batch is left out.
    """
    order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(len(images)))
    indices = order[: len(images) // batch_size * batch_size].view(-1, batch_size)[start:, part]
    if isinstance(images, PNGFolder):
        cuda = torch.device(device).type == "cuda"
        found = DataLoader(
            images,
            batch_sampler=indices.tolist(),
            num_workers=workers,
            pin_memory=cuda,
            worker_init_fn=_ignore_ctrl_c,
        )
    else:
        found = (images[index] for index in indices)
    for batch in found:
        yield normalize(batch.to(device, non_blocking=True))


def _ignore_ctrl_c(worker: int) -> None:
    """Ctrl-C reaches every process; only the training process is to act on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
