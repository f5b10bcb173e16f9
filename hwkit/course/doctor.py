"""The doctor: what is likely wrong with a run or with images, of the mistakes in `notebooks/CLINIC.md`.

    for finding in findings(Path("runs/mine")):
        print(finding.symptom.title, finding.seen)

Each symptom is one number with a bound. The bounds stand between what the mistakes of `data/make_clinic.py` give and
what real digits and the kit's images do, in samples of 16 and more; where chance counts they widen with 1/√N. What is
found is a likely cause, not a proof: a picture says what it looks like, not how it was made.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hwkit.diffusion import diffusion_loss
from hwkit.language import listing, marked, say
from hwkit.measure.check import FLAT, IMAGES, twins
from hwkit.measure.distances import spaced
from hwkit.measure.features import classify, digit_features
from hwkit.measure.memorisation import compare, training_images
from hwkit.mnist.batches import normalize
from hwkit.mnist.folder import SIDE, files_in, open_png, refusal
from hwkit.mnist.sources import SAMPLE
from hwkit.runs import checkpoint
from hwkit.runs.run import read_history
from hwkit.unet import UNet

LOOKED = 500  # images that are looked at, evenly spaced
FEW = 8  # images with which nothing is said of all of them together
FRAME = np.pad(np.zeros((SIDE - 4, SIDE - 4), bool), 2, constant_values=True)  # where MNIST has next to no ink
INK, BRIGHT = 48, 208  # levels: what lies between is the edge of a stroke
MID, SPREAD = 0.395, 0.086  # of the ink of real digits the share of edges, and how far one digit is from that
CLINIC = marked("notebooks/CLINIC.md")  # where the symptoms stand, with pictures
WANTED = marked("a run or a folder of images")
EARLY = 500  # steps of training before which no digits can be expected


@dataclass(frozen=True)
class Symptom:
    """An entry of the clinic, in English; who shows it says it. `seen` is a template, given what was measured."""

    name: str  # also of the picture notebooks/pictures/clinic/NAME.png, where there is one
    title: str
    seen: str
    healthy: str
    cause: str
    mend: str


class Finding(NamedTuple):
    """A symptom that was found: `seen` is its sentence with the numbers in it, in the language spoken."""

    symptom: Symptom
    seen: str

    def words(self) -> list[str]:
        """The lines that tell it: what was seen, what is healthy, the likely cause, what to do."""
        symptom = self.symptom
        return [
            say("✗ {title}: {seen}", title=say(symptom.title), seen=self.seen),
            say("    Healthy: {healthy}", healthy=say(symptom.healthy)),
            say("    Likely: {cause}", cause=say(symptom.cause)),
            f"    → {say(symptom.mend)}",
        ]


SYMPTOMS = [
    Symptom(
        "black", "blank pictures",
        "{share:.0%} of the images have one level all over; the most common is {level}.",
        "Every image has black and white in it.",
        "The values were NaN or infinite, or far outside of the range when they were saved.",
        "Look at x_0 before it is saved: torch.isfinite(x_0).all(), x_0.min(), x_0.max(). NaN in the weights comes "
        "from a learning rate that is too high, or from fp16 without a scaler.",
    ),
    Symptom(
        "diverged", "noise all over",
        "The margin of the images, where digits have no ink, varies by {level:.0f} levels.",
        "By less than 10.",
        "The steps lead away from the image: a wrong sign, ε̂ and x̂_0 mixed up, or times that do not fall.",
        "Try your step with check(ddim_step) or check(ddpm_step), and print the times: they begin at T and end at 0.",
    ),
    Symptom(
        "inverted", "black on white",
        "The background has level {low:.0f} and the strokes have {high:.0f}.",
        "0 and about 254.",
        "The sign of the image was lost, or the training images were inverted.",
        "Save 127.5 · (x + 1), and look at a batch of what the network is trained on.",
    ),
    Symptom(
        "scrambled", "pictures cut to pieces",
        "As they are, {share:.0%} of the images look like a digit; read as (3, 28, 28) in one piece, {undone:.0%} do.",
        "All of them as they are.",
        "reshape or view was used where the axes had to change places.",
        "Go from (3, 28, 28) to (28, 28, 3) by permute(1, 2, 0), never by reshape(28, 28, 3).",
    ),
    Symptom(
        "wrapped", "jagged edges",
        "{share:.0%} of the margin's pixels have a level of 1 to 3; holes in the strokes are {holes:.1%} of the ink.",
        "The margin is 0, and holes are about 0.1 %.",
        "Values outside of 0 to 255 were made bytes without clipping, so that they begin again from the other end.",
        "First 127.5 · (x + 1), then clip to 0 and 255, then round, then make it uint8.",
    ),
    Symptom(
        "washed_out", "grey, washed out",
        "The background has level {low:.0f} and the strokes have {high:.0f}.",
        "0 and about 254.",
        "Pixels of [0, 1] were saved as if they were of [−1, 1], or x̂_0 is clipped to another range than that of the "
        "training images.",
        "Decide for [−1, 1]: train on 2x − 1, clip x̂_0 to [−1, 1], and save 127.5 · (x + 1). Then train again if the "
        "training images had another range.",
    ),
    Symptom(
        "unfinished", "dull pictures",
        "The background has level {low:.0f} and the strokes have {high:.0f}: neither black nor white is reached.",
        "0 and about 254.",
        "The weights are not finished: the network has learned too little, or its EMA still holds much of the random "
        "weights that it began with.",
        "Train for longer, and compare the EMA's samples with those of the last weights: with few steps a decay of "
        "0.999 or more is too slow. It should look back over a tenth of the run.",
    ),
    Symptom(
        "noisy", "a film of noise",
        "{share:.0%} of the margin's pixels are not black, each for itself; they vary by {level:.1f} levels.",
        "Less than 6 %.",
        "Noise is left in the image: it is added in the last step too, or the times end above 0.",
        "Add no noise where s = 0, and look at the end of the list of times: the last step goes to 0.",
    ),
    Symptom(
        "stained", "stains of colour",
        "In {share:.0%} of the pixels the channels differ by more than 8 levels.",
        "In none: MNIST is grey.",
        "The network errs in each channel by itself: it was asked for ε and trained too short, or its samples are not "
        "those of its EMA weights.",
        "Train for longer, or ask for x_0 or v (notebook 2, Act 5). To make the images grey afterwards only hides it.",
    ),
    Symptom(
        "alike", "one picture many times",
        "{share:.0%} of the images (nearly) repeat an earlier one.",
        "None does.",
        "All begin in the same noise (the generator is seeded for each batch anew), or the network has collapsed.",
        "Seed once, before the loop over the batches, or by the number of the image. If different noise gives the "
        "same image, the training has failed: look at the loss.",
    ),
    Symptom(
        "collapsed", "one digit only",
        "{share:.0%} of the images look like a {digit}.",
        "About a tenth of each digit.",
        "The network draws one kind of digit: it has collapsed, or was trained on a part of the digits.",
        "Look at a batch of the training images: are all ten digits in it, in a random order?",
    ),
    Symptom(
        "copied", "copies of training digits",
        "{near:,} of {count:,} images come as near to a training digit as 1 of 1,000 unseen real digits does.",
        "Fewer than 1 in 100.",
        "These are digits of the training set, or the network has learned them by heart.",
        "Hand in what your sampler made. A network that has seen few images very often repeats them: train on all.",
    ),
    Symptom(
        "hard", "thin, hard strokes",
        "Only {mid:.0%} of the ink is grey, and the strokes are thin: the mean level is {ink:.0f}.",
        "About 40 % and 33.",
        "Pixels of [−1, 1] were saved as if they were of [0, 1]: all that is darker than the middle became black.",
        "Save 127.5 · (x + 1), not 255 · x.",
    ),
    Symptom(
        "thick", "thick strokes",
        "The strokes are thick: the mean level is {ink:.0f}.",
        "About 33, or up to 39 with a solver that adds no noise.",
        "The sampler begins in pure noise, but at a time below T, where the network expects the outlines of a digit.",
        "Print the list of times: the first must be T, also where the steps do not divide it (830, 813, …, 17, 0).",
    ),
    Symptom(
        "blurred", "blurred strokes",
        "{mid:.0%} of the ink is grey, neither black nor white.",
        "About 40 %.",
        "Images were resized (from 32×32?), or made in so few steps that x̂_0 is the mean of several digits.",
        "Train at 28×28: three halvings are not needed, 28 → 14 → 7 is enough. Use more steps: 50 with DDIM, 20 with "
        "DPM-Solver++.",
    ),
    Symptom(
        "wrong_time", "grains and breaks in the strokes",
        "{share:.0%} of the images look like no digit, and their strokes are rough ({rough:.0%} of the ink).",
        "Next to none do, and 11 % is rough.",
        "The network is told another time than that of x_t (of another T, the wrong way round, from another index), or "
        "the sampler begins in pure noise far below T.",
        "Print t beside √ᾱ_t in the sampler and in the training, for the same t: they must be the same numbers.",
    ),
    Symptom(
        "no_digits", "no digits",
        "{share:.0%} of the images look like no digit.",
        "Less than 5 %.",
        "The network has learned too little, or its EMA weights still hold much of the random ones that it began with.",
        "Train for longer, and compare the EMA's samples with those of the last weights: with few steps a decay of "
        "0.999 or more is too slow. It should look back over a tenth of the run.",
    ),
    Symptom(
        "size", "wrong size or mode",
        "{count:,} of {total:,} images are not 28×28 in RGB; the first is {first}.",
        "All are.",
        "They were saved as grey images, with transparency, or in the size of a figure.",
        "`python -m hwkit check FOLDER` says which, with the line that mends it.",
    ),
    Symptom(
        "number", "wrong numbers",
        "There are {total:,} images, but they are not called {first} to {last}.",
        "From 00001.png on, with no number left out.",
        "The count began at 0, or some images were not made.",
        "`python -m hwkit check FOLDER` says which are missing, with the line that gives them new names.",
    ),
    Symptom(
        "not_finite", "NaN or infinite",
        "There are NaN or infinite values in {what}.",
        "All values are finite.",
        "A step was too large: the learning rate is too high, the gradient is not clipped, or fp16 overflows.",
        "Go on from the last good checkpoint, with clipping, in fp32 or bf16, and with a lower learning rate: "
        "`python -m hwkit train RECIPE --weights RUN --run OTHER --lr 1e-4`.",
    ),
    Symptom(
        "flat", "the loss is flat",
        "The loss began at {first:.3g} and is {last:.3g} after {steps:,} steps.",
        "It falls to less than a third of its beginning within some hundred steps, and then slowly.",
        "Nothing is learned: the optimizer has other parameters than the network, the learning rate is 0 or far too "
        "high, or target and output do not fit together.",
        "Overfit one batch first: the loss must fall on it. Then check(diffusion_loss) and check(update_weights).",
    ),
    Symptom(
        "rising", "the loss rises",
        "The loss was {lowest:.3g} and is {last:.3g} now.",
        "It falls, or stays within a few percent.",
        "The learning rate is too high for this part of the training, or the gradient is not clipped.",
        "Lower the learning rate by a factor of three, let it fall towards the end, and clip the gradient at 1.",
    ),
    Symptom(
        "early", "trained for few steps",
        "The network was trained for {steps:,} steps.",
        "The recipe cpu takes 2,500 to 5,700 in its ten minutes, and the kit's weights had more than 26,000.",
        "It was stopped too early for digits.",
        "Train for longer: `python -m hwkit train RECIPE --run RUN --minutes 30` goes on, if 30 is more than it has "
        "had.",
    ),
    Symptom(
        "ema", "the average lags behind",
        "On real digits the loss of the EMA weights is {ema:.3g}, that of the last weights {last:.3g}.",
        "They are about equal, or the average is better.",
        "The average still holds much of the random weights: its decay is too high for so few steps.",
        "Sample from the last weights for now, and let the decay grow: min(0.999, (1 + n)/(10 + n)) at step n.",
    ),
    Symptom(
        "schedule", "the schedule ends too early",
        "At t = T = {T:,} the share √ᾱ_T = {left:.2f} of the image is left.",
        "Less than 0.1: sampling begins in pure noise, which the network must know.",
        "T was made smaller, and β left as it was for a larger T.",
        "Raise T or the last β, or take the cosine schedule, which fits any T; then train again.",
    ),
]  # fmt: skip
BY_NAME = {symptom.name: symptom for symptom in SYMPTOMS}


def found(name: str, **measured) -> Finding:
    return Finding(BY_NAME[name], say(BY_NAME[name].seen, **measured))


def findings(place: Path, train: Path | None = None) -> Iterator[Finding]:
    """What is found in a run's folder (training, weights, images) or in a folder of images; nothing if all is well.

    train: images to look for copies of, as in `memorisation.training_images`. FileNotFoundError where there is no such
    folder, ValueError where it holds neither a run nor images.
    """
    if not place.is_dir():
        raise refusal(place, say(WANTED))
    if is_run(place):
        yield from run_findings(place)
        if (place / "generate").is_dir():
            yield from image_findings(place / "generate", train)
    else:
        yield from image_findings(place, train)


def is_run(folder: Path) -> bool:
    return any(
        (folder / name).is_file() for name in ("history.jsonl", "latest.pt", "ema_latest.pt", checkpoint.EXPORTED)
    )


# Images


def image_findings(folder: Path, train: Path | None = None) -> Iterator[Finding]:
    """What the files of a folder show, then what their pictures do."""
    paths = [path for path in files_in(folder).values() if path.suffix.lower() in IMAGES]
    if not paths:
        raise refusal(folder, say(WANTED))
    names = sorted(path.name for path in paths)
    expected = [f"{k:05d}.png" for k in range(1, len(paths) + 1)]
    if names != expected:
        yield found("number", total=len(names), first=expected[0], last=expected[-1])
    looked = [open_png(path) for path in spaced(np.array(paths, dtype=object), LOOKED)]
    odd = [image for image in looked if image.size != (SIDE, SIDE) or image.mode != "RGB"]
    if odd:
        first = say("{wide}×{high} in mode {mode}", wide=odd[0].width, high=odd[0].height, mode=odd[0].mode)
        yield found("size", count=len(odd), total=len(looked), first=first)
    fit = [np.asarray(image.convert("RGB")).transpose(2, 0, 1) for image in looked if image.size == (SIDE, SIDE)]
    if fit:
        yield from picture_findings(np.stack(fit), train)


def picture_findings(images: np.ndarray, train: Path | tuple | None = None) -> Iterator[Finding]:
    """What uint8 pictures (N, 3, 28, 28) show. What hides all else is said alone."""
    blank = np.ptp(images, axis=(1, 2, 3)) < FLAT
    if blank.mean() > 0.5:
        yield found("black", share=blank.mean(), level=int(np.median(images[blank])))
        return
    images = images[~blank]
    mark = noise(images) or stains(images)
    if hiding := hides_the_rest(images, marked=mark is not None):
        yield hiding
        return
    if mark := mark or wrapped(images):
        yield mark
    if len(images) >= FEW and not (mark and mark.symptom.name == "noisy"):
        yield from together(images, train)


def noise(images: np.ndarray) -> Finding | None:
    """Noise in the margin: independent from pixel to pixel, and clipped at black."""
    frame = images[..., FRAME].astype(float)  # (N, 3, pixels)
    grey, rows = frame.mean(axis=1), images[:, :, :2].mean(axis=1)  # the two uppermost rows
    lit, strong, level = (grey > 0).mean(), (grey > 3).mean(), frame.std()
    own = correlated(frame[:, 0], frame[:, 1]) < 0.5  # each channel has its own
    apart = abs(correlated(rows[..., :-1], rows[..., 1:])) < 0.3
    seen = apart and np.median(grey) < level < 60 and (strong > 0.15 or (lit > 0.15 and own))
    return found("noisy", share=lit, level=level) if seen else None


def stains(images: np.ndarray) -> Finding | None:
    """Colour, of which MNIST has none."""
    coloured = (np.ptp(images.astype(int), axis=1) > 8).mean()
    return found("stained", share=coloured) if coloured > 0.02 else None


def wrapped(images: np.ndarray) -> Finding | None:
    """Levels that went over an end of the range."""
    grey, frame = images.mean(axis=1), images[..., FRAME]
    ones, holes = ((frame > 0) & (frame < 4)).mean(), hollow(grey)
    seen = (ones > 0.8 and roughness(grey) > 0.13) or holes > 0.01
    return found("wrapped", share=ones, holes=holes) if seen else None


def hides_the_rest(images: np.ndarray, marked: bool) -> Finding | None:
    """Wrong levels or axes, or noise all over: then nothing else can be told. A mark may be what lifts the levels."""
    grey = images.mean(axis=1)
    low, high = np.median(grey[:, FRAME]), np.median(np.percentile(grey, 99.5, axis=(1, 2)))
    if low >= BRIGHT:
        return found("inverted", low=low, high=np.median(np.percentile(grey, 0.5, axis=(1, 2))))
    digits, undone = is_digit(images), is_digit(images.transpose(0, 2, 3, 1).reshape(images.shape))
    if digits < 0.5 < undone:
        return found("scrambled", share=digits, undone=undone)
    if (restless := np.median(images[..., FRAME].std(axis=(1, 2)))) > 60:
        return found("diverged", level=restless)
    if not marked and low > 24 and high >= 240:
        return found("washed_out", low=low, high=high)
    if not marked and (low > 8 or high < 215):
        return found("unfinished", low=low, high=high)
    return None


def together(images: np.ndarray, train: Path | tuple | None) -> Iterator[Finding]:
    """What all pictures show together."""
    again = sum(1 for _ in twins(images)) / len(images)
    if again > 0.2:
        yield found("alike", share=again)
        return
    classes = np.bincount(classify(digit_features(images)), minlength=11)
    none, most = classes[10] / len(images), int(classes[:10].argmax())
    grey = images.mean(axis=1)
    if none > 0.2:
        rough = roughness(grey)
        yield found("wrong_time", share=none, rough=rough) if rough > 0.25 else found("no_digits", share=none)
        return
    if classes[most] > 0.5 * len(images) and len(images) >= 2 * FEW:
        yield found("collapsed", share=classes[most] / len(images), digit=most)
    ink, slack = grey > INK, 4 * SPREAD / math.sqrt(len(images))  # what chance adds
    mid = (ink & (grey < BRIGHT)).sum() / max(1, ink.sum())
    if mid > MID + 0.08 + slack:
        yield found("blurred", mid=mid)
    elif mid < min(0.31, MID - 0.03 - 0.75 * slack) and grey.mean() < 35:
        yield found("hard", mid=mid, ink=grey.mean())
    elif grey.mean() > 255 * (0.151 + 4 * 0.042 / math.sqrt(len(images))):  # 0.131 is MNIST's, give or take 0.042
        yield found("thick", ink=grey.mean())
    copies, _ = compare(images, train if isinstance(train, tuple) else training_images(train))
    if (near := round(copies.near_copies * len(images))) > max(2, 0.01 * len(images)):
        yield found("copied", near=near, count=len(images))


def is_digit(images: np.ndarray) -> float:
    """The share of the images that look like a digit to the kit's classifier."""
    return float((classify(digit_features(np.ascontiguousarray(images))) < 10).mean())


def roughness(grey: np.ndarray) -> float:
    """How much pixels (N, 28, 28) differ from the median of their 3×3 neighbourhood, relative to the ink."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(grey, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
    return float(abs(grey - np.median(around, axis=(3, 4))).sum() / max(1.0, grey.sum()))


def hollow(grey: np.ndarray) -> float:
    """The number of dark pixels whose four neighbours are in the ink, relative to the ink."""
    ink = grey > 64
    enclosed = ink[:, :-2, 1:-1] & ink[:, 2:, 1:-1] & ink[:, 1:-1, :-2] & ink[:, 1:-1, 2:]
    return float((enclosed & ~ink[:, 1:-1, 1:-1]).sum() / max(1, ink.sum()))


def correlated(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of two arrays; 1 where one of them is constant."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) if a.std() > 0 and b.std() > 0 else 1.0


# Training


def run_findings(run: Path) -> Iterator[Finding]:
    """What the history and the weights of a run show."""
    path = run / "latest.pt" if (run / "latest.pt").is_file() else checkpoint.best_of(run)
    content = checkpoint.load(path) if path.is_file() else None
    history = read_history(run)
    points = [(seen, loss) for line in history for seen, loss in line["curve"]]
    bad = [] if all(math.isfinite(loss) for _, loss in points) else ["history.jsonl"]
    if content and not all(finite(content.get(name, {})) for name in ("weights", "ema")):
        bad.append(path.name)
    if bad:
        yield found("not_finite", what=listing(bad))
        return
    batch = checkpoint.recipe_of(content).batch_size if content else 64
    steps = (content["images_seen"] if content else points[-1][0] if points else 0) // batch
    yield from curve_findings([loss for _, loss in points], steps)
    if steps < EARLY:
        yield found("early", steps=steps)
    if content:
        recipe = checkpoint.recipe_of(content)
        left = recipe.make_schedule().alpha_bar[-1].sqrt().item()
        if left > 0.1:
            yield found("schedule", T=recipe.T, left=left)
        if "ema" in content:
            yield from average_findings(content)


def finite(weights: dict[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


def curve_findings(losses: list[float], steps: int) -> Iterator[Finding]:
    """What a loss curve shows, of points that are means over some steps each."""
    if len(losses) < 8:
        return
    part = max(2, len(losses) // 8)
    means = [mean(losses[start : start + part]) for start in range(0, len(losses) - part + 1, part)]
    first, last, lowest = max(losses[0], means[0]), means[-1], min(means)
    if last > 0.5 * first and last > 0.1 and steps >= 200:
        yield found("flat", first=first, last=last, steps=steps)
    elif last > 1.3 * lowest and all(a <= b for a, b in pairwise(means[means.index(lowest) :])):
        yield found("rising", lowest=lowest, last=last)


def average_findings(content: dict) -> Iterator[Finding]:
    """Whether the EMA weights are far behind the last ones, on 32 real digits at four times each."""
    recipe = checkpoint.recipe_of(content)
    with np.load(SAMPLE) as arrays:
        x_0 = normalize(torch.from_numpy(arrays["images"][:32])[:, None]).repeat(4, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    eps = torch.randn(x_0.shape, generator=generator)
    t = torch.tensor([max(1, recipe.T * k // 8) for k in (1, 2, 4, 6)]).repeat_interleave(32)
    alpha_bar, losses = recipe.make_schedule().alpha_bar.float(), {}
    for name in ("ema", "weights"):
        network = UNet(recipe.model).eval()
        network.load_state_dict(content[name])
        with torch.no_grad():
            losses[name] = diffusion_loss(network, x_0, t, eps, alpha_bar, recipe.prediction, recipe.weighting).item()
    if losses["ema"] > 1.5 * losses["weights"]:
        yield found("ema", ema=losses["ema"], last=losses["weights"])
