"""How good the images are, with all that a number needs to be believed. `fid` and `fid_curve` are commands."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from tqdm.auto import tqdm

from hwkit import data, generate, memorisation
from hwkit import fid as features_
from hwkit.checkpoint import digest, load_denoiser, versions
from hwkit.fid import DigitFeatures, InceptionFeatures, Reference
from hwkit.generate import Sampler
from hwkit.workspace import write_json

CLASSES = [*"0123456789", "none"]
ENOUGH, TOO_FEW = 10_000, 2_048  # images; with fewer than its 2,048 dimensions Inception's covariance is singular
PUBLIC_FLOOR = "test-vs-train 1.1 to 1.25 (public figures)"  # in Inception features
CURVE = [Sampler("ddim", n) for n in (10, 20, 50, 100)] + [Sampler(s, n) for s in ("dpm++", "unipc") for n in (10, 20)]


# The command `fid`


def fid(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    protocol: Literal["digits", "inception"] | None = None,
    reference: Path | None = None,
    floor: Path | None = None,
    train: Path | None = None,
    weights: Path | None = None,
    allow_small: bool = False,
    quick: bool = False,
    out: Path | None = None,
    device: Literal["cpu", "cuda", "mps"] | None = None,
) -> None:
    """Measures folders of images: FID, KID, precision and recall, the digits' histogram, copies of training images.

    Args:
        folders: a folder of PNGs; or several of one model and different seeds, whose spread is then the error.
        protocol: digits (no download), or inception (the report's; digits first). By default inception on a GPU or
            where its weights are named.
        reference: what to compare with, statistics (.npz with mu, sigma) or images; by default MNIST's training digits.
        floor: real images that are not in the reference, to measure what perfect images would score.
        train: the training images, to look for copies in the first folder; by default MNIST where it is at hand, else
            the sample.
        weights: the file of Inception's weights; by default HWKIT_INCEPTION, else pytorch-fid's own.
        allow_small: Inception FID even of less than 2,048 images.
        quick: without the search for copies of training images.
        out: where JSON and figures go; by default a folder beside the first one, `<its name>-evaluation`.
        device: of Inception; by default the best that is there.
    """
    if not folders:
        raise ValueError("Name a folder of images: python -m hwkit fid runs/cpu/generate")
    from hwkit import eval_figures, figures  # matplotlib is slow to import

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    named = weights or os.environ.get("HWKIT_INCEPTION")
    protocol = protocol or ("inception" if device == "cuda" or named else "digits")
    folders = [Path(os.path.abspath(folder)) for folder in folders]
    out = out or folders[0].with_name(folders[0].name + "-evaluation")
    sets = [data.load_folder(folder) for folder in folders]
    if protocol == "inception" and min(map(len, sets)) < TOO_FEW and not allow_small:
        raise ValueError(
            f"{folders[0]} holds {min(map(len, sets)):,} images, and Inception FID of less than {TOO_FEW:,} means "
            "nothing (its features have 2,048 dimensions): make more images, or add --allow-small."
        )
    of_digits = reference if protocol == "digits" else None  # statistics of Inception features are none of digits'
    record = score(DigitFeatures(), folders, sets, of_digits, floor)
    if not quick:
        record["memorisation"], pairs = memorisation.memorisation(memorisation.grey(sets[0]), train)
        figures.save(eval_figures.memorisation_figure(pairs), out / "closest_pairs.png")
    histogram = eval_figures.digit_histogram_figure(record["classes"], features_.floors()["classes"])
    figures.save(histogram, out / "digit_histogram.png")
    publish(record, out)
    if protocol == "digits":
        print("Inception FID, the report's measure, was not asked for: add --protocol inception (quick on a GPU only).")
    else:
        publish(score(InceptionFeatures(weights, device), folders, sets, reference, floor), out)


def publish(record: dict, out: Path) -> None:
    """Writes the record as JSON into the folder, and prints it in words."""
    path = out / f"{record['protocol']}_fid.json"
    write_json(path, record)
    print("\n".join([*lines(record), f"  written: {path}"]))


# The record


def score(extractor, folders: Sequence[Path], sets: Sequence, reference=None, floor: Path | None = None) -> dict:
    """All that is measured in one feature space, as plain values; `lines` puts them into words.

    `sets` are the folders' images, uint8 (N, C, 28, 28); of several folders the values are means (see `combined`). The
    error of FID is that of a finite sample (`fid.frechet_error`). Raises ValueError where folders are of different
    models, of the same seed, or of different numbers of images, on which FID depends.
    """
    counts = [len(images) for images in sets]
    if len(set(counts)) > 1:
        raise ValueError(f"These folders hold {counts} images, but FID depends on the number: measure them one by one.")
    record = {"protocol": extractor.name, "metric": extractor.label, **origin(folders)}
    against = features_.reference(extractor, reference)
    features = [extractor(images) for images in sets]
    record |= {"images": counts[0], "folders": [str(folder) for folder in folders]}
    record |= combined([numbers(f, against) for f in features])
    record |= {"reference": against.name, "reference_images": against.count}
    record["weights_sha256"] = extractor.weights_sha256
    record["real"] = real_numbers(extractor, against, reference, floor, record["images"])
    if extractor.name == "digits":
        record["classes"] = np.bincount(features_.classify(np.concatenate(features)), minlength=11).tolist()
    return record


def numbers(features: np.ndarray, against: Reference) -> dict:
    """FID with its error, and where the reference has features KID, precision and recall, of features (N, D)."""
    found = {
        "value": features_.frechet_distance(*features_.statistics(features), against.mu, against.sigma),
        "error": features_.frechet_error(features, against.mu, against.sigma),
    }
    if against.features is not None:
        found["kid"], found["kid_error"] = features_.kernel_distance(against.features, features)
        found["precision"], found["recall"] = features_.precision_recall(against.features, features)
    return found


def combined(scores: list[dict]) -> dict:
    """The numbers of one folder as they are; of several the means, with the standard deviations as errors.

    As a deviation of two or three values is often far too small by chance, the error of FID is the larger of that and
    of the mean of the single folders' own errors, which tell of the same.
    """
    if len(scores) == 1:
        return scores[0]
    table = {key: [s[key] for s in scores] for key in scores[0]}
    means = {key: float(np.mean(values)) for key, values in table.items()}
    spread = {"error": max(means["error"], float(np.std(table["value"], ddof=1)))}
    if "kid" in table:
        spread["kid_error"] = float(np.std(table["kid"], ddof=1))
    return {**means, **spread, "values": table["value"]}


def real_numbers(extractor, against: Reference, reference, floor: Path | None, count: int) -> dict:
    """What as many real digits score: measured on `floor`, else as known of MNIST (`data/digit_features/README.md`)."""
    if floor is not None:
        images = features_.spaced(memorisation.channels_first(data.read_source(floor, "test").images), count)
        return {f"{len(images):,} of {Path(floor).name}": numbers(extractor(images), against)}
    if extractor.name != "digits" or reference is not None:
        return {}
    known = features_.floors()
    return {n: {**known[n], "value": at(known[n]["by_images"], count)} for n in ("test-vs-train", "train-subset")}


def at(by_images: dict, count: int) -> float:
    """FID of `count` images, from what some numbers of images have: its bias goes with 1/N, so linear in that."""
    counts = sorted(map(int, by_images), reverse=True)
    x, y = [1 / n for n in counts], [by_images[str(n)] for n in counts]
    if count >= counts[-1]:
        return float(np.interp(1 / count, x, y))
    return float(y[-1] + (1 / count - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2]))  # fewer than any: the last slope


def origin(folders: Sequence[Path]) -> dict:
    """What made the images, from the manifests that `python -m hwkit sample` leaves beside the folders."""
    manifests = [manifest(folder) for folder in folders]
    if None in manifests:
        return {"sampler": None, "versions": versions()}
    made_by = {(m["checkpoint"], m["checkpoint_sha256"], str(Sampler(**m["sampler"]))) for m in manifests}
    seeds = [m["seed"] for m in manifests]
    if len(made_by) > 1:
        raise ValueError("These folders were made by different checkpoints or samplers: measure them one by one.")
    if len(set(seeds)) < len(seeds):
        raise ValueError(
            f"These folders were made with the seeds {seeds}, so some hold the same images: leave them out."
        )
    checkpoint, sha256, sampler = made_by.pop()
    about = {"sampler": sampler, "seeds": seeds, "checkpoint": checkpoint, "checkpoint_sha256": sha256}
    return {**about, "versions": versions()}


def manifest(folder: Path) -> dict | None:
    """The manifest of a folder that `python -m hwkit sample` made, else None."""
    path = folder.with_name(folder.name + ".json")
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if {"checkpoint", "checkpoint_sha256", "sampler", "seed"} <= set(content) else None


# In words


def lines(record: dict) -> list[str]:
    """The record in words; a record that was read back from its JSON gives the same lines."""
    said = [f"{record['metric']} {record['value']:.2f} ± {record['error']:.2f} ({'; '.join(context(record))})"]
    held_out = next(iter(record["real"].values()), {})  # what unseen real digits score

    def beside(key: str, scale: int = 1) -> str:
        return f" (real {scale * held_out[key]:.2f})" if key in held_out else ""

    if "kid" in record:
        kid = f"KID × 1000 {1000 * record['kid']:.2f} ± {1000 * record['kid_error']:.2f}{beside('kid', 1000)}"
        shares = [f"{key} {record[key]:.2f}{beside(key)}" for key in ("precision", "recall")]
        said.append("  " + "; ".join([kid, *shares]))
    if "classes" in record:
        said.append("  digits " + ", ".join(f"{c}: {n:,}" for c, n in zip(CLASSES, record["classes"], strict=True)))
    if "memorisation" in record:
        said.append("  " + memorisation.in_words(record["memorisation"]))
    return said + [f"  WARNING: {warning}" for warning in warnings(record)]


def context(record: dict) -> list[str]:
    """What a value depends on, in short."""
    several = f", {len(record['folders'])} seed ranges" if len(record["folders"]) > 1 else ""
    floors = ", ".join(f"{name} {real['value']:.2f}" for name, real in record["real"].items())
    if not floors:
        floors = PUBLIC_FLOOR if record["protocol"] == "inception" else "not measured, see --floor"
    origin = ["images of unknown origin"]
    if record["sampler"]:
        origin = [f"sampler {record['sampler']}", f"{record['checkpoint']} {record['checkpoint_sha256'][:4]}…"]
    parts = [f"{record['images']:,} images{several}", f"against {record['reference']}", f"floor {floors}", *origin]
    if record["protocol"] == "inception":
        parts.append(f"weights {record['weights_sha256'][:8]}")
    return [*parts, f"torch {record['versions']['torch']}"]


def warnings(record: dict) -> list[str]:
    """What speaks against a value."""
    found = []
    if record["images"] < ENOUGH:
        found.append(
            f"of {record['images']:,} images FID is higher than of {ENOUGH:,}: compare it with values of as many only."
        )
    official = InceptionFeatures.official
    if record["protocol"] == "inception" and not record["weights_sha256"].startswith(official):
        found.append(
            f"these are not the published Inception weights ({official}…), so the value compares with no other."
        )
    return found


# The command `fid-curve`


def fid_curve(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    n: int = 2_000,
    ddpm: bool = False,
    seed: int = 0,
    batch: int = 100,
    out: Path | None = None,
    device: Literal["cpu", "cuda", "mps"] | None = None,
) -> None:
    """Draws digit-FID against network evaluations for DDIM 10, 20, 50, 100, DPM-Solver++ and UniPC 10, 20.

    What is measured is kept, so that an interrupted curve goes on where it stopped.

    Args:
        checkpoint: such as runs/cpu/ema_latest.pt
        n: images for each point.
        ddpm: DDPM over all T as well.
        seed: of the images.
        batch: images made together.
        out: where fid_curve.json and fid_curve.png go; by default figures/ beside the checkpoint.
        device: by default the best that is there.
    """
    from hwkit import eval_figures, figures  # matplotlib is slow to import

    if n < 2:
        raise ValueError(f"n is {n}, but at least 2 images are needed for each point.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    out = out or checkpoint.parent / "figures"
    denoise = load_denoiser(checkpoint, device)
    record = curve_so_far(out / "fid_curve.json", {"checkpoint_sha256": digest(checkpoint), "images": n, "seed": seed})
    samplers = [s for s in CURVE if s.steps <= denoise.schedule.T] + ([Sampler("ddpm")] if ddpm else [])
    for sampler in (sampler.resolve(denoise.schedule.T) for sampler in samplers):
        if any(point["sampler"] == str(sampler) for point in record["points"]):
            continue
        point = curve_point(denoise, sampler, n, seed, batch, device)
        record["points"].append(point)
        write_json(out / "fid_curve.json", record)
        print(f"{point['sampler']}: digit-FID {point['value']:.2f} ± {point['error']:.2f}, {point['seconds']:.0f} s")
    path = figures.save(eval_figures.fid_curve_figure(record), out / "fid_curve.png")
    print(f"{n:,} images a point, floor (as many real test digits) {record['floor']:.2f}: {path}")


def curve_so_far(path: Path, of: dict) -> dict:
    """The curve kept at `path`, if it is of the same checkpoint, number of images and seed; else a new one."""
    floor = at(features_.floors()["test-vs-train"]["by_images"], of["images"])
    fresh = {**of, "floor": floor, "versions": versions(), "points": []}
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return fresh
    return kept if {key: kept.get(key) for key in of} == of else fresh


def curve_point(denoise, sampler: Sampler, n: int, seed: int, batch: int, device) -> dict:
    """Makes n images and measures their digit-FID."""
    against = features_.read_statistics(features_.DIGITS / "digit_stats_train.npz")
    made, started = [], time.monotonic()
    with tqdm(total=n, unit="image", desc=str(sampler)) as bar:
        for first in range(1, n + 1, batch):
            block = range(first, min(first + batch, n + 1))
            made.append(generate.images(denoise, sampler, seed, block, device))
            bar.update(len(block))
    seconds = time.monotonic() - started
    features = features_.digit_features(torch.cat(made))
    value = features_.frechet_distance(*features_.statistics(features), *against)
    error = features_.frechet_error(features, *against)
    about = {"sampler": str(sampler), "name": sampler.name, "evaluations": sampler.steps, "seconds": round(seconds, 1)}
    return {**about, "value": value, "error": error}
