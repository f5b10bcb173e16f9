"""A finished run, drawn and described: its figures, and the report to hand in as HTML, PDF and zip."""

import base64
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import torch

from hwkit.files import is_leftover, whole_file, write_text
from hwkit.measure.score import read_scores, results_of
from hwkit.mnist.folder import file_name, read_png
from hwkit.runs import checkpoint as checkpoints
from hwkit.runs.checkpoint import EXPORTED, best_of, digest, load, load_denoiser, recipe_of
from hwkit.runs.generate import images, read_manifest
from hwkit.runs.run import read_history
from hwkit.runs.speed import duration
from hwkit.sampling import Sampler
from hwkit.schedule import cosine, linear
from hwkit.show.figures import check_dpi, diffusion_grid, grid_frames, loss_curve, sample_sheet, save, schedule_curves
from hwkit.unet import UNet

Rows = list[tuple[str, str]]  # of a table: what, value
TITLE = "A diffusion model for MNIST, from scratch"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge", "msedge")


@dataclass(frozen=True)
class Part:
    """A chapter, in this order. For the report's four chapters report.html has words, where there is no text."""

    heading: str
    text: Sequence[str] = ()  # paragraphs
    rows: Sequence[tuple[str, str]] = ()
    pictures: Sequence[tuple[Path, str]] = ()  # (PNG file, caption)


def write_report(
    run: Path, title: str = TITLE, author: str = "", conclusion: str = "", images: Path | None = None
) -> tuple[Path, Path | None]:
    """Writes a run's report/report.html, from the files that are there, and where Chromium is the PDF; returns both.

    The files: checkpoint, history, figures/, and what was measured of `images` (by default the run's generate/).
    ValueError names one that is damaged.
    """
    images = images or run / "generate"
    parts = [
        Part("Model description", (), model_rows(run)),
        Part("Implementation details", (), training_rows(run)),
        Part("Result analysis", (), result_rows(images)),
        Part("Conclusion", [paragraph for paragraph in conclusion.split("\n\n") if paragraph.strip()]),
    ]
    figures = [*(run / "figures").glob("*.png"), *results_of(images).glob("*.png")]
    page = write_html(run / "report" / "report.html", title, author, parts, figures)
    return page, write_pdf(page)


def model_rows(run: Path) -> Rows:
    """The network, the diffusion, and how many parameters there are where."""
    recipe = recipe_of(load(best_of(run)))
    net = recipe.model
    folded = f", pixels folded {net.patch}×{net.patch} into channels" if net.patch > 1 else ""
    channels = " → ".join(str(net.base * m) for m in net.multipliers)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in UNet(net).named_children()}
    return [
        ("network", f"U-Net, {net.channels}×28×28 in and out{folded}; channels {channels} down and up again"),
        ("residual blocks", f"{net.blocks} a level, {net.middle_blocks} in the middle; the time is added in each"),
        ("parameters", f"{sum(count.values()):,}: " + ", ".join(f"{name} {n:,}" for name, n in count.items())),
        ("forward process", str(recipe.make_schedule())),
        ("the network predicts", {"epsilon": "ε, the noise", "x0": "x_0, the image", "v": "v"}[recipe.prediction]),
    ]


def training_rows(run: Path) -> Rows:
    """Whose weights these are, the recipe, and from `history.jsonl`, where there is one, how far the run has come."""
    weights, history = best_of(run), read_history(run)
    content = load(weights)
    recipe, rows = recipe_of(content), []
    if weights.name == EXPORTED:
        kits = checkpoints.PRETRAINED / EXPORTED
        whose = "the kit’s own" if kits.is_file() and digest(kits) == digest(weights) else "exported by another run"
        rows = [("weights", f"not trained for this report: {whose}")]
    muon = f"; Muon {recipe.muon_lr:g} for the convolutions between stem and head" if recipe.muon_lr else ""
    falls = f", falling to 0 from {recipe.decay_from:.0%} of the run on" if recipe.decay_from < 1 else ", constant"
    rows += [
        ("loss", f"mean squared error, t uniform, weight {recipe.weighting.replace('_', '-')}; recipe {recipe.name}"),
        ("optimizer", f"AdamW {recipe.lr:g}{falls}{muon}; gradient clipped to norm {recipe.clip:g}"),
        ("batch", f"{recipe.batch_size}, seed {recipe.seed}"),
        ("average of weights", f"EMA, up to {recipe.ema:g}"),
        ("images seen", f"{content['images_seen']:,}, in epochs: {content['epoch']}"),
    ]
    if history:
        last, lowest = history[-1], min(line["loss"] for line in history)
        speed = f"{last['images_per_second']:.0f} images/s in the last epoch"
        rows += [("time", f"{duration(last['seconds'])}, {speed}")]
        rows += [("loss, last epoch", f"{last['loss']:.4f} (the lowest: {lowest:.4f})")]
    return [*rows, ("software", ", ".join(f"{name} {version}" for name, version in content["versions"].items()))]


def result_rows(images: Path) -> Rows:
    """What was made and measured, as far as the files beside the folder of images tell."""
    made, count = read_manifest(images), len(numbered(images))
    origin = f"by {Sampler(**made['sampler'])}, seed {made['seed']}" if made else "of unknown origin"
    measured = [row for score in read_scores(results_of(images)) for row in score.rows()]
    todo = [("FID", f"not measured yet: python -m hwkit fid {images}")]
    return [("images", f"{count:,} PNGs {origin}"), *(measured or todo)] if count else measured


def numbered(folder: Path) -> list[Path]:
    """The images 00001.png … of a folder, and nothing else that lies there."""
    return sorted(path for path in folder.glob("[0-9]" * 5 + ".png") if path.is_file())


def write_html(path: Path, title: str, by: str, parts: Sequence[Part], figures: Sequence[Path] = ()) -> Path:
    """Writes one file that needs no other: pictures inside, light and dark, fit to print. All text is escaped.

    figures: those of the kit, for whose names report.html has the place and the caption.
    """
    source = Path(__file__).with_suffix(".html").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["base64"] = lambda png: base64.b64encode(png.read_bytes()).decode()
    named = {figure.stem: figure for figure in figures}
    page = environment.from_string(source).render(title=title, by=by, parts=parts, figures=named)
    write_text(path, page)
    return path


def write_pdf(html: Path) -> Path | None:
    """Prints the page as a PDF beside it, by Chromium; None where there is none, or it does not manage."""
    browser, pdf = next(filter(None, map(shutil.which, BROWSERS)), None), html.with_suffix(".pdf")
    if not browser:
        return None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, whole_file(pdf) as page:
            paths = [f"--user-data-dir={profile}", f"--print-to-pdf={page.resolve()}", html.resolve().as_uri()]
            subprocess.run([browser, *flags, *paths], check=True, capture_output=True, timeout=120)
    except (subprocess.SubprocessError, OSError):
        return None
    return pdf


def write_submission(path: Path, images: Path, others: Iterable[Path]) -> Path:
    """Zips what is handed in: images 00001.png … as generate/…, other files by name. ValueError without any image."""
    files = {f"generate/{png.name}": png for png in numbered(images)}
    if not files:
        raise ValueError(f"{images} holds no images {file_name(1)} …: `python -m hwkit sample` makes them.")
    files |= {file.name: file for file in others if not is_leftover(file.name)}
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w") as out:
        for name, file in files.items():
            out.write(file, name)
    return path


def draw_figures(
    run: Path, checkpoint: Path, out: Path, seed: int = 0, dpi: float = 150, device: torch.device | str = "cpu"
) -> Iterator[Path]:
    """Draws a run's figures into `out` and yields the path of each. ValueError for a dpi that cannot work.

    The diffusion grids of DDPM and DDIM (from one x_T), the loss curve where there is a history, a hundred samples (of
    the run's generate/, or new ones where it holds fewer), and the schedules.
    """
    check_dpi(dpi)
    denoise, history = load_denoiser(checkpoint, device), read_history(run)
    T = denoise.schedule.T
    for sampler in (Sampler("ddpm").resolve(T), Sampler("ddim").resolve(T)):
        title = f"{sampler.name.upper()}, {sampler.steps} steps"
        grid = diffusion_grid(grid_frames(denoise, sampler, seed, device), title)
        yield save(grid, out / f"diffusion_grid_{sampler.name}.png", dpi)
    if history:
        last = history[-1]
        title = f"{last['images_seen']:,} images, {duration(last['seconds'])}, loss {last['loss']:.4f}"
        yield save(loss_curve(history, title), out / "loss_curve.png", dpi)
    made = [read_png(file) for file in numbered(run / "generate")[:100]]
    made = made if len(made) == 100 else images(denoise, Sampler(), seed, range(1, 101), device)
    yield save(sample_sheet(made), out / "samples.png", dpi)
    yield save(schedule_curves([linear(T), cosine(T)]), out / "schedule.png", dpi)
    epoch, seen = (load(checkpoint)[key] for key in ("epoch", "images_seen"))
    print(f"Drawn from {checkpoint.name} (epoch {epoch}, {seen:,} images seen); {denoise.schedule}")
