"""What the notebooks share: a quiet start, which run they look at, and how Colab keeps it on Drive."""

import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import hwkit
from hwkit.files import runs, whole_file
from hwkit.mnist.folder import load_folder
from hwkit.mnist.sources import DATA, prepare
from hwkit.recipe import RECIPES, Recipe
from hwkit.runs.checkpoint import best_of, load, newest_run, recipe_of, versions
from hwkit.runs.run import train
from hwkit.training import best_device

ROOT = DATA.parent
SMOKE = os.environ.get("HWKIT_RECIPE") == "smoke"  # `make test` runs the notebooks small, on the embedded digits
CHECKPOINTS = ("ema_latest.pt", "ema_best.pt", "best.pt", "latest.pt", "history.jsonl")

drive: Path | None = None  # MyDrive/hwkit, once `start` has mounted it


# The start of a notebook


def start(name: str, drive: bool = False) -> None:
    """Readies a notebook and shows where it leads: the kit's folder as working directory, figures as small PNGs.

    On Colab it also installs what is missing there and, with `drive`, mounts Drive and fetches the runs kept on it.
    """
    from IPython import get_ipython
    from IPython.display import Image as Picture
    from IPython.display import display

    os.chdir(ROOT)  # so that runs/cpu means the same here as on the command line
    colab = "google.colab" in sys.modules
    if colab:
        install_missing(ROOT / "requirements.txt")
    if colab and drive:
        mount(ROOT.parent / "drive")
    shell = get_ipython()
    if shell:
        shell.display_formatter.formatters["image/png"].for_type(Figure, png)
    print(f"hwkit {hwkit.__version__} · torch {versions()['torch']} · {best_device()}")
    picture = ROOT / "notebooks" / "pictures" / f"{name}.png"
    if shell and picture.is_file():
        display(Picture(picture.read_bytes()))


def install_missing(requirements: Path) -> list[str]:
    """Installs the required packages that are not there at all (those that are stay as they are); their names."""
    names = re.findall(r"^[\w.-]+", requirements.read_text(), re.M)
    missing = [name for name in names if not _is_installed(name)]
    if missing:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=True)
    return missing


def _is_installed(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def png(figure: Figure) -> bytes:
    """The figure as a PNG of at most 256 colors: a third of the size, and the same to the eye."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, facecolor="white")
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def plot(xlabel: str, ylabel: str = "", title: str = "", size: tuple[float, float] = (6.4, 3.4)):
    """An empty figure and its axes, in the style of `hwkit.figures`."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


# The run that a notebook looks at


def recipe(name: str) -> tuple[Recipe, Path]:
    """The recipe of that name (or the one that HWKIT_RECIPE names) and the folder of its run.

    Where a run stands there already, the recipe is that of the run.
    """
    name = os.environ.get("HWKIT_RECIPE") or name
    run = runs() / name
    started = (run / "latest.pt").is_file()
    return recipe_of(load(run / "latest.pt")) if started else RECIPES[name], run


def training_images(source: str | None = None, say: Callable = print) -> Tensor:
    """MNIST's training digits, uint8 (N, 1, 28, 28): prepared, downloaded or embedded (see `data.prepare`)."""
    return load_folder(prepare("sample" if SMOKE else source, "train", Path("data"), say))


def find_run(name: str | None = None, new: str = "cpu") -> Path:
    """The folder of the run to look at: `name`, else your newest one, else the kit's weights; or one trained now."""
    name = "smoke" if SMOKE else name
    run = runs() / name if name else newest_run(runs(), ignored=("smoke",)) or runs() / new
    if run.name in RECIPES and not best_of(run).is_file():
        print(f"There is no run yet, so one is trained now: {run}")
        for _ in train(RECIPES[run.name], training_images(), run):
            keep(run)
    about = load(best_of(run))
    print(f"{run}: {best_of(run).name}, epoch {about['epoch']}, {about['images_seen']:,} images seen")
    return run


# Colab: work on the local disk, keep whole files on Drive


def mount(point: Path) -> None:
    """Mounts Drive, and fetches the runs kept in MyDrive/hwkit that are not here."""
    global drive
    from google.colab import drive as google_drive

    google_drive.mount(str(point))
    drive = point / "MyDrive" / "hwkit"
    for file in sorted(path for path in drive.glob("*/**/*") if path.is_file()):
        here = runs() / file.relative_to(drive)
        if file.name == "generate.zip" and not here.with_suffix("").exists():
            with zipfile.ZipFile(file) as archive:
                archive.extractall(here.with_suffix(""))
        elif file.suffix != ".zip" and not here.exists():
            copy_whole(file, here)


def keep(run: Path) -> None:
    """Copies what is new in a run's folder to Drive, its images as one zip; nothing where no Drive is mounted.

    Where Drive does not answer in spite of five tries it says so and goes on: the next call copies what is missing.
    """
    if drive is None:
        return
    parts = [run / name for name in CHECKPOINTS] + [*run.glob("*.json"), *run.glob("*/*.json")]
    parts += [*run.glob("previews/*.png"), *run.glob("figures/*"), *zipped(run / "generate")]
    for file in (part for part in parts if part.is_file()):
        target = drive / run.name / file.relative_to(run)
        if not target.exists() or target.stat().st_mtime < file.stat().st_mtime:
            try:
                copy_whole(file, target)
            except OSError as error:
                print(f"Drive did not take {file} ({error.strerror or error}); it is safe here, and is tried again.")
                return


def copy_whole(source: Path, target: Path, tries: int = 5, pause: float = 1.0) -> None:
    """Copies a file whole or not at all; an OSError is tried again after 1, 2, 4 and 8 seconds."""
    for attempt in range(tries):
        try:
            with whole_file(target) as temporary:
                shutil.copyfile(source, temporary)
            return
        except OSError:
            if attempt == tries - 1:
                raise
            time.sleep(pause * 2**attempt)


def zipped(folder: Path) -> list[Path]:
    """The images of a folder as one zip beside it, made again when their number has changed; none for no folder."""
    files = sorted(folder.glob("*.png"))
    archive = folder.with_suffix(".zip")
    if not files:
        return []
    if not archive.is_file() or len(zipfile.ZipFile(archive).namelist()) != len(files):
        with whole_file(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as out:
            for file in files:
                out.write(file, file.name)
    return [archive]
