"""Makes notebooks/pictures/clinic/NAME.png: sixteen digits of the kit's weights for each symptom, with its mistake.

`PYTHONPATH=. python data/make_clinic.py [NAME …]` makes them anew; notebooks/CLINIC.md shows them. Each function here
is one mistake: it takes the kit's denoiser and the numbers of the images, and returns them as they would be saved.
"""

import copy
import sys
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from hwkit.diffusion import Denoiser, ddim_step, predict_x0_eps
from hwkit.mnist.batches import normalize, to_uint8
from hwkit.mnist.sources import SAMPLE
from hwkit.runs.checkpoint import EXPORTED, PRETRAINED, load_denoiser
from hwkit.sampling import ImageNoise, sample, times
from hwkit.solvers import dpm_solver_step

OUT = Path(__file__).resolve().parents[1] / "notebooks" / "pictures" / "clinic"
STEPS = 20  # network evaluations an image where nothing else is said
PART = 0.7  # of the colour noise
SDE = partial(dpm_solver_step, eta=1.0)


def made(denoise, numbers, step=SDE, ts=None, one_start=False) -> Tensor:
    """x_0 (B, 3, 28, 28) float by the kit's sampler, or with another step, at other times, or all from one x_T."""
    noise, alpha_bar = ImageNoise(0, numbers), denoise.schedule.alpha_bar
    x_T = noise()
    x_T = x_T[:1].expand_as(x_T).clone() if one_start else x_T
    *_, last = sample(denoise, x_T, ts or times(denoise.schedule.T, STEPS), alpha_bar, step, noise)
    return last.x_t


@cache
def right(denoise, numbers) -> Tensor:
    """x_0 as it should be; several mistakes are made after it."""
    return made(denoise, numbers)


def healthy(denoise, numbers) -> Tensor:
    return to_uint8(right(denoise, numbers))


def washed_out(denoise, numbers) -> Tensor:
    """Pixels of [0, 1] are saved as if they were of [−1, 1]."""
    return to_uint8((right(denoise, numbers) + 1) / 2)


def hard(denoise, numbers) -> Tensor:
    """Pixels of [−1, 1] are saved as if they were of [0, 1]: all that is darker than the middle becomes black."""
    return (right(denoise, numbers).clamp(0, 1) * 255).round().to(torch.uint8)


def wrapped(denoise, numbers) -> Tensor:
    """Pixels of [−1, 1] times 255, made bytes without clipping: −0.5 becomes 129."""
    return torch.from_numpy((right(denoise, numbers).numpy() * 255).astype(np.int64).astype(np.uint8))


def inverted(denoise, numbers) -> Tensor:
    """The sign of the image is lost: black on white."""
    return to_uint8(-right(denoise, numbers))


def scrambled(denoise, numbers) -> Tensor:
    """Channels first is read as channels last by reshape, where permute was meant."""
    x = healthy(denoise, numbers)
    return x.reshape(len(x), 28, 28, 3).permute(0, 3, 1, 2).contiguous()


def stained(denoise, numbers) -> Tensor:
    """A network that was asked for ε, and trained too short: it takes a part of the coarse colour noise for the image.

    (The kit's network was asked for x_0, and cannot err in colour, so the error is put into its ε̂.)
    """

    def wrong(x_t: Tensor, t: int):
        a = denoise.schedule.alpha_bar[t].item()
        _, eps_hat = denoise(x_t, t)
        colour = eps_hat - eps_hat.mean(dim=1, keepdim=True)
        coarse = F.interpolate(F.avg_pool2d(colour, 7), scale_factor=7, mode="bicubic")
        x0_hat, _ = predict_x0_eps(eps_hat - PART * coarse, x_t, a, "epsilon")
        return predict_x0_eps(x0_hat.clamp(-1, 1), x_t, a, "x0")

    return to_uint8(made(with_schedule(wrong, denoise), numbers, ddim_step))


def noisy(denoise, numbers) -> Tensor:
    """Noise is added in the last step too."""

    def never_quiet(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, past=()):
        x_s = SDE(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, past)
        return x_s + (1 - alpha_bar_t) ** 0.5 * noise if alpha_bar_s == 1 else x_s

    return to_uint8(made(denoise, numbers, never_quiet))


def strided(denoise, numbers) -> Tensor:
    """Times by whole strides, which end above 0: 830, 789, …, 51 with twenty steps of 41."""
    T = denoise.schedule.T
    return to_uint8(made(denoise, numbers, ts=[T - T // STEPS * i for i in range(STEPS)]))


def black(denoise, numbers) -> Tensor:
    """One weight is NaN, and so is every pixel."""
    model = copy.deepcopy(denoise.model)
    with torch.no_grad():
        model.stem.weight[0, 0, 0, 0] = torch.nan
    broken = Denoiser(model, denoise.schedule, denoise.prediction)
    return to_uint8(made(broken, numbers, ts=times(denoise.schedule.T, 1)))


def diverged(denoise, numbers) -> Tensor:
    """x_t moves away from x̂_0 rather than towards it: the sign of the direction is wrong."""

    def away(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None):
        return ddim_step(x_t, x0_hat, -1.5 * eps_hat, alpha_bar_t, alpha_bar_s)

    return to_uint8(made(denoise, numbers, away))


def alike(denoise, numbers) -> Tensor:
    """The generator is seeded anew before each image, so that all begin in the same noise."""
    return to_uint8(made(denoise, numbers, ddim_step, one_start=True))


def blurred(denoise, numbers) -> Tensor:
    """Two steps from noise to image: x̂_0 is still the mean of many digits."""
    return to_uint8(made(denoise, numbers, ddim_step, times(denoise.schedule.T, 2)))


def resized(denoise, numbers) -> Tensor:
    """Images of 32×32, resized to 28×28."""
    x = F.interpolate(right(denoise, numbers), (32, 32), mode="bilinear", antialias=True)
    return to_uint8(F.interpolate(x, (28, 28), mode="bilinear", antialias=True))


def thick(denoise, numbers) -> Tensor:
    """The list of times begins at 500 of 830, with the pure noise that belongs to 830."""
    return to_uint8(made(denoise, numbers, ts=[round(500 * (1 - i / STEPS)) for i in range(STEPS + 1)]))


def wrong_time(denoise, numbers) -> Tensor:
    """The network is told an earlier time than that of x_t, so that it takes noise for ink."""

    def wrong(x_t: Tensor, t: int):
        output = denoise.model(x_t, torch.full((len(x_t),), max(1, t - 100)))
        return predict_x0_eps(output.clamp(-1, 1), x_t, denoise.schedule.alpha_bar[t].item(), "x0")

    with torch.no_grad():
        return to_uint8(made(with_schedule(wrong, denoise), numbers))


def unfinished(denoise, numbers) -> Tensor:
    """The average of the weights (EMA) is to one half that of the random ones with which the network began."""
    torch.manual_seed(0)
    model = type(denoise.model)(denoise.model.config).eval()
    with torch.no_grad():
        for early, late in zip(model.parameters(), denoise.model.parameters(), strict=True):
            early.lerp_(late, 0.5)
    return to_uint8(made(Denoiser(model, denoise.schedule, denoise.prediction), numbers))


def copied(denoise, numbers) -> Tensor:
    """Digits of the training set."""
    with np.load(SAMPLE) as arrays:
        return to_uint8(normalize(torch.from_numpy(arrays["images"][list(numbers)])[:, None]))


def with_schedule(function, denoise):
    """A denoiser that is a function only, with the schedule that `made` asks for."""
    function.schedule = denoise.schedule
    return function


CLINIC = {
    function.__name__: function
    for function in (
        *(healthy, washed_out, hard, wrapped, inverted, scrambled, stained, noisy, strided, black, diverged, alike),
        *(blurred, resized, thick, wrong_time, unfinished, copied),
    )
}


def sheet(images: Tensor) -> Image.Image:
    """Sixteen uint8 images (16, 3, 28, 28) in two rows, three times as large, with a gap between."""
    x = F.pad(images, (1, 1, 1, 1), value=96).numpy()
    grid = x.reshape(2, 8, 3, 30, 30).transpose(0, 3, 1, 4, 2).reshape(60, 240, 3)
    return Image.fromarray(grid).resize((720, 180), Image.Resampling.NEAREST)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    kit = load_denoiser(PRETRAINED / EXPORTED)
    for name in sys.argv[1:] or CLINIC:
        picture = sheet(CLINIC[name](kit, range(1, 17)))
        picture.save(OUT / f"{name}.png", optimize=True)
        print(f"{OUT / name}.png: {(OUT / f'{name}.png').stat().st_size / 1000:.1f} kB")
