"""Figures of the evaluation. Nothing here measures or shows."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from hwkit.figures import ACCENT, INK, MUTED
from hwkit.memorisation import Pairs

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
