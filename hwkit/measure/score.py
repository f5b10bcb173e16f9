"""How good the images are, with all that a number needs to be believed."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from hwkit.files import write_json
from hwkit.measure.distances import (
    frechet_distance,
    frechet_error,
    kernel_distance,
    precision_recall,
    spaced,
    statistics,
)
from hwkit.measure.features import DigitFeatures, InceptionFeatures, Reference, classify, floors
from hwkit.measure.memorisation import channels_first, in_words
from hwkit.mnist.sources import read_source
from hwkit.runs.checkpoint import versions
from hwkit.sampling import Sampler

CLASSES = [*"0123456789", "none"]
ENOUGH, TOO_FEW = 10_000, 2_048  # images; with fewer than its 2,048 dimensions Inception's covariance is singular
PUBLIC_FLOOR = "test-vs-train 1.1 to 1.25 (public figures)"  # in Inception features


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
    from hwkit.measure.features import floors, reference
    from hwkit.measure.memorisation import grey, memorisation
    from hwkit.mnist.folder import load_folder
    from hwkit.show.figures import digit_histogram_figure, memorisation_figure, save

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    named = weights or os.environ.get("HWKIT_INCEPTION")
    protocol = protocol or ("inception" if device == "cuda" or named else "digits")
    folders = [Path(os.path.abspath(folder)) for folder in folders]
    out = out or folders[0].with_name(folders[0].name + "-evaluation")
    sets = [load_folder(folder) for folder in folders]
    if protocol == "inception" and min(map(len, sets)) < TOO_FEW and not allow_small:
        raise ValueError(
            f"{folders[0]} holds {min(map(len, sets)):,} images, and Inception FID of less than {TOO_FEW:,} means "
            "nothing (its features have 2,048 dimensions): make more images, or add --allow-small."
        )
    of_digits = reference if protocol == "digits" else None  # statistics of Inception features are none of digits'
    record = score(DigitFeatures(), folders, sets, of_digits, floor)
    if not quick:
        record["memorisation"], pairs = memorisation(grey(sets[0]), train)
        save(memorisation_figure(pairs), out / "closest_pairs.png")
    histogram = digit_histogram_figure(record["classes"], floors()["classes"])
    save(histogram, out / "digit_histogram.png")
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
    against = reference(extractor, reference)
    features = [extractor(images) for images in sets]
    record |= {"images": counts[0], "folders": [str(folder) for folder in folders]}
    record |= combined([numbers(f, against) for f in features])
    record |= {"reference": against.name, "reference_images": against.count}
    record["weights_sha256"] = extractor.weights_sha256
    record["real"] = real_numbers(extractor, against, reference, floor, record["images"])
    if extractor.name == "digits":
        record["classes"] = np.bincount(classify(np.concatenate(features)), minlength=11).tolist()
    return record


def numbers(features: np.ndarray, against: Reference) -> dict:
    """FID with its error, and where the reference has features KID, precision and recall, of features (N, D)."""
    found = {
        "value": frechet_distance(*statistics(features), against.mu, against.sigma),
        "error": frechet_error(features, against.mu, against.sigma),
    }
    if against.features is not None:
        found["kid"], found["kid_error"] = kernel_distance(against.features, features)
        found["precision"], found["recall"] = precision_recall(against.features, features)
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
        images = spaced(channels_first(read_source(floor, "test").images), count)
        return {f"{len(images):,} of {Path(floor).name}": numbers(extractor(images), against)}
    if extractor.name != "digits" or reference is not None:
        return {}
    known = floors()
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
        said.append("  " + in_words(record["memorisation"]))
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
