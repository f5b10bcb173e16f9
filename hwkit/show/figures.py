"""Tensors and records → matplotlib figures and PNG files. Nothing here samples, measures or shows."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from torch import Tensor

from hwkit.files import write_bytes
from hwkit.measure.memorisation import Pairs
from hwkit.mnist.batches import to_uint8
from hwkit.sampling import Frame
from hwkit.schedule import Schedule

INK, ACCENT, MUTED = "#1f2933", "#d1495b", "#7b8794"


def save(figure: Figure, path: Path | str, dpi: int = 150) -> Path:
    """Writes the figure as a PNG (whole, see `workspace.whole_file`) and returns its path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    write_bytes(path, buffer.getvalue())
    return Path(path)


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


def diffusion_grid(frames: Sequence[Frame], title: str = "") -> Figure:
    """A row for each sample, a column for each frame, with its time above; x_t is clipped to [−1, 1] to be shown.

    `frames` come noisiest first, each x_t (B, C, H, W).
    """
    rows, columns = len(frames[0].x_t), len(frames)
    cells = np.stack([to_uint8(f.x_t).cpu().numpy() for f in frames], axis=1)  # (rows, columns, C, H, W)
    images = cells.reshape(rows * columns, *cells.shape[2:])
    figure, axes = _sheet(tile(images, columns), width=7.0, top=0.62 if title else 0.32)
    pitch = cells.shape[-1] + 2
    for i, frame in enumerate(frames):
        axes.text(1 + (i + 0.5) * pitch, -2, f"$t={frame.t}$", ha="center", va="bottom", fontsize=11, color=INK)
    if title:
        figure.text(0.5, 1 - 0.1 / figure.get_figheight(), title, ha="center", va="top", fontsize=12, color=INK)
    return figure


def sample_sheet(images: Tensor | np.ndarray, columns: int = 10, title: str = "") -> Figure:
    """Images uint8 (N, C, H, W) side by side, in rows of `columns`."""
    figure, _ = _sheet(tile(images, columns), width=6.0, top=0.36 if title else 0.05)
    if title:
        figure.text(0.5, 1 - 0.08 / figure.get_figheight(), title, ha="center", va="top", fontsize=11, color=INK)
    return figure


def loss_curve(history: Sequence[dict], title: str = "") -> Figure:
    """The loss against the images seen, from the lines of `history.jsonl`: windows of steps, and the mean of epochs."""
    figure, axes = _plot("images seen (thousands)", "training loss")
    seen, losses = zip(*(point for record in history for point in record["curve"]), strict=True)
    axes.plot(np.array(seen) / 1e3, losses, color=MUTED, linewidth=1, label="mean of some steps")
    ends = np.array([0] + [record["images_seen"] for record in history]) / 1e3
    means = [record["loss"] for record in history]
    axes.hlines(means, ends[:-1], ends[1:], color=ACCENT, linewidth=2, label="mean of an epoch")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False)
    axes.set_title(title, fontsize=11, color=INK)
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
    right.text(1, 1.5, "as much noise as image", color=MUTED, fontsize=9, ha="right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    return figure


def _sheet(pixels: np.ndarray, width: float, top: float):
    """A figure `width` inches wide that holds the pixels, with `top` inches above them for titles."""
    height = width * pixels.shape[0] / pixels.shape[1]
    figure = Figure(figsize=(width, height + top))
    axes = figure.add_axes((0, 0, 1, height / (height + top)))
    axes.imshow(pixels, interpolation="nearest")
    axes.axis("off")
    return figure, axes


def _plot(xlabel: str, ylabel: str):
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


NAMES = {"ddim": "DDIM", "dpm++": "DPM-Solver++(2M)", "unipc": "UniPC-2", "ddpm": "DDPM"}


def memorisation_figure(pairs: Pairs) -> Figure:
    """The closest pairs of all: an image above, its nearest training image below, and how far apart they are."""
    figure = Figure(figsize=(1.0 * max(4, len(pairs.images)), 2.6), layout="constrained")
    axes = figure.subplots(2, len(pairs.images), squeeze=False)
    for column, (image, near, distance, number) in enumerate(zip(*pairs, strict=True)):
        for row, pixels in enumerate((image, near)):
            axes[row, column].imshow(pixels, cmap="gray", vmin=0, vmax=255)
            axes[row, column].set(xticks=[], yticks=[])
        axes[0, column].set_title(f"{number:05d}", fontsize=9, color=INK)
        axes[1, column].set_xlabel(f"{distance:.2f}", fontsize=9, color=INK)
    axes[0, 0].set_ylabel("image", color=INK)
    axes[1, 0].set_ylabel("nearest in\ntraining set", color=INK)
    figure.suptitle("The closest pairs, with their distance (0 is a copy)", fontsize=11, color=INK)
    return figure


def digit_histogram_figure(counts: Sequence[int], real: Sequence[int]) -> Figure:
    """The share of each digit among the images, beside MNIST's: eleven counts each, the last of "no digit"."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(11)
    for label, values, shift, color in (("these images", counts, -0.2, ACCENT), ("MNIST train", real, 0.2, MUTED)):
        shares = 100 * np.asarray(values) / max(1, sum(values))
        bars = axes.bar(places + shift, shares, 0.4, color=color, label=f"{label} ({sum(values):,})")
        if label == "these images":
            axes.bar_label(bars, [f"{n:,}" for n in values], fontsize=7, color=INK, rotation=90, padding=2)
    axes.set_xticks(places, [*"0123456789", "no digit"])
    axes.set(xlabel="class, by the kit's digit classifier", ylabel="share of the images (%)")
    axes.margins(y=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.13))
    return figure


def fid_curve_figure(record: dict) -> Figure:
    """Digit-FID against network evaluations an image, a line for each sampler, and the floor: from fid_curve.json."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    looks = (("ddim", INK, "o-"), ("dpm++", ACCENT, "s--"), ("unipc", ACCENT, "^-"), ("ddpm", MUTED, "D-"))
    for name, color, look in looks:
        points = sorted((p for p in record["points"] if p["name"] == name), key=lambda p: p["evaluations"])
        if points:
            x, y, error = ([p[key] for p in points] for key in ("evaluations", "value", "error"))
            axes.errorbar(x, y, error, fmt=look, color=color, capsize=3, markersize=5, label=NAMES[name])
    axes.axhline(record["floor"], color=MUTED, linestyle="--", linewidth=1)
    axes.annotate(
        f"as many real test digits: {record['floor']:.2f}",
        (0.99, record["floor"]),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=9,
        color=MUTED,
    )
    axes.set(xscale="log", yscale="log", xlabel="network evaluations an image", ylabel="digit-FID (lower is better)")
    axes.set_xticks(sorted({p["evaluations"] for p in record["points"]}))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    axes.set_title(f"{record['images']:,} images a point", fontsize=11, color=INK)
    return figure
