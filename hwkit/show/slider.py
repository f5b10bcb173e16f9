"""The timestep slider: eight samples on their way from noise to digit, as a widget and as a page of HTML.

All frames are sampled beforehand and stand in one PNG, of which the browser shows a window: so everything moves when
the kernel has stopped, in a saved notebook, and offline.
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

from hwkit.diffusion import Denoiser
from hwkit.language import html_language, marked, say
from hwkit.mnist.batches import to_uint8
from hwkit.sampling import Sampler, nodes, times
from hwkit.show.figures import grid_frames, tile

COLUMNS, GAP = 4, 2  # two rows of four images, 2 pixels apart
LIMIT = 1_450_000  # bytes of the PNG in base64: a slider stays below 1.5 MB
SEQUENCES = ("ddim-xt", "ddim-x0", "ddpm-xt", "ddpm-x0")
KINDS = (marked("xₜ, the image so far"), marked("x̂₀, the network’s guess"))
TITLE = marked("From noise to digits")
WORDS = {  # of the page, by their names in slider.html
    "about": marked(
        "Eight samples, from pure noise on the left of the slider to digits on the right. DDIM and DDPM start from the "
        "same noise."
    ),
    "keys": marked(
        "Space plays and stops, arrow keys move by one frame, Home and End to the ends. The marks are the columns of "
        "the diffusion grid."
    ),
    "sampler": marked("sampler"),
    "shown": marked("what is shown"),
    "picture": marked("eight samples at the time that the slider names"),
    "time": marked("time"),
    "play": marked("▶ Play"),
    "pause": marked("⏸ Pause"),
}
PLAY_MS = 120  # a frame
CSS, PAGE = Path(__file__).with_name("slider.css"), Path(__file__).with_name("slider.html")


@dataclass(frozen=True)
class SliderFrames:
    """What a slider shows; all four sequences are at the same times."""

    times: Sequence[int]  # F falling times, T first, 0 last
    nodes: Sequence[int]  # those among them that are the columns of the diffusion grid
    sequences: dict[str, np.ndarray]  # for each of SEQUENCES, uint8 (F, 8, 3, 28, 28)

    @property
    def labels(self) -> list[str]:
        """What is read beside the slider, for each frame."""
        at = {t: column for column, t in enumerate(self.nodes, start=1)}
        label, in_column = "t = {t} of {T}", "t = {t} of {T} · column {column} of {columns}"
        facts = {"T": self.times[0], "columns": len(self.nodes)}
        return [say(in_column if t in at else label, t=t, column=at.get(t), **facts) for t in self.times]

    @property
    def samplers(self) -> tuple[str, str]:
        """The two samplers, in the order of the buttons."""
        counts = {"DDIM": len(self.times) - 1, "DDPM": self.times[0]}
        return tuple(say("{name}, {steps} steps", name=name, steps=steps) for name, steps in counts.items())

    @property
    def start(self) -> int:
        """The frame to begin with: the column where digits show through the noise, and DDIM and DDPM have parted."""
        return self.times.index(self.nodes[len(self.nodes) * 5 // 8])

    @cached_property
    def strips(self) -> str:
        """The PNG in base64, with as many colors as fit (see `draw_strips`)."""
        for colors in (255, 127, 63, 31, 15):
            encoded = base64.b64encode(draw_strips([self.sequences[name] for name in SEQUENCES], colors)).decode()
            if len(encoded) <= LIMIT:
                return encoded
        text = "{count} frames do not fit {limit:,} bytes: keep fewer."
        raise ValueError(say(text, count=len(self.times), limit=LIMIT))

    def dressed(self, mark: str) -> tuple[str, str, str]:
        """A class of its own for this slider, its CSS with the picture, and the marks of the columns as elements."""
        name = "hwkit-" + hashlib.sha256(self.strips.encode()).hexdigest()[:12]
        frames, samples, _, height, width = self.sequences[SEQUENCES[0]].shape
        columns, rows = COLUMNS * (width + GAP) + GAP, samples // COLUMNS * (height + GAP) + GAP
        sizes = f"--frames:{frames};--columns:{columns};--rows:{rows};--gap:{GAP}"
        css = f"{CSS.read_text('utf-8')}.{name} {{{sizes};--strips:url(data:image/png;base64,{self.strips})}}"
        places = [(t, self.times.index(t)) for t in self.nodes]
        left = {i: f"left:{100 * i / (frames - 1):.2f}%" for _, i in places}
        marks = "".join(f'<{mark} style="{left[i]}" data-frame="{i}">t={t}</{mark}>' for t, i in places)
        return name, css, f'<div class="hwkit-marks">{marks}</div>'


def slider_frames(denoise: Denoiser, seed: int = 0, device: torch.device | str = "cpu") -> SliderFrames:
    """Samples images 1 … 8 of the run `seed` with DDIM (50 steps, through the eight columns) and DDPM (all T steps).

    Both start from the same x_T, and are kept at DDIM's times: 51 frames for T = 830. x_t is clipped to [−1, 1].
    Takes about T + 50 evaluations of the network on 8 images: with the `cpu` recipe's, a minute on one CPU core.
    """
    T = denoise.schedule.T
    columns = list(dict.fromkeys(nodes(T)))
    kept, sequences = times(T, Sampler("ddim").resolve(T).steps, through=columns), {}
    for name in ("ddim", "ddpm"):
        frames = grid_frames(denoise, Sampler(name), seed, device, at=kept)
        sequences[f"{name}-xt"] = torch.stack([to_uint8(frame.x_t) for frame in frames]).cpu().numpy()
        sequences[f"{name}-x0"] = torch.stack([to_uint8(frame.x0_hat) for frame in frames]).cpu().numpy()
    return SliderFrames(kept, columns, sequences)


def draw_strips(sequences: Sequence[np.ndarray], colors: int = 255) -> bytes:
    """Sequences uint8 (F, N, 3, H, W) as one PNG: a row for each, its frames side by side, their images in rows of 4.

    They are rounded to `colors` colors (at most 255): noise compresses by nothing else, digits need no more. The gaps
    are transparent. A frame is 4·(W + 2) + 2 pixels wide.
    """
    rows = [np.concatenate([tile(frame, COLUMNS, GAP) for frame in images], axis=1) for images in sequences]
    pixels = np.concatenate(rows)
    some = pixels.reshape(1, -1, 3)[:, :: 1 + pixels.size // 150_000]  # enough to choose the colors by, and quick
    chosen = Image.fromarray(some).quantize(colors)
    picture = Image.fromarray(pixels).quantize(palette=chosen, dither=Image.Dither.NONE)
    palette = chosen.getpalette()[: 3 * colors]
    clear = len(palette) // 3  # the number of one color more
    gaps = tile(np.zeros_like(sequences[0][0]), COLUMNS, GAP)[..., 0]  # 255, and 0 where an image is
    picture.paste(clear, mask=Image.fromarray(np.tile(gaps, (len(sequences), len(sequences[0])))))
    picture.putpalette([*palette, 0, 0, 0])
    buffer = io.BytesIO()
    picture.save(buffer, "png", transparency=clear)
    return buffer.getvalue()


def timestep_slider(frames: SliderFrames):
    """The slider as an ipywidgets `VBox`: play, scrub t, choose DDIM or DDPM, and x_t or x̂_0.

    Made of core widgets that ipywidgets 7.7 (Colab's) and 8 both have, and linked in the browser: the kernel has no
    part in a move. The picture is a progress bar that is as wide as the frames up to this one and has their strip as
    its background; what is seen is its right end (see slider.css, which acts on the choices too). When it plays it does
    not rest at its ends as the page does: no core widget cuts a number off at a bound in the browser, and a longer
    slider would have ends where nothing moves.
    """
    import ipywidgets as w

    (name, css, marks), last = frames.dressed("span"), len(frames.times) - 1
    repeat = "repeat" if "repeat" in w.Play.class_trait_names() else "_repeat"  # the older name is ipywidgets 7's
    about = "tooltip" if "tooltip" in w.DOMWidget.class_trait_names() else "description_tooltip"  # as before
    sampler = w.ToggleButtons(options=frames.samplers, tooltips=frames.samplers).add_class("hwkit-sampler")
    kinds = [*map(say, KINDS)]
    kind = w.ToggleButtons(options=kinds, tooltips=kinds).add_class("hwkit-kind")
    picture = w.IntProgress(value=frames.start, min=-1, max=last).add_class("hwkit-picture")  # frame 0 is 1 part of F
    play = w.Play(value=frames.start, max=last, interval=PLAY_MS, **{repeat: True}).add_class("hwkit-play")
    slider = w.SelectionSlider(options=frames.labels, index=frames.start, **{about: say(WORDS["time"])}).add_class(
        "hwkit-time"
    )
    w.jslink((play, "value"), (slider, "index"))
    w.jslink((slider, "index"), (picture, "value"))
    below = w.HTML(f"<style>{css}</style>{marks}").add_class("hwkit-marks-box")
    time = w.HBox([play, w.VBox([slider, below]).add_class("hwkit-track")]).add_class("hwkit-row")
    choices = w.HBox([sampler, kind]).add_class("hwkit-row")
    return w.VBox([choices, picture, time]).add_class("hwkit-slider").add_class(name)


def slider_html(frames: SliderFrames, title: str | None = None) -> str:
    """The slider as a page that needs nothing else: no kernel, no network, no ipywidgets. `title` is plain text."""
    (name, css, marks), (ddim, ddpm), (xt, x0) = frames.dressed("button"), frames.samplers, map(say, KINDS)
    words = {name: html.escape(say(text)) for name, text in WORDS.items()}
    words |= {"title": html.escape(title or say(TITLE)), "ddim": ddim, "ddpm": ddpm, "xt": xt, "x0": x0, "name": name}
    numbers = {"start": frames.start, "last": len(frames.times) - 1, "play_ms": PLAY_MS, "lang": html_language()}
    labels = json.dumps(frames.labels, ensure_ascii=False)
    return Template(PAGE.read_text("utf-8")).substitute(words | numbers, css=css, marks=marks, labels=labels)
