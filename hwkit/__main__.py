"""The command line: `python -m hwkit --help`, or `accelerate launch -m hwkit …` on several devices."""

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Literal

import tyro

from hwkit.files import runs
from hwkit.measure.check import check
from hwkit.measure.curve import fid_curve
from hwkit.measure.score import fid
from hwkit.recipe import RECIPES, Recipe

RecipeChoice = tyro.extras.subcommand_type_from_defaults(
    RECIPES, {name: recipe.about for name, recipe in RECIPES.items()}
)
Folder = Path | None
Device = Literal["cpu", "cuda", "mps"] | None
MADE_BY_TRAINING = ("latest.pt", "ema_latest.pt", "best.pt", "ema_best.pt", "history.jsonl", "previews")


def data(source: str | None = None, split: Literal["train", "test", "both"] = "both", out: Folder = None) -> None:
    """Prepares MNIST as folders of RGB PNGs.

    Args:
        source: a folder of IDX files or PNGs, an .npz, or the word `download` or `sample`; else HWKIT_MNIST, what is
            there already, a download, and last the embedded sample of 5,000 digits.
        split: which digits to prepare.
        out: the folder to prepare them in; by default the kit's data/.
    """
    from hwkit.mnist.sources import DATA, prepare

    for part in ("train", "test") if split == "both" else (split,):
        prepare(source, part, out or DATA)


def train(
    recipe: RecipeChoice,
    run: Folder = None,
    source: str | None = None,
    weights: Folder = None,
    fresh: bool = False,
    yes: bool = False,
    stream: bool = False,
    save_minutes: float = 2.0,
    device: Device = None,
) -> None:
    """Trains a recipe; goes on with the run where there is one. Every field of the recipe can be changed here.

    Args:
        run: folder of the run; by default runs/ and the recipe's name.
        source: where MNIST is (see `python -m hwkit data --help`).
        weights: a checkpoint, or a run's folder such as data/pretrained, from which a new run goes on. Minutes and
            epochs count from its beginning.
        fresh: start over, and discard the run that stands in the folder.
        yes: do not ask before that.
        stream: read the PNGs while training (4 workers) rather than hold them in memory.
        save_minutes: save so often within an epoch.
        device: by default the best that is there.
    """
    from hwkit.mnist.batches import PNGFolder
    from hwkit.mnist.folder import load_folder
    from hwkit.mnist.sources import prepare
    from hwkit.runs.processes import processes
    from hwkit.runs.run import train as train_run

    run, device = run or default_run(recipe), chosen_device(device)
    world = processes(device)
    if fresh:
        world.first(lambda: discard(run, yes))
    folder = world.first(lambda: prepare(source, "train"))
    for _ in train_run(
        recipe,
        PNGFolder(folder) if stream else load_folder(folder),
        run,
        device=device,
        save_minutes=save_minutes,
        weights=weights,
    ):
        pass  # the records are in history.jsonl, and what a person wants of them is printed
    print(f"Trained: {run}")


def sample(
    run: Folder = None,
    checkpoint: Folder = None,
    folder: Folder = None,
    n: int = 10_000,
    sampler: Literal["ddim", "ddpm", "dpm++", "unipc"] = "ddim",
    steps: int | None = None,
    eta: float = 0.0,
    variance: Literal["posterior", "beta"] = "posterior",
    seed: int = 0,
    batch: int = 100,
    device: Device = None,
) -> None:
    """Writes N images as 00001.png … into a flat folder; called again, it makes the missing ones only.

    Args:
        run: folder of the run to sample; by default the one trained last.
        checkpoint: a checkpoint rather than the run's.
        folder: where the images go; by default generate/ in the run.
        n: how many.
        sampler: the report's are ddim and ddpm; unipc is the quickest.
        steps: network evaluations an image; by default 50 for ddim, 15 for dpm++ and unipc, all T for ddpm.
        eta: of ddim; 0 adds no noise, 1 as much as ddpm.
        variance: of ddpm.
        seed: image k depends on (seed, k) only.
        batch: images made together.
        device: by default the best that is there.
    """
    from hwkit.runs.checkpoint import best_of
    from hwkit.runs.generate import generate
    from hwkit.sampling import Sampler

    checkpoint = checkpoint or best_of(run or last_run())
    folder = folder or (run or checkpoint.parent) / "generate"
    print(f"Sampling from {checkpoint}")
    made = generate(checkpoint, folder, n, Sampler(sampler, steps, eta, variance), seed, batch, chosen_device(device))
    print(f"Images: {n:,} in {folder} ({made:,} new)")


def figures(
    run: Folder = None,
    checkpoint: Folder = None,
    out: Folder = None,
    seed: int = 0,
    dpi: int = 150,
    device: Device = None,
) -> None:
    """Draws both diffusion grids, the loss curve, a sheet of samples and the schedules.

    Args:
        run: folder of the run; by default the one trained last.
        checkpoint: a checkpoint rather than the run's.
        out: where the figures go; by default figures/ in the run.
        seed: of the noise that both grids start from.
        dpi: 300 for print.
        device: by default the best that is there.
    """
    from hwkit.runs.checkpoint import best_of
    from hwkit.show.report import draw_figures

    run = run or (checkpoint.parent if checkpoint else last_run())
    for path in draw_figures(run, checkpoint or best_of(run), out or run / "figures", seed, dpi, chosen_device(device)):
        print(f"Figure: {path}")


def slider(
    run: Folder = None,
    checkpoint: Folder = None,
    html: Folder = None,
    seed: int = 0,
    device: Device = None,
) -> None:
    """Writes the timestep slider as one HTML file: t of eight samples from noise to digit, DDIM or DDPM, x_t or x̂_0.

    Args:
        run: folder of the run; by default the one trained last.
        checkpoint: a checkpoint rather than the run's.
        html: the file, which needs no network; by default figures/slider.html in the run.
        seed: of the noise that both samplers start from.
        device: by default the best that is there.
    """
    from hwkit.files import write_text
    from hwkit.runs.checkpoint import best_of, load_denoiser
    from hwkit.show.slider import slider_frames, slider_html

    run = run or (checkpoint.parent if checkpoint else last_run())
    html = html or run / "figures" / "slider.html"
    device = chosen_device(device)
    frames = slider_frames(load_denoiser(checkpoint or best_of(run), device), seed, device)
    page = slider_html(frames, f"From noise to digits: {run.resolve().name}")
    write_text(html, page)
    print(f"Slider: {html} ({len(page.encode()) / 1e6:.1f} MB)")


def export(run: Folder = None, out: Folder = None) -> None:
    """Writes a run's weights for handing on: EMA, half precision, safetensors, and their history beside them.

    Args:
        run: folder of the run; by default the one trained last.
        out: the folder to write into, a run's folder like any other; by default export/ in the run.
    """
    from hwkit.files import write_bytes
    from hwkit.runs.checkpoint import EXPORTED, best_of, load
    from hwkit.runs.checkpoint import export as write

    run = run or last_run()
    out = out or run / "export"
    write(load(best_of(run)), out / EXPORTED)
    if (run / "history.jsonl").is_file():
        write_bytes(out / "history.jsonl", (run / "history.jsonl").read_bytes())
    print(f"Weights: {out / EXPORTED} ({(out / EXPORTED).stat().st_size / 1e6:.1f} MB)")


def report(
    recipe: Literal["original", "original-t1000", "original-cosine", "cpu", "smoke"] | None = None,
    minutes: float | None = None,
    from_scratch: bool = False,
    n: int = 10_000,
    sampler: Literal["ddim", "ddpm", "dpm++", "unipc"] = "ddim",
    steps: int | None = None,
    run: Folder = None,
    source: str | None = None,
    dpi: int = 150,
) -> None:
    """Everything, one after the other: data, training, N images, figures. Called again, it goes on where it stopped.

    With no run of your own, and no word on training (recipe, minutes, from-scratch, run, source), it takes the weights
    that come with the kit.

    Args:
        recipe: by default `report` on a GPU, else `cpu`.
        minutes: bound of the training; by default the recipe's.
        from_scratch: train, rather than take the weights that come with the kit.
        n: how many images.
        sampler: the report's are ddim and ddpm; unipc is the quickest.
        steps: network evaluations an image.
        run: folder of the run; by default runs/ and the recipe's name.
        source: where MNIST is (see `python -m hwkit data --help`).
        dpi: of the figures.
    """
    from dataclasses import replace

    from hwkit.runs.checkpoint import best_of, newest_run
    from hwkit.runs.processes import processes
    from hwkit.training import best_device

    no_training = not (from_scratch or recipe or minutes or run or source)
    if no_training and newest_run(runs()) == runs() / "pretrained":
        run = last_run()
    else:
        recipe = recipe or ("cpu" if best_device() == "cpu" else "original")
        run = run or runs() / recipe
        train(replace(RECIPES[recipe], minutes=minutes or RECIPES[recipe].minutes), run, source)
    sample(run, n=n, sampler=sampler, steps=steps)
    processes(best_device()).first(lambda: figures(run, dpi=dpi))
    print(f"\nAll of it is in {run.resolve()}:")
    for name, what in (
        ("generate/", f"{n:,} images, 00001.png …"),
        ("figures/", "the two diffusion grids, loss curve, samples, schedules"),
        ("previews/", "eight samples after each epoch"),
        (best_of(run).name, "the weights for inference"),
        ("history.jsonl", "the loss, epoch by epoch"),
    ):
        if (run / name).exists():
            print(f"  {name:<15} {what}")
    print(f"To measure the images: python -m hwkit fid {run}/generate")
    print("To measure them as the report did, by FID in Inception features: add --protocol inception")


COMMANDS = {
    "report": report,
    "data": data,
    "train": train,
    "sample": sample,
    "figures": figures,
    "slider": slider,
    "export": export,
    "fid": fid,
    "fid-curve": fid_curve,
    "check": check,
}


def chosen_device(device: Device) -> str:
    """The device asked for, or else the best that is there. ValueError where the one asked for is not."""
    from hwkit.training import best_device

    if device not in (None, "cpu", best_device()):
        raise ValueError(f"There is no device {device} here: leave --device out, which takes {best_device()}.")
    return device or best_device()


def default_run(recipe: Recipe) -> Path:
    """runs/ and the name of the recipe that this one differs least from."""

    def differences(name: str) -> int:
        return sum(getattr(recipe, key) != getattr(RECIPES[name], key) for key in recipe.__dataclass_fields__)

    return runs() / min(RECIPES, key=differences)


def last_run() -> Path:
    """The run trained last, or else that of the weights that come with the kit. FileNotFoundError without either."""
    from hwkit.runs.checkpoint import newest_run

    run = newest_run(runs())
    if run is None:
        raise FileNotFoundError(
            f"There is no run in {runs()}: `python -m hwkit train cpu` makes one, or name it with --run."
        )
    if run.name == "pretrained":
        print(f"There is no run of your own yet: these are the kit's own weights ({run}).")
    return run


def discard(run: Path, yes: bool) -> None:
    """Deletes what training wrote in the run's folder, once the user has agreed."""
    made = [run / name for name in MADE_BY_TRAINING if (run / name).exists()]
    if not made:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise ValueError(f"{run} holds a run, and nobody is there to ask: add --yes to discard it.")
        if input(f"Discard the run in {run} ({', '.join(path.name for path in made)})? [y/N] ").lower() not in (
            "y",
            "yes",
        ):
            raise ValueError(f"{run} was left as it is; without --fresh the run goes on.")
    for path in made:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def sentence(error: Exception) -> str:
    """What went wrong, without Python's decoration."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def first_only():
    """What is printed within it, the first process alone prints (errors, to stderr, all do)."""
    is_first = os.environ.get("RANK", "0") == "0"
    return contextlib.nullcontext() if is_first else contextlib.redirect_stdout(open(os.devnull, "w"))


def main(arguments: list[str] | None = None) -> int:
    """Runs a command: 0 if all went well (1 where `check` found faults), 2 with one sentence, 128 + n on signal n."""
    try:
        with first_only():
            code = tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="python -m hwkit",
                description="Train a DDPM from scratch on MNIST, sample it, draw it, measure it.",
                args=arguments,
                config=(
                    tyro.conf.OmitArgPrefixes,
                    tyro.conf.OmitSubcommandPrefixes,
                    tyro.conf.CascadeSubcommandArgs,
                    tyro.conf.FlagCreatePairsOff,
                ),
            )
    except KeyboardInterrupt as stop:
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("HWKIT_DEBUG"):
            raise
        print(f"hwkit: {sentence(error)}", file=sys.stderr)
        return 2
    return code or 0


if __name__ == "__main__":
    sys.exit(main())
