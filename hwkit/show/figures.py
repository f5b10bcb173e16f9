"""Tensors and records → matplotlib figures and PNG files. Nothing here measures, and nothing is shown."""

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from hwkit.diffusion import Denoiser
from hwkit.files import whole_file
from hwkit.language import language, say, speaking
from hwkit.measure.curve import Curve
from hwkit.measure.memorisation import Pairs
from hwkit.mnist.batches import to_uint8
from hwkit.recipe import Recipe
from hwkit.runs.run import Record, read_history
from hwkit.sampling import Frame, Sampler, nodes, trajectory
from hwkit.schedule import Schedule
from hwkit.unet import TimeEmbedding, UNet, UNetConfig

INK, ACCENT, MUTED = "#1f2933", "#d1495b", "#7b8794"  # text is in INK: the others are too pale to be read
HAN = re.compile("[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]+")  # Chinese characters and full-width marks
CHINESE = (  # fonts that have them: Linux, Colab; macOS; Windows. Of a .ttc matplotlib knows the first face only.
    "Noto Sans CJK TC",
    "Noto Sans CJK JP",
    "Noto Sans TC",
    "PingFang TC",
    "PingFang HK",
    "Heiti TC",
    "Microsoft JhengHei",
    "Arial Unicode MS",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
)
FILES = r"(?i)^(NotoSans(CJK|TC).*regular|PingFang|STHeiti.*light|msjh\.|arial unicode|wqy-zenhei|droidsansfallback)"


def check_dpi(dpi: float) -> None:
    """ValueError for a resolution at which a figure cannot be drawn, or not be read."""
    if not 30 <= dpi <= 1200:
        text = "--dpi is {dpi}, but must be between 30 and 1,200: 150 is right for a screen, 300 for print."
        raise ValueError(say(text, dpi=dpi))


@cache
def chinese_font() -> str | None:
    """The first of CHINESE that matplotlib finds here; None, and it is said once, where there is none."""
    manager = font_manager.fontManager
    found = next((name for name in CHINESE if name in {font.name for font in manager.ttflist}), None)
    if not found:  # matplotlib's list may be older than the font
        for path in font_manager.findSystemFonts():
            if re.search(FILES, Path(path).name):
                manager.addfont(path)
        found = next((name for name in CHINESE if name in {font.name for font in manager.ttflist}), None)
    if not found:
        text = "No font here has Chinese characters, so figures go without them. {way} installs one."
        print(say(text, way="apt-get install fonts-noto-cjk"))
    return found


def drawable(figure: Figure) -> Figure:
    """The figure, whose Chinese words get a font that has them; where there is none they are left out, not boxes."""
    for axes in figure.axes:  # these words are set when they are asked for
        axes.get_xticklabels(), axes.get_yticklabels()
    for text in figure.findobj(Text):
        if HAN.search(text.get_text()):
            if font := chinese_font():
                others = [name for name in text.get_fontfamily() if name != font]
                # Beside a formula matplotlib takes the first font for all words, else the first that has the character.
                text.set_fontfamily([font, *others] if "$" in text.get_text() else [*others, font])
            else:
                text.set_text(" ".join(HAN.sub(" ", text.get_text()).split()))
    return figure


@contextmanager
def drawn_language() -> Iterator[None]:
    """Within it, or in a function that it decorates, words are in the language spoken, or English without a font."""
    with speaking(language() if language() == "en" or chinese_font() else "en"):
        yield


def save(figure: Figure, path: Path | str, dpi: float = 150) -> Path:
    """Writes the figure as a PNG (whole, see `files.whole_file`) and returns its path. Raises as `check_dpi` does."""
    check_dpi(dpi)
    with whole_file(path) as temporary:
        drawable(figure).savefig(temporary, format="png", dpi=dpi, facecolor="white")
    return Path(path)


def tile(images: Tensor | np.ndarray, columns: int, gap: int = 2, background: int = 255) -> np.ndarray:
    """Images in rows of `columns`: uint8 (N, C, H, W) → uint8 (rows·(H + gap) + gap, columns·(W + gap) + gap, 3)."""
    images = np.asarray(images)
    count, _, height, width = images.shape
    rows = -(-count // columns)
    cells = np.full((rows * columns, 3, height + gap, width + gap), background, np.uint8)  # the gaps left and above
    cells[:count, :, gap:, gap:] = images
    sheet = cells.reshape(rows, columns, 3, height + gap, width + gap).transpose(0, 3, 1, 4, 2)
    return np.pad(sheet.reshape(rows * (height + gap), -1, 3), ((0, gap), (0, gap), (0, 0)), constant_values=background)


def animation(pictures: Sequence[np.ndarray], scale: int = 4) -> tuple[bytes, bytes]:
    """Every second picture, uint8 (H, W, 3), `scale` times as large, as the bytes of an animated PNG and of a GIF.

    The last one also comes first, for programs that show no other. The PNG plays three times; how often a GIF does,
    programs count differently. One palette for all, of 16 greys and 24 colours of the picture in the middle, keeps them
    small.
    """
    colours = Image.fromarray(pictures[len(pictures) // 2]).quantize(24).getpalette()[:72]
    palette = Image.new("P", (1, 1))
    palette.putpalette([grey for grey in range(0, 256, 17) for _ in "RGB"] + colours)
    large = (Image.fromarray(picture.repeat(scale, 0).repeat(scale, 1)) for picture in pictures)
    shots = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in large]
    first, *others = [shots[-1], *shots[::2], shots[-1]]
    milliseconds = [800] + [150] * (len(others) - 1) + [1600]
    files = {"png": io.BytesIO(), "gif": io.BytesIO()}
    for kind, file in files.items():
        first.save(file, kind, save_all=True, append_images=others, duration=milliseconds, loop=3)
    return files["png"].getvalue(), files["gif"].getvalue()


class Sheet(Figure):
    """Tiled images with words around them; saved, all their pixels are equal squares of whole dots.

    Words stand above and below the columns, and left of the rows.
    """

    def __init__(self, images, columns: int, width: float, title: str = "", above=(), below=(), left=()):
        pixels = tile(images, columns)
        height, across = pixels.shape[:2]
        self.unit = max(1, round(across / width))  # pixels an inch, for about `width` inches
        top, bottom = (round(self.unit * 0.31 * lines) for lines in (bool(title) + bool(above), bool(below)))
        tall, wide = top + height + bottom, across + round(self.unit * 0.1 * (max(map(len, left)) + 1 if left else 0))
        # matplotlib rounds a figure's size down, and the size of an image in it up (3.10): so one is a trace larger.
        super().__init__(figsize=((wide + 1e-6) / self.unit, (tall + 1e-6) / self.unit))
        axes = self.add_axes((1 - across / wide, bottom / tall, across / wide - 1e-7, height / tall - 1e-7))
        axes.imshow(pixels, interpolation="nearest", aspect="auto")
        axes.axis("off")
        self.text(0.5, 1 - 0.1 / self.get_figheight(), title, ha="center", va="top", fontsize=11, color=INK)
        for texts, y, alignment in ((above, -2, "bottom"), (below, height + 1, "top")):
            for i, text in enumerate(texts):
                x = 0.5 + (i + 0.5) * (across - 2) / columns
                axes.text(x, y, text, ha="center", va=alignment, fontsize=10, color=INK)
        for i, text in enumerate(left):
            y = 0.5 + (i + 0.5) * (height - 2) / len(left)
            axes.text(-3, y, text, ha="right", va="center", fontsize=10, color=INK)

    def savefig(self, fname, *, dpi: float | str = "figure", **options) -> None:
        """As matplotlib's, but the dpi is raised until a pixel of an image has a whole number of dots."""
        wanted = self.dpi if dpi == "figure" else dpi
        super().savefig(fname, dpi=self.unit * math.ceil(wanted / self.unit), **options)


def sample_sheet(images: Tensor | np.ndarray, columns: int = 10, title: str = "") -> Figure:
    """Images uint8 (N, C, H, W) side by side, in rows of `columns`."""
    return Sheet(images, columns, 6.0, title)


def labelled_rows(rows: Mapping[str, Tensor | np.ndarray], title: str = "", above: Sequence[str] = ()) -> Figure:
    """Rows of images, each with its name at its left, and words above the columns.

    A row is (N, C, H, W), uint8 or floats in [−1, 1] (clipped to that); all rows have the same N.
    """
    images = [torch.as_tensor(row).cpu() for row in rows.values()]
    images = torch.cat([to_uint8(row) if row.is_floating_point() else row for row in images])
    return Sheet(images, len(images) // len(rows), 7.0, title, above, left=list(rows))


def diffusion_grid(frames: Sequence[Frame], title: str = "") -> Figure:
    """A row for each sample, a column for each frame, with its time above; x_t is clipped to [−1, 1] to be shown.

    `frames` come noisiest first, each x_t (B, C, H, W).
    """
    cells = np.stack([to_uint8(frame.x_t).cpu().numpy() for frame in frames], axis=1)  # (rows, columns, C, H, W)
    return Sheet(cells.reshape(-1, *cells.shape[2:]), len(frames), 7.0, title, [f"$t={frame.t}$" for frame in frames])


def grid_frames(
    denoise: Denoiser, sampler: Sampler, seed: int, device: torch.device | str = "cpu", rows: int = 8, at=None
) -> list[Frame]:
    """The frames of `rows` samples at the eight nodes, T to 0, or at times `at`; for all samplers from the same x_T."""
    columns = list(dict.fromkeys(nodes(denoise.schedule.T)))
    frames = trajectory(denoise, sampler, seed, range(1, rows + 1), device, through=columns)
    steps = sampler.resolve(denoise.schedule.T).steps
    shown = tqdm(frames, total=steps + 1, desc=f"grid {sampler.name}", delay=1, leave=False)
    return [frame for frame in shown if frame.t in (at or columns)]


def preview(folder: Path, recipe: Recipe, device: torch.device | str = "cpu") -> Callable[[Record, UNet], None]:
    """An `after_epoch` for `runs.run.train`: draws previews/epoch_0001.png …, always from the same noise.

    The first epoch is drawn, the last, and between them one in each half minute of training: they are to cost little.
    """

    def draw(record: Record, ema: UNet) -> None:
        before = [line["seconds"] for line in read_history(folder) if line["epoch"] < record.epoch]
        is_due = not before or record.seconds // 30 > before[-1] // 30
        if is_due or record.epoch == recipe.epochs or (recipe.minutes and record.seconds >= 60 * recipe.minutes):
            grid = grid_frames(recipe.denoiser(ema), Sampler(), recipe.seed, device)
            with drawn_language():
                text = "epoch {epoch}, {seen:,} images seen"
                figure = diffusion_grid(grid, say(text, epoch=record.epoch, seen=record.images_seen))
            save(figure, folder / "previews" / f"epoch_{record.epoch:04d}.png", dpi=100)

    return draw


@drawn_language()
def memorisation_figure(pairs: Pairs) -> Figure:
    """The closest pairs of all: an image above, its nearest training image below, and how far apart they are."""
    title = say("The closest pairs: image, nearest training image, distance (0 is a copy)")
    count = len(pairs.images)
    numbers, distances = [f"{n:05d}" for n in pairs.numbers], [f"{d:.2f}" for d in pairs.distances]
    images = np.concatenate([pairs.images, pairs.nearest])[:, None]  # (2·count, 1, 28, 28)
    return Sheet(images, count, 0.7 * max(count, 10), title, numbers, distances)


def plot(xlabel: str, ylabel: str = "", title: str = "", size: tuple[float, float] = (6.4, 3.4), log: str = ""):
    """An empty figure and its axes, in the style of all figures here. log: which are logarithmic, "x", "y" or "xy"."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel, **{f"{axis}scale": "log" for axis in log})
    axes.set_title(title, fontsize=11, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    for axis in (getattr(axes, f"{name}axis") for name in log):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    return figure, axes


@drawn_language()
def network_diagram(config: UNetConfig) -> Figure:
    """The U-Net as boxes, as high as the pictures that they put out and as wide as these have channels.

    Below a box: its output's shape and its parameters. Dashed arrows are skips.
    """
    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    axes, places = figure.subplots(), {}
    for x, (name, channels, side, count) in enumerate(network_parts(config)):
        high, wide = side / 28, 0.15 + channels / 320
        y = 1.3 * (high - 1)
        axes.bar(x, high, wide, y - high / 2, color=INK)
        label = f"{name}\n{channels}×{side}×{side}\n{count:,}"
        axes.annotate(label, (x, y - high / 2), (0, -3), textcoords="offset points", ha="center", va="top", fontsize=8)
        places[name] = (x, y, wide / 2, y + high / 2)
    for before, after in pairwise(places.values()):
        start, end = (before[0] + before[2], before[1]), (after[0] - after[2], after[1])
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": ACCENT})
    for level in range(1, len(config.multipliers) + 1):
        (x1, _, _, top1), (x2, _, _, top2) = places[f"Down {level}"], places[f"Up {level}"]
        look = {"arrowstyle": "->", "color": ACCENT, "linestyle": "--", "connectionstyle": "arc3,rad=-0.25"}
        axes.annotate("", (x2, top2), (x1, top1), arrowprops=look)
    count = sum(p.numel() for p in TimeEmbedding(config.base, 4 * config.base).parameters())
    text = "t: sines and cosines, then two linear layers ({count:,} parameters); added in every residual block."
    said = [say(text, count=count)]
    if (side := config.patch) > 1:
        text = "Before the stem, {side}×{side} pixels are folded into channels; after the head they are unfolded."
        said += [say(text, side=side)]
    figure.supxlabel("\n".join(said), fontsize=9, color=INK)
    lowest = min(y for _, y, _, _ in places.values())
    axes.set(xlim=(-0.6, len(places) - 0.4), ylim=(lowest - 1.3, 1.1))
    axes.axis("off")
    return figure


def network_parts(config: UNetConfig) -> list[tuple[str, int, int, int]]:
    """The parts of a U-Net in order: name, channels and side of what it puts out, parameters."""
    with torch.device("meta"):  # shapes only
        model, found = UNet(config), []
        down = [(f"Down {i}", block) for i, block in enumerate(model.down, 1)]
        up = [(f"Up {len(model.up) - i}", block) for i, block in enumerate(model.up)]
        for name, part in [("Stem", model.stem), *down, ("Middle", model.middle), *up, ("Head", model.head)]:

            def note(part, inputs, output, name=name):
                found.append((name, *output.shape[1:3], sum(p.numel() for p in part.parameters())))

            part.register_forward_hook(note)
        model(torch.zeros(1, config.channels, 28, 28), torch.ones(1, dtype=torch.long))
    return found


@drawn_language()
def loss_curve(history: Sequence[dict], title: str = "") -> Figure:
    """The loss against the images seen, from the lines of `history.jsonl`: windows of steps, and the mean of epochs."""
    figure, axes = plot(say("images seen (thousands)"), say("training loss"), title, (6.4, 3.8), log="y")
    seen, losses = zip(*(point for record in history for point in record["curve"]), strict=True)
    axes.plot(np.array(seen) / 1e3, losses, color=MUTED, linewidth=1, label=say("mean of some steps"))
    ends = np.array([0] + [record["images_seen"] for record in history]) / 1e3
    means = [record["loss"] for record in history]
    axes.hlines(means, ends[:-1], ends[1:], color=ACCENT, linewidth=2, label=say("mean of an epoch"))
    axes.legend(frameon=False)
    return figure


@drawn_language()
def schedule_curves(schedules: Sequence[Schedule]) -> Figure:
    """√ᾱ_t, the share of the image in x_t, and the signal-to-noise ratio of each schedule; √ᾱ_T is in the legend."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for schedule, color in zip(schedules, (INK, ACCENT, MUTED), strict=False):
        t, signal = np.arange(schedule.T + 1) / schedule.T, schedule.alpha_bar.sqrt()
        label = rf"{schedule.name}, T = {schedule.T}: $\sqrt{{\bar\alpha_T}}$ = {signal[-1]:.4f}"
        left.plot(t, signal, color=color, label=label)
        right.plot(t[1:], schedule.snr[1:], color=color, label=schedule.name)
    left.set(xlabel="t / T", ylabel=say(r"$\sqrt{\bar\alpha_t}$ (share of the image)"))
    right.set(xlabel="t / T", ylabel=r"SNR $\bar\alpha_t/(1-\bar\alpha_t)$", yscale="log")
    right.axhline(1, color=MUTED, linewidth=0.8, linestyle=":")
    right.text(1, 1.5, say("as much noise as image"), color=INK, fontsize=9, ha="right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    return figure


@drawn_language()
def digit_histogram_figure(counts: Sequence[int], real: Sequence[int]) -> Figure:
    """The share of each digit among the images, beside MNIST's: eleven counts each, the last of "no digit"."""
    figure, axes = plot(say("class, by the kit's digit classifier"), say("share of the images (%)"))
    looks = (say("these images"), counts, -0.2, ACCENT), (say("MNIST train"), real, 0.2, MUTED)
    for label, values, shift, color in looks:
        shares = 100 * np.asarray(values) / max(1, sum(values))
        bars = axes.bar(np.arange(11) + shift, shares, 0.4, color=color, label=f"{label} ({sum(values):,})")
        if values is counts:
            axes.bar_label(bars, [f"{n:,}" for n in values], fontsize=7, color=INK, rotation=90, padding=2)
    axes.set_xticks(range(11), [*"0123456789", say("no digit")])
    axes.margins(y=0.2)
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.13))
    return figure


@drawn_language()
def fid_curve_figure(curve: Curve) -> Figure:
    """Digit-FID against network evaluations an image, a line for each sampler, and the floor."""
    title, score = say("{count:,} images a point", count=curve.images), say("digit-FID (lower is better)")
    figure, axes = plot(say("network evaluations an image"), score, title, (6.4, 4.0), log="xy")
    looks = {
        "dpm++sde": ("SDE-DPM-Solver++(2M)", ACCENT, "s-"),
        "dpm++sde guided": (say("the same, guided (each costs a quarter more)"), ACCENT, "P:"),
        "ddim": ("DDIM", INK, "o-"),
        "dpm++": ("DPM-Solver++(2M)", MUTED, "v:"),
        "unipc": ("UniPC-2", MUTED, "^-."),
        "ddpm": ("DDPM", INK, "D:"),
    }
    for name, (label, color, look) in looks.items():
        points = sorted((p.evaluations, p.value, p.error) for p in curve.points if p.name == name)
        if points:
            axes.errorbar(*zip(*points, strict=True), fmt=look, color=color, capsize=3, markersize=5, label=label)
    floor = say("as many real test digits: {floor:.2f}", floor=curve.floor)
    axes.axhline(curve.floor, color=MUTED, linestyle="--", linewidth=1, label=floor)
    shown: list[int] = []
    for count in sorted({p.evaluations for p in curve.points}):
        if not shown or count > 1.1 * shown[-1]:  # else the numbers would touch
            shown.append(count)
    axes.set_xticks(shown)
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return figure
