"""A run's guide: a small network, trained briefly on the same images, away from which its samples are led.

Autoguidance (Karras et al. 2024, arXiv:2406.02507), see `diffusion.Guided`.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hwkit.language import say
from hwkit.mnist.batches import PNGFolder
from hwkit.recipe import Recipe
from hwkit.runs import checkpoint
from hwkit.runs.processes import processes
from hwkit.runs.run import Position, Record, train, unfinished
from hwkit.runs.speed import best_device, candidates

FILES = (checkpoint.EXPORTED, "ema_latest.pt", "ema_best.pt")  # of a run: the weights to sample from


def guide_recipe(recipe: Recipe) -> Recipe:
    """That of a run's guide: half as wide, a block a level (an evaluation costs a quarter), two epochs at most.

    In batches of at most 64, as these few epochs of large ones would be too few steps to learn anything.
    """
    small = replace(recipe.model, base=max(16, recipe.model.base // 32 * 16), blocks=1, middle_blocks=1)
    bounds = {"epochs": min(recipe.epochs, 2), "minutes": recipe.minutes and recipe.minutes / 5, "patience": None}
    bounds["batch_size"] = min(recipe.batch_size, 64)
    named = {"name": f"{recipe.name}-guide", "about": f"the guide of {recipe.name}"}
    return replace(recipe, **named, model=small, **bounds, precision="auto")


def precision_of(run: Path, device: torch.device) -> str:
    """That in which the run was trained, for its guide: so both end the same, wherever they were interrupted.

    auto where that is not known, as of weights alone, or not one of this kind of device.
    """
    content = checkpoint.state(run)
    precision = content["resume"]["setting"][0] if content else "auto"
    return precision if precision in {"fp32", *(setting.precision for setting in candidates(device))} else "auto"


def is_begun(run: Path) -> bool:
    """Whether the training of a run's guide was interrupted."""
    content = checkpoint.state(run / "guide")
    return bool(content) and unfinished(checkpoint.recipe_of(content), Position(**content["resume"]["position"]))


def train_guide(
    run: Path, images: Tensor | PNGFolder, device: torch.device | str | None = None, quiet: bool = False
) -> list[Record]:
    """Trains the guide of the run in a folder, in run/guide, and puts it into the run's weights; the guide's epochs.

    images, device and quiet: as `run.train` takes them; it stops and goes on as that does. A guide that is finished is
    not trained again, and weights that hold it are not written again; nor are those that came with one. One whose time
    was over before its learning rate had risen is left out: it has hardly begun to learn. Raises as `train` does, and
    FileNotFoundError where the folder holds no weights.
    """
    folder, device = run / "guide", torch.device(device or best_device())
    world = processes(device.type)
    world.on_first(lambda: None)  # which comes back when the first process has written the run's weights
    content, first = checkpoint.load(run), world.rank == 0
    if "guide" in content and not folder.exists():
        if first and not quiet:
            print(say("The weights in {run} have a guide already.", run=run))
        return []
    if first and not quiet:
        text = "The guide of {run}: a network of a quarter of the cost, trained for a short time."
        print(say(text, run=run.resolve().name))
    recipe = replace(guide_recipe(checkpoint.recipe_of(content)), precision=precision_of(run, device))
    records = list(train(recipe, images, folder, device, quiet=quiet))

    def hand_over() -> None:
        guide = checkpoint.load(folder / "ema_latest.pt")
        if recipe.minutes and guide["images_seen"] < recipe.warmup * recipe.batch_size:
            text = (
                "The guide saw {seen:,} images in its time, too few to have learned much: it is left out. When this "
                "machine is less busy, delete {folder} and run `python -m hwkit guide --run {run}`."
            )
            print(say(text, seen=guide["images_seen"], folder=folder, run=run))
            return
        for file in (run / name for name in FILES):
            if file.is_file():
                checkpoint.add_guide(file, guide)

    world.on_first(hand_over)
    return records
