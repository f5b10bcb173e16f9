"""Checkpoints: self-describing, whole or not there, and safe to load (tensors and plain types, no pickled class)."""

import hashlib
import io
import json
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch

import hwkit
from hwkit.data import DAMAGED, DATA
from hwkit.diffusion import Denoiser
from hwkit.model import UNet, UNetConfig
from hwkit.recipes import Recipe
from hwkit.schedule import Schedule
from hwkit.workspace import write_bytes

FORMAT = "hwkit-1"
PRETRAINED = DATA / "pretrained"  # a run's folder: weights that come with the kit, and their history
EXPORTED = "ema_latest.safetensors"  # how they are called in a run's folder


def save(path: Path, recipe: Recipe, weights: Mapping, **facts) -> None:
    """Writes weights (a state dict), what is needed to sample from them, and further facts (tensors, plain types)."""
    schedule = recipe.make_schedule()
    content = {
        "format": FORMAT,
        "model": asdict(recipe.model),
        "schedule": schedule.name,
        "alpha_bar": schedule.alpha_bar,
        "prediction": recipe.prediction,
        "recipe": asdict(recipe),
        "versions": versions(),
        "weights": dict(weights),
        **facts,
    }
    buffer = (
        io.BytesIO()
    )  # torch reports a full disk as a RuntimeError about its zip writer; plain bytes say what it is
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def export(content: Mapping, path: Path) -> None:
    """Writes a loaded checkpoint's weights in half precision, with its facts, as safetensors: half the size."""
    weights = {name: tensor.half().contiguous().cpu() for name, tensor in content["weights"].items()}
    left_out = ("weights", "alpha_bar", "ema", "resume")  # ᾱ is made again from the recipe
    facts = {name: value for name, value in content.items() if name not in left_out}
    write_bytes(path, safetensors.torch.save(weights, {"hwkit": json.dumps(facts)}))


def load(path: Path | str, device: torch.device | str = "cpu") -> dict:
    """Reads a checkpoint as `save` or `export` wrote it. Runs no code from the file.

    Raises FileNotFoundError where there is none, and ValueError where it is truncated, damaged, foreign, or holds
    pickled classes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}: `python -m hwkit train` makes one.")
    content = _load_safetensors(path, device) if path.suffix == ".safetensors" else _load_pt(path, device)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not an hwkit checkpoint of format {FORMAT!r}: it was written by another program.")
    return content


def _load_pt(path: Path, device: torch.device | str):
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself does not compare the checksums
    except DAMAGED as error:
        raise ValueError(f"{path} is truncated, damaged or no checkpoint: take another one of the run.") from error
    if damaged:
        raise ValueError(f"{path} is damaged ({damaged} fails its checksum): take another checkpoint of the run.")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a foreign pickle can make the restricted unpickler raise anything
        raise ValueError(
            f"{path} holds more than tensors and plain values, perhaps code, and was not loaded."
        ) from error


def _load_safetensors(path: Path, device: torch.device | str) -> dict:
    try:
        with safetensors.safe_open(path, "pt", device=str(device)) as file:
            content = json.loads((file.metadata() or {}).get("hwkit", "{}"))
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no dict)
        return content and {**content, "weights": weights, "alpha_bar": recipe_of(content).make_schedule().alpha_bar}
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is truncated, damaged or no checkpoint ({error}): fetch it again.") from error


def load_denoiser(path: Path | str, device: torch.device | str = "cpu") -> Denoiser:
    """The network of a checkpoint, in eval mode on `device`, ready to sample. Raises as `load` does."""
    content = load(path, device)
    try:
        model = UNet(model_config(content))
        model.load_state_dict(content["weights"])
        schedule = Schedule(content["schedule"], content["alpha_bar"].cpu())
        prediction = content["prediction"]
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]  # torch's own takes a line for each weight
        raise ValueError(f"{path}: its weights do not fit the network that it describes ({detail}).") from error
    return Denoiser(model.to(device).eval(), schedule, prediction)


def model_config(content: Mapping) -> UNetConfig:
    """The `UNetConfig` that a checkpoint or a recipe, as plain values, describes."""
    fields = dict(content["model"])
    return UNetConfig(**{**fields, "multipliers": tuple(fields["multipliers"])})


def recipe_of(content: Mapping) -> Recipe:
    """The `Recipe` that a checkpoint was trained with."""
    fields = dict(content["recipe"])
    return Recipe(**{**fields, "model": model_config(fields)})


def best_of(run: Path) -> Path:
    """The EMA weights of a run to sample from: the last where the learning rate decays, else those of the best loss."""
    if (run / EXPORTED).is_file():
        return run / EXPORTED
    latest = run / "ema_latest.pt"
    if not (run / "ema_best.pt").is_file() or recipe_of(load(latest)).decay_from < 1:
        return latest
    return run / "ema_best.pt"


def newest_run(runs: Path, ignored: tuple[str, ...] = ()) -> Path | None:
    """The folder under `runs` whose weights were written last.

    Where there is none, the weights that come with the kit, put there as `pretrained`; None where it came without.
    """
    found = [path for path in runs.glob("*/ema_latest.*") if path.suffix in (".pt", ".safetensors")]
    own = [path for path in found if path.parent.name not in ("pretrained", *ignored)]
    if own:
        return max(own, key=lambda path: path.stat().st_mtime).parent
    if not (PRETRAINED / EXPORTED).is_file():
        return None
    for name in ("history.jsonl", EXPORTED):
        target, data = runs / "pretrained" / name, (PRETRAINED / name).read_bytes()
        if not target.is_file() or target.read_bytes() != data:
            write_bytes(target, data)
    return runs / "pretrained"


def digest(path: Path | str) -> str:
    """The file's SHA-256 in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    """What a number or picture may depend on."""
    return {"hwkit": hwkit.__version__, "torch": str(torch.__version__), "python": platform.python_version()}
