"""A finished run, drawn and described: its figures, and the report to hand in, as HTML and PDF."""

import base64
import datetime
import html
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jinja2
import torch
from matplotlib.path import Path as Path2D
from matplotlib.textpath import TextPath

from hwkit.files import whole_file, write_text
from hwkit.language import clauses, html_language, listing, marked, say
from hwkit.measure.curve import Curve
from hwkit.measure.graded import read_graded
from hwkit.measure.score import results_of, scores_of
from hwkit.mnist.folder import read_png
from hwkit.recipe import Recipe
from hwkit.runs.checkpoint import EXPORTED, best_of, digest, is_the_kits, load, load_denoiser, recipe_of, state
from hwkit.runs.generate import images, numbered, read_manifest, sampler_of
from hwkit.runs.run import read_history
from hwkit.runs.speed import duration
from hwkit.sampling import Sampler
from hwkit.schedule import cosine, linear
from hwkit.show.chapters import CHAPTERS, EQUATIONS
from hwkit.show.figures import (
    check_dpi,
    diffusion_grid,
    drawn_language,
    grid_frames,
    loss_curve,
    network_diagram,
    sample_sheet,
    save,
    schedule_curves,
)
from hwkit.unet import UNet

Rows = list[tuple[str, str]]  # of a table: what, value
BORROWED = marked(
    "NOT YOUR MODEL: the weights of this report come with the kit. They were not trained by the person who hands it in."
)
TITLE = marked("A diffusion model for MNIST, from scratch")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge", "msedge")


@dataclass(frozen=True)
class Part:
    """A chapter, in this order. For the report's chapters `chapters.py` has words, where there is no text."""

    heading: str
    text: Sequence[str] = ()  # paragraphs
    rows: Sequence[tuple[str, str]] = ()
    pictures: Sequence[tuple[Path, str]] = ()  # (PNG file, caption)
    log: Sequence[str] = ()  # lines of a program
    answers: Sequence[tuple[str, str]] = ()  # (question, what the student answered)


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
        Part("Implementation details", (), training_rows(run), log=log_lines(run)),
        Part("Result analysis", (), result_rows(images)),
        Part("Conclusion", [paragraph for paragraph in conclusion.split("\n\n") if paragraph.strip()]),
    ]
    figures = [*(run / "figures").glob("*.png"), *results_of(images).glob("*.png")]
    figures = [figure for figure in figures if figure.name != "fid_curve.png" or is_of(figure, best_of(run))]
    if len(rows := run_rows(run.parent)) > 1:
        parts.insert(3, Part("Runs side by side", (), rows))
    page = write_html(run / "report" / "report.html", title, author, parts, figures, warning_of(run))
    return page, write_pdf(page)


def is_of(curve: Path, weights: Path) -> bool:
    """Whether a curve of digit-FID was measured with these weights, and not before the run was trained on."""
    kept = curve.with_suffix(".json")
    return not kept.is_file() or Curve.read(kept).checkpoint_sha256 == digest(weights)


def model_rows(run: Path) -> Rows:
    """The network, the diffusion, and how many parameters there are where."""
    recipe = recipe_of(load(best_of(run)))
    net = recipe.model
    channels = " → ".join(str(net.base * m) for m in net.multipliers)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in UNet(net).named_children()}
    shape = "U-Net, {channels}×28×28 in and out; channels {levels} down and up again"
    if net.patch > 1:
        shape = (
            "U-Net, {channels}×28×28 in and out, pixels folded {patch}×{patch} into channels; channels {levels} down "
            "and up again"
        )
    blocks = "{count} a level, {middle} in the middle; the time is added in each"
    predicted = {"epsilon": say("ε, the noise"), "x0": say("x_0, the image"), "v": "v"}[recipe.prediction]
    parts = listing(f"{name} {n:,}" for name, n in count.items())
    return [
        (say("network"), say(shape, channels=net.channels, patch=net.patch, levels=channels)),
        (say("residual blocks"), say(blocks, count=net.blocks, middle=net.middle_blocks)),
        (say("parameters"), say("{count:,}: {parts}", count=sum(count.values()), parts=parts)),
        (say("forward process"), str(recipe.make_schedule())),
        (say("the network predicts"), predicted),
    ]


def training_rows(run: Path) -> Rows:
    """Whose weights these are, the recipe, and from `history.jsonl`, where there is one, how far the run has come."""
    weights, history = best_of(run), read_history(run)
    content = load(weights)
    recipe, rows = recipe_of(content), []
    if weights.name == EXPORTED:
        whose = say("not trained for this report: exported by another run")
        if is_the_kits(weights):
            whose = say("not trained for this report: NOT YOUR MODEL, but the kit’s own")
        rows = [(say("weights"), whose)]
    loss = "mean squared error, t uniform, weight {weighting}; recipe {recipe}"
    weighting = recipe.weighting.replace("_", "-")
    seen = {"count": content["images_seen"], "epoch": content["epoch"]}
    rows += [
        (say("loss"), say(loss, weighting=weighting, recipe=recipe.name)),
        (say("optimizer"), _optimizer(recipe)),
        (say("batch"), say("{size}, seed {seed}", size=recipe.batch_size, seed=recipe.seed)),
        (say("average of weights"), say("EMA, up to {decay:g}", decay=recipe.ema)),
        (say("images seen"), say("{count:,}, in epochs: {epoch}", **seen)),
    ]
    rows += [(say("trained with the student's own"), listing(content["own"]))] if "own" in content else []
    if history:
        last, lowest = history[-1], min(line["loss"] for line in history)
        speed = {"time": duration(last["seconds"]), "speed": last["images_per_second"]}
        rows += [(say("time"), say("{time}, {speed:.0f} images/s in the last epoch", **speed))]
        losses = say("{last:.4f} (the lowest: {lowest:.4f})", last=last["loss"], lowest=lowest)
        rows += [(say("loss, last epoch"), losses)]
    return [*rows, (say("software"), listing(f"{name} {version}" for name, version in content["versions"].items()))]


def _optimizer(recipe: Recipe) -> str:
    rate = say("AdamW {lr:g}, constant", lr=recipe.lr)
    if recipe.decay_from < 1:
        rate = say("AdamW {lr:g}, falling to 0 from {share:.0%} of the run on", lr=recipe.lr, share=recipe.decay_from)
    muon = say("Muon {lr:g} for the convolutions between stem and head", lr=recipe.muon_lr) if recipe.muon_lr else ""
    clip = say("gradient clipped to norm {clip:g}", clip=recipe.clip)
    return clauses(rate, muon, clip)


def warning_of(run: Path) -> str:
    """What stands on top of the page where the run's weights are the kit's; else nothing."""
    return say(BORROWED) if is_the_kits(best_of(run)) else ""


def log_lines(run: Path, ends: int = 3) -> list[str]:
    """The first and last epochs of a run in a line each, as training prints them; none without a history."""
    history, recipe = read_history(run), recipe_of(load(best_of(run)))
    seen = [after["images_seen"] - before["images_seen"] for before, after in pairwise([{"images_seen": 0}, *history])]
    count = (state(run) or {}).get("image_count", 0)
    whole = count // recipe.batch_size * recipe.batch_size or max(seen, default=1)  # an export does not know the count
    lines = []
    for record, own in zip(history, seen, strict=True):
        text = "Epoch {epoch}/{epochs} finished, average loss: {loss:.4f}   ({images_seen:,} images, {time})"
        share = own / whole
        if round(share, 2) < 1:  # with another batch size before, whole epochs differ by some images
            text = "{share:.0%} of epoch {epoch}, average loss: {loss:.4f}   ({images_seen:,} images, {time})"
        lines.append(say(text, epochs=recipe.epochs, share=share, time=duration(record["seconds"]), **record))
    return lines if len(lines) <= 2 * ends else [*lines[:ends], "…", *lines[-ends:]]


def run_rows(folder: Path) -> Rows:
    """A row for each run in a folder of runs: its schedule, what it predicts, how long it is, what its images score.

    The weights that come with the kit are no run of the student's.
    """
    rows, files = [], [file for name in (EXPORTED, "ema_latest.pt", "ema_best.pt") for file in folder.glob(f"*/{name}")]
    for run in sorted({file.parent for file in files if not is_the_kits(file)}):
        try:
            rows.append((run.name, run_row(run)))
        except (OSError, ValueError) as error:  # another run's fault is no reason to have no report of this one
            rows.append((run.name, say("cannot be read: {error}", error=error)))
    return rows


def run_row(run: Path) -> str:
    """A run in one line. Raises as `load` and `scores_of` do."""
    content = load(best_of(run))
    recipe = recipe_of(content)
    about = "{schedule}; predicts {prediction}; {seen:,} images seen"
    seen = {"schedule": recipe.make_schedule(), "prediction": recipe.prediction, "seen": content["images_seen"]}
    score, unknown = "{metric} {value:.2f} ± {error:.2f} of {images:,} images by {sampler}", say("an unknown sampler")
    found = [say(score, **vars(s) | {"sampler": s.sampler or unknown}) for s in scores_of(run / "generate")]
    return clauses(say(about, **seen), *(found or [say("not measured")]))


def result_rows(images: Path) -> Rows:
    """What was made, and what was measured of these very images, as far as the files beside the folder tell."""
    made, count = read_manifest(images), len(numbered(images))
    if not count:
        return []
    origin = {"sampler": sampler_of(made), "seed": made["seed"]} if made else {}
    text = "{count:,} PNGs by {sampler}, seed {seed}" if made else "{count:,} PNGs of unknown origin"
    if made and made.get("own"):
        text = "{count:,} PNGs by {sampler}, seed {seed}, with the student's own {own}"
        origin["own"] = listing(made["own"])
    measured = [row for score in scores_of(images) for row in score.rows()]
    todo = say("these images are not measured yet: python -m hwkit fid {images}", images=images)
    rows = [(say("images"), say(text, count=count, **origin)), (say("FID by pytorch-fid"), _graded(images))]
    return [*rows, *(measured or [("digit-FID", todo)])]


def _graded(images: Path) -> str:
    """The homework's own number, or how to get it."""
    graded = read_graded(images)
    if not graded:
        text = "not measured: python -m pytorch_fid REAL {images}, where REAL holds the training digits as PNGs"
        return say(text, images=images)
    facts = {"output": graded.output, "command": graded.command, "images": graded.images}
    said = say("{output} (the output of {command}; {images:,} images)", **facts)
    other = say("not the published Inception weights, so it compares with no other value")
    return said if graded.official else clauses(said, other)


def write_html(
    path: Path, title: str, by: str, parts: Sequence[Part], figures: Sequence[Path] = (), warning: str = ""
) -> Path:
    """Writes one file that needs no other: pictures inside, light and dark, A4 in print. All text is escaped.

    figures: those of the kit, for whose names report.html has the place and the caption. warning: stands on top.
    """
    source = Path(__file__).with_suffix(".html").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["base64"] = lambda png: base64.b64encode(png.read_bytes()).decode()
    named = {figure.stem: figure for figure in figures}
    environment.filters |= {"lang": language, "formula": formula}
    environment.globals |= {"say": say, "lang": html_language(), "chapters": CHAPTERS, "equations": EQUATIONS}
    facts = {"title": say(title), "by": by, "warning": warning, "date": datetime.date.today().isoformat()}
    page = environment.from_string(source).render(**facts, parts=parts, figures=named)
    write_text(path, page)
    return path


def formula(tex: str) -> str:
    """A formula as an SVG of outlines, which looks the same everywhere: MathML needs a font for mathematics."""
    letters = TextPath((0, 0), f"${tex}$", size=16)
    (left, low), (right, high) = letters.get_extents().get_points().round(2)
    names = {Path2D.MOVETO: "M", Path2D.LINETO: "L", Path2D.CURVE3: "Q", Path2D.CURVE4: "C", Path2D.CLOSEPOLY: "Z"}
    steps = [(names[code], () if code == Path2D.CLOSEPOLY else points) for points, code in letters.iter_segments()]
    outline = "".join(name + " ".join(f"{x:.2f}" for x in points) for name, points in steps)
    wide, tall = right - left + 2, high - low + 2
    box = f'viewBox="{left - 1:.2f} {-high - 1:.2f} {wide:.2f} {tall:.2f}" width="{wide:.0f}" height="{tall:.0f}"'
    said = html.escape(tex)
    return f'<svg role="img" aria-label="{said}" {box}><path transform="scale(1,-1)" d="{outline}"/></svg>'


def language(text: str) -> str:
    """`zh-Hant-TW` for a text that has Chinese characters in it, else `en`: what its `lang` is to say."""
    return "zh-Hant-TW" if any("\u4e00" <= letter <= "\u9fff" for letter in text) else "en"


def write_pdf(page: Path) -> Path | None:
    """Prints the page as a PDF beside it, by Chromium; None where there is none, or it does not manage."""
    browser, pdf = next(filter(None, map(shutil.which, BROWSERS)), None), page.with_suffix(".pdf")
    if not browser:
        return None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, whole_file(pdf) as printed:
            paths = [f"--user-data-dir={profile}", f"--print-to-pdf={printed.resolve()}", page.resolve().as_uri()]
            subprocess.run([browser, *flags, *paths], check=True, capture_output=True, timeout=120)
    except (subprocess.SubprocessError, OSError):
        return None
    return pdf


def draw_figures(
    run: Path, checkpoint: Path, out: Path, seed: int = 0, dpi: float = 150, device: torch.device | str = "cpu"
) -> Iterator[Path]:
    """Draws a run's figures into `out` and yields the path of each. ValueError for a dpi that cannot work.

    The network, the diffusion grids of DDPM and DDIM (from one x_T), the loss curve where there is a history, the first
    samples (a hundred at most of the run's generate/, or a hundred new ones where it holds none), and the schedules.
    """
    check_dpi(dpi)
    denoise, history = load_denoiser(checkpoint, device), read_history(run)
    T = denoise.schedule.T
    yield save(network_diagram(recipe_of(load(checkpoint)).model), out / "network.png", dpi)
    for sampler in (Sampler("ddpm").resolve(T), Sampler("ddim").resolve(T)):
        with drawn_language():
            title = say("{name}, {steps} steps", name=sampler.name.upper(), steps=sampler.steps)
        grid = diffusion_grid(grid_frames(denoise, sampler, seed, device), title)
        yield save(grid, out / f"diffusion_grid_{sampler.name}.png", dpi)
    if history:
        last = history[-1]
        with drawn_language():
            facts = {"seen": last["images_seen"], "time": duration(last["seconds"]), "loss": last["loss"]}
            title = say("{seen:,} images, {time}, loss {loss:.4f}", **facts)
        yield save(loss_curve(history, title), out / "loss_curve.png", dpi)
    made = [read_png(file) for file in numbered(run / "generate")[:100]]
    made = made or images(denoise, Sampler("dpm++sde"), seed, range(1, 101), device)
    yield save(sample_sheet(made), out / "samples.png", dpi)
    yield save(schedule_curves([linear(T), cosine(T)]), out / "schedule.png", dpi)
    content = load(checkpoint)
    facts = {"file": checkpoint.name, "epoch": content["epoch"], "seen": content["images_seen"]}
    print(
        say("Drawn from {file} (epoch {epoch}, {seen:,} images seen); {schedule}", **facts, schedule=denoise.schedule)
    )
