"""Do the weights, the images and the history belong together? Tensors are loaded, and nothing else is."""

import hashlib
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hwkit.diffusion import Denoiser
from hwkit.files import DAMAGED
from hwkit.grade.intake import reason, shown
from hwkit.language import say
from hwkit.runs import checkpoint
from hwkit.runs.generate import images, sampler_of
from hwkit.runs.run import Record
from hwkit.runs.speed import quickest_precision
from hwkit.sampling import Sampler
from hwkit.unet import UNet

LARGEST = 2**28  # bytes that weights may have in memory: the original's network has 25 million
EVALUATIONS = 4_000  # of the network, at most, for the images that are made again
LEVELS, PIXELS = 16, 39  # an image is near another where no more pixels (5 %) differ by more levels: rounding does not
BLOCK = 20  # images made together


@dataclass(frozen=True)
class Weights:
    """What a file of weights is."""

    file: str = ""  # its name; "" where none was handed in
    sha256: str = ""
    tensors_sha256: str = ""  # of the numbers alone, in half precision: the same in .pt and .safetensors
    trouble: str = ""  # why no network can be built from it; "" where one can
    epoch: int | None = None
    images_seen: int | None = None


@dataclass(frozen=True)
class Again:
    """Images that were made again from the weights, beside those handed in."""

    numbers: tuple[int, ...] = ()
    equal: int = 0  # the same in every pixel
    near: int = 0  # but for rounding, as on another machine
    other: int = 0
    trouble: str = ""  # why none could be made
    elsewhere: bool = False  # because their noise is another device's, which is no fault

    @property
    def share(self) -> float | None:
        """The part that is equal or near; None where nothing was made."""
        return (self.equal + self.near) / len(self.numbers) if self.numbers else None


@dataclass(frozen=True)
class Origin:
    """What a submission says about where its images come from (`run.json` or `generate.json`)."""

    sampler: Sampler | None = None
    seed: int = 0
    precision: str = "fp32"
    checkpoint_sha256: str = ""
    device_noise: bool = False
    trouble: str = ""


# Weights


def read_weights(path: Path, name: str) -> tuple[Weights, Denoiser | None]:
    """A checkpoint of this kit, and its network ready to sample; what is wrong with it is said in `trouble`."""
    sha = checkpoint.digest(path)
    try:
        check_size(path)
        content = checkpoint.load(path)
        parts = [content, content["guide"]] if "guide" in content else [content]
        for part in parts:
            check_network(part)
        denoise = checkpoint.load_denoiser(path)
    except (*DAMAGED, RecursionError, AssertionError) as error:
        said = " ".join(str(error).replace(str(path), name).split())[:300] or type(error).__name__
        said = "".join(letter if letter.isprintable() else "�" for letter in said)
        return Weights(name, sha, trouble=said), None
    facts = {key: content.get(key) for key in ("epoch", "images_seen")}
    facts = {key: value if isinstance(value, int) else None for key, value in facts.items()}
    found = Weights(name, sha, tensors_digest(content["weights"]), **facts)
    if not all(tensor.isfinite().all() for part in parts for tensor in part["weights"].values()):
        return Weights(
            name, sha, found.tensors_sha256, say("{name}: some of its numbers are NaN or infinite.", name=name), **facts
        ), None
    return found, denoise


def check_size(path: Path) -> None:
    """ValueError for a .pt that would unpack to more than weights have."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST:
            said = "{path} would unpack to {size:,} bytes, more than the {most:,} that weights may have."
            raise ValueError(say(said, path=path, size=size, most=LARGEST))


def check_network(content: Mapping) -> None:
    """ValueError where the network is too large to be built, or its tensors are not those that are described.

    It is built without memory first: what a file says of itself could ask for any size.
    """
    recipe = checkpoint.recipe_of(content)
    net = recipe.model
    numbers = (net.base, net.blocks, net.middle_blocks, net.patch, net.channels, recipe.T, *net.multipliers)
    if not all(type(number) is int for number in numbers):
        raise ValueError(say("its sizes are no whole numbers."))
    large = net.base > 512 or net.blocks > 16 or net.middle_blocks > 16 or net.patch > 4 or net.channels != 3
    if large or len(net.multipliers) > 5 or max(net.multipliers) > 16 or recipe.T > 10_000:
        raise ValueError(say("its network is larger than any that this homework needs, so it was not built."))
    weights = content["weights"]
    if not isinstance(weights, Mapping) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ValueError(say("its weights are no tensors."))
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in UNet(net).state_dict().items()}
    held = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if odd := sorted({name for name in wanted.keys() | held.keys() if wanted.get(name) != held.get(name)}):
        said = "its weights do not fit the network that it describes ({count} differ, such as {name})."
        raise ValueError(say(said, count=len(odd), name=shown(str(odd[0]))))
    if sum(math.prod(shape) for shape in wanted.values()) > LARGEST // 4:
        raise ValueError(say("its network is larger than any that this homework needs, so it was not built."))


def tensors_digest(weights: Mapping[str, Tensor]) -> str:
    """A hash of the numbers in half precision, in which weights are handed on: of any file with the same weights."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(name.encode())
        found.update(np.ascontiguousarray(weights[name].detach().half().numpy()).tobytes())
    return found.hexdigest()


def distance(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float | None:
    """|w − v| / |v| over all tensors: about 1 or more of two trainings, little of one that went on from the other.

    None where they are of other networks.
    """
    if {n: t.shape for n, t in weights.items()} != {n: t.shape for n, t in others.items()}:
        return None
    apart = sum((weights[name].double() - tensor.double()).square().sum() for name, tensor in others.items())
    return float((apart / sum(tensor.double().square().sum() for tensor in others.values())).sqrt())


# Images made again


def origin(facts: Mapping | None, manifest: Mapping | None) -> Origin:
    """What made the images, by `run.json` or the `generate.json` of the run; with `trouble` where neither tells."""
    made = manifest
    if isinstance(facts, Mapping) and isinstance(facts.get("images"), Mapping):
        made = facts["images"].get("made_by") or manifest
    if not isinstance(made, Mapping):
        return Origin(trouble=say("Nothing that was handed in says what made the images."))
    try:
        sampler, seed = sampler_of(made), made["seed"]
        precision = made.get("precision", "fp32")
        if type(seed) is not int or not 0 <= seed < 2**63 or precision not in ("fp32", "bf16", "fp16"):
            raise ValueError(say("its seed or floating-point format is not a valid one"))
        if type(sampler.steps) not in (int, type(None)):
            raise ValueError(say("its steps are no whole number"))
        sha, on_device = str(made["checkpoint_sha256"])[:64], bool(made.get("device_noise", False))
    except (KeyError, TypeError, ValueError) as error:
        said = "What is said about sampler and seed cannot be read ({why})."
        return Origin(trouble=say(said, why=reason(error)))
    return Origin(sampler, seed, precision, sha, on_device)


def chosen(numbers: Sequence[int], count: int, drawn_by: str, steps: int) -> list[int]:
    """Which images to make again: drawn by the submission's own hash and a secret of the class.

    By the hash alone a student could pack images of another origin again and again, until only good ones are drawn.
    """
    count = min(len(numbers), count, max(2, EVALUATIONS // max(1, steps)))
    rng = np.random.default_rng(int(hashlib.sha256(drawn_by.encode()).hexdigest()[:16], 16))
    return sorted(int(k) for k in rng.choice(np.asarray(numbers), count, replace=False)) if count else []


def again(denoise: Denoiser, made: Origin, pictures: Mapping[int, np.ndarray], count: int, drawn_by: str) -> Again:
    """Makes some of the images again and compares. pictures: uint8 (3, 28, 28) by their numbers. Drawn as `chosen`."""
    if made.trouble:
        return Again(trouble=made.trouble)
    if made.device_noise and made.sampler.needs_noise:
        said = "The steps' noise was drawn on another device, so the images cannot be made again here."
        return Again(trouble=say(said), elsewhere=True)
    if not pictures:
        return Again(trouble=say("No image is called by its number, such as 00001.png, so none could be made again."))
    try:
        sampler = made.sampler.resolve(denoise.schedule.T, denoise.guidance)
        numbers = chosen(list(pictures), count, drawn_by, sampler.steps)
        remade = remake(denoise, sampler, made.seed, numbers, made.precision)
    except (ValueError, TypeError) as error:  # distilled weights refuse times when they are asked for one
        return Again(trouble=say("The sampler does not fit the weights: {why}", why=error))
    kinds = [likeness(image, pictures[k]) for image, k in zip(remade, numbers, strict=True)]
    return Again(tuple(numbers), *(kinds.count(kind) for kind in ("equal", "near", "other")))


def remake(denoise: Denoiser, sampler: Sampler, seed: int, numbers: Sequence[int], precision: str = "fp32"):
    """Images `numbers` of a seed, uint8 (N, 3, 28, 28); in fp32 where this machine is slow in the given precision."""
    if precision != "fp32" and quickest_precision(denoise, "cpu") != precision:
        precision = "fp32"
    made = [np.zeros((0, 3, 28, 28), np.uint8)]
    with torch.no_grad():
        for start in range(0, len(numbers), BLOCK):
            block = numbers[start : start + BLOCK]
            made.append(images(denoise, sampler, seed, block, precision=precision).numpy())
    return np.concatenate(made)


def likeness(image: np.ndarray, other: np.ndarray) -> str:
    """equal, near or other: of two uint8 images (3, 28, 28)."""
    if np.array_equal(image, other):
        return "equal"
    apart = np.abs(image.astype(np.int16) - other).max(axis=0)
    return "near" if (apart > LEVELS).sum() <= PIXELS else "other"


# The history


@dataclass(frozen=True)
class History:
    """Whether the log of the training is there, and what in it contradicts something else."""

    epochs: int = 0  # lines of it; 0 where none was handed in
    faults: tuple[str, ...] = ()


def read_history(text: bytes | None, facts: Mapping | None) -> tuple[list[dict], list[str]]:
    """The records of `history.jsonl`, else of `run.json`, and a sentence where the two differ or one is damaged."""
    lines, faults = [], []
    told = facts.get("history") if isinstance(facts, Mapping) else None
    for name, rows in (("history.jsonl", text), ("run.json", told)):
        if rows is None:
            continue
        try:
            rows = [json.loads(line) for line in rows.decode().splitlines()] if isinstance(rows, bytes) else list(rows)
            records = [checked(Record(**row)) for row in rows]
        except (ValueError, TypeError, RecursionError, AttributeError, OverflowError) as error:
            said = "The history in {name} is not as the training writes it ({why})."
            faults.append(say(said, name=name, why=reason(error)))
            continue
        if lines and records != lines:
            faults.append(say("The histories in history.jsonl and in run.json differ."))
        lines = lines or records
    return lines, faults


def checked(record: Record) -> dict:
    """The record as a dict. ValueError where a value is of another kind than training writes, or not finite."""
    numbers = (record.epoch, record.loss, record.images_seen, record.seconds, record.lr, record.images_per_second)
    points = [value for point in record.curve for value in point]
    if not all(type(v) in (int, float) and math.isfinite(v) for v in (*numbers, *points)):
        raise ValueError(say("a value is no number, or not finite"))
    if not all(len(point) == 2 for point in record.curve) or type(record.is_best) is not bool:
        raise ValueError(say("a point of the curve is no pair"))
    return record._asdict()


def contradictions(lines: Sequence[Mapping], facts: Mapping | None) -> list[str]:
    """What the epochs of a history say against each other, and against `run.json`; a sentence for each kind.

    A run that the kit has written, in one part or in several, has none; nor has one that went on from weights without
    their history, which begins with a later epoch than the first.
    """
    found: dict[str, str] = {}
    recipe = facts.get("recipe") if isinstance(facts, Mapping) else None
    batch = recipe.get("batch_size") if isinstance(recipe, Mapping) else None
    best, before, rest = math.inf, {"epoch": 0, "images_seen": 0, "seconds": 0.0}, lines
    later = bool(lines) and lines[0]["epoch"] > 1
    if later:
        best, before, rest = lines[0]["loss"], lines[0], lines[1:]
    for line in rest:
        n, seen, took = line["epoch"], line["images_seen"] - before["images_seen"], line["seconds"] - before["seconds"]
        if n != before["epoch"] + 1:
            found.setdefault("epochs", say("Epoch {n} follows epoch {before}.", n=n, before=before["epoch"]))
        if seen <= 0 or (type(batch) is int and batch > 0 and seen % batch):
            said = "Epoch {n} has seen {seen:,} images, which no number of batches of {batch} are."
            found.setdefault("images", say(said, n=n, seen=seen, batch=batch))
        if took < 0:
            said = "Epoch {n} ended {seconds:.1f} s before the one before it."
            found.setdefault("time", say(said, n=n, seconds=-took))
        elif (
            took > 0.2 and abs(seen / took / max(line["images_per_second"], 1e-9) - 1) > 0.05 + 0.1 / took
        ):  # rounded to 0.1 s
            said = "Epoch {n} says {seen:,} images in {took:.1f} s, but {speed:.1f} images a second."
            found.setdefault("speed", say(said, n=n, seen=seen, took=took, speed=line["images_per_second"]))
        if line["is_best"] != (line["loss"] < best) and (line["is_best"] or not later):
            said = "Epoch {n} is marked as the best so far, or not marked so, wrongly."
            found.setdefault("best", say(said, n=n))
        best = min(best, line["loss"])
        xs, losses = zip(*line["curve"], strict=True) if line["curve"] else ((), ())
        if any(a >= b for a, b in pairwise(xs)) or any(
            not before["images_seen"] < x <= line["images_seen"] for x in xs
        ):
            said = "The points of the loss curve in epoch {n} do not lie within that epoch."
            found.setdefault("curve", say(said, n=n))
        if losses and not 0.8 <= line["loss"] / max(float(np.mean(losses)), 1e-12) <= 1.25:
            said = "The loss of epoch {n} is {loss:.4f}, but its curve has {mean:.4f} in the mean."
            found.setdefault("loss", say(said, n=n, loss=line["loss"], mean=float(np.mean(losses))))
        before = line
    if not isinstance(facts, Mapping) or not lines:
        return list(found.values())
    told = (facts.get("epoch"), facts.get("images_seen"))
    if None not in told and told not in [(line["epoch"], line["images_seen"]) for line in lines]:
        said = "run.json says epoch {epoch} and {seen} images seen; no epoch does."
        found["facts"] = say(said, epoch=shown(str(told[0])), seen=shown(str(told[1])))
    return list(found.values())


def disagreements(
    facts: Mapping | None, weights: Weights, pictures_sha256: str, made: Origin, again: Again
) -> list[str]:
    """Where `run.json` names other weights or other images than those that were handed in.

    Weights that make the very images are those, whatever the file's hash: exported ones have another.
    """
    found, theirs = [], again.share == 1
    if isinstance(facts, Mapping):
        named, counted = facts.get("weights"), facts.get("images")
        sha = named.get("sha256") if isinstance(named, Mapping) else None
        if weights.sha256 and sha not in (None, weights.sha256) and not theirs:
            found.append(say("run.json names the hash of other weights than those that were handed in."))
        if None not in (weights.images_seen, seen := facts.get("images_seen")) and weights.images_seen != seen:
            said = "The weights have seen {seen:,} images, run.json says otherwise."
            found.append(say(said, seen=weights.images_seen))
        if pictures_sha256 and isinstance(counted, Mapping) and counted.get("sha256") not in (None, pictures_sha256):
            found.append(say("run.json names the hash of other images than those that were handed in."))
    if weights.sha256 and made.checkpoint_sha256 not in ("", weights.sha256) and not theirs:
        found.append(say("The images say that they were made from other weights than those that were handed in."))
    return found
