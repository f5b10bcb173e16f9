"""What the notebooks share: a quiet start, the run they look at, and how Colab keeps it on Drive."""

import contextlib
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

import hwkit
from hwkit.files import DAMAGED, is_leftover, runs, whole_file
from hwkit.runs.checkpoint import best_of, load, newest_run, unpack_pretrained, versions
from hwkit.training import best_device

KIT = Path(hwkit.__file__).resolve().parent.parent
PICTURES = KIT / "notebooks" / "pictures"  # in a checkout; an installed kit has none
TRAINED = ("history.jsonl", "ema_latest.safetensors", "ema_best.pt", "ema_latest.pt", "latest.pt")

kept_on: tuple[Path, int] | None = None  # MyDrive/hwkit and the number of its file system, once `start` has mounted it
kept_at: dict[Path, float] = {}  # when each run was last kept there


def start(name: str, drive: bool = False) -> None:
    """Readies a notebook and shows where it leads; on Colab it installs what is missing, and mounts Drive if asked."""
    if PICTURES.is_dir():
        os.chdir(KIT)  # so that runs/cpu means the same here as on the command line
    if "google.colab" in sys.modules:
        install_missing(KIT / "requirements.txt")
        if drive:
            mount((KIT.parent if PICTURES.is_dir() else Path.cwd()) / "drive")
    print(f"hwkit {hwkit.__version__} · torch {versions()['torch']} · {best_device()}")
    if shell := get_ipython():
        shell.display_formatter.formatters["image/png"].for_type(Figure, png)
        with contextlib.suppress(FileNotFoundError):
            display({"image/png": (PICTURES / f"{name}.png").read_bytes()}, raw=True)


def install_missing(requirements: Path) -> list[str]:
    """Installs the required packages that are not there at all (those that are stay as they are); their names."""
    names = re.findall(r"^[\w.-]+", requirements.read_text(), re.M) if requirements.is_file() else []
    missing = [name for name in names if not any(importlib.metadata.distributions(name=name))]
    if missing:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=True)
    return missing


def png(figure: Figure) -> bytes:
    """The figure as a PNG of at most 256 colors: a third of the size, and the same to the eye."""
    large, small = io.BytesIO(), io.BytesIO()
    figure.savefig(large, format="png", dpi=figure.dpi, facecolor="white")
    Image.open(large).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def find_run(name: str | None = None) -> Path:
    """The folder of the run to look at: `name`, else your newest one, else that of the kit's own weights."""
    run = runs() / name if name else newest_run(runs(), ignored=("smoke",)) or runs() / "pretrained"
    if run.name == "pretrained" and unpack_pretrained(runs()):
        print("NOT YOUR MODEL: these weights come with the kit. Notebook 2 trains your own; until then, say so.")
    about = load(best_of(run))
    print(f"{run}: {best_of(run).name}, epoch {about['epoch']}, {about['images_seen']:,} images seen")
    return run


# Colab: work on the local disk, keep whole files on Drive


def mount(point: Path) -> None:
    """Mounts Drive, and fetches the runs in MyDrive/hwkit that are not here. ValueError where it cannot be mounted."""
    global kept_on
    try:
        importlib.import_module("google.colab.drive").mount(str(point))
        kept_on = point / "MyDrive" / "hwkit", (point / "MyDrive").stat().st_dev
        for kept in sorted(kept_on[0].glob("*")):
            if not (runs() / kept.name / "latest.pt").exists():
                fetch(kept, runs() / kept.name)
    except (ValueError, OSError) as error:
        way = f"If files stand in {point}, they are not on Drive: !mv {point} {point}-local moves them out of its way."
        raise ValueError(f"Drive was not mounted ({error}). {way} Run this cell again, or with drive=False.") from None


def fetch(kept: Path, run: Path) -> None:
    """Copies a run from Drive, and names what is not to be had; latest.pt last, and only with the rest of TRAINED."""
    files = [path for path in kept.rglob("*") if not is_leftover(path.name)]
    for file in sorted(files, key=lambda path: (path.name == "latest.pt", path.name not in TRAINED, path)):
        here = run / file.relative_to(kept)
        images, partial = here.with_suffix(""), here.with_suffix(".partial")
        try:
            if file.is_file() and not file.stat().st_size:
                print(f"{file} is empty (0 bytes). Without latest.pt: train(…, weights=run) or --weights {run}.")
            elif file.is_file() and not here.exists():
                copy_whole(file, here)
                os.utime(here, ns=(file.stat().st_mtime_ns,) * 2)  # so that the newest run stays the newest
            if here.name == "generate.zip" and not images.exists():
                zipfile.ZipFile(here).extractall(partial)
                os.utime(partial.rename(images), ns=(here.stat().st_mtime_ns,) * 2)
        except DAMAGED as error:
            print(f"{file} was not fetched ({error}): run this cell again.")
            if file.name in TRAINED:
                return


def keep(run: Path, minutes: float = 0) -> None:
    """Copies what is new in a run's folder to Drive, if it is mounted; nothing over a longer run, or over more images.

    With `minutes`, while training, at most so often: all that is replaced goes to Drive's bin, which counts.
    """
    if not kept_on or time.monotonic() < kept_at.get(run, -1e9) + 60 * minutes:
        return
    kept_at[run], kept = time.monotonic(), kept_on[0] / run.name
    try:
        if max(length(run / name) for name in TRAINED) < max(length(kept / name) for name in TRAINED):
            print(f"{kept} is longer than {run}, and stays as it is: rename {run}, and it is kept beside it.")
            return
        pack(run / "generate")
        for part in ("", "previews/", "figures/", "report/", "generate-evaluation/"):
            for file in sorted(path for path in run.glob(f"{part}[!.]*") if path.is_file() and path.name != "best.pt"):
                target = kept / part / file.name
                due = not target.exists() or not target.stat().st_size or target.stat().st_mtime < file.stat().st_mtime
                if due and (file.name != "generate.zip" or length(target) <= length(file)):
                    copy_whole(file, target)
    except OSError as error:
        print(f"Drive did not take {run} ({error.strerror or error}); it is safe here, and is tried again.")


def copy_whole(source: Path, target: Path) -> None:
    """Copies a file whole or not at all; an OSError is tried again after 1, 2, 4 and 8 seconds."""
    for pause in (1, 2, 4, 8, 0):
        if not kept_on[0].parent.exists() or kept_on[0].parent.stat().st_dev != kept_on[1]:
            raise OSError("Drive is no longer mounted: run the first cell again")
        try:
            with whole_file(target) as temporary:
                shutil.copyfile(source, temporary)
            return
        except OSError:
            if not pause:
                raise
        time.sleep(pause)


def pack(folder: Path) -> None:
    """The images of a folder as one zip beside it, made again where the folder is newer."""
    archive = folder.with_suffix(".zip")
    if any(folder.glob("*.png")) and (not archive.is_file() or archive.stat().st_mtime < folder.stat().st_mtime):
        with whole_file(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as out:
            for file in sorted(path for path in folder.glob("*.png") if not is_leftover(path.name)):
                out.write(file, file.name)


def length(path: Path) -> int:
    """The images that a checkpoint has seen, or the files in a zip; 0 where it is missing or damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError, zipfile.BadZipFile):
        data = path.read_bytes()  # OSError where Drive does not answer, which is not to pass for damage
        return len(zipfile.ZipFile(io.BytesIO(data)).namelist()) if path.suffix == ".zip" else load(path)["images_seen"]
    return 0
