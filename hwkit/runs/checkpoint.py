"""Checkpoints: self-describing, whole or not there, and safe to load (tensors and plain types, no pickled class)."""

import contextlib
import hashlib
import io
import json
import pickle
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

import hwkit
from hwkit.diffusion import Denoiser
from hwkit.files import DAMAGED, write_bytes
from hwkit.language import say
from hwkit.mnist.folder import meant
from hwkit.mnist.sources import DATA
from hwkit.recipe import RECIPES, Recipe
from hwkit.sampling import GUIDANCE, Sampler, times
from hwkit.unet import UNet, UNetConfig

FORMAT, BEFORE = "hwkit-2", "hwkit-1"
PRETRAINED = DATA / "pretrained"  # a run's folder: weights that come with the kit, and their history
FAST = "fast"  # a folder in it: the same network, distilled to a few steps
KITS = {"pretrained": "", "pretrained-fast": FAST}  # how both are called under runs/, and where they are in PRETRAINED
EXPORTED = "ema_latest.safetensors"  # how they are called in a run's folder
GUIDE = "guide."  # before the names of a guide's tensors in an exported file
OWN: list[str] = []  # the names of a student's functions that were called in the place of the kit's (see `course.own`)


def save(path: Path, recipe: Recipe, weights: Mapping, **facts) -> None:
    """Writes weights (a state dict), the recipe that they are of, and further facts (tensors, plain types)."""
    content = {"format": FORMAT, "recipe": asdict(recipe), "versions": versions(), "weights": dict(weights), **facts}
    content |= {"own": sorted(OWN)} if OWN else {}
    buffer = io.BytesIO()  # torch would report a full disk as an error of its zip writer
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def export(content: Mapping, path: Path) -> None:
    """Writes a loaded checkpoint's weights in half precision, with its facts, as safetensors: half the size.

    Those of its guide, where it has one, are among them, as `guide.…`. The guide's fact "guidance" is the weight with
    which it is used by default, in the place of `sampling.GUIDANCE`.
    """
    facts = {name: value for name, value in content.items() if name not in ("weights", "ema", "resume")}
    weights = dict(content["weights"])
    if "guide" in content:
        facts["guide"] = {name: value for name, value in content["guide"].items() if name != "weights"}
        weights |= {f"{GUIDE}{name}": tensor for name, tensor in content["guide"]["weights"].items()}
    weights = {name: tensor.half().contiguous() for name, tensor in weights.items()}
    write_bytes(path, safetensors.torch.save(weights, {"hwkit": json.dumps(facts)}))


def add_guide(path: Path, guide: Mapping) -> None:
    """Puts the weights of a loaded checkpoint `guide` beside those of the one at `path`, if they are not there."""
    content = load(path)
    part = {name: guide[name] for name in ("recipe", "versions", "images_seen", "weights")}
    if "guide" in content and asdict(recipe_of(content["guide"])) == asdict(recipe_of(part)):
        pairs = ((content["guide"]["weights"][name], tensor) for name, tensor in part["weights"].items())
        if all(torch.equal(before.half(), tensor.half()) for before, tensor in pairs):
            return
    if path.suffix == ".safetensors":
        export(content | {"guide": part}, path)
    else:
        facts = {name: content[name] for name in content.keys() - {"format", "recipe", "versions", "weights"}}
        save(path, recipe_of(content), content["weights"], **facts | {"guide": part})


def load(path: Path | str) -> dict:
    """Reads a checkpoint as `save` or `export` wrote it, onto the CPU; of a run's folder, the one to sample from.

    Runs no code from the file. Raises FileNotFoundError where there is none, and ValueError where it is truncated,
    damaged, foreign, of another version's recipe, or holds pickled classes.
    """
    path = Path(path)
    if path.is_dir():
        path = best_of(path)
    if not path.is_file():
        text = "There is no checkpoint {path}: `python -m hwkit train` makes one."
        if not path.exists() and (near := meant(path)):
            text = "There is no checkpoint {path}: did you mean {near}? `python -m hwkit train` makes one."
        raise FileNotFoundError(say(text, path=path, near=near))
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pt(path)
    if not isinstance(content, dict) or content.get("format") not in (FORMAT, BEFORE):
        text = "{path} is no checkpoint of {now} or {before}: another program or version wrote it."
        raise ValueError(say(text, path=path, now=FORMAT, before=BEFORE))
    try:
        content = _upgraded(content) if content["format"] == BEFORE else content
        recipe_of(content)
        Sampler(guidance=content.get("guide", {}).get("guidance"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        text = "{path} was written by another version of hwkit, with another recipe ({error})."
        raise ValueError(say(text, path=path, error=error)) from error
    return content


def state(run: Path) -> dict | None:
    """What a run's `latest.pt` holds, if a training can go on from it; None where it is not there, or damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        content = load(run / "latest.pt")
        return content if "resume" in content else None
    return None


def is_damaged(path: Path) -> bool:
    """Whether `load` refuses the file."""
    try:
        return not load(path)
    except ValueError:
        return True


def _load_pt(path: Path):
    if not path.stat().st_size:
        text = "{path} is empty (0 bytes): take another checkpoint of the run."
        raise ValueError(say(text, path=path))
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch itself does not compare the checksums
                raise ValueError(say("{name} fails its checksum", name=damaged))
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = "{path} holds more than tensors and plain values, perhaps code: not loaded."
        raise ValueError(say(text, path=path)) from error
    except DAMAGED as error:
        text = "{path} is truncated, damaged or no checkpoint ({error}): take another checkpoint of the run."
        raise ValueError(say(text, path=path, error=_short(error))) from error


def _load_safetensors(path: Path) -> dict:
    try:
        with safetensors.safe_open(path, "pt") as file:
            content = json.loads((file.metadata() or {}).get("hwkit", "{}"))
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no dict)
        if content and "guide" in content:
            guides = {name: weights.pop(name) for name in list(weights) if name.startswith(GUIDE)}
            content["guide"]["weights"] = {name.removeprefix(GUIDE): tensor for name, tensor in guides.items()}
        return content and {**content, "weights": weights}
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        text = "{path} is truncated, damaged or no checkpoint ({error}): fetch it again."
        raise ValueError(say(text, path=path, error=error)) from error


def _upgraded(content: dict) -> dict:
    """A checkpoint of format hwkit-1 in the present one. Its recipe has no name: that of the most similar is taken."""
    before = content["recipe"]
    alike = min(RECIPES.values(), key=lambda recipe: sum(asdict(recipe)[key] != before[key] for key in before))
    twice = ("model", "schedule", "prediction", "alpha_bar")  # stood beside the recipe, which holds or makes them
    content = {name: value for name, value in content.items() if name not in twice}
    content |= {"format": FORMAT, "recipe": {**before, "name": alike.name, "about": alike.about}}
    if "resume" in content:
        old = content["resume"]
        position = {key: old[key] for key in ("epoch", "batch", "loss_sum", "best_loss", "best_epoch", "seconds")}
        position |= {"curve": old["curve"], "window": old["window"]}
        position["epoch_began"] = old["history"][-1]["seconds"] if old["history"] else 0.0
        content["resume"] = {key: old[key] for key in ("optimizers", "scaler", "step")}
        content["resume"] |= {"setting": [old["precision"], "channels_last"], "position": position}
    return content


def load_denoiser(path: Path | str, device: torch.device | str = "cpu") -> Denoiser:
    """The network of a checkpoint, in eval mode on `device`, ready to sample, with its guide. Raises as `load` does."""
    content = load(path)
    denoise = _denoiser(content, path, device)
    if "guide" in content:
        denoise.guide = _denoiser(content["guide"], path, device)
        denoise.guidance = content["guide"].get("guidance", GUIDANCE)
    return denoise


class Distilled(Denoiser):
    """A network that is distilled to `steps` even steps, and knows their times only: ValueError for any other."""

    def __init__(self, denoise: Denoiser, steps: int):
        super().__init__(denoise.model, denoise.schedule, denoise.prediction)
        self.steps, self.times = steps, times(denoise.schedule.T, steps)

    def __call__(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        if t not in self.times:
            text = "These weights are distilled: they draw by --sampler ddpm --steps {steps}. For all else take others."
            raise ValueError(say(text, steps=self.steps))
        return super().__call__(x_t, t)


def _denoiser(content: Mapping, path: Path | str, device: torch.device | str) -> Denoiser:
    try:
        recipe = recipe_of(content)
        model = UNet(recipe.model)
        model.load_state_dict(content["weights"])
        denoise = recipe.denoiser(model.to(device).eval())
        return Distilled(denoise, content["steps"]) if "steps" in content else denoise
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        text = "{path}: its weights do not fit the network that it describes ({error})."
        raise ValueError(say(text, path=path, error=_short(error))) from error


def recipe_of(content: Mapping) -> Recipe:
    """The `Recipe` that a loaded checkpoint was trained with."""
    values, network = content["recipe"], content["recipe"]["model"]
    model = UNetConfig(**{**network, "multipliers": tuple(network["multipliers"])})  # in JSON they are a list
    return Recipe(**{**values, "model": model})


def best_of(run: Path) -> Path:
    """The EMA weights of a run to sample from: the last where the learning rate decays, else those of the best loss.

    Where there are none, the path at which training would write the last.
    """
    if (run / EXPORTED).is_file():
        return run / EXPORTED
    latest, best = run / "ema_latest.pt", run / "ema_best.pt"
    if best.is_file() and (not latest.is_file() or recipe_of(load(latest)).decay_from == 1):
        return best
    return latest


def newest_run(runs: Path, ignored: tuple[str, ...] = ()) -> Path | None:
    """The folder under `runs` whose weights were written last, the kit's own (KITS) left out; or None."""
    found = [path for path in runs.glob("*/ema_latest.*") if path.suffix in (".pt", ".safetensors")]
    own = [path for path in found if path.parent.name not in (*KITS, *ignored)]
    return max(own, key=lambda path: path.stat().st_mtime).parent if own else None


def unpack_pretrained(runs: Path, name: str = "pretrained") -> Path | None:
    """Puts weights that come with the kit, one of KITS, into a run's folder under `runs`, and returns that.

    None where the kit came without them.
    """
    source = PRETRAINED / KITS[name]
    if not (source / EXPORTED).is_file():
        return None
    for file in ("history.jsonl", EXPORTED):
        if not (source / file).is_file():
            continue  # what was distilled has no loss curve
        target, data = runs / name / file, (source / file).read_bytes()
        if not target.is_file() or target.read_bytes() != data:
            write_bytes(target, data)
    return runs / name


def is_the_kits(weights: Path) -> bool:
    """Whether these are weights that come with the kit, under whatever name."""
    kits = [path for folder in KITS.values() if (path := PRETRAINED / folder / EXPORTED).is_file()]
    return weights.is_file() and digest(weights) in map(digest, kits)


def digest(path: Path | str) -> str:
    """The file's SHA-256 in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    """What a number or picture may depend on."""
    return {"hwkit": hwkit.__version__, "torch": str(torch.__version__), "python": platform.python_version()}


def _short(error: Exception) -> str:
    """The error in one line: torch's own takes a line for each weight."""
    return " ".join(str(error).split())[:200]
