"""Timing that a busy machine does not spoil, and what is kept of it."""

import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import psutil
import torch

PACKAGES = ("torch", "numpy", "scipy", "diffusers", "denoising-diffusion-pytorch", "smalldiffusion", "pytorch-fid")


@dataclass(frozen=True)
class Line:
    """One figure of the table, with the goal it is held against."""

    row: str  # of the table in README.md, such as "6"
    what: str
    value: float
    unit: str  # "×", "s", "min", "GB", …
    goal: float | None  # None: for information
    at_least: bool  # whether more is better
    low: float | None = None  # the spread: smallest and largest of what was measured
    high: float | None = None
    how: str = ""  # what was measured, in one sentence
    raw: dict = field(default_factory=dict)  # the measurements themselves

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    @property
    def share(self) -> float:
        """How many times better than the goal: 1 is the goal itself, 2 twice as good."""
        return self.better(self.value)

    def better(self, value: float) -> float:
        return value / self.goal if self.at_least else self.goal / max(value, 1e-3)


def interleaved(contenders: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, np.ndarray]:
    """Seconds of each call, (rounds,) for each contender, taken in turns: A B A B ….

    So a slow minute of the machine falls on all of them. The first `warm_up` rounds are not counted.
    """
    seconds = {name: [] for name in contenders}
    for _ in range(warm_up + rounds):
        for name, call in contenders.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values[warm_up:]) for name, values in seconds.items()}


def spread(values: np.ndarray) -> dict[str, float]:
    """The median as `value`, with `low` and `high`, smallest and largest."""
    return {"value": float(np.median(values)), "low": float(values.min()), "high": float(values.max())}


def in_a_process(function: Callable, *arguments):
    """(peak memory in GB, what the function gives), run in a fresh process, so that no other work's memory counts."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_with_peak_memory, function, arguments).result()


def _with_peak_memory(function: Callable, arguments: tuple):
    result = function(*arguments)
    return peak_memory(), result


def peak_memory() -> float:
    """The largest memory that this process has held so far, in GB."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, where getrusage would count the parent's too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # bytes on macOS


def machine() -> dict:
    """What the figures depend on: processor, cores, threads, memory, system, versions."""
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _processor() -> str:
    """The processor's name, as Linux has it, else Python's."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
