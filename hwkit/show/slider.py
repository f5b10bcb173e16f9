"""The timestep slider: eight samples on their way from noise to digit, as a widget and as a page of HTML.

slider = timestep_slider(slider_frames(load_denoiser("runs/cpu/ema_latest.pt")))

All frames are sampled beforehand. Each of the four sequences is one PNG, a strip of frames from left to right, and the
browser shows a window of it, so that everything moves when the kernel has stopped, in a saved notebook (ipywidgets
restores it once any kernel has started), and offline.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from hwkit.diffusion import Denoiser
from hwkit.mnist.batches import to_uint8
from hwkit.sampling import Sampler, nodes, times, trajectory
from hwkit.show.figures import tile

SAMPLES, COLUMNS, GAP = 8, 4, 2  # two rows of four, 2 pixels apart
LIMIT = 1_450_000  # bytes of the four strips in base64: a slider stays below 1.5 MB
SEQUENCES = ("ddim-xt", "ddim-x0", "ddpm-xt", "ddpm-x0")
KINDS = ("xₜ, the image so far", "x̂₀, the network’s guess")
PLAY_MS = 120  # a frame

CSS = Path(__file__).with_name("slider.css")
PAGE = Path(__file__).with_name("slider.html")


@dataclass(frozen=True)
class SliderFrames:
    """What a slider shows; all four sequences are at the same times."""

    times: Sequence[int]  # F falling times, T first, 0 last
    nodes: Sequence[int]  # those among them that are the columns of the diffusion grid
    sequences: dict[str, np.ndarray]  # for each of SEQUENCES, uint8 (F, 8, 3, 28, 28)

    @property
    def labels(self) -> list[str]:
        """What is read beside the slider, for each frame."""
        T, count = self.times[0], len(self.nodes)
        number = {t: f" · column {k} of {count}" for k, t in enumerate(self.nodes, start=1)}
        return [f"t = {t} of {T}{number.get(t, '')}" for t in self.times]

    @property
    def samplers(self) -> tuple[str, str]:
        """The two samplers, in the order of the buttons."""
        return f"DDIM, {len(self.times) - 1} steps", f"DDPM, {self.times[0]} steps"

    @property
    def start(self) -> int:
        """The frame to begin with: the column where digits show through the noise, and DDIM and DDPM have parted."""
        return self.times.index(self.nodes[len(self.nodes) * 5 // 8])

    @cached_property
    def strips(self) -> dict[str, str]:
        """Each sequence as a PNG in base64 (see `strips_within`)."""
        return strips_within(self.sequences)


def slider_frames(denoise: Denoiser, seed: int = 0, device: torch.device | str = "cpu") -> SliderFrames:
    """Samples images 1 … 8 of the run `seed` with DDIM (50 steps, through the eight columns) and DDPM (all T steps).

    Both start from the same x_T, and are kept at DDIM's times: 51 frames for T = 830. x_t is clipped to [−1, 1].
    Takes about T + 50 evaluations of the network on 8 images: with the `cpu` recipe's, a minute on one CPU core.
    """
    T = denoise.schedule.T
    columns = list(dict.fromkeys(nodes(T)))
    kept = times(T, Sampler("ddim").resolve(T).steps, through=columns)
    sequences = {}
    for name in ("ddim", "ddpm"):
        sampler = Sampler(name).resolve(T)
        frames = trajectory(denoise, sampler, seed, range(1, SAMPLES + 1), device, through=columns)
        shown = tqdm(frames, total=sampler.steps + 1, desc=f"slider {name}", leave=False)
        both = [(to_uint8(f.x_t).cpu(), to_uint8(f.x0_hat).cpu()) for f in shown if f.t in kept]
        for kind, images in zip(("xt", "x0"), zip(*both, strict=True), strict=True):
            sequences[f"{name}-{kind}"] = torch.stack(images).numpy()  # (F, 8, 3, 28, 28)
    return SliderFrames(kept, columns, sequences)


def draw_strips(sequences: Sequence[np.ndarray], colors: int = 255) -> list[bytes]:
    """Each sequence, uint8 (F, N, 3, H, W), as a PNG: its frames side by side, the N images of a frame in rows of 4.

    They are rounded to `colors` colors (at most 255): noise compresses by nothing else, digits need no more. All have
    the same colors, so that equal images stay equal. The gaps are transparent. A frame is 4·(W + 2) + 2 pixels wide.
    """
    pixels = [np.concatenate([tile(frame, COLUMNS, GAP) for frame in images], axis=1) for images in sequences]
    frame_gaps = tile(np.zeros_like(sequences[0][0]), COLUMNS, GAP)[..., 0] > 0
    gaps = np.tile(frame_gaps, len(sequences[0]))
    rounded = Image.fromarray(np.concatenate(pixels)).quantize(colors, dither=Image.Dither.NONE)
    palette = rounded.getpalette()[: 3 * colors]
    transparent = len(palette) // 3
    pngs = []
    for indices in np.split(np.asarray(rounded), len(sequences)):
        picture = Image.fromarray(np.where(gaps, np.uint8(transparent), indices))
        picture.putpalette([*palette, 0, 0, 0])
        buffer = io.BytesIO()
        picture.save(buffer, "png", transparency=transparent)
        pngs.append(buffer.getvalue())
    return pngs


def strips_within(sequences: dict[str, np.ndarray], limit: int = LIMIT) -> dict[str, str]:
    """The strips of SEQUENCES in base64, together within `limit` bytes, with as many colors as that allows.

    DDIM's and DDPM's have the same colors. Raises ValueError where 15 colors are too many, which 4 × 51 frames of pure
    noise are not.
    """
    for colors in (255, 127, 63, 31, 15):
        encoded = {}
        for kind in ("xt", "x0"):
            alike = [name for name in SEQUENCES if name.endswith(kind)]
            pngs = draw_strips([sequences[name] for name in alike], colors)
            encoded |= {name: base64.b64encode(png).decode() for name, png in zip(alike, pngs, strict=True)}
        if sum(map(len, encoded.values())) <= limit:
            return encoded
    raise ValueError(f"{sum(map(len, sequences.values()))} frames do not fit {limit:,} bytes: keep fewer.")


def timestep_slider(frames: SliderFrames):
    """The slider as an ipywidgets `VBox`: play, scrub t, choose DDIM or DDPM, and x_t or x̂_0.

    Made of core widgets that ipywidgets 7.7 (Colab's) and 8 both have, and linked in the browser: a running kernel
    hears of a move, but has no part in it. The picture is a progress bar that is as wide as the frames up to this one
    and has the strip as its background; what is seen is its right end (see slider.css, which acts on the choices too).
    """
    import ipywidgets as w

    last = len(frames.times) - 1
    repeat = "repeat" if "repeat" in w.Play.class_trait_names() else "_repeat"  # the older name is ipywidgets 7's

    sampler = w.ToggleButtons(options=frames.samplers).add_class("hwkit-sampler")
    kind = w.ToggleButtons(options=KINDS).add_class("hwkit-kind")
    picture = w.IntProgress(value=frames.start, min=-1, max=last).add_class("hwkit-picture")  # frame 0 is 1 part of F
    play = w.Play(value=frames.start, max=last, interval=PLAY_MS, **{repeat: True}).add_class("hwkit-play")
    slider = w.SelectionSlider(options=frames.labels, index=frames.start).add_class("hwkit-time")
    marks = w.HTML(f"<style>{_css(frames)}</style>{_marks(frames, 'span')}").add_class("hwkit-marks-box")
    w.jslink((play, "value"), (slider, "index"))
    w.jslink((slider, "index"), (picture, "value"))

    choices = w.HBox([sampler, kind]).add_class("hwkit-row")
    time = w.HBox([play, w.VBox([slider, marks]).add_class("hwkit-track")]).add_class("hwkit-row")
    return w.VBox([choices, picture, time]).add_class("hwkit-slider").add_class(_name(frames))


def slider_html(frames: SliderFrames, title: str = "From noise to digits") -> str:
    """The slider as a page that needs nothing else: no kernel, no network, no ipywidgets. `title` is plain text."""
    return Template(PAGE.read_text("utf-8")).substitute(
        title=html.escape(title),
        css=_css(frames),
        name=_name(frames),
        ddim=frames.samplers[0],
        ddpm=frames.samplers[1],
        xt=KINDS[0],
        x0=html.escape(KINDS[1]),
        labels=json.dumps(frames.labels, ensure_ascii=False),
        last=len(frames.times) - 1,
        start=frames.start,
        marks=_marks(frames, "button"),
        play_ms=PLAY_MS,
    )


def _css(frames: SliderFrames) -> str:
    """slider.css, and the strips and sizes of this slider as variables of its own class."""
    _, samples, _, height, width = frames.sequences[SEQUENCES[0]].shape
    variables = {
        "frames": len(frames.times),
        "columns": COLUMNS * (width + GAP) + GAP,
        "rows": samples // COLUMNS * (height + GAP) + GAP,
        "gap": GAP,
        **{name: f"url(data:image/png;base64,{data})" for name, data in frames.strips.items()},
    }
    return CSS.read_text("utf-8") + f".{_name(frames)} {{{';'.join(f'--{k}:{v}' for k, v in variables.items())}}}"


def _name(frames: SliderFrames) -> str:
    """A class for this slider's variables, so that two sliders on a page do not mix."""
    return "hwkit-" + hashlib.sha256("".join(frames.strips.values()).encode()).hexdigest()[:12]


def _marks(frames: SliderFrames, tag: str) -> str:
    """The marks of the diffusion grid's columns below the slider."""
    last = len(frames.times) - 1
    where = {t: frames.times.index(t) for t in frames.nodes}
    marks = (f'<{tag} style="left:{100 * i / last:.2f}%" data-frame="{i}">t={t}</{tag}>' for t, i in where.items())
    return f'<div class="hwkit-marks">{"".join(marks)}</div>'
