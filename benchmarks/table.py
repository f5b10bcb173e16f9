"""The lines as a table in words, a picture of them beside their goals, and the plots of cost."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.measure import Line
from hwkit.show.figures import ACCENT, INK, MUTED

GOOD = "#2a9d8f"
VERDICT = {True: "yes", False: "**no**", None: ""}


def amount(value: float, unit: str = "") -> str:
    """3.348 × → `3.35×`; 12.34 s → `12.3 s`: three digits that count."""
    digits = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{digits}{unit}" if unit in ("×", "%", "") else f"{digits} {unit}"


def goal(line: Line) -> str:
    """`≥ 3×`, or nothing."""
    return "" if line.goal is None else f"{'≥' if line.at_least else '≤'} {amount(line.goal, line.unit)}"


def markdown(lines: Sequence[Line], machine: dict) -> str:
    """The table, and under it the machine."""
    rows = ["| # | measured | figure | spread | goal | reached | how |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for line in lines:
        spread = "" if line.low is None else f"{amount(line.low)} to {amount(line.high)}"
        cells = (line.row, line.what, f"**{amount(line.value, line.unit)}**", spread, goal(line), VERDICT[line.met])
        rows.append(f"| {' | '.join((*cells, line.how))} |")
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items() if number)
    place = (
        f"{machine['processor']} ({machine['instructions']}), {machine['cores']} cores, {machine['threads']} threads"
    )
    return "\n".join([*rows, "", f"{place}, {machine['memory_gb']} GB, {machine['system']}; {versions}.", ""])


def bars(lines: Sequence[Line], machine: dict) -> Figure:
    """How many times better than its goal each figure is, on a logarithmic scale: right of the line is reached."""
    shown = [line for line in lines if line.goal is not None][::-1]
    picture = Figure(figsize=(11, 1.3 + 0.32 * len(shown)), layout="constrained")
    axes = picture.subplots()
    for y, line in enumerate(shown):
        axes.barh(y, inside(line.share) - 1, left=1, color=GOOD if line.met else ACCENT, height=0.62)
        if line.low is not None:
            axes.plot([inside(line.better(end)) for end in (line.low, line.high)], (y, y), color=INK, linewidth=1.2)
        text = f"{amount(line.value, line.unit)}  (goal {goal(line)})"
        axes.annotate(text, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=INK)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set(xscale="log", xlim=(0.2, 100), ylim=(-0.7, len(shown) - 0.3))
    axes.set_xticks([0.2, 0.5, 1, 2, 5, 10, 100], ["⅕", "½", "goal", "2", "5", "10", "100"])
    axes.minorticks_off()
    axes.set_yticks(range(len(shown)), [f"{line.what}   {line.row}" for line in shown], fontsize=9)
    axes.set_xlabel("times better than the goal; black strokes are the spread")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    place = f"{machine['processor']}, {machine['threads']} threads, torch {machine['versions']['torch']}"
    axes.set_title(place, fontsize=10, color=MUTED, loc="right")
    return picture


def inside(share: float) -> float:
    """The share, moved to the picture's edge where it lies beyond."""
    return min(max(share, 0.2), 100)


def cost_plots(lines: Sequence[Line]) -> Figure:
    """Time (left axis) and peak memory (right axis) against images, steps and epochs."""
    series = [line for line in lines if line.raw.get("amounts")]
    picture = Figure(figsize=(4 * len(series), 3.2), layout="constrained")
    for axes, line in zip(picture.subplots(1, len(series), squeeze=False)[0], series, strict=True):
        axes.plot(line.raw["amounts"], line.raw["seconds"], "o-", color=INK)
        axes.set(xlim=(0, None), ylim=(0, None), xlabel=line.raw["of"])
        memory = axes.twinx()
        memory.plot(line.raw["amounts"], line.raw["peak_gb"], "s--", color=ACCENT)
        memory.set_ylim(0, 1.6 * max(line.raw["peak_gb"]))
        axes.set_ylabel("seconds", color=INK)
        memory.set_ylabel("peak memory (GB)", color=ACCENT)
        axes.set_title(f"R² = {line.value:.4f}", fontsize=10, color=MUTED)
        for side in (axes, memory):
            side.spines["top"].set_visible(False)
    return picture
