"""Tensors and records → matplotlib figures and PNG files. Nothing here measures, and nothing is shown."""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor
from tqdm.auto import tqdm

from hwkit.diffusion import Denoiser
from hwkit.files import write_bytes
from hwkit.measure.memorisation import Pairs
from hwkit.mnist.batches import to_uint8
from hwkit.recipe import Recipe
from hwkit.runs.run import Record, read_history
from hwkit.sampling import Frame, Sampler, nodes, trajectory
from hwkit.schedule import Schedule
from hwkit.unet import UNet

INK, ACCENT, MUTED = "#1f2933", "#d1495b", "#7b8794"  # all text is in INK: the others are too pale to be read
SAMPLERS = (  # how each is drawn where samplers are compared
    *(("ddim", "DDIM", INK, "o-"), ("dpm++", "DPM-Solver++(2M)", ACCENT, "s--")),
    *(("unipc", "UniPC-2", ACCENT, "^-"), ("ddpm", "DDPM", MUTED, "D-")),
)
PREVIEW_EVERY = 30  # seconds of training


def check_dpi(dpi: float) -> None:
    """ValueError for a resolution at which a figure cannot be drawn, or not be read."""
    if not 30 <= dpi <= 1200:
        raise ValueError(f"--dpi is {dpi}, but must be between 30 and 1,200: 150 is right for a screen, 300 for print.")


def save(figure: Figure, path: Path | str, dpi: float = 150) -> Path:
    """Writes the figure as a PNG (whole, see `files.whole_file`) and returns its path. Raises as `check_dpi` does."""
    check_dpi(dpi)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    write_bytes(path, buffer.getvalue())
    return Path(path)


# Images side by side


class Sheet(Figure):
    """The image uint8 (H, W, 3), about `width` inches wide, with `top` and `bottom` inches of room for text.

    At any dpi each of its pixels is saved as a square of the same whole number of dots: the dpi is raised to fit.
    """

    def __init__(self, pixels: np.ndarray, width: float, top: float = 0.05, bottom: float = 0.0):
        height, across = pixels.shape[:2]
        self.unit = max(1, round(across / width))  # pixels an inch
        above, below = round(top * self.unit), round(bottom * self.unit)
        tall = above + height + below
        super().__init__(figsize=((across + 1e-6) / self.unit, (tall + 1e-6) / self.unit))  # its size is rounded down
        self.picture = self.add_axes((0, below / tall, 1, height / tall))
        self.picture.imshow(pixels, interpolation="nearest", aspect="auto")
        self.picture.axis("off")

    def savefig(self, fname, *, dpi: float | str = "figure", **options) -> None:
        wanted = self.dpi if dpi == "figure" else dpi
        super().savefig(fname, dpi=self.unit * math.ceil(wanted / self.unit), **options)

    def head(self, title: str) -> None:
        """Writes the title at the upper edge."""
        self.text(0.5, 1 - 0.1 / self.get_figheight(), title, ha="center", va="top", fontsize=11, color=INK)

    def label(self, column: int, pitch: int, text: str, below: bool = False) -> None:
        """Writes above (or below) a column of images that stand `pitch` pixels apart."""
        y, va = (self.picture.get_ylim()[0] + 2, "top") if below else (-2, "bottom")
        self.picture.text(1 + (column + 0.5) * pitch, y, text, ha="center", va=va, fontsize=10, color=INK)


def tile(images: Tensor | np.ndarray, columns: int, gap: int = 2, background: int = 255) -> np.ndarray:
    """Images in rows of `columns`: uint8 (N, C, H, W) → uint8 (rows·(H + gap) + gap, columns·(W + gap) + gap, 3)."""
    images = np.asarray(images)
    n, _, height, width = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), background, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return sheet


def sample_sheet(images: Tensor | np.ndarray, columns: int = 10, title: str = "") -> Figure:
    """Images uint8 (N, C, H, W) side by side, in rows of `columns`."""
    figure = Sheet(tile(images, columns), width=6.0, top=0.36 if title else 0.05)
    figure.head(title)
    return figure


def diffusion_grid(frames: Sequence[Frame], title: str = "") -> Figure:
    """A row for each sample, a column for each frame, with its time above; x_t is clipped to [−1, 1] to be shown.

    `frames` come noisiest first, each x_t (B, C, H, W).
    """
    columns = len(frames)
    cells = np.stack([to_uint8(f.x_t).cpu().numpy() for f in frames], axis=1)  # (rows, columns, C, H, W)
    figure = Sheet(tile(cells.reshape(-1, *cells.shape[2:]), columns), width=7.0, top=0.62 if title else 0.32)
    figure.head(title)
    for i, frame in enumerate(frames):
        figure.label(i, cells.shape[-1] + 2, f"$t={frame.t}$")
    return figure


def grid_frames(
    denoise: Denoiser, sampler: Sampler, seed: int, device: torch.device | str = "cpu", rows: int = 8
) -> list[Frame]:
    """The frames of `rows` samples at the eight nodes, T to 0. The same seed gives the same x_T for every sampler."""
    columns = nodes(denoise.schedule.T)
    frames = trajectory(denoise, sampler, seed, range(1, rows + 1), device, through=columns)
    steps = sampler.resolve(denoise.schedule.T).steps
    shown = tqdm(frames, total=steps + 1, desc=f"grid {sampler.name}", delay=1, leave=False)
    return [frame for frame in shown if frame.t in columns]


def preview(folder: Path, recipe: Recipe, device: torch.device | str = "cpu") -> Callable[[Record, UNet], None]:
    """For `runs.run.train`, its `after_epoch`: draws previews/epoch_0001.png …, eight samples from the EMA weights.

    The noise is always the same, so that epochs compare. Drawn are the first epoch, the last, and between them the
    first to end in each half minute of training, so that previews cost little where an epoch is short.
    """

    def draw(record: Record, ema: UNet) -> None:
        before = [line["seconds"] for line in read_history(folder) if line["epoch"] < record.epoch]
        is_due = not before or record.seconds // PREVIEW_EVERY > before[-1] // PREVIEW_EVERY
        if is_due or record.epoch == recipe.epochs or (recipe.minutes and record.seconds >= 60 * recipe.minutes):
            grid = grid_frames(recipe.denoiser(ema), Sampler(), recipe.seed, device)
            figure = diffusion_grid(grid, f"epoch {record.epoch}, {record.images_seen:,} images seen")
            save(figure, folder / "previews" / f"epoch_{record.epoch:04d}.png", dpi=100)

    return draw


def memorisation_figure(pairs: Pairs) -> Figure:
    """The closest pairs of all: an image above, its nearest training image below, and how far apart they are."""
    cells = np.concatenate([pairs.images, pairs.nearest])[:, None]  # (2K, 1, 28, 28)
    figure = Sheet(tile(cells, len(pairs.images)), width=max(7.0, 0.7 * len(pairs.images)), top=0.62, bottom=0.3)
    figure.head("The closest pairs: image, nearest training image, distance (0 is a copy)")
    for column, (number, distance) in enumerate(zip(pairs.numbers, pairs.distances, strict=True)):
        figure.label(column, 30, f"{number:05d}")
        figure.label(column, 30, f"{distance:.2f}", below=True)
    return figure


# Curves


def plot(xlabel: str, ylabel: str = "", title: str = "", size: tuple[float, float] = (6.4, 3.4)):
    """An empty figure and its axes, in the style of all figures here."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, fontsize=11, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def logarithmic(axes: Axes) -> None:
    """A logarithmic y axis, marked at 1, 2 and 5 times the powers of ten."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def loss_curve(history: Sequence[dict], title: str = "") -> Figure:
    """The loss against the images seen, from the lines of `history.jsonl`: windows of steps, and the mean of epochs."""
    figure, axes = plot("images seen (thousands)", "training loss", title, (6.4, 3.8))
    seen, losses = zip(*(point for record in history for point in record["curve"]), strict=True)
    axes.plot(np.array(seen) / 1e3, losses, color=MUTED, linewidth=1, label="mean of some steps")
    ends = np.array([0] + [record["images_seen"] for record in history]) / 1e3
    means = [record["loss"] for record in history]
    axes.hlines(means, ends[:-1], ends[1:], color=ACCENT, linewidth=2, label="mean of an epoch")
    logarithmic(axes)
    axes.legend(frameon=False)
    return figure


def schedule_curves(schedules: Sequence[Schedule]) -> Figure:
    """√ᾱ_t, the share of the image in x_t, and the signal-to-noise ratio of each schedule; √ᾱ_T is in the legend."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for schedule, color in zip(schedules, (INK, ACCENT, MUTED), strict=False):
        t = np.arange(schedule.T + 1) / schedule.T
        signal = schedule.alpha_bar.sqrt()
        label = rf"{schedule.name}, T = {schedule.T}: $\sqrt{{\bar\alpha_T}}$ = {signal[-1]:.4f}"
        left.plot(t, signal, color=color, label=label)
        right.plot(t[1:], schedule.snr[1:], color=color, label=schedule.name)
    left.set(xlabel="t / T", ylabel=r"$\sqrt{\bar\alpha_t}$ (share of the image)")
    right.set(xlabel="t / T", ylabel=r"SNR $\bar\alpha_t/(1-\bar\alpha_t)$", yscale="log")
    right.axhline(1, color=MUTED, linewidth=0.8, linestyle=":")
    right.text(1, 1.5, "as much noise as image", color=INK, fontsize=9, ha="right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    return figure


def digit_histogram_figure(counts: Sequence[int], real: Sequence[int]) -> Figure:
    """The share of each digit among the images, beside MNIST's: eleven counts each, the last of "no digit"."""
    figure, axes = plot("class, by the kit's digit classifier", "share of the images (%)")
    places = np.arange(11)
    for label, values, shift, color in (("these images", counts, -0.2, ACCENT), ("MNIST train", real, 0.2, MUTED)):
        shares = 100 * np.asarray(values) / max(1, sum(values))
        bars = axes.bar(places + shift, shares, 0.4, color=color, label=f"{label} ({sum(values):,})")
        if label == "these images":
            axes.bar_label(bars, [f"{n:,}" for n in values], fontsize=7, color=INK, rotation=90, padding=2)
    axes.set_xticks(places, [*"0123456789", "no digit"])
    axes.margins(y=0.2)
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.13))
    return figure


def fid_curve_figure(curve) -> Figure:
    """Digit-FID against network evaluations an image, a line for each sampler, and the floor."""
    title = f"{curve.images:,} images a point"
    figure, axes = plot("network evaluations an image", "digit-FID (lower is better)", title, (6.4, 4.0))
    for name, label, color, look in SAMPLERS:
        points = sorted((p.evaluations, p.value, p.error) for p in curve.points if p.name == name)
        if points:
            axes.errorbar(*zip(*points, strict=True), fmt=look, color=color, capsize=3, markersize=5, label=label)
    axes.axhline(curve.floor, color=MUTED, linestyle="--", linewidth=1)
    where = {"xycoords": ("axes fraction", "data"), "xytext": (0, 3), "textcoords": "offset points", "ha": "right"}
    axes.annotate(f"as many real test digits: {curve.floor:.2f}", (0.99, curve.floor), fontsize=9, color=INK, **where)
    logarithmic(axes)
    axes.set_xscale("log")
    axes.set_xticks(sorted({p.evaluations for p in curve.points}))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False)
    return figure
