"""What the notebooks share: the start, the run they look at, long work with its time said, and Colab with its Drive."""

import contextlib
import hashlib
import html
import importlib.metadata
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image
from tqdm.auto import tqdm

import hwkit
from hwkit.course import selfcheck
from hwkit.files import DAMAGED, is_leftover, runs, whole_file
from hwkit.language import language as spoken
from hwkit.language import listing, marked, of_system, say, sentences, speak
from hwkit.measure.features import inception_weights
from hwkit.measure.graded import REAL_IMAGES, grade, pytorch_fid
from hwkit.mnist.sources import prepare
from hwkit.runs.checkpoint import (
    KITS,
    best_of,
    digest,
    is_the_kits,
    load,
    load_denoiser,
    newest_run,
    unpack_pretrained,
    versions,
)
from hwkit.runs.generate import generate, images, numbered, read_manifest, sampler_of, side_by_side
from hwkit.runs.speed import best_device, duration
from hwkit.sampling import Sampler
from hwkit.show.figures import drawable, labelled_rows
from hwkit.show.slider import SEQUENCES, TITLE, SliderFrames, slider_html, timestep_slider

KIT = Path(hwkit.__file__).resolve().parent.parent
PICTURES = KIT / "notebooks" / "pictures"  # in a checkout; an installed kit has none
HOMEWORK = re.compile(  # in the name of a copy that Colab has saved; in Chinese 「05_fid.ipynb」的副本, with no suffix
    r"0(1_data|2_training|3_sampling|4_visualization|5_fid|6_report)(?![^\W_]).*\.ipynb(」[^.]*)?$"
)
TRAINED = ("history.jsonl", "ema_latest.safetensors", "ema_best.pt", "ema_latest.pt", "latest.pt")
WIDGET = "application/vnd.jupyter.widget-view+json"
FORGETFUL = marked("""WITHOUT DRIVE: Colab deletes everything that you make here when this session ends, and no other
notebook will find it. To keep it, write drive=True in this cell and run it again.""")
NO_GPU = marked("""There is no GPU in this session: Runtime → Change runtime type → T4 GPU, then run this cell again.
Without one all works, but slower: training for 10 minutes gives plain digits, 10,000 images take 7 to 21 minutes
(estimates from two CPU cores, free and busy). With a T4 expect a few minutes for the images (another estimate).""")
NOT_YOURS = marked("""NOT YOUR MODEL: these weights come with the kit, and all that you make here is made by them.
Notebook 2 trains a model of your own. If you hand this in, say so: the report does too.""")

OFTEN = 3.0  # minutes between two copies to Drive while training
kept_on: tuple[Path, int] | None = None  # MyDrive/hwkit and the number of its file system, once `start` has mounted it
kept_at: dict[Path, float] = {}  # when each run was last kept there


def start(name: str, drive: bool = True, language: str | None = None) -> None:
    """Starts a notebook and shows where it leads. On Colab it installs what is missing, and mounts Drive.

    Without `drive`, or without a GPU, it says on Colab what that means. language: what the kit speaks from now on, "en"
    or "zh-TW", and so does a command that a cell runs (!python -m hwkit …); with None what HWKIT_LANG names, else the
    system's. Raises as `mount` does, and as `language.speak`.
    """
    speak(language or (None if os.environ.get("HWKIT_LANG") else of_system()))
    if language:
        os.environ["HWKIT_LANG"] = language
    if PICTURES.is_dir():
        os.chdir(KIT)  # so that runs/cpu means the same here as on the command line
    if on_colab():
        install_missing(KIT / "requirements.txt")
        if drive:
            mount((KIT.parent if PICTURES.is_dir() else Path.cwd()) / "drive")
        else:
            loud(say(FORGETFUL))
    print(f"hwkit {hwkit.__version__} · torch {versions()['torch']} · {best_device()}")
    if on_colab() and best_device() == "cpu":
        print(say(NO_GPU))
    if shell := get_ipython():
        shell.display_formatter.formatters["image/png"].for_type(Figure, png)
        with contextlib.suppress(FileNotFoundError):
            goal, about = (PICTURES / f"{name}.png").read_bytes(), {"alt": say("The last picture of this notebook")}
            display({"image/png": goal}, metadata={"image/png": about}, raw=True)


def on_colab() -> bool:
    """Whether this Python is Colab's."""
    return "google.colab" in sys.modules


def loud(text: str) -> None:
    """Prints what nobody is to overlook."""
    print("!" * 72, text, "!" * 72, sep="\n")


def install_missing(requirements: Path) -> list[str]:
    """Installs the required packages that are not there at all (those that are stay as they are); their names."""
    text = requirements.read_text() if requirements.is_file() else ""
    if sys.version_info >= (3, 11):
        text = re.sub(r'.*; python_version < "3.11".*', "", text)  # what these bring along
    names = re.findall(r"^[\w.-]+", text, re.M)
    missing = [name for name in names if not any(importlib.metadata.distributions(name=name))]
    if missing:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=True)
    return missing


def png(figure: Figure) -> tuple[bytes, dict]:
    """The figure as a PNG of at most 256 colors (a third of the size, the same to the eye), and its alt text."""
    large, small = io.BytesIO(), io.BytesIO()
    drawable(figure).savefig(large, format="png", dpi=figure.dpi, facecolor="white")
    Image.open(large).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue(), {"alt": described(figure)}


def described(figure: Figure) -> str:
    """What a screen reader says of a figure: its label, where it has one, else the words that are drawn in it."""
    words = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        words += [axes.get_title(), axes.get_title("left"), *(text.get_text() for text in axes.texts)]
        labels = {"y": axes.get_ylabel(), "x": axes.get_xlabel()}
        words += [say("{y} against {x}", **labels)] * bool(labels["x"])
        words += [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []
    said = figure.get_label() or "; ".join(filter(None, dict.fromkeys(words))) or say("pictures side by side")
    return said.replace("$", "")  # the marks of a formula


def find_run(name: str | None = None) -> Path:
    """The folder of the run to look at: `name`, else your newest one, else that of the kit's own weights."""
    run = runs() / name if name else newest_run(runs(), ignored=("smoke",)) or runs() / "pretrained"
    if run.name in KITS:
        unpack_pretrained(runs(), run.name)
    weights = best_of(run)
    about = load(weights)
    if is_the_kits(weights):
        text = "There is no run in {folder}: did notebook 2 run with Drive?"
        searched = [say(text, folder=kept_on[0])] if kept_on and not name else []
        loud("\n".join([say(NOT_YOURS), *searched]))
    facts = {"run": run, "file": weights.name, "epoch": about["epoch"], "seen": about["images_seen"]}
    print(say("{run}: {file}, epoch {epoch}, {seen:,} images seen", **facts))
    return run


# Long work, and its results


def make_images(run: Path, n: int, sampler: Sampler = Sampler("dpm++sde"), seed: int = 0, device="cpu") -> Path:
    """Makes what is missing of images 1 … n in run/generate, and returns that folder. The time it takes is said first.

    Every five minutes what is there is kept on Drive. A folder that was begun by another sampler or seed goes on with
    those. Raises as `generate` does.
    """
    weights, folder = best_of(run), run / "generate"
    present = numbered(folder)
    before = read_manifest(folder) if present else None
    if before and before["checkpoint_sha256"] != digest(weights):
        text = (
            "The images in {folder} were made by other weights than {file} holds now: move that folder away (or rename "
            "it), then run this cell again."
        )
        raise ValueError(say(text, folder=folder, file=weights.name))
    precision = "fp32"
    if before:
        if (sampler.name, seed) != (sampler_of(before).name, before["seed"]):
            text = "{folder} was begun by {sampler}, seed {seed}, and goes on so. To begin anew, delete that folder."
            loud(say(text, folder=folder, sampler=sampler_of(before), seed=before["seed"]))
        sampler, seed, precision = sampler_of(before), before["seed"], "auto"  # that of the images that are there
    missing, last = n - len(present), max((int(path.stem) for path in present), default=0)
    if missing > 0:
        takes = duration(missing * seconds_an_image(weights, sampler, device))
        text = "{missing:,} of {n:,} images are to be made by {sampler}: about {takes} on this {device}."
        print(say(text, missing=missing, n=n, sampler=sampler.name, takes=takes, device=device))
        with tqdm(total=n, initial=len(present), unit="image") as bar:
            part = 100 * max(2, torch.get_num_threads())  # a block for each core
            for upto in [*range((last // part + 1) * part, n, part), n]:
                options = {"device": device, "precision": precision, "progress": False}
                bar.update(generate(weights, folder, upto, sampler, seed, **options))
                keep(run, minutes=5)
        keep(run)
    return folder


def seconds_an_image(weights: Path, sampler: Sampler, device="cpu") -> float:
    """How long an image takes, measured on two steps of images in blocks, as `generate` makes them."""
    denoise = load_denoiser(weights, device)
    sampler = sampler.resolve(denoise.schedule.T, denoise.guidance)
    make = partial(images, denoise, replace(sampler, steps=min(2, sampler.steps)), 0, device=device)
    make(range(1, 11))  # the first evaluation is slower
    blocks = [range(1, 101)] * (torch.get_num_threads() if torch.device(device).type == "cpu" else 1)
    started = time.monotonic()
    made = sum(map(len, side_by_side(make, blocks, denoise)))
    return (time.monotonic() - started) / made * sampler.steps / min(2, sampler.steps)


def graded_number(images: Path, source: str | None = None) -> None:
    """Runs the homework's `python -m pytorch_fid`, and keeps its answer beside the images; or says why it cannot be.

    source: MNIST, as `mnist.sources.prepare` takes it. The statistics of its training digits are kept beside them.
    """
    try:
        real = prepare(source)
        if (count := len(numbered(real))) < REAL_IMAGES:
            text = "only {count:,} of MNIST's {all:,} training digits are here. Name all of MNIST."
            raise ValueError(say(text, count=count, all=REAL_IMAGES))
        statistics = real.with_name("mnist_train_inception.npz")
        inception_weights()  # what is wrong there is said at once
        record = Path(f"{real}.json")  # is written where other digits are prepared
        if not statistics.exists() or (record.is_file() and statistics.stat().st_mtime < record.stat().st_mtime):
            print(say("Inception reads 60,000 digits, once …"), flush=True)
            with whole_file(statistics) as temporary:
                pytorch_fid("--save-stats", real, temporary)
        found = grade(statistics, images)
        print(found.command, found.output, sep="\n")
    except (OSError, ValueError) as error:
        print(say("There is no graded number: {error}", error=error))


def show_slider(frames: SliderFrames) -> None:
    """Shows the slider as a widget; on Colab, whose widgets cannot run it, as its page in a frame.

    A saved notebook has a picture in the widget's place.
    """
    if on_colab():
        page = html.escape(slider_html(frames))
        look = f'title="{say(TITLE)}" style="width:100%;height:620px;border:0"'
        display({"text/html": f'<iframe srcdoc="{page}" {look}></iframe>', "text/plain": say("the slider")}, raw=True)
        return
    at = [frames.times.index(t) for t in frames.nodes]
    names = ("DDIM $x_t$", "DDIM guess", "DDPM $x_t$", "DDPM guess")
    rows = {label: frames.sequences[name][at, 0] for label, name in zip(names, SEQUENCES, strict=True)}
    figure = labelled_rows(rows, say("One sample of the slider"), above=[f"$t={t}$" for t in frames.nodes])
    picture, about = png(figure)
    view = {"version_major": 2, "version_minor": 0, "model_id": timestep_slider(frames).model_id}
    shown = {WIDGET: view, "image/png": picture, "text/plain": about["alt"]}
    display(shown, metadata={"image/png": about}, raw=True)


def own_notebooks() -> list[Path]:
    """The student's notebooks, to be handed in; on Colab the copies that are saved in Drive. Says so where none is.

    Elsewhere a file of the student edition, in any language, stands for that notebook if it was begun. Where one was,
    the worked edition stands for none of those with blanks: its answers are not the student's.
    """
    here = KIT / "notebooks" / (spoken() if spoken() != "en" else "")
    if on_colab():
        found = notebooks_in(kept_on[0].parent / "Colab Notebooks", "*") if kept_on else []
        chosen = [path for path in found if path.is_file() and HOMEWORK.search(path.name)]
        text = "NONE OF YOUR NOTEBOOKS is in Drive: choose File → Save a copy in Drive in each, then run this cell."
        none = say(text)
    else:
        student, begun = {}, {}
        for folder in (KIT / "notebooks" / "zh-TW", KIT / "notebooks", here):  # the last counts
            files = {path.name: path for path in notebooks_in(folder / "student", "0[1-6]_*.ipynb")}
            student |= files if folder == here else {}
            begun |= {name: path for name, path in files.items() if is_begun(path)}
        worked = {path.name: path for path in notebooks_in(here, "*0[1-6]_*.ipynb")}
        blank = {name: path for name, path in student.items() if begun and has_blank(path)}
        chosen = [path for _, path in sorted((student | worked | blank | begun).items())]
        text = "NONE OF YOUR NOTEBOOKS is in {folder}: save them there under their own names, then run this cell."
        none = say(text, folder=here)
    if not chosen:
        loud(none)
    damaged = [path.name for path in chosen if code_of(path) is None]
    if damaged:
        text = (
            "CANNOT BE READ: {names}. Where a notebook is still open in your browser, save it again. Else put an older "
            "version in its place: from the folder .ipynb_checkpoints beside it, or on Drive by File information → "
            "Manage versions. Then run this cell again."
        )
        loud(say(text, names=listing(damaged)))
    blank = [path.name for path in chosen if has_blank(path)]
    if blank:
        text = (
            "STILL WITH BLANKS: {names}. If you have filled them in, save these notebooks, delete the line `raise "
            "NotImplementedError(…)` where it still stands beside your answer, then run this cell again."
        )
        loud(say(text, names=listing(blank)))
    return chosen


def code_of(path: Path) -> list[str] | None:
    """A notebook's code, cell by cell; None where it does not read: half written, or with the marks of a merge."""
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError):
        return None


def has_blank(path: Path) -> bool:
    """Whether a cell still raises what a blank of the student edition does."""
    return any(selfcheck.BLANK.search(code) for code in code_of(path) or ())


def is_begun(path: Path) -> bool:
    """Whether somebody has run or changed a file of the student edition: `notebooks/editions.py` marks it as it was."""
    try:
        text = path.read_text("utf-8")
        content = json.loads(text)
        sources = "\0".join("".join(cell["source"]) for cell in content["cells"])
        made = content["metadata"].get("edition")
    except (ValueError, KeyError, TypeError):  # half written, or with the marks of a merge: by somebody
        return True
    changed = made is not None and made != hashlib.sha256(sources.encode()).hexdigest()[:16]
    return changed or bool(re.search(r'"execution_count": \d', text))


def notebooks_in(folder: Path, pattern: str) -> list[Path]:
    """Those of that name, without what this kit or other programs have put beside them."""
    found = [path for path in sorted(folder.glob(pattern)) if not is_leftover(path.name)]
    return [path for path in found if ".before-sync" not in path.name and ".new." not in path.name]


def offer(file: Path) -> None:
    """On Colab lets the browser download a file; elsewhere says where it is."""
    about = file.stat()
    facts = {"file": file, "size": about.st_size / 1e6}
    there = kept_on and kept_on[0] / file.parent.name / file.name
    if there and there.is_file() and there.stat().st_size == about.st_size and there.stat().st_mtime >= about.st_mtime:
        print(say("{file}: {size:.1f} MB, also in {folder}", **facts, folder=there.parent))
    else:
        print(say("{file}: {size:.1f} MB", **facts))
        if there:
            loud(say("Drive does NOT have this file: keep the one that your browser downloads now."))
    if on_colab():
        importlib.import_module("google.colab.files").download(str(file))


# Colab: work on the local disk, keep whole files on Drive


def mount(point: Path) -> None:
    """Mounts Drive, and fetches the runs in MyDrive/hwkit that are not here. ValueError where it cannot be mounted."""
    global kept_on
    no = getattr(sys.modules.get("google.colab._message"), "MessageError", ValueError)  # the student did not allow it
    try:
        importlib.import_module("google.colab.drive").mount(str(point))
        kept_on = point / "MyDrive" / "hwkit", (point / "MyDrive").stat().st_dev
        selfcheck.also_kept[:] = [kept_on[0]]
        for kept in sorted(kept_on[0].glob("*")):
            run = runs() / kept.name
            if not (run / "latest.pt").exists():
                fetch(kept, run)
            elif is_longer(kept, run):  # another tab has trained it since
                text = "{kept} is longer than {run} here. To take it: !mv {run} {run}-before, then run this cell again."
                loud(say(text, kept=kept, run=run))
    except (ValueError, OSError, no) as error:
        text = "If files stand in {point}, they are not on Drive: !mv {point} {point}-local moves them out of its way."
        again = say("Run this cell again, or with drive=False.")
        why = say("Drive was not mounted ({error}).", error=error)
        raise ValueError(sentences(why, say(text, point=point), again)) from None


def is_longer(kept: Path, run: Path) -> bool:
    """Whether Drive's run has seen more images; no where Drive does not say."""
    with contextlib.suppress(OSError):
        return length(run / "ema_latest.pt") < length(kept / "ema_latest.pt")
    return False


def made_otherwise(kept: Path, run: Path) -> bool:
    """Whether Drive's images were made by other means than those here; no where one of them does not say."""
    with contextlib.suppress(OSError, ValueError):
        return read_manifest(run / "generate") != read_manifest(kept / "generate")
    return False


def fetch(kept: Path, run: Path) -> None:
    """Copies a run from Drive, and names what is not to be had; latest.pt last, and only with the rest of TRAINED."""
    files = [path for path in kept.rglob("*") if not is_leftover(path.name)]
    for file in sorted(files, key=lambda path: (path.name == "latest.pt", path.name not in TRAINED, path)):
        here = run / file.relative_to(kept)
        images, partial = here.with_suffix(""), here.with_suffix(".partial")
        try:
            if file.is_file() and not file.stat().st_size:
                text = "{file} is empty (0 bytes). Without latest.pt: train(…, weights=run) or --weights {run}."
                print(say(text, file=file, run=run))
            elif file.is_file() and not here.exists():
                copy_whole(file, here)
                os.utime(here, ns=(file.stat().st_mtime_ns,) * 2)  # so that the newest run stays the newest
            if here.name == "generate.zip" and not images.exists():
                zipfile.ZipFile(here).extractall(partial)
                os.utime(partial.rename(images), ns=(here.stat().st_mtime_ns,) * 2)
        except DAMAGED as error:
            print(say("{file} was not fetched ({error}): run this cell again.", file=file, error=error))
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
            text = "{kept} is longer than {run}, and stays as it is: rename {run}, and it is kept beside it."
            print(say(text, kept=kept, run=run))
            return
        pack(run / "generate")
        for part in ("", "previews/", "figures/", "report/", "generate-evaluation/"):
            files = [path for path in run.glob(f"{part}[!.]*") if path.is_file() and path.name != "best.pt"]
            for file in sorted(path for path in files if path.stem != "generate"):
                target = kept / part / file.name
                if is_due(file, target):
                    copy_whole(file, target)
        keep_images(run, kept)
    except OSError as error:
        text = "Drive did not take {run} ({error}); it is safe here, and is tried again."
        print(say(text, run=run, error=error.strerror or error))


def is_due(file: Path, target: Path) -> bool:
    """Whether Drive has not got a file as it is now."""
    return not target.exists() or not target.stat().st_size or target.stat().st_mtime < file.stat().st_mtime


def keep_images(run: Path, kept: Path) -> None:
    """The zip of the images, and after it what made them; of fewer than Drive has, neither."""
    images, theirs = run / "generate.zip", kept / "generate.zip"
    fewer = length(images) < length(theirs)
    if fewer and images.exists() and made_otherwise(kept, run):
        text = "{theirs} holds more images, which were made otherwise: move it away, and those in {run} are kept."
        print(say(text, theirs=theirs, run=run))
    for file in (images, run / "generate.json"):
        target = kept / file.name
        held = fewer and target.exists() and target.stat().st_size > 0
        if file.is_file() and is_due(file, target) and not held:
            copy_whole(file, target)


def keep_often(run: Path) -> None:
    """`keep` for each time that `train` saves, every two minutes: so what Drive holds is at most five minutes old."""
    keep(run, OFTEN)


def copy_whole(source: Path, target: Path) -> None:
    """Copies a file whole or not at all; an OSError is tried again after 1, 2, 4 and 8 seconds."""
    for pause in (1, 2, 4, 8, 0):
        if not kept_on[0].parent.exists() or kept_on[0].parent.stat().st_dev != kept_on[1]:
            raise OSError(say("Drive is no longer mounted: run the first cell again"))
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
