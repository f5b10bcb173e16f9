"""A class of twelve that has handed in what classes hand in: `PYTHONPATH=. python tests/make_class.py class`.

    class/students.csv, class/rubric.toml, class/submissions/…
    python -m hwkit grade class/submissions --roster class/students.csv --rubric class/rubric.toml

Small, so that it is made and graded within a minute: 30 images each. Who has weights of their own has the kit's network
with its channels in another order and noise on every weight: it makes digits, and is no copy by any measure.
"""

import csv
import io
import json
import shutil
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hwkit.files import write_json, write_text
from hwkit.mnist.folder import encode_png, file_name
from hwkit.mnist.sources import KIT as _KIT
from hwkit.mnist.sources import SAMPLE, read_source
from hwkit.runs import checkpoint
from hwkit.runs.generate import generate
from hwkit.runs.run import Record
from hwkit.sampling import Sampler
from hwkit.show.handin import write_facts, write_submission
from hwkit.unet import ResBlock, UNet, UNetConfig

KITS = _KIT.parent / "data" / "pretrained" / checkpoint.EXPORTED
N, SAMPLER = 30, Sampler("unipc", 5)
RUBRIC = f"""# For the class of twelve: {N} images each, of which FID is high whoever makes them.
[measure]
images = {N}
again = 6
kit_seeds = 3

[bands]
digits = [[150.0, 1.0], [1000.0, 0.5]]
"""
STUDENTS = {
    "B01": "Lin Mei",
    "B02": "Chen Wei",
    "B03": "Ana de la Cruz",
    "B04": "Tom O'Neill",
    "B05": "Max Power",
    "B06": "Kit Kittson",
    "B07": "Tracy Train",
    "B08": "Bob Broken",
    "B09": "Bo Bomb",
    "B10": "Wanda Weights",
    "B11": "Eddie Edit",
    "B12": "王小明",
    "B13": "Nora Nothing",  # has handed in nothing
}
WORDS = (
    "loss noise image step time model network sample curve digit schedule weight epoch",
    "figure error mean score",
)


def make(out: Path) -> Path:
    """Writes the class into the folder `out`, and returns it."""
    place = out / "submissions"
    place.mkdir(parents=True, exist_ok=True)
    write_text(out / "rubric.toml", RUBRIC)
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerows([("id", "name", "section"), *((number, name, "A") for number, name in STUDENTS.items())])
    write_text(out / "students.csv", buffer.getvalue())
    with tempfile.TemporaryDirectory() as scratch:
        for number, hand_in in enumerate(HAND_IN.values(), 1):
            hand_in(place, Path(scratch) / f"{number:02d}", number)
    return out


# What a student has: a run, images, a report, figures


def own_weights(seed: int) -> dict:
    """Weights that make digits and are nobody else's, seeded."""
    rng = torch.Generator().manual_seed(seed)
    denoise = checkpoint.load_denoiser(KITS)
    with torch.no_grad():
        for block in (module for module in denoise.model.modules() if isinstance(module, ResBlock)):
            size = block.conv1.out_channels // 8  # of a group of the group norm, which must stay together
            groups = torch.randperm(8, generator=rng)
            order = torch.cat([group * size + torch.randperm(size, generator=rng) for group in groups])
            for layer in (block.conv1, block.time, block.norm2):
                layer.weight.copy_(layer.weight[order].clone())
                layer.bias.copy_(layer.bias[order].clone())
            block.conv2.weight.copy_(block.conv2.weight[:, order].clone())
        for weight in denoise.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=rng) * weight.std(correction=0) * 0.12)
    return denoise.model.state_dict()


def log(epochs: int = 3, batch: int = 64, steps: int = 100) -> list[dict]:
    """The history of a training as the kit writes it, made up but without a contradiction."""
    lines = []
    for epoch in range(1, epochs + 1):
        seen = [(epoch - 1) * steps * batch + k * 10 * batch for k in range(1, 11)]
        curve = [[x, 0.02 + 100 / (x + 1000)] for x in seen]
        loss = sum(loss for _, loss in curve) / len(curve)
        facts = {"images_seen": seen[-1], "seconds": 50.0 * epoch, "lr": 1e-3, "images_per_second": 128.0}
        lines.append(Record(epoch=epoch, loss=loss, is_best=True, curve=curve, **facts)._asdict())
    return lines


def begin(run: Path, weights: dict, lines: list[dict], model: UNetConfig | None = None) -> Path:
    """A run's folder: weights and history."""
    recipe = checkpoint.recipe_of(checkpoint.load(KITS))
    recipe = replace(recipe, name="own", batch_size=64, **({"model": model, "T": 40} if model else {}))
    facts = {"epoch": lines[-1]["epoch"], "images_seen": lines[-1]["images_seen"], "loss": lines[-1]["loss"]}
    checkpoint.save(run / "ema_latest.pt", recipe, weights, **facts)
    write_text(run / "history.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return run


def synthetic(number: int, count: int = N) -> np.ndarray:
    """Real digits, bent, and with noise of their own: uint8 (N, 3, 28, 28) as nobody else has them."""
    rng, images = np.random.default_rng([7, number]), read_source(SAMPLE, "train").images[:, 0]
    made = []
    for digit in images[rng.choice(len(images), count, replace=False)]:
        turn, slant, size = rng.uniform(-0.35, 0.35), rng.uniform(-0.3, 0.3), rng.uniform(0.85, 1.1)
        a, b, c, d = np.cos(turn) / size, np.sin(turn) / size + slant, -np.sin(turn) / size, np.cos(turn) / size
        middle = (14 - 14 * (a + b), 14 - 14 * (c + d))
        turned = (a, b, middle[0], c, d, middle[1])
        bent = Image.fromarray(digit).transform((28, 28), Image.AFFINE, turned, Image.BILINEAR)
        noisy = np.asarray(bent, float) + rng.normal(0, 6, (28, 28)) * (np.asarray(bent) > 0)
        made.append(np.repeat(noisy.clip(0, 255).round().astype(np.uint8)[None], 3, axis=0))
    return np.stack(made)


def put(images: np.ndarray, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(images, 1):
        (folder / file_name(k)).write_bytes(encode_png(image))
    return folder


def words(number: int, count: int = 300) -> str:
    """A text that nobody else has."""
    rng = np.random.default_rng([11, number])
    return " ".join(rng.choice(" ".join(WORDS).split(), count))


def papers(folder: Path, number: int) -> list[Path]:
    """The report and both figures."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([13, number])
    for kind in ("ddpm", "ddim"):
        picture = np.repeat(rng.integers(0, 255, (30, 30), dtype=np.uint8), 8, axis=0).repeat(8, axis=1)
        Image.fromarray(picture).save(folder / f"diffusion_grid_{kind}.png", "PNG")
    write_text(folder / "report.html", f"<html><body><h1>Report</h1><p>{words(number)}</p></body></html>")
    return sorted(folder.iterdir())


# What each hands in, as (folder of submissions, folder of its own, number)


def trained(place: Path, own: Path, number: int, name: str, seed: int) -> Path:
    """All of it, and all in order: what notebook 6 packs, with the weights."""
    run = begin(own, own_weights(number), log())
    generate(run / "ema_latest.pt", run / "generate", N, SAMPLER, seed, progress=False)
    facts = write_facts(run / "run.json", run, run / "generate")
    others = [*papers(own / "papers", number), facts, run / "history.jsonl", run / "ema_latest.pt"]
    return write_submission(place / name, run / "generate", others)


def perfect(place: Path, own: Path, number: int) -> None:
    trained(place, own, number, "Lin Mei_10231_assignsubmission_file_B01.zip", seed=5)


def without_weights(place: Path, own: Path, number: int, name: str, images: np.ndarray) -> Path:
    return write_submission(place / name, put(images, own / "generate"), papers(own / "papers", number))


def missing_images(place: Path, own: Path, number: int) -> None:
    without_weights(place, own, number, "chenwei_4711_8812_B02.zip", synthetic(number)[: N - 5])


def wrong_names(place: Path, own: Path, number: int) -> None:
    """As `image_1.png` …, in a folder inside a folder, with what macOS adds."""
    folder = put(synthetic(number), own / "generate")
    with zipfile.ZipFile(place / "Ana de la Cruz (B03).zip", "w") as archive:
        for k in range(1, N + 1):
            archive.write(folder / file_name(k), f"hw3/generate/generate/image_{k}.png")
            archive.writestr(f"__MACOSX/hw3/generate/generate/._image_{k}.png", b"Mac OS X")
        for paper in papers(own / "papers", number):
            archive.write(paper, f"hw3/{paper.name}")


def grey_mode(place: Path, own: Path, number: int) -> None:
    """A folder rather than a .zip."""
    folder = place / "B04 Tom O'Neill"
    put(synthetic(number), folder / "generate")
    for path in (folder / "generate").iterdir():
        Image.open(path).convert("L").save(path)
    for paper in papers(own / "papers", number):
        shutil.copy(paper, folder)


def copied(place: Path, own: Path, number: int) -> None:
    """The perfect one, under another name."""
    shutil.copy(place / "Lin Mei_10231_assignsubmission_file_B01.zip", place / "maxpower_77_B05_final_FINAL.zip")


def the_kits(place: Path, own: Path, number: int) -> None:
    own.mkdir(parents=True)
    shutil.copy(KITS, own)
    shutil.copy(KITS.with_name("history.jsonl"), own)
    generate(own / KITS.name, own / "generate", N, SAMPLER, 3, progress=False)
    facts = write_facts(own / "run.json", own, own / "generate")
    others = [*papers(own / "papers", number), facts, own / "history.jsonl", own / KITS.name]
    write_submission(place / "B06_kit.zip", own / "generate", others)


def training_images(place: Path, own: Path, number: int) -> None:
    real = read_source(SAMPLE, "train").images[100 : 100 + N]
    without_weights(place, own, number, "B07-Tracy.zip", np.repeat(real, 3, axis=1))


def broken_zip(place: Path, own: Path, number: int) -> None:
    whole = without_weights(own / "out", own, number, "whole.zip", synthetic(number)).read_bytes()
    (place / "Bob Broken_B08.zip").write_bytes(whole[: len(whole) // 2])


def bomb(place: Path, own: Path, number: int) -> None:
    with zipfile.ZipFile(place / "B09_homework.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("generate/00001.png", bytes(64 * 2**20))


def other_weights(place: Path, own: Path, number: int) -> None:
    """Weights that load, but have not made the images."""
    config = UNetConfig(base=16, multipliers=(1,), patch=2)
    torch.manual_seed(number)
    model = UNet(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    run = begin(own, model.state_dict(), log(), config)
    images = put(synthetic(number), run / "generate")
    sampler = {"name": "unipc", "steps": 5, "eta": 0.0, "variance": "posterior"}
    made = {"checkpoint": "ema_latest.pt", "checkpoint_sha256": checkpoint.digest(run / "ema_latest.pt")}
    write_json(run / "generate.json", {**made, "sampler": sampler, "seed": 0, "precision": "fp32"})
    facts = write_facts(run / "run.json", run, images)
    others = [*papers(own / "papers", number), facts, run / "history.jsonl", run / "ema_latest.pt"]
    write_submission(place / "B10_Wanda.zip", images, others)


def edited_history(place: Path, own: Path, number: int) -> None:
    """The last epoch says a better loss than its curve, and twice the images in the same time."""
    lines = log()
    lines[-1]["loss"] /= 2
    lines[-1]["images_per_second"] *= 2
    own.mkdir(parents=True)
    write_text(own / "history.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    others = [*papers(own / "papers", number), own / "history.jsonl"]
    write_submission(place / "eddieedit_5_B11.zip", put(synthetic(number), own / "generate"), others)


def late_in_chinese(place: Path, own: Path, number: int) -> None:
    """All in order, in a folder with a Chinese name."""
    path = trained(own / "out", own, number, "own.zip", seed=8)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(place / "王小明_late_20993_作業三.zip", "w") as nested:
        for name in whole.namelist():
            nested.writestr(f"作業三/{name}", whole.read(name))


HAND_IN = {
    "B01": perfect,
    "B02": missing_images,
    "B03": wrong_names,
    "B04": grey_mode,
    "B05": copied,
    "B06": the_kits,
    "B07": training_images,
    "B08": broken_zip,
    "B09": bomb,
    "B10": other_weights,
    "B11": edited_history,
    "B12": late_in_chinese,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    print(make(Path(sys.argv[1] if len(sys.argv) > 1 else "class")))
