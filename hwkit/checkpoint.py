"""Checkpoints: self-describing, whole or not there, and safe to load (tensors and plain types, no pickled class)."""

import hashlib
import io
import platform
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

import hwkit
from hwkit.diffusion import Denoiser
from hwkit.model import UNet, UNetConfig
from hwkit.recipes import Recipe
from hwkit.schedule import Schedule
from hwkit.workspace import write_bytes

FORMAT = "hwkit-1"


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


def load(path: Path | str, device: torch.device | str = "cpu") -> dict:
    """Reads a checkpoint as `save` wrote it. Runs no code from the file.

    Raises FileNotFoundError where there is none, and ValueError where it is truncated, damaged, foreign, or holds
    pickled classes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}: `python -m hwkit train` makes one.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself does not compare the checksums
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is truncated, damaged or no checkpoint: take another one of the run.") from error
    if damaged:
        raise ValueError(f"{path} is damaged ({damaged} fails its checksum): take another checkpoint of the run.")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a foreign pickle can make the restricted unpickler raise anything
        raise ValueError(
            f"{path} holds more than tensors and plain values, perhaps code, and was not loaded."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not an hwkit checkpoint of format {FORMAT!r}: it was written by another program.")
    return content


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
    latest = run / "ema_latest.pt"
    if not (run / "ema_best.pt").is_file() or recipe_of(load(latest)).decay_from < 1:
        return latest
    return run / "ema_best.pt"


def digest(path: Path | str) -> str:
    """The file's SHA-256 in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    """What a number or picture may depend on."""
    return {"hwkit": hwkit.__version__, "torch": str(torch.__version__), "python": platform.python_version()}
