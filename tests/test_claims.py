"""What the notebooks say in numbers, computed again: from ᾱ, and from the digits and weights that come with the kit.

`says` holds the words and the number together: who changes the one finds the other here. Numbers that stand in a
notebook's own output are not repeated.
"""

import math
import re
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hwkit.diffusion import predict_x0_eps, q_sample
from hwkit.language import places
from hwkit.measure.features import classify, digit_features
from hwkit.mnist.batches import normalize, to_uint8
from hwkit.mnist.sources import SAMPLE
from hwkit.recipe import ORIGINAL, RECIPES
from hwkit.runs.checkpoint import load_denoiser
from hwkit.sampling import ImageNoise, Sampler, sample, times
from hwkit.schedule import cosine, linear
from hwkit.unet import UNet, UNetConfig

KIT = Path(__file__).resolve().parent.parent
T = 830
LINEAR = linear(T).alpha_bar
SHARE = LINEAR.sqrt()
SPREAD = 0.617  # of the digits' pixels


def cells(number: str) -> list:
    """The cells of a notebook, from its .py."""
    (path,) = (path for path in (KIT / "notebooks").glob(f"{number}_*.py") if ".before-sync" not in path.name)
    return jupytext.read(path).cells


def says(number: str, *words: str) -> None:
    """The notebook's text, its line breaks left out, holds these words."""
    text = " ".join(" ".join(cell.source.split()) for cell in cells(number) if cell.cell_type == "markdown")
    for part in words:
        assert " ".join(part.split()) in text, part


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    with np.load(SAMPLE) as arrays:
        return arrays["images"]


# Notebook 1


def test_all_of_mnist_is_47_megabytes():
    says("01", "**one** tensor of bytes: 47 MB")
    assert round(60_000 * 28 * 28 / 1e6) == 47


def test_four_pixels_in_five_are_black_and_half_of_the_others_nearly_white(pixels):
    says("01", "Four pixels in five are exactly black. Of the others about half are nearly white, and half are greys")
    lit = pixels[pixels > 0]
    assert 0.78 < 1 - lit.size / pixels.size < 0.82
    assert 0.4 < (lit >= 230).mean() < 0.6
    says("01", "the variance 0.617²")
    says("02", r"$0.737^2 + 0.617^2 \approx 0.92$")
    x = pixels / 127.5 - 1
    assert x.mean() == pytest.approx(-0.737, abs=5e-4) and x.std() == pytest.approx(SPREAD, abs=5e-4)
    assert (x**2).mean() == pytest.approx(0.92, abs=0.005)


def test_the_classifier_reads_996_in_1000():
    says("01", "right on 99.6 % of MNIST's test set")
    text = (KIT / "data" / "digit_features" / "README.md").read_text("utf-8")  # its script measures it
    assert "**Accuracy: 99.58 %**" in text


def test_the_linear_schedule_lingers():
    says("01", "half-way about a third of the image is left ($t = 415$", "from $t = 514$ on less than a fifth")
    assert SHARE[415] == pytest.approx(1 / 3, abs=0.02)
    assert SHARE[513] > 0.2 > SHARE[514] and (T - 514) / T > 1 / 3, "for more than a third of all steps"
    falls = cosine(T).alpha_bar.sqrt().diff().abs()
    says("01", "Cosine goes down almost evenly (left); on the right both fall steeply at the start, and only cosine")
    assert falls[T // 10 :].max() < 2 * falls[T // 2 :].min(), "no step of the left curve is twice another"
    snr, of_linear = (schedule(T).snr[1:].log10().diff() for schedule in (cosine, linear))
    assert max(snr[0], of_linear[0]) < -0.2, "decades a step"
    assert snr[-1] < -1 and snr[T // 10 : -T // 10].min() > -0.02 and of_linear[T // 10 :].min() > -0.02


def test_what_is_left_at_the_end():
    says("01", "22 % of the digit is there", "leaves 1.5 %")
    assert linear(300).alpha_bar[-1].sqrt() == pytest.approx(0.22, abs=0.005)
    assert SHARE[T] == pytest.approx(0.015, abs=5e-4)


def test_answers_to_exercises_of_notebook_1():
    says("01", "from 0.381 towards 1; at $t = 415$ it is 0.925")
    assert round(SPREAD**2, 3) == 0.381
    assert LINEAR[415] * SPREAD**2 + 1 - LINEAR[415] == pytest.approx(0.925, abs=5e-4)
    says("01", "linear between 236 and 237, cosine between 411 and 412")
    for schedule, t in ((linear(T), 236), (cosine(T), 411)):
        assert schedule.snr[t] > 1 > schedule.snr[t + 1]
    says("01", r"only the last $\bar\alpha$ differs: there $\beta$ would be 1")
    f = ((torch.arange(T + 1, dtype=torch.float64) / T + 0.008) / 1.008 * math.pi / 2).cos() ** 2
    differ = ~torch.isclose(f / f[0], cosine(T).alpha_bar, rtol=1e-9, atol=0)
    assert differ.nonzero().flatten().tolist() == [T] and 1 - f[-1] / f[-2] == pytest.approx(1)
    says("01", r"about 7.9, and the last step then has $\beta = 0.158$, eight times what it was")
    beta = torch.linspace(1e-4, 2e-2, 100, dtype=torch.float64)
    assert (1 - 7.9 * beta).prod().sqrt() == pytest.approx(0.015, abs=3e-4)
    assert 7.9 * beta[-1] == pytest.approx(0.158)


# Notebook 2


def test_the_uniform_loss_of_eps_weighs_the_first_time_ten_thousand_times_more():
    says("02", "ten thousand times more than the same error at $t = 250$")
    snr = linear(T).snr
    assert 10_000 < snr[1] / snr[250] < 15_000
    says("02", r"counts $1/\sqrt{\mathrm{SNR}}$ times in $\hat x_0$, which is 67 at $t = 830$")
    assert snr[T] ** -0.5 == pytest.approx(67, abs=0.5)


def test_the_box_derives_the_weights_of_the_bound():
    """Of the error of x̂_0, of that of ε̂ (Ho et al., eq. 12), and as a difference of SNRs, at all times at once."""
    ab, before = LINEAR[2:], LINEAR[1:-1]
    alpha = ab / before
    beta, schedule = 1 - alpha, linear(T)
    variance = schedule.posterior_variance[2:]
    of_x0 = before * beta**2 / (2 * variance * (1 - ab) ** 2)
    of_eps = beta**2 / (2 * variance * alpha * (1 - ab))
    assert torch.allclose(of_x0, of_eps * ab / (1 - ab)), "an error of ε̂ is √SNR times that of x̂_0"
    assert torch.allclose(of_x0, (schedule.snr[1:-1] - schedule.snr[2:]) / 2)
    # The means themselves: eq. 7 with the truth and with a guess differ by the factor of the box.
    x_0, guess, x_t = torch.randn(3, len(ab), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean = [before.sqrt() * beta / (1 - ab) * x + alpha.sqrt() * (1 - before) / (1 - ab) * x_t for x in (x_0, guess)]
    assert torch.allclose((mean[0] - mean[1]) ** 2 / (2 * variance), of_x0 * (x_0 - guess) ** 2)


def test_the_network_in_numbers():
    says("02", "`middle`, `up2`) hold 72 % of the parameters and do 47 % of the work", "about a quarter of the work")
    scope = {"torch": torch}
    for cell in cells("02"):
        if "network" in cell.metadata.get("tags", []):
            exec(cell.source, scope)

    def work(model):
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 28, 28), torch.tensor([1]))
        return {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}

    def size(model):
        return sum(p.numel() for p in model.parameters())

    model = scope["UNet"]()
    done, low = work(model), ("down2", "middle", "up2")
    assert sum(size(getattr(model, name)) for name in low) / size(model) == pytest.approx(0.72, abs=0.005)
    assert sum(done[f"UNet.{name}"] for name in low) / done["Global"] == pytest.approx(0.47, abs=0.005)
    folded = scope["UNet"](patch=2)
    assert work(folded)["Global"] / done["Global"] == pytest.approx(0.25, abs=0.02)
    assert size(folded) / size(model) == pytest.approx(1, abs=0.02), "nearly the same parameters"
    small = size(scope["UNet"](32, 2))
    assert small == size(UNet(UNetConfig(base=32, patch=2)))
    says("02", "as wide as that of the recipe `cpu`, but has one block where that has two")
    assert RECIPES["cpu"].model == UNetConfig(base=32, patch=2, blocks=2, middle_blocks=2)
    says("02", "half the channels, and two blocks wherever this one has one")
    assert ORIGINAL.model == UNetConfig(base=64)


# Notebook 3


def test_ten_digits_of_ten_classes():
    says("03", "ten real digits, one of each class")
    with np.load(SAMPLE) as arrays:
        assert sorted(arrays["labels"][:10]) == list(range(10))


def test_strides_begin_at_784_and_fifty_steps_are_a_seventeenth():
    says("03", "16 apart are 784, 768, …, 0, and begin at 784, not at 830", "costs a seventeenth of the first")
    assert max(range(0, 50 * (T // 50), T // 50)) == 784 and round(T / 50) == 17
    assert times(T, 50)[0] == T


def test_the_guess_outweighs_the_noise_near_t_50():
    says("03", "Where the curves of guess and fresh noise cross (near $t = 50$ with the original's schedule)")
    ab, before, noise = LINEAR[1:], LINEAR[:-1], linear(T).posterior_variance[1:].sqrt()
    guess = before.sqrt() * (1 - ab / before) / (1 - ab)
    crossing = (guess > noise).nonzero().flatten() + 1
    assert crossing.tolist() == [*range(1, 53)]
    assert guess[0] == pytest.approx(1) and noise[0] == 0, "the image is the guess"


def spreads(name: str, start: int, steps: int = 20) -> tuple[float, float]:
    """What a sampler makes of numbers from N(0, 0.617²), as a part of 0.617: without a mistake, and with one of 20 %.

    The mistake is made at the time `start`: x_t is 20 % too large.
    """

    def perfect(x_t, t):
        ab = LINEAR[t].item()
        return predict_x0_eps(ab**0.5 * SPREAD**2 / (ab * SPREAD**2 + 1 - ab) * x_t, x_t, ab, "x0")

    ts = torch.linspace(start, 0, steps + 1).round().long().tolist()
    generator = torch.Generator().manual_seed(0)
    ends = []
    for mistake in (1.0, 1.2):
        wide = (LINEAR[start] * SPREAD**2 + 1 - LINEAR[start]).sqrt().item() * mistake
        generator.manual_seed(0)

        def noise():
            return torch.randn(100_000, dtype=torch.float64, generator=generator)

        *_, end = sample(perfect, noise() * wide, ts, LINEAR, Sampler(name).step, noise)
        ends.append(end.x_t.std().item() / SPREAD)
    return ends[0], ends[1]


def left_of_a_mistake(name: str, start: int) -> float:
    right, wrong = spreads(name, start)
    return wrong / right - 1


def test_without_noise_a_mistake_arrives_and_with_noise_it_is_corrected():
    says("03", "the whole mistake arrives at the end. With noise (`ddpm`, `dpm++sde`) next to nothing of it is left")
    for name in ("ddim", "dpm++"):
        assert left_of_a_mistake(name, 415) == pytest.approx(0.2, abs=1e-6)
    for name in ("ddpm", "dpm++sde"):
        assert left_of_a_mistake(name, 415) < 0.02
    says("03", "There `ddim` and `ddpm` are off most, `ddpm` by a tenth", "`dpm++sde` corrects, and is off less")
    assert 0.02 < abs(spreads("ddim", 415)[0] - 1) < 0.08
    assert spreads("ddpm", 415)[0] == pytest.approx(0.9, abs=0.02)
    off = {name: abs(spreads(name, 415)[0] - 1) for name in ("ddim", "ddpm", "dpm++sde")}
    assert off["dpm++sde"] < min(off["ddim"], off["ddpm"])
    says("03", "6: 13 %")
    assert left_of_a_mistake("dpm++sde", 119) == pytest.approx(0.13, abs=0.01)


def test_answers_to_exercises_of_notebook_3():
    says("03", "1: half of it, 0.5", r"with $\sigma = 0.070$, 9 of 255 grey levels; with 830 steps 0.010, 1.3 levels")
    assert 0.5**2 + 0.5**2 == 0.5
    for s, sigma, levels in ((times(T, 50)[-2], 0.070, 9.0), (1, 0.010, 1.3)):
        film = (1 - LINEAR[s]).sqrt().item()  # √β of the step to ᾱ = 1
        assert film == pytest.approx(sigma, abs=5e-4) and 127.5 * film == pytest.approx(levels, abs=0.05)
    says("03", r"divided by $\sqrt{\bar\alpha_T} = 0.015$")


@pytest.fixture(scope="module")
def denoise():
    """The weights that come with the kit."""
    return load_denoiser(KIT / "data" / "pretrained" / "ema_latest.safetensors", "cpu")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_the_network_sees_in_one_look(denoise, pixels, seed):
    """The text beside the sheet of guesses, for the noise of the notebook and for two others."""
    says(
        "03",
        "ten grey blurs are not far from it, though each leans a little",
        "the network finds most digits",
        r"At $0.2\,T$ it is right",
    )
    x_0 = normalize(torch.from_numpy(pixels[:10, None]))
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed))
    guesses = {t: denoise(q_sample(x_0, LINEAR[t].item(), eps), t)[0] for t in (T, 498, 166)}
    average = normalize(torch.from_numpy(pixels[:, None])).mean(0)

    def rms(x):
        return x.square().mean().sqrt()

    assert rms(guesses[T] - average) < rms(x_0 - average) / 3
    assert guesses[T].max() < 0.8, "grey"
    assert rms(guesses[T] - guesses[T].mean(0)) > 0.05, "each leans to a side of its own"
    right = {t: (classify(digit_features(to_uint8(guess))) == np.arange(10)).sum() for t, guess in guesses.items()}
    assert right[498] >= 6 and right[166] == 10


def test_first_order_halves_and_second_order_quarters(denoise):
    says("03", "Then twice the steps should halve the distance", "twice the steps, a quarter of the distance")
    x_T = ImageNoise(0, range(1, 3))()

    def solve(name, steps):
        ts = torch.linspace(T, T // 10, steps + 1).round().long().tolist()
        *_, end = sample(denoise, x_T, ts, LINEAR, Sampler(name).step)
        return end.x_t

    exact = solve("dpm++", 80)
    for name, factor in (("ddim", 2), ("dpm++", 4)):
        off = [(solve(name, steps) - exact).square().mean().sqrt().item() for steps in (10, 20)]
        assert off[0] / off[1] == pytest.approx(factor, rel=0.3), name


# Waiting times


def shown(number: str) -> str:
    """What the saved outputs of a notebook say."""
    (path,) = (path for path in (KIT / "notebooks").glob(f"{number}_*.ipynb") if ".before-sync" not in path.name)
    outputs = (out for cell in nbformat.read(path, 4).cells for out in cell.get("outputs", []))
    return "\n".join(out.get("text", "") for out in outputs)


def test_the_waiting_times_are_those_of_the_saved_outputs():
    """From a busy machine come the larger numbers; from the README, benchmarks and notebook 2 the smaller.

    That machine's outputs of notebooks 3 and 5 said 64 ms for a step of ten images, and 110 min for the experiments.
    Those of today are of a quicker one, and lie between.
    """
    busy, experiments = 0.064 / 10, 110  # seconds for one evaluation; minutes
    says("02", "about 20 for the experiment of Act 5, on the two CPU cores where these outputs were saved")
    assert "about 19 min here" in shown("02")  # its 23 fits; then its networks draw
    says("05", "nearly two hours on two busy ones without AVX-512")
    [here] = map(int, re.findall(r"take about (\d+) min", shown("05")))
    assert here == pytest.approx(17, abs=2)
    [step] = map(int, re.findall(r"(\d+) ms a step", shown("03")))
    says("03", "for 10,000 images 7 to 21 minutes on two CPU cores")
    asked = 10_000 * 16 * 1.25  # steps of an image; the guide makes each a quarter dearer
    assert asked * busy / 60 == pytest.approx(21, abs=2)
    minutes, seconds = re.search(r"in fp32 DDIM took (\d+) min (\d+) s", (KIT / "README.md").read_text()).groups()
    free = (60 * int(minutes) + int(seconds)) / 10_000 / 50  # seconds for one evaluation
    assert asked * free / 60 == pytest.approx(7, abs=0.5) and 0.9 * free < step / 10 / 1000 < busy
    table = (KIT / "notebooks" / "README.md").read_text()
    assert "20 to 45 for an experiment" in table
    assert "| 60 minutes | 17 to 110 |" in table and experiments == pytest.approx(110, abs=5)
    evaluations = 12 * T + 2 * 12 * 50 + 30 * 50 + 10 * 187 + 8 * (300 + 3 * 155) + 1000 * (50 + 16) + asked
    assert "| 60 minutes | 10 to 30 |" in table
    assert evaluations * free / 60 == pytest.approx(10, abs=1) and evaluations * busy / 60 == pytest.approx(30, abs=3)


@pytest.mark.parametrize("page", ["README.md", "README.zh-TW.md", "CONTRIBUTING.md", "notebooks/INSTRUCTORS.md"])
def test_a_command_on_a_page_is_not_cut_by_githubs_width(page):
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```$", (KIT / page).read_text("utf-8"), re.M | re.S)
    wide = [line for block in blocks for line in block.splitlines() if places(line) > 96]
    assert blocks and not wide
