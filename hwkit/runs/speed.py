"""Before a long run: the best device of this machine, and the quickest setting on it."""

import math
import time
from typing import NamedTuple

import torch

from hwkit.diffusion import Denoiser
from hwkit.language import say
from hwkit.recipe import Recipe
from hwkit.training import State, autocast, new_state, training_step

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
STEPS, SECONDS = 5, 5.0  # of training in a setting, at most, by which its speed is measured


class Setting(NamedTuple):
    """What changes a run's speed, and of its result no more than the rounding."""

    precision: str  # of the convolutions: fp32, bf16 or fp16
    layout: str = "channels_last"  # of pictures in memory, or contiguous (channels first)


def best_device() -> str:
    """cuda, mps or cpu: the first that this machine has."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def candidates(device: torch.device, precision: str = "auto") -> list[Setting]:
    """The settings worth a try in a recipe's precision.

    A GPU before Ampere (Colab's T4) only emulates bf16; on a CPU bf16 may be slow or quick. Channels-last is quicker on
    CPUs; on GPUs the group norms undo it, so there both layouts are tried.
    """
    if precision != "auto":
        precisions: tuple[str, ...] = (precision,)
    elif device.type == "cuda":
        precisions = ("bf16",) if torch.cuda.get_device_capability(device)[0] >= 8 else ("fp16",)
    else:
        precisions = ("fp32", "bf16") if device.type == "cpu" else ("fp32",)
    layouts = tuple(LAYOUTS) if device.type == "cuda" else ("channels_last",)
    return [Setting(precision, layout) for precision in precisions for layout in layouts]


def prepared_state(recipe: Recipe, device: torch.device, setting: Setting, compile: bool = False) -> State:
    """A new state (see `training.new_state`) in this setting."""
    state = new_state(recipe, device, setting.precision)
    state.layout = setting.layout
    for network in (state.model, state.ema):
        network.to(memory_format=LAYOUTS[setting.layout])
    if compile:
        state.forward = torch.compile(state.model)
    return state


def quickest(
    recipe: Recipe, device: torch.device, settings: list[Setting], compile: bool = False
) -> tuple[Setting, float]:
    """The setting in which training is quickest, and the images a second in it."""
    best, most = settings[0], 0.0
    for setting in settings:
        # A setting that has not done its steps in the time of the quickest so far is slower, and not waited for.
        seconds = min(SECONDS, STEPS * batch_of(recipe, device) / most) if most else SECONDS
        speed = images_per_second(recipe, device, setting, compile, seconds)
        if speed > most:
            best, most = setting, speed
    return best, most


def batch_of(recipe: Recipe, device: torch.device) -> int:
    """Images in a step whose speed is measured."""
    return min(recipe.batch_size, 64) if device.type == "cpu" else recipe.batch_size


def images_per_second(
    recipe: Recipe, device: torch.device, setting: Setting, compile: bool, seconds: float = SECONDS
) -> float:
    """Training speed of a network of its own: two steps to warm up, then STEPS, or those that begin within `seconds`.

    (A CPU that only emulates bf16 takes seconds for a single step.)
    """
    state = prepared_state(recipe, device, setting, compile)
    alpha_bar = recipe.make_schedule().alpha_bar.to(device, torch.float32)
    count = batch_of(recipe, device)
    state.part = slice(count)
    x_0 = torch.zeros(count, 3, 28, 28, device=device)
    started, done = time.monotonic(), -2
    while done < 1 or (done < STEPS and time.monotonic() - started < seconds):
        if done == 0:
            started = time.monotonic()
        training_step(state, recipe, x_0, alpha_bar, progress=0.0).item()  # reading it waits for a GPU
        done += 1
    return done * count / (time.monotonic() - started)


def quickest_precision(denoise: Denoiser, device: torch.device | str) -> str:
    """fp32 or bf16: that in which a CPU evaluates the network quicker, by a tenth at least. On a GPU it is fp32.

    (bf16 is quick on CPUs that have instructions for it, and slow on all others. On GPUs nobody has compared them yet.)
    """
    if (device := torch.device(device)).type != "cpu":
        return "fp32"
    seconds, x = {"fp32": math.inf, "bf16": math.inf}, torch.zeros(16, 3, 28, 28)
    for turn in range(4):
        for precision in seconds:  # in turn: what else the machine does then slows both
            started = time.monotonic()
            with autocast(device, precision):
                denoise(x, denoise.schedule.T)
            seconds[precision] = min(seconds[precision], time.monotonic() - started)
        if turn > 0 and seconds["bf16"] > 2 * seconds["fp32"]:  # emulated, and no need to wait for it again
            break
    return "bf16" if seconds["bf16"] < 0.9 * seconds["fp32"] else "fp32"


def duration(seconds: float) -> str:
    """50 → `50 s`, 600 → `10 min`, 27600 → `7 h 40 min`."""
    if seconds < 90:
        return say("{seconds:.0f} s", seconds=seconds)
    hours, minutes = divmod(round(seconds / 60), 60)
    return say("{hours} h {minutes:02d} min", hours=hours, minutes=minutes) if hours else say("{m} min", m=minutes)
