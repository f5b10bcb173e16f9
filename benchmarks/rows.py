"""The rows of the table that take seconds to minutes. Each function measures some and gives their lines."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Line, in_a_process, interleaved, spread
from benchmarks.peers import CPU, Diffusers, Lucidrains, Peer
from hwkit.diffusion import diffusion_loss
from hwkit.files import write_many
from hwkit.measure.distances import frechet_distance, statistics
from hwkit.measure.features import DigitFeatures, InceptionFeatures
from hwkit.measure.score import digit_fid, score
from hwkit.mnist.batches import batches, normalize
from hwkit.mnist.folder import encode_png, load_folder
from hwkit.mnist.sources import SAMPLE, read_source
from hwkit.recipe import ORIGINAL, RECIPES, Recipe
from hwkit.runs.checkpoint import EXPORTED, FAST, PRETRAINED, load_denoiser
from hwkit.runs.generate import generate
from hwkit.runs.run import train
from hwkit.runs.speed import candidates, quickest_precision
from hwkit.sampling import Sampler
from hwkit.training import new_state, training_step

BATCH = 64
PRECISIONS = [setting.precision for setting in candidates(torch.device("cpu"))]
DEFAULT_SAMPLER = Sampler("dpm++sde").resolve(830)  # that of the kit's weights, which ask for no guide
ORIGINAL_SAMPLER = Sampler("ddim", 50)
TIMES = 4  # as many images are made of the distilled weights in row 6: they take a quarter of the steps
IMPORT = "import torch, time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


@dataclass(frozen=True)
class Scale:
    """How much is measured: see `SCALES`."""

    rounds: int = 7  # of A B A B …, after one to warm up
    product: int = 2048  # side of the matrices of row 3
    generated: int = 400  # images of row 6; a block of 100 for each of two threads, twice
    beside: int = 400  # of those, as many as are made by DDIM too
    pngs: int = 60_000  # of row 7
    scored: int = 10_000  # images of row 8
    inception: int = 50  # images a round of row 9
    dims: int = 2048  # of row 9's distances
    seconds: float = 15.0  # of training, row 10
    sampled: int = 400  # images of row 10
    work: tuple[int, ...] = (1, 2, 4, 8)  # of the cost plots: times `unit`
    unit: int = 100  # images; a twentieth of it is steps, twice it the images of an epoch
    minutes: float = 10.0  # of training, rows 4 and 5
    judged: int = 2_000  # images of each contender in rows 4 and 5, of each sampler in row 6
    recipe: str = "cpu"  # of rows 4, 5, 7 and the cost plots
    submissions: int = 10  # of row 12
    handed_in: int = 10_000  # images in each of them


QUICK = Scale()
LONG = replace(QUICK, generated=10_000, judged=2_000)
CHECK = Scale(  # seconds, to see that all works; its figures mean nothing
    rounds=1,
    product=64,
    generated=4,
    pngs=200,
    scored=300,
    inception=2,
    dims=64,
    seconds=1.0,
    sampled=4,
    work=(1, 2, 4),
    unit=20,
    minutes=0.02,
    judged=6,
    recipe="smoke",
    submissions=2,
    handed_in=60,
)


# Rows 1 to 3: the training step


def training_speed(scale: Scale) -> list[Line]:
    """Rows 1 to 3: the original's network at batch 64 against the peers', and against a matrix product."""
    batch = real_batch()
    kit = {precision: kit_step(replace(ORIGINAL, batch_size=BATCH), precision, batch) for precision in PRECISIONS}
    products = {precision: partial(torch.mm, *matrices(scale.product, precision)) for precision in kit}
    contenders: dict[str, Callable] = {f"kit {precision}": step for precision, step in kit.items()}
    contenders |= {f"product {precision}": product for precision, product in products.items()}
    for peer in (Diffusers, Lucidrains):
        contenders |= {f"{peer.name} {precision}": faster_layout(peer, precision, batch) for precision in kit}
    seconds = interleaved(contenders, scale.rounds)
    raw = {name: np.round(BATCH / values, 2).tolist() for name, values in seconds.items() if "product" not in name}
    lines = []
    for row, peer, goal in (("1", Diffusers, 3), ("2", Lucidrains, 4)):
        pairs = {f"both in {p}": (p, p) for p in kit}
        fastest = min(kit, key=lambda p: np.median(seconds[f"kit {p}"]))
        pairs["each as it comes"] = (fastest, "fp32")
        for what, (ours, theirs) in pairs.items():
            ratios = seconds[f"{peer.name} {theirs}"] / seconds[f"kit {ours}"]
            how = f"images/s, batch {BATCH}: {np.median(BATCH / seconds[f'kit {ours}']):.1f} in {ours} to "
            how += f"{np.median(BATCH / seconds[f'{peer.name} {theirs}']):.1f} in {theirs}"
            line = Line(
                row,
                f"training against {peer.name}, {what}",
                unit="×",
                goal=goal,
                at_least=True,
                how=how,
                raw=raw,
                **spread(ratios),
            )
            lines.append(line)
    flops = step_flops(replace(ORIGINAL, batch_size=BATCH), batch)
    for precision in kit:
        shares = 100 * flops / seconds[f"kit {precision}"]
        shares /= 2 * scale.product**3 / np.median(seconds[f"product {precision}"])
        rate = np.median(flops / seconds[f"kit {precision}"]) / 1e9
        how = f"{rate:.0f} GFLOP/s in the step, of what a product {scale.product}³ gets in the same precision"
        goal = 80 if precision == "fp32" else None
        line = Line(
            "3",
            f"arithmetic of the training step, {precision}",
            unit="%",
            goal=goal,
            at_least=True,
            how=how,
            **spread(shares),
        )
        lines.append(line)
    return lines


def real_batch() -> Tensor:
    """The first 64 digits of the sample as the network sees them, (64, 3, 28, 28) in [−1, 1]."""
    return normalize(torch.from_numpy(read_source(SAMPLE).images[:BATCH])).contiguous()


def kit_step(recipe: Recipe, precision: str, x_0: Tensor) -> Callable:
    """One whole training step of the kit, from noise to the weights' moving average."""
    state, alpha_bar = new_state(recipe, CPU, precision), recipe.make_schedule().alpha_bar.float()
    return lambda: training_step(state, recipe, x_0, alpha_bar, progress=0.0).item()


def matrices(side: int, precision: str) -> tuple[Tensor, Tensor]:
    """Two random square matrices."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)


def faster_layout(peer: type[Peer], precision: str, x_0: Tensor) -> Callable:
    """The peer's training step in the memory layout that suits it better: its own, or channels last."""
    steps = {last: partial(peer(precision, channels_last=last).step, x_0) for last in (False, True)}
    seconds = interleaved(steps, rounds=2)
    return steps[min(seconds, key=lambda last: seconds[last].min())]


def step_flops(recipe: Recipe, x_0: Tensor) -> int:
    """Floating-point operations of the convolutions and products that one step carries out, forwards and back."""
    model, t = new_state(recipe, CPU, "fp32").model, torch.ones(len(x_0), dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        diffusion_loss(model, x_0, t, torch.randn_like(x_0), recipe.make_schedule().alpha_bar.float()).backward()
    return counter.get_total_flops()


# Row 6: the 10,000


def ten_thousand(scale: Scale) -> list[Line]:
    """Row 6: 10,000 PNGs from the kit's weights by its default sampler, beside DDIM; all of them in the long form."""
    weights, fast, whole = PRETRAINED / EXPORTED, PRETRAINED / FAST / EXPORTED, scale.generated >= 10_000
    few = Sampler("ddpm", load_denoiser(fast).steps)
    n, quickest = min(scale.generated, scale.beside), quickest_precision(load_denoiser(weights), CPU)
    with tempfile.TemporaryDirectory() as folder:

        def made(sampler: Sampler, precision: str, weights: Path = weights, n: int = n) -> None:
            generate(weights, new_in(folder), n, sampler, precision=precision, progress=False)

        ways = {
            "default": partial(made, DEFAULT_SAMPLER, quickest),
            "DDIM": partial(made, ORIGINAL_SAMPLER, "fp32"),
            "distilled": partial(made, few, quickest, fast, TIMES * n),
        }
        seconds = interleaved(ways, min(scale.rounds, 3), warm_up=0)
        how = f"{DEFAULT_SAMPLER} in {quickest} to {ORIGINAL_SAMPLER} in fp32, {n} images a round"
        ratios = seconds["DDIM"] / seconds["default"]
        lines = [Line("6", "images against DDIM's", unit="×", goal=5, at_least=True, how=how, **spread(ratios))]
        how = f"{few} of the distilled weights in {quickest} to {ORIGINAL_SAMPLER} in fp32; {TIMES * n} and {n} images"
        ratios = TIMES * seconds["DDIM"] / seconds["distilled"]
        lines.append(Line("6", "the same, distilled", unit="×", goal=15, at_least=True, how=how, **spread(ratios)))
        how = "the kit's weights ask for no guide"
        lines.append(Line("6", "evaluations of an image", DEFAULT_SAMPLER.steps, "", 20, False, how=how))
        minutes = seconds["default"] / 60 * 10_000 / n
        if whole:
            started = time.perf_counter()
            generate(weights, Path(folder) / "images", scale.generated, DEFAULT_SAMPLER, precision="auto")
            minutes = np.array([(time.perf_counter() - started) / 60])
            lines += quality_of(Path(folder) / "images")
    how = f"{DEFAULT_SAMPLER}, all 10,000" if whole else f"{DEFAULT_SAMPLER}, extrapolated from {n}"
    return [
        Line(
            "6", "10,000 PNGs from the shipped weights", unit="min", goal=6, at_least=False, how=how, **spread(minutes)
        ),
        *lines,
    ]


def new_in(folder: str) -> Path:
    """A folder that is not there yet."""
    return Path(tempfile.mkdtemp(dir=folder)) / "images"


def quality_of(folder: Path) -> list[Line]:
    """Digit-FID, precision and recall of the images."""
    found = score(DigitFeatures(), [folder], [load_folder(folder)])
    return [
        Line("6", "their digit-FID", found.value, "", 0.25, False, how=f"± {found.error:.2f}; seed 0"),
        Line("6", "their precision", found.precision, "", 0.84, True, how="seed 0"),
        Line("6", "their recall", found.recall, "", 0.87, True, how="seed 0"),
    ]


# Row 7: the data


def loading(scale: Scale) -> list[Line]:
    """Row 7: what the data cost in a training step, and before the first."""
    recipe = RECIPES[scale.recipe]
    digits = torch.from_numpy(np.resize(read_source(SAMPLE).images, (scale.pngs, 1, 28, 28)))
    stream = (x_0 for epoch in range(10**6) for x_0 in batches(digits, recipe.batch_size, 0, epoch))
    x_0 = next(stream)
    step = kit_step(recipe, PRECISIONS[-1], x_0)
    seconds = interleaved({"batch": lambda: next(stream), "step": step}, 10 * scale.rounds, warm_up=3)
    share = 100 * np.median(seconds["batch"]) / np.median(seconds["step"])
    how = f"{1e3 * np.median(seconds['batch']):.2f} ms for a batch of {recipe.batch_size}, recipe {scale.recipe}"
    lines = [Line("7", "data share of a training step", float(share), "%", 1, False, how=how)]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "pngs"
        for start in range(0, len(digits), 5000):
            block = digits[start : start + 5000].numpy()
            write_many(folder, {f"{start + i:05d}.png": encode_png(image) for i, image in enumerate(block)})
        first, *again = (interleaved({"load": lambda: load_folder(folder)}, 1, 0)["load"] for _ in range(6))
    how = "decoded one by one; read from the disk's cache, as they were written just before"
    lines.append(Line("7", f"first load of {scale.pngs:,} PNGs", float(first[0]), "s", 15, False, how=how))
    return [*lines, Line("7", "load from the kit's cache", unit="s", goal=1, at_least=False, **spread(np.array(again)))]


# Rows 8 and 9: the scores


def digit_score(scale: Scale) -> list[Line]:
    """Row 8: digit-FID of 10,000 images, in colour as a generator's are, which takes three times as long as in grey."""
    made = torch.randint(0, 256, (scale.scored, 3, 28, 28), dtype=torch.uint8)
    seconds = interleaved({"score": lambda: digit_fid(made)}, rounds=2, warm_up=0)["score"]
    how = "features, statistics, distance and its error; reading the PNGs not counted"
    return [
        Line(
            "8", f"digit-FID of {scale.scored:,} images", unit="s", goal=20, at_least=False, how=how, **spread(seconds)
        )
    ]


def inception_score(scale: Scale) -> list[Line]:
    """Row 9: 10,000 images against cached statistics, and pytorch-fid's own command with 60,000 beside them."""
    from pytorch_fid import fid_score

    made = torch.randint(0, 256, (scale.inception, 3, 28, 28), dtype=torch.uint8)
    statistics = [random_statistics(seed, scale.dims) for seed in (0, 1)]
    with tempfile.TemporaryDirectory() as folder:
        pngs, extractor = Path(folder) / "pngs", random_inception(Path(folder))
        write_many(pngs, {f"{i}.png": encode_png(x.numpy()) for i, x in enumerate(made)})
        workers = min(torch.get_num_threads(), 8)  # its default
        features = interleaved(
            {
                "kit": lambda: extractor(load_folder(pngs)),
                "pytorch-fid": lambda: fid_score.get_activations(
                    sorted(pngs.iterdir()), extractor.model, 50, 2048, "cpu", workers
                ),
            },
            rounds=3,
        )
    both = [*statistics[0], *statistics[1]]
    distances = interleaved(
        {
            "kit": lambda: frechet_distance(*both),
            "pytorch-fid": lambda: fid_score.calculate_frechet_distance(*both),
        },
        rounds=1,
        warm_up=0,
    )
    totals = {
        name: features[name] / scale.inception * images + distances[name]
        for name, images in (("kit", 10_000), ("pytorch-fid", 70_000))
    }
    how = f"{np.median(totals['pytorch-fid']) / 60:.0f} min to {np.median(totals['kit']) / 60:.0f}, extrapolated from "
    how += f"{scale.inception} images a round and one distance; random weights, the same network on both sides"
    return [
        Line(
            "9",
            "Inception FID against python -m pytorch_fid",
            unit="×",
            goal=6,
            at_least=True,
            how=how,
            raw={name: values.tolist() for name, values in totals.items()},
            **spread(totals["pytorch-fid"] / totals["kit"]),
        )
    ]


def random_statistics(seed: int, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of random features that are ≥ 0."""
    return statistics(np.random.default_rng(seed).standard_normal((5 * dims, dims)) ** 2)


def random_inception(folder: Path) -> InceptionFeatures:
    """Inception with random weights, as the published ones cannot be had everywhere; it takes the same time."""
    torch.save({}, folder / "weights.pth")
    with mock.patch.object(torch.nn.Module, "load_state_dict"):  # leaves the weights as they were drawn
        return InceptionFeatures(folder / "weights.pth")


# Rows 10 and 11: memory, and the start


def memory(scale: Scale) -> list[Line]:
    """Row 10: the peak of a process that trains, and of one that samples, PyTorch itself included."""
    trained, _ = in_a_process(train_for, "original", BATCH, scale.seconds / 60)
    sampled, _ = in_a_process(sample_into_a_folder, scale.sampled, DEFAULT_SAMPLER)
    how = f"{scale.sampled:,} images; more take no more (cost plots)" if scale.sampled < 10_000 else ""
    return [
        Line("10", f"peak memory: training, original's network, batch {BATCH}", trained, "GB", 2, False),
        Line("10", "peak memory: sampling 10,000", sampled, "GB", 1.5, False, how=how),
    ]


def train_for(name: str, batch: int, minutes: float | None, epochs: int = 1000, digits: int = 60_000) -> None:
    """A run of the recipe on that many digits, into a folder that is thrown away."""
    recipe = replace(RECIPES[name], batch_size=batch, minutes=minutes, epochs=epochs)
    shown = torch.from_numpy(np.resize(read_source(SAMPLE).images, (digits, 1, 28, 28)))
    with tempfile.TemporaryDirectory() as folder:
        for _ in train(recipe, shown, Path(folder) / "run", "cpu", quiet=True):
            pass


def sample_into_a_folder(n: int, sampler: Sampler) -> None:
    """n PNGs from the shipped weights, into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        generate(PRETRAINED / EXPORTED, Path(folder) / "images", n, sampler, progress=False)


def start(scale: Scale) -> list[Line]:
    """Row 11: what the kit adds to the start of Python with PyTorch."""
    lines = []
    for what, goal in (("import hwkit", 0.3), ("import hwkit.runs.run, hwkit.runs.generate", None)):
        command = [sys.executable, "-c", IMPORT.format(what)]
        seconds = [float(subprocess.check_output(command)) for _ in range(max(2, scale.rounds))][1:]
        lines.append(
            Line(
                "11", f"`{what}` after `import torch`", unit="s", goal=goal, at_least=False, **spread(np.array(seconds))
            )
        )
    return lines


# Cost as work grows


def cost(scale: Scale) -> list[Line]:
    """Time and peak memory as images, steps and epochs grow; each point in a process of its own."""
    few = Sampler("dpm++", 5)
    series: dict[str, list[tuple[int, Callable, tuple]]] = {
        "images": [(k * scale.unit, sample_into_a_folder, (k * scale.unit, few)) for k in scale.work],
        "steps": [
            (k * scale.unit // 20, sample_into_a_folder, (scale.unit, Sampler("ddim", k * scale.unit // 20)))
            for k in scale.work
        ],
        "epochs": [(k, train_for, (scale.recipe, 32, None, k, 2 * scale.unit)) for k in scale.work],
    }
    lines = []
    for name, points in series.items():
        amounts, found = [amount for amount, *_ in points], [in_a_process(timed, f, *args) for _, f, args in points]
        peaks, seconds = zip(*found, strict=True)
        raw = {"of": name, "amounts": amounts, "seconds": seconds, "peak_gb": peaks}
        lines.append(
            Line("cost", f"time is linear in {name}: R²", linearity(amounts, seconds), "", 0.99, True, raw=raw)
        )
        lines.append(
            Line(
                "cost",
                f"memory over {amounts[-1] // amounts[0]} times the {name}",
                peaks[-1] / peaks[0],
                "×",
                1.1,
                False,
                how=f"{peaks[0]:.2f} to {peaks[-1]:.2f} GB",
            )
        )
    return lines


def timed(function: Callable, *arguments) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def linearity(x: Sequence[float], y: Sequence[float]) -> float:
    """R² of the straight line through the points."""
    slope, offset = np.polyfit(x, y, 1)
    residuals = np.asarray(y) - (slope * np.asarray(x) + offset)
    return float(1 - (residuals**2).sum() / ((y - np.mean(y)) ** 2).sum())
