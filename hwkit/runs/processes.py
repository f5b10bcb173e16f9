"""One process or, under `accelerate launch`, several: who writes, and which part of the work is whose."""

import atexit
import contextlib
import gc
import os
from collections.abc import Callable, Sequence

import torch
from torch import nn

ENDED = (
    "Another process of this launch has ended, and so does this one. What is saved is whole: "
    "the same command goes on from there, with any number of processes."
)


class Single:
    """One process, which does everything itself. `Several` has the same methods."""

    rank, count = 0, 1

    def part(self, n: int) -> slice:
        """This process's share of n items, as a slice."""
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """The model, or a wrapper around it whose backward pass averages the gradients of all processes."""
        return model

    def guarded(self) -> contextlib.AbstractContextManager:
        """A context for what all do: the end of one process becomes a ConnectionError in the others, in a sentence."""
        return contextlib.nullcontext()

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the processes, when all have come here."""
        return list(values)

    def on_first(self, do: Callable):
        """What `do` returns; only the first process runs it. Where it raises there, the other processes end quietly."""
        return do()


class Several(Single):
    """One of the processes that `accelerate launch` (or torchrun) has started."""

    def __init__(self, device: str):
        # Before the group is made: its functions would keep it as the default of an argument, for ever.
        import torch.distributed.nn.functional  # noqa: F401
        from accelerate import Accelerator

        # The recipe decides on precision and compilation, not somebody's accelerate configuration.
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", dynamo_backend="no")
        self.rank, self.count = self.accelerator.process_index, self.accelerator.num_processes
        self.data_parallel = self.accelerator.prepare_model
        atexit.register(self.end)

    def end(self) -> None:
        """Leaves the group and waits for its threads, when this process ends.

        A thread of gloo that still holds a tensor of Python's, when Python is gone, aborts the process
        (https://github.com/pytorch/pytorch/issues/190489).
        """
        self.accelerator.free_memory()  # the wrapped networks, which hold the group
        gc.collect()
        self.accelerator.end_training()

    @contextlib.contextmanager
    def guarded(self):
        try:
            yield
        except RuntimeError as error:  # of NCCL it has a class of its own, of gloo only its text tells
            if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
                raise ConnectionError(ENDED) from error
            raise

    def sum(self, values: Sequence[float]) -> list[float]:
        device = self.accelerator.device
        precision = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
        return self.accelerator.reduce(torch.tensor(values, dtype=precision, device=device), "sum").tolist()

    def on_first(self, do: Callable):
        from accelerate.utils import broadcast_object_list

        outcome = [None, True]  # what it returned, and whether it failed
        try:
            outcome = [do() if self.rank == 0 else None, False]
        finally:
            broadcast_object_list(outcome)
        if outcome[1]:
            raise SystemExit(2)  # the first process says what is wrong
        return outcome[0]


_launch: list[Several] = []  # accelerate can be set up once a process


def processes(device: str) -> Single:
    """The processes that this one belongs to; `device` is a type: cpu, cuda or mps. The first call's counts."""
    if "LOCAL_RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Single()
    if not _launch:
        _launch.append(Several(device))
    return _launch[0]
