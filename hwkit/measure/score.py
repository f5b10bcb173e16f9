"""How good images are, with all that the number needs to be believed: `score(…)` measures, a `Score` tells of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch

from hwkit.files import read_json, write_json
from hwkit.language import clauses, listing, say
from hwkit.measure import distances
from hwkit.measure.features import STATISTICS, InceptionFeatures, Reference, classify, digit_features, floors
from hwkit.measure.features import reference as reference_of
from hwkit.measure.memorisation import Copies
from hwkit.mnist.folder import load_folder
from hwkit.mnist.sources import read_source
from hwkit.runs.checkpoint import versions
from hwkit.runs.generate import read_manifest, sampler_of

ENOUGH, TOO_FEW = 10_000, 2_048  # images; with fewer than its 2,048 dimensions Inception's covariance is singular


class Record:
    """A dataclass that is kept as JSON: of what `to_json` gives, `from_json` makes the same record."""

    def to_json(self) -> dict:
        """The fields by their names, in JSON's types."""
        return asdict(self)

    @classmethod
    def read(cls, path: Path | str):
        """The record that a file holds. ValueError, with its name, where it holds none."""
        content = read_json(path)
        try:
            return cls.from_json(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            text = "{path} holds no {record} ({error}): delete it, measure again."
            raise ValueError(say(text, path=path, record=cls.__name__.lower(), error=error)) from error


@dataclass(frozen=True, kw_only=True)
class Score(Record):
    """What was measured in one feature space: of a folder of images, or as means over several of one model.

    None is what cannot be known: KID, precision and recall without the reference's images, the origin without manifest.
    """

    protocol: str  # digits or inception
    metric: str  # digit-FID or FID
    value: float
    error: float
    kid: float | None = None
    kid_error: float | None = None
    precision: float | None = None
    recall: float | None = None
    images: int  # of each folder
    images_sha256: str | None = None  # of the images themselves; None in a score of hwkit 0.2 or before
    folders: tuple[str, ...]
    values: tuple[float, ...] = ()  # FID of each folder
    reference: str
    reference_images: int | None = None
    real: dict[str, dict] = field(default_factory=dict)  # name → value, kid, …: what as many real digits score
    classes: tuple[int, ...] | None = None  # how many images look like a 0, …, a 9, like no digit
    memorisation: Copies | None = None
    sampler: str | None = None
    seeds: tuple[int, ...] | None = None
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    weights_sha256: str  # of the feature extractor
    versions: dict[str, str]

    @classmethod
    def from_json(cls, content: dict) -> "Score":
        """The score that `to_json` gave, in this version or in 0.1. Other content raises what `read` puts in words."""
        known = {f.name: content[f.name] for f in fields(cls) if content.get(f.name) is not None}
        known = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
        found = cls(**known | {"memorisation": Copies(**known["memorisation"]) if "memorisation" in known else None})
        found.rows()  # what cannot be told is no score
        return found

    def write(self, folder: Path) -> Path:
        """Writes `<protocol>_fid.json` into the folder, where `read_scores` finds it."""
        write_json(folder / f"{self.protocol}_fid.json", self.to_json())
        return folder / f"{self.protocol}_fid.json"

    def words(self) -> list[str]:
        """The rows as lines of text, the value and what it depends on in the first."""
        (metric, value), (_, context), *others = self.rows()
        first = say("{metric} {value} ({context})", metric=metric, value=value, context=context)
        return [first, *(say("  {what}: {value}", what=what, value=value) for what, value in others)]

    def rows(self) -> list[tuple[str, str]]:
        """What was measured, and its value in words; what speaks against the value comes last."""
        rows = [(self.metric, f"{self.value:.2f} ± {self.error:.2f}"), (say("measured on"), self._context())]
        if self.kid is not None:
            real, scale = next(iter(self.real.values()), {}), {"kid": 1000, "precision": 1, "recall": 1}
            found = {k: f"{getattr(self, k):.2f}" for k in ("precision", "recall")}
            found["kid"] = f"{1000 * self.kid:.2f} ± {1000 * self.kid_error:.2f}"
            for key in scale.keys() & real.keys():
                found[key] = say("{found} (real {value:.2f})", found=found[key], value=scale[key] * real[key])
            rows.append(("KID × 1000", found["kid"]))
            rows.append((say("precision, recall"), listing([found["precision"], found["recall"]])))
        if self.classes:
            counts = zip([*"0123456789", say("none")], self.classes, strict=True)
            rows.append(
                (say("digits"), listing(say("{digit}: {count:,}", digit=digit, count=count) for digit, count in counts))
            )
        if self.memorisation:
            rows.append((say("nearest training images"), self.memorisation.words()))
        if self.images < ENOUGH:
            few = "of {images:,} images FID is higher than of {enough:,}: compare it with values of as many only."
            rows.append((say("WARNING"), say(few, images=self.images, enough=ENOUGH)))
        if self.protocol == "inception" and not self.weights_sha256.startswith(official := InceptionFeatures.official):
            other = "these are not the published Inception weights ({official}…), so the value compares with no other."
            rows.append((say("WARNING"), say(other, official=official)))
        return rows

    def _context(self) -> str:
        """What the value depends on."""
        inception = self.protocol == "inception"
        unknown = say("test-vs-train 1.1 to 1.25 (public figures)") if inception else say("not measured, see --floor")
        floor = listing(f"{name} {found['value']:.2f}" for name, found in self.real.items()) or unknown
        count = "{images:,} images, {folders} seed ranges" if len(self.folders) > 1 else "{images:,} images"
        parts = [say(count, images=self.images, folders=len(self.folders))]
        parts += [say("against {reference}", reference=say(self.reference)), say("floor {floor}", floor=floor)]
        origin = {"sampler": self.sampler, "file": self.checkpoint, "hash": (self.checkpoint_sha256 or "")[:4]}
        text = "sampler {sampler}; {file} {hash}…" if self.sampler else "images of unknown origin"
        parts.append(say(text, **origin))
        parts += [say("weights {hash}", hash=self.weights_sha256[:8])] * inception
        return clauses(*parts, f"torch {self.versions['torch']}")


def images_sha256(sets: Sequence) -> str:
    """The SHA-256 of sets of images uint8 (N, C, 28, 28), one after the other; of grey images that of their RGB."""
    found = hashlib.sha256()
    for images in sets:
        rgb = np.broadcast_to(images, (len(images), 3, *images.shape[2:]))
        found.update(np.ascontiguousarray(rgb))
    return found.hexdigest()


def scores_of(images: Path) -> list[Score]:
    """What was measured of a folder's images as they are now: other images' scores, if any are kept there, left out.

    None where there are no images any more. ValueError as `read_scores` and `load_folder` raise it.
    """
    found = read_scores(results_of(images))
    if not found or not any(images.glob("*.png")):  # the images may be gone, and what was measured of them still there
        return []
    pixels = load_folder(images)
    now = images_sha256([pixels])
    return [s for s in found if s.images == len(pixels) and s.images_sha256 in (None, now)]


def read_scores(folder: Path) -> list[Score]:
    """What `Score.write` wrote into a folder, digits first. ValueError names a file that holds no score."""
    return [Score.read(path) for path in sorted(folder.glob("[!.]*_fid.json"))]


def results_of(images: Path) -> Path:
    """Where what is measured of a folder of images is kept: beside it."""
    return images.with_name(images.name + "-evaluation")


def place_of(folders: Sequence[Path]) -> Path:
    """Where what is measured of several folders together is kept: beside the first, under the names of all."""
    names = [folder.name for folder in folders]
    return results_of(folders[0] if len(names) == 1 else folders[0].with_name("+".join(names)[:100]))


def load_images(path: Path) -> torch.Tensor:
    """uint8 (N, C, 28, 28) of a folder of PNGs, or of a file of images (.npz, .zip, …). Raises as `mnist` does."""
    return torch.from_numpy(read_source(path, whole=True).images) if path.is_file() else load_folder(path)


def groups(folders: Sequence[Path], sets: Sequence) -> list[tuple[list[Path], list]]:
    """Folders and their images, uint8 (N, C, 28, 28), parted into what may be averaged: images of one model.

    A model is the checkpoint and the sampler that the manifests name; a folder without a manifest is alone. ValueError
    where two folders have an image, or a model's seed, in common.
    """
    parts: dict = {}
    seen: dict = {}
    for folder, images in zip(folders, sets, strict=True):
        model, made = folder, read_manifest(folder)
        rgb = np.broadcast_to(images, (len(images), 3, *images.shape[2:]))
        drawn = (image for image in rgb if image.min() < image.max())  # images of one colour are equal by chance
        own = dict.fromkeys((hashlib.sha256(image.tobytes()).digest() for image in drawn), folder)
        if made:
            model = (made["checkpoint_sha256"], sampler_of(made), made.get("device_noise", False))
            own[model, made["seed"]] = folder
        if both := own.keys() & seen.keys():
            text = "{one} and {other} hold the same images: measure one of them."
            raise ValueError(say(text, one=seen[both.pop()], other=folder))
        seen |= own
        of_model = parts.setdefault(model, ([], []))
        of_model[0].append(folder)
        of_model[1].append(images)
    return list(parts.values())


def score(extractor, folders: Sequence[Path], sets: Sequence, reference=None, floor: Path | None = None) -> Score:
    """Measures folders that `groups` leaves together, by their images `sets`, against `features.reference`.

    Of several the values are means. The error of FID is that of a finite sample (`frechet_with_error`), or the
    deviation between the folders where that is larger: of two or three it is often far too small by chance. `floor`:
    real images (the test split of a source that has one) to measure as well. ValueError where the folders do not
    belong together, or differ in their numbers of images, on which FID depends.
    """
    if len(set(counts := [len(images) for images in sets])) > 1:
        text = "These folders hold {counts} images, but FID depends on the number: measure them one by one."
        raise ValueError(say(text, counts=counts))
    if len(groups(folders, sets)) > 1:
        several = listing(folders)
        text = "Nothing tells that {several} are of one checkpoint and sampler: measure them one by one."
        raise ValueError(say(text, several=several))
    against, count, digits = reference_of(extractor, reference), counts[0], extractor.name == "digits"
    features = [extractor(images) for images in sets]
    each = [numbers(f, against) for f in features]
    found = {key: float(np.mean([n[key] for n in each])) for key in each[0]}
    if len(each) > 1:
        spread = {key: float(np.std([n[key] for n in each], ddof=1)) for key in found}
        found["error"] = max(found["error"], spread["value"])
        found |= {"kid_error": spread["kid"]} if "kid" in spread else {}
    if floor is not None:
        images = distances.spaced(read_source(floor, "test", whole=True).images, count)
        found["real"] = {f"{len(images):,} of {Path(floor).name}": numbers(extractor(images), against)}
    elif digits and reference is None:
        names = ("test-vs-train", "train-subset")
        found["real"] = {name: floors()[name] | {"value": floor_at(count, name)} for name in names}
    if digits:
        found["classes"] = tuple(np.bincount(classify(np.concatenate(features)), minlength=11).tolist())
    made = [read_manifest(folder) for folder in folders]
    if all(made):
        found |= {key: made[0][key] for key in ("checkpoint", "checkpoint_sha256")}
        found |= {"sampler": str(sampler_of(made[0])), "seeds": tuple(m["seed"] for m in made)}
    found |= {"images_sha256": images_sha256(sets)}
    found |= {"images": count, "folders": tuple(map(str, folders)), "values": tuple(n["value"] for n in each)}
    found |= {"reference": against.name, "reference_images": against.count, "versions": versions()}
    return Score(protocol=extractor.name, metric=extractor.label, weights_sha256=extractor.weights_sha256, **found)


def numbers(features: np.ndarray, against: Reference) -> dict[str, float]:
    """Of features (N, D): FID with its error, and where the reference has features KID, precision and recall."""
    value, error = distances.frechet_with_error(features, against.mu, against.sigma)
    found = {"value": value, "error": error}
    if against.features is not None:
        found["kid"], found["kid_error"] = distances.kernel_distance(against.features, features)
        found["precision"], found["recall"] = distances.precision_recall(against.features, features)
    return found


def digit_fid(images) -> tuple[float, float]:
    """Digit-FID of images uint8 (N, C, 28, 28) against MNIST's training digits, and its standard error."""
    return digit_fid_of(digit_features(images))


def digit_fid_of(features: np.ndarray) -> tuple[float, float]:
    """The same of the features (N, 128) of images, as `digit_features` gives them."""
    return distances.frechet_with_error(features, *distances.read_statistics(STATISTICS))


def floor_at(count: int, name: str = "test-vs-train") -> float:
    """FID of `count` real digits, from what some numbers of them have: its bias goes with 1/N, so linear in that."""
    measured = sorted((1 / int(n), value) for n, value in floors()[name]["by_images"].items())
    x, y = np.array(measured).T
    at = max(1 / count, x[0])  # more than the largest have its value
    k = int(np.searchsorted(x, at).clip(1, len(x) - 1))  # fewer than any go on with the last slope
    return float(y[k] + (at - x[k]) * (y[k] - y[k - 1]) / (x[k] - x[k - 1]))
