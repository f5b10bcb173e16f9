"""What is drawn of a finished run, and the report to hand in: figures, HTML, PDF and zip."""

import base64
import json
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
import torch
from tqdm.auto import tqdm

from hwkit.diffusion import Denoiser
from hwkit.files import whole_file, write_bytes, write_text
from hwkit.mnist.folder import file_name, read_png
from hwkit.runs.checkpoint import best_of, load, load_denoiser, recipe_of
from hwkit.runs.generate import images
from hwkit.runs.run import read_history
from hwkit.runs.speed import duration
from hwkit.sampling import Frame, Sampler, nodes, trajectory
from hwkit.schedule import cosine, linear
from hwkit.show.figures import diffusion_grid, loss_curve, sample_sheet, save, schedule_curves
from hwkit.unet import UNet

Rows = list[tuple[str, str]]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass
class Part:
    """A chapter: paragraphs, a table of (what, value), and pictures of (PNG file, caption), in this order."""

    heading: str
    text: Sequence[str] = ()
    rows: Rows = field(default_factory=list)
    pictures: Sequence[tuple[Path, str]] = ()


def model_rows(run: Path) -> Rows:
    """The network, the diffusion, and how many parameters there are where."""
    content = load(best_of(run))
    config, schedule, model = model_config(content), recipe_of(content).make_schedule(), UNet(model_config(content))
    blocks = f"{config.blocks} residual block{'s' * (config.blocks > 1)} a level, {config.middle_blocks} in the middle"
    folded = f", pixels folded {config.patch}×{config.patch} into channels" if config.patch > 1 else ""
    channels = " → ".join(str(config.base * m) for m in config.multipliers)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return [
        ("network", f"U-Net, {config.channels}×28×28 in and out{folded}"),
        ("channels", f"{channels} down and up again; {blocks}"),
        ("block", "GroupNorm, SiLU, 3×3 convolution; time added in each (sinusoidal embedding, MLP)"),
        ("parameters", f"{sum(count.values()):,}: " + ", ".join(f"{name} {n:,}" for name, n in count.items())),
        ("forward process", f"{schedule.name} schedule, T = {schedule.T}, √ᾱ_T = {schedule.alpha_bar[-1] ** 0.5:.4f}"),
        ("the network predicts", {"epsilon": "ε, the noise", "x0": "x_0, the image", "v": "v"}[content["prediction"]]),
    ]


def training_rows(run: Path) -> Rows:
    """The recipe, and from `history.jsonl` how far the run has come; it is left out where there is none."""
    content = load(best_of(run))
    recipe = recipe_of(content)
    muon = f"; Muon {recipe.muon_lr:g} for the convolutions between stem and head" if recipe.muon_lr else ""
    falls = f", falling to 0 from {recipe.decay_from:.0%} of the run on" if recipe.decay_from < 1 else ", constant"
    rows = [
        ("data", "MNIST, training digits, 28×28 RGB in [−1, 1], no labels, no augmentation"),
        ("loss", f"mean squared error, t uniform, weight {recipe.weighting.replace('_', '-')}"),
        ("optimizer", f"AdamW {recipe.lr:g}{falls}{muon}; gradient clipped to norm {recipe.clip:g}"),
        ("batch", f"{recipe.batch_size}, seed {recipe.seed}"),
        ("average of weights", f"EMA, up to {recipe.ema:g}; these weights are used for all images"),
        ("images seen", f"{content['images_seen']:,}, in epochs: {content['epoch']}"),
    ]
    history = read_history(run)
    if history:
        last = history[-1]
        rows += [
            ("time", f"{duration(last['seconds'])}, {last['images_per_second']:.0f} images/s in the last epoch"),
            ("loss, last epoch", f"{last['loss']:.4f} (the lowest: {min(line['loss'] for line in history):.4f})"),
        ]
    software = content["versions"]
    return [*rows, ("software", ", ".join(f"{name} {version}" for name, version in software.items()))]


def result_rows(run: Path) -> Rows:
    """What was made and measured: `generate.json` and `generate-evaluation/*_fid.json`, as far as they are there."""
    rows = []
    manifest = run / "generate.json"
    if manifest.is_file():
        made = json.loads(manifest.read_text("utf-8"))
        count = len(list((run / "generate").glob("*.png")))
        rows.append(("images", f"{count:,} PNGs by {Sampler(**made['sampler'])}, seed {made['seed']}"))
    for path in sorted((run / "generate-evaluation").glob("*_fid.json")):
        rows += measured_rows(json.loads(path.read_text("utf-8")))
    return rows


def measured_rows(record: dict) -> Rows:
    """One measurement in one feature space, beside what as many real digits score."""
    real = "; ".join(f"real digits, {name}: {numbers['value']:.2f}" for name, numbers in record["real"].items())
    value = f"{record['value']:.2f} ± {record['error']:.2f}, {record['images']:,} images against {record['reference']}"
    rows = [(record["metric"], f"{value} ({real})" if real else value)]
    if "kid" in record:
        rows.append(("KID × 1000", f"{1000 * record['kid']:.1f} ± {1000 * record['kid_error']:.1f}"))
        rows.append(("precision, recall", f"{record['precision']:.2f}, {record['recall']:.2f}"))
    if "memorisation" in record:
        share = record["memorisation"]["near_copies"]
        rows.append(("near-copies of training images", f"{share:.2%} (of unseen real digits 0.1 %)"))
    return rows


def write_html(path: Path, title: str, by: str, parts: Sequence[Part]) -> Path:
    """Writes one file that needs no other: pictures inside, light and dark, fit to print. All text is escaped."""
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        Path(__file__).with_suffix(".html").read_text("utf-8")
    )
    embedded = [Part(p.heading, p.text, p.rows, [(_data_url(png), said) for png, said in p.pictures]) for p in parts]
    write_text(path, template.render(title=title, by=by, parts=embedded))
    return path


def write_pdf(html: Path) -> Path | None:
    """Prints the page as a PDF beside it, by Chromium; None where there is none, or it does not manage."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        return None
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "page.pdf"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--no-pdf-header-footer"]
        command = [browser, *flags, f"--print-to-pdf={printed}", html.resolve().as_uri()]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            content = printed.read_bytes()
        except (subprocess.SubprocessError, OSError):
            return None
    write_bytes(html.with_suffix(".pdf"), content)
    return html.with_suffix(".pdf")


def write_submission(path: Path, images: Path, others: Iterable[Path]) -> Path:
    """Writes what is handed in as one zip: the PNGs of a folder as `generate/…`, and other files by name."""
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as out:
        for png in sorted(images.glob("*.png")):
            out.write(png, f"generate/{png.name}")
        for file in others:
            out.write(file, file.name)
    return path


def _data_url(png: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode()


def draw_figures(
    run: Path, checkpoint: Path, out: Path, seed: int = 0, dpi: int = 150, device: torch.device | str = "cpu"
) -> Iterator[Path]:
    """Draws a run's figures into `out` and yields the path of each.

    Both diffusion grids (from one and the same x_T), the loss curve (where there is a history), a sheet of 100 samples,
    and the schedules.
    """
    denoise = load_denoiser(checkpoint, device)
    for sampler in (Sampler("ddpm"), Sampler("ddim")):
        sampler = sampler.resolve(denoise.schedule.T)
        title = f"{sampler.name.upper()}, {sampler.steps} steps"
        grid = diffusion_grid(grid_frames(denoise, sampler, seed, device), title)
        yield save(grid, out / f"diffusion_grid_{sampler.name}.png", dpi)
    history = read_history(run)
    if history:
        last = history[-1]
        title = f"{last['images_seen']:,} images, {last['seconds'] / 60:.0f} min, loss {last['loss']:.4f}"
        yield save(loss_curve(history, title), out / "loss_curve.png", dpi)
    yield save(sample_sheet(hundred_samples(run, denoise, seed, device)), out / "samples.png", dpi)
    T = denoise.schedule.T
    yield save(schedule_curves([linear(T), cosine(T)]), out / "schedule.png", dpi)
    epoch, seen = (load(checkpoint)[key] for key in ("epoch", "images_seen"))
    print(f"Drawn from {checkpoint.name} (epoch {epoch}, {seen:,} images seen); {denoise.schedule}")


def grid_frames(
    denoise: Denoiser, sampler: Sampler, seed: int, device: torch.device | str = "cpu", rows: int = 8
) -> list[Frame]:
    """The frames of `rows` samples at the eight nodes, T to 0. The same seed gives the same x_T for every sampler."""
    columns = nodes(denoise.schedule.T)
    frames = trajectory(denoise, sampler, seed, range(1, rows + 1), device, through=columns)
    shown = tqdm(frames, total=sampler.resolve(denoise.schedule.T).steps + 1, desc=f"grid {sampler.name}", leave=False)
    return [frame for frame in shown if frame.t in columns]


def hundred_samples(run: Path, denoise: Denoiser, seed: int, device: torch.device | str) -> np.ndarray:
    """uint8 (100, 3, 28, 28): the first images of the run's generate/, or fresh ones where it holds fewer."""
    files = [run / "generate" / file_name(k) for k in range(1, 101)]
    if all(file.is_file() for file in files):
        return np.stack([read_png(file).transpose(2, 0, 1) for file in files])
    return images(denoise, Sampler(), seed, range(1, 101), device).numpy()
