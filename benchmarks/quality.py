"""Rows 4 and 5: digits after the same minutes of training from scratch, contender by contender.

Each finished contender is kept in `<out>/quality.json`, so that an interrupted comparison goes on with the next one.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import Line
from benchmarks.peers import PEERS, Peer
from benchmarks.rows import ORIGINAL_SAMPLER, Scale
from hwkit.files import write_json
from hwkit.measure.score import digit_fid
from hwkit.mnist.batches import batches
from hwkit.mnist.folder import load_folder
from hwkit.mnist.sources import prepare
from hwkit.recipe import ORIGINAL, RECIPES, Recipe
from hwkit.runs.checkpoint import load_denoiser
from hwkit.runs.generate import images
from hwkit.runs.guide import train_guide
from hwkit.runs.run import train
from hwkit.sampling import GUIDANCE, Sampler
from hwkit.show.figures import preview, sample_sheet, save

KITS = Sampler("dpm++sde")  # the default: guided, where the weights have a guide
BLOCK = 100  # images sampled together
SHEET = 64  # images shown of each contender
Sample = Callable[[int], Tensor]  # n → uint8 (n, 3, 28, 28)


@dataclass(frozen=True)
class Contender:
    """Something to train: `train(digits, minutes)` gives the number of images seen, and what samples."""

    name: str
    about: str
    sampler: str
    train: Callable[[Tensor, float], tuple[int, Sample]]


def contenders(recipe: str) -> list[Contender]:
    """The kit's recipe, the original's loss and optimizer on the same network, and the peers."""
    own = RECIPES[recipe]
    original = replace(ORIGINAL, model=own.model, batch_size=own.batch_size, epochs=own.epochs)
    about = "the original's loss and optimizer (ε, uniform weights, AdamW 2e-4, EMA 0.999), the same network and batch"
    kit = [
        Contender(
            recipe,
            f"the kit's recipe {recipe}, its guide",
            str(KITS.resolve(own.T, GUIDANCE)),
            trained_by_the_kit(own, True),
        ),
        Contender(f"original, network of {recipe}", about, str(ORIGINAL_SAMPLER), trained_by_the_kit(original, False)),
    ]
    return kit + [Contender(peer.name, peer.about, peer.sampler, trained_as_documented(peer)) for peer in PEERS]


def trained_by_the_kit(recipe: Recipe, guided: bool) -> Callable[[Tensor, float], tuple[int, Sample]]:
    """Training as by `python -m hwkit train`, checkpoints and previews included; a guide takes a sixth of the time.

    Samples by the kit's default with a guide, else by the original's.
    """
    sampler = KITS if guided else ORIGINAL_SAMPLER

    def run(digits: Tensor, minutes: float) -> tuple[int, Sample]:
        with tempfile.TemporaryDirectory() as folder:
            bounded = replace(recipe, minutes=minutes * 5 / 6 if guided else minutes)
            place = Path(folder) / "run"
            shown = preview(place, bounded, "cpu")
            *_, last = train(bounded, digits, place, "cpu", after_epoch=shown, quiet=True)
            if guided:
                train_guide(place, digits, "cpu", quiet=True)
            denoise = load_denoiser(place / "ema_latest.pt")
        return last.images_seen, lambda n: torch.cat(
            [images(denoise, sampler, 0, range(i + 1, min(i + BLOCK, n) + 1)) for i in range(0, n, BLOCK)]
        )

    return run


def trained_as_documented(make: Callable[[], Peer]) -> Callable[[Tensor, float], tuple[int, Sample]]:
    """Training by the peer's own recipe, from digits in memory, for the same seconds of steps."""

    def run(digits: Tensor, minutes: float) -> tuple[int, Sample]:
        peer, seen, started = make(), 0, time.monotonic()
        stream = (x_0 for epoch in range(10**6) for x_0 in batches(digits, peer.batch, 0, epoch))
        while (progress := (time.monotonic() - started) / (60 * minutes)) < 1:
            peer.step(next(stream), progress)
            seen += peer.batch
        return seen, lambda n: torch.cat([peer.sample(min(BLOCK, n - i)) for i in range(0, n, BLOCK)])

    return run


def quality(
    scale: Scale, out: Path, entries: Sequence[Contender] | None = None, first: int | None = None
) -> list[Line]:
    """Rows 4 and 5: trains and judges each contender that is not kept already, and compares the first with the rest.

    `first`: only so many of them.
    """
    entries = (entries or contenders(scale.recipe))[:first]
    setting = {"minutes": scale.minutes, "images": scale.judged, "threads": torch.get_num_threads()}
    found = kept(out / "quality.json", setting)
    missing = [entry for entry in entries if entry.name not in found]
    digits = load_folder(prepare()) if missing else None
    for entry in missing:
        print(f"{entry.name}: {scale.minutes:g} min of training, then {scale.judged:,} images by {entry.sampler}")
        found[entry.name] = judged(entry, digits, scale, out)
        write_json(out / "quality.json", {**setting, "contenders": found})
    ours, *others = ({"name": entry.name, **found[entry.name]} for entry in entries)
    lines = [compared(ours, other, scale, row="4" if i == 0 else "5") for i, other in enumerate(others)]
    return [alone(ours, scale), *lines]


def kept(path: Path, setting: dict) -> dict[str, dict]:
    """The contenders that were judged before, in the same setting."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_text())
    return content["contenders"] if {key: content.get(key) for key in setting} == setting else {}


def judged(entry: Contender, digits: Tensor, scale: Scale, out: Path) -> dict:
    """Trains, samples and measures one contender, and leaves a sheet of its images."""
    seen, sample = entry.train(digits, scale.minutes)
    started = time.monotonic()
    made = sample(scale.judged)
    seconds = round(time.monotonic() - started, 1)
    value, error = digit_fid(made)
    sheet = sample_sheet(made[:SHEET], 16, f"{entry.name}: {seen:,} images seen, digit-FID {value:.1f}")
    save(sheet, out / f"quality-{entry.name.replace(', ', '-').replace(' ', '-')}.png")
    about = {"about": entry.about, "sampler": entry.sampler, "images_seen": seen, "sampling_seconds": seconds}
    return {**about, "value": value, "error": error}


def alone(ours: dict, scale: Scale) -> Line:
    """Our digit-FID itself; the spread is its standard error."""
    what, how = f"digit-FID after {scale.minutes:g} min, {ours['name']}", told(ours)
    low, high = ours["value"] - ours["error"], ours["value"] + ours["error"]
    return Line("4", what, ours["value"], "", 2.5, False, low, high, how)


def compared(ours: dict, other: dict, scale: Scale, row: str) -> Line:
    """How many times lower our digit-FID is; the spread is that of the standard errors."""
    how = f"digit-FID {told(ours)} to {told(other)}"
    what = f"digit-FID after {scale.minutes:g} min, {ours['name']} against {other['name']}"
    low = (other["value"] - other["error"]) / (ours["value"] + ours["error"])
    high = (other["value"] + other["error"]) / max(ours["value"] - ours["error"], 1e-9)
    return Line(row, what, other["value"] / ours["value"], "×", 10 if row == "4" else 50, True, low, high, how)


def told(judged: dict) -> str:
    """A contender's score, and what it comes from."""
    return "{value:.1f} ± {error:.1f} ({images_seen:,} images seen; {sampler})".format(**judged)
