# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# **Worked answers to the exercises of notebook 2 (02_training). They give everything away: try the exercises first.**
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/solutions/02_training.ipynb)
#
# # Answers to 2 · Learning to see through noise
#
# For each exercise: its text in short, one way to do it, and what to expect. The networks here are smaller than those
# of the notebook and are trained for a shorter time, so that all of it runs in a few minutes without a GPU. What you
# measured with the notebook's sizes has better numbers throughout; compare the *order* of the answers, not the digits.

# %%
import os, sys

clone = "[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit hwkit"
if "google.colab" in sys.modules and os.system(clone):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [*map(os.path.abspath, ("..", "../..", "../../..")), "/content/hwkit"]
from hwkit import notebook

notebook.start("solutions/02_training", drive=False)

# %% [markdown]
# `STEPS`, `BASE` and `SAMPLES` mean what they do in the notebook (there 600, 32 and 64), `BATCH` is how many digits a
# step sees (there 64). Each training is repeated with the `SEEDS`.

# %% tags=["parameters"]
STEPS = 160
BASE = 16
BATCH = 32
SAMPLES = 64
SEEDS = (0, 1, 2)

# %% [markdown]
# What all answers use: the 5,000 digits that come with the kit, the schedule, and the notebook's network, which is
# `hwkit.unet.UNet`.

# %%
import copy
import numpy as np
import torch
from hwkit.diffusion import Denoiser, diffusion_loss, q_sample, target
from hwkit.mnist.batches import normalize, to_uint8
from hwkit.mnist.sources import SAMPLE
from hwkit.sampling import ImageNoise, sample, times
from hwkit.schedule import linear
from hwkit.show import figures
from hwkit.unet import UNet, UNetConfig
from torch import nn

with np.load(SAMPLE) as arrays:
    digits = normalize(torch.from_numpy(arrays["images"])[:, None])  # (5000, 3, 28, 28)
schedule = linear(830)
alpha_bar, T = schedule.alpha_bar, schedule.T

# %% [markdown]
# How an average follows the weights, as in `update_weights`. It has no influence on the training, so several averages
# can be kept of one.

# %%
@torch.no_grad()
def follow(average, model, decay):
    for a, p in zip(average.parameters(), model.parameters(), strict=True):
        a.lerp_(p, 1 - decay)


# %% [markdown]
# The notebook's `fit`, with what exercises 3 and 4 ask for: `clip`, an average for each of `parts`, and a copy of the
# first average after `early` steps. `memory` is AdamW's second number, which exercise 4 turns to in the end.

# %%
def fit(prediction, weighting, seed, clip=1.0, parts=(40,), early=0, memory=0.999):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # of the network, of times and noise
    model, table, copied = UNet(UNetConfig(base=BASE, patch=2)), alpha_bar.float(), None
    averages = {part: copy.deepcopy(model) for part in parts}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.9, memory))
    for step in range(STEPS):
        x_0 = digits[torch.randint(len(digits), (BATCH,), generator=generator)]
        t, eps = torch.randint(1, T + 1, (BATCH,)), torch.randn(x_0.shape)
        optimizer.zero_grad()
        diffusion_loss(model, x_0, t, eps, table, prediction, weighting).backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        for part, average in averages.items():
            follow(average, model, decay=min(0.9999, (1 + step) / (part + step)))
        copied = copy.deepcopy(averages[parts[0]]) if step + 1 == early else copied
    return model, averages, copied


# %% [markdown]
# And the notebook's `draw`, `split` and `mistake`.

# %%
def draw(net, prediction, count=SAMPLES, steps=25, seed=0):
    x_T = ImageNoise(seed, range(1, count + 1))()
    denoise = Denoiser(net, schedule, prediction)
    *_, last = sample(denoise, x_T, times(T, steps), alpha_bar)
    return to_uint8(last.x_t)


def split(x):
    grey = x.mean(dim=1, keepdim=True).expand_as(x)
    return grey, x - grey


def mistake(net, count=512):
    generator = torch.Generator().manual_seed(1)
    x_0, t = digits[:count], torch.randint(1, T + 1, (count,), generator=generator)
    eps, table = torch.randn(x_0.shape, generator=generator), alpha_bar.float()
    with torch.no_grad():
        return diffusion_loss(net, x_0, t, eps, table, "x0", "min_snr").item()


# %% [markdown]
# The trainings that several exercises ask about: the target $x_0$ with min-SNR, two averages, and a copy after a
# quarter of the steps.

# %%
quarter, trained = STEPS // 4, {}
for seed in SEEDS:
    trained[seed] = fit("x0", "min_snr", seed, parts=(40, 10), early=quarter)

# %% [markdown]
# ## Exercise 1 (think)
#
# *Why does the loss of single batches jump? Why is a large error of $\hat x_0$ near $T$ no sign of a bad network?*
#
# Each batch has other digits, other noise and other times, and above all the times matter: a question at $t = 700$ is
# far harder than one at $t = 50$. By chance some batches have more of the hard ones. That the network itself hardly
# moves from one batch to the next can be seen if it is not trained at all meanwhile: ask the *same* network with eighty
# batches. In the first forty the times are drawn, in the others they are the same thirty-two each time.

# %%
net, losses = trained[SEEDS[0]][1][40], {"drawn": [], "always the same": []}
generator, same = torch.Generator().manual_seed(0), torch.linspace(1, T, BATCH).long()
for name, found in losses.items():
    for _ in range(40):
        x_0 = digits[torch.randint(len(digits), (BATCH,), generator=generator)]
        t = torch.randint(1, T + 1, (BATCH,), generator=generator)
        t = same if name == "always the same" else t
        eps = torch.randn(x_0.shape, generator=generator)
        with torch.no_grad():
            table = alpha_bar.float()
            loss = diffusion_loss(net, x_0, t, eps, table, "x0", "min_snr")
        found.append(loss.item())
    spread = np.std(found) / np.mean(found)
    print(f"times {name}: loss {np.mean(found):.4f}, and jumps by ± {spread:.0%}")

# %% [markdown]
# At $t$ near $T$ nearly nothing of $x_0$ is in $x_t$. The best that anybody can answer to a squared error is then the
# mean of all digits. How wrong is that? As much as the digits differ from their mean:

# %% tags=["nbval-check-output"]
off = (digits - digits.mean(0)).square().mean().sqrt()
print(f"error (RMS) of the mean digit as an answer: {off:.3f}")

# %% [markdown]
# **What to expect.** With drawn times the loss jumps by about ± 20 %, with the same times by ± 7 %: digits and noise are the
# smaller part of it. (With larger batches both get smaller.) The mean digit as an answer has an error of 0.519, exactly.
# So at $t = T$ no error can be much below 0.52, however long you train: it is a property of the question. Compare two
# networks at equal $t$.

# %% [markdown]
# ## Exercise 2 (code)
#
# *A network that is asked for $v$: how good are its images, beside those of $x_0$ and $\varepsilon$, and why?*
#
# All three with uniform weight, so that only the target differs. The share of digits is by the kit's classifier; it is
# asked once more about the images without their colour.

# %%
from hwkit.measure.features import classify, digit_features

def share(made):
    return (classify(digit_features(made)) < 10).mean()


rows, nets = {}, {}
for prediction in ("x0", "v", "epsilon"):
    for seed in SEEDS:
        net = nets[prediction, seed] = fit(prediction, "uniform", seed)[1][40]
        made = draw(net, prediction)
        grey, colour = split(made.float())
        rows.setdefault(prediction, made[:12])
        print(f"{prediction:8} seed {seed}: digits {share(made):4.0%},", end=" ")
        print(f"without colour {share(grey.round().byte()):4.0%};", end=" ")
        print(f"colour {colour.square().mean().sqrt():4.1f} of 255")

# %% [markdown]
# The first twelve images of the first seed:

# %%
figures.labelled_rows(rows)

# %% [markdown]
# Why? Split the three targets into grey and colour, at three times: the mean square of each part. The two add up to
# that of the target.

# %% tags=["nbval-check-output"]
some = digits[:500]
eps = torch.randn(some.shape, generator=torch.Generator().manual_seed(0))
for prediction in ("x0", "v", "epsilon"):
    print(f"{prediction:8}", end="")
    for t in (83, 415, 830):
        wanted = target(some, alpha_bar[t].item(), eps, prediction)
        grey, colour = (part.square().mean().item() for part in split(wanted))
        print(f"  t = {t}: grey {grey:.2f}, colour {colour:.2f}", end="")
    print()

# %% [markdown]
# **What to expect.** The order is $x_0$, $v$, $\varepsilon$ with every seed. $x_0$: 72 to 89 % digits, and no colour at all. $v$:
# none, as a stain of colour lies over all of them (55 to 56 of 255), but behind it you see the shapes of the first row.
# $\varepsilon$: no shapes, and more colour (82). Without the colour nothing is gained, as a third of the noise is grey.
#
# The table says why. At $t = T$, where the drawing begins, $v$ is $-x_0$, nearly: as easy to answer, and the shape comes
# out. Near the end $v$ is $\varepsilon$, mostly: at $t = 83$ three fifths of it are colour, which the network must copy
# from its input, pixel by pixel. It has not learned that yet, so what it leaves over stays in the image. Of
# $\varepsilon$ two thirds are colour at all $t$, and at $t = T$ its error counts 67 times in $\hat x_0$, too.
#
# A training this short shows the extremes. With the notebook's sizes copying is learned better, so $v$ should have
# fewer stains there, and more of its images should be digits (this was not measured: it takes an hour).

# %% [markdown]
# ## Exercise 3 (code)
#
# *Where do more steps pay? The error of $\hat x_0$ against $t$, after a quarter of the steps and after all.*
#
# With one learning rate all the way, the short training is the beginning of the long one: the copy that `fit` kept. (Of
# the 512 digits a quarter will do.)

# %%
ts, some = torch.linspace(20, T, 20).round().int().tolist(), digits[-2 * SAMPLES :]
noise = torch.randn(some.shape, generator=torch.Generator().manual_seed(1))
def errors(net):
    denoise, found = Denoiser(net, schedule, "x0"), []
    for t in ts:
        x0_hat, _ = denoise(q_sample(some, alpha_bar[t].item(), noise), t)
        found.append((x0_hat - some).square().mean().sqrt().item())
    return np.array(found)

curves = {}
for seed in SEEDS:
    three = trained[seed][2], trained[seed][1][40], nets["x0", seed]
    curves[seed] = [errors(net) for net in three]

# %% [markdown]
# Both errors, for each seed, and the error of the mean digit as a limit. For comparison, thin: the network of exercise 2
# that was asked for $x_0$ with uniform weight, after all its steps.

# %%
figure, axes = figures.plot("t", r"error of $\hat x_0$ (RMS)", size=(6.8, 3.4))
for seed, three in curves.items():
    names = f"{quarter} steps", f"{STEPS} steps", f"{STEPS} steps, uniform weight"
    looks = (":s", figures.INK), ("-o", figures.ACCENT), ("-", figures.INK)
    for values, name, (look, color) in zip(three, names, looks, strict=True):
        label = name if seed == SEEDS[0] else None
        axes.plot(ts, values, look, color=color, linewidth=1, label=label)
axes.axhline(off, color=figures.INK, linestyle="--", label="the mean digit")
axes.legend(frameon=False, fontsize=9)
figure

# %% [markdown]
# The same in numbers: where the longer training gained most, and the three errors at $t = T$.

# %%
for seed, (short, long, uniform) in curves.items():
    gain, ratio = short - long, short / long
    print(f"seed {seed}: largest gain {gain.max():.2f}", end=" ")
    print(f"at t = {ts[gain.argmax()]}, largest ratio {ratio.max():.1f}", end=" ")
    print(f"at t = {ts[ratio.argmax()]}")
    errors_at_T = ", ".join(f"{error[-1]:.2f}" for error in (short, long, uniform))
    print(f"    at t = {T}: {errors_at_T} (uniform)")

# %% [markdown]
# **What to expect.** The longer training gained most at small $t$, with every seed, in the difference (0.14 to 0.15) as in the
# ratio (2.2): there the answer is nearly in $x_t$, and it takes practice to read it off exactly. Towards $t = T$ the gain
# gets smaller, and with one of the seeds it is none (0.67 and 0.71).
#
# Where can no training help? At $t = T$ below the dashed line. But the red lines end *above* it: at 0.61 to 0.71 these
# networks are worse than who always says "the mean digit". More steps are not the only cure for that. Min-SNR gives an
# error at $t = T$ the weight $\mathrm{SNR} = 0.0002$, so hardly anything ever corrects it; the thin lines, with uniform
# weight, reach 0.53 in the same steps, and pay with larger errors at small $t$. Which of the two makes better images only
# images can tell: in Act 5, with larger networks, 97 % were digits with uniform weight and 86 % with min-SNR.

# %% [markdown]
# ## Exercise 4 (code)
#
# *An average that looks back over a tenth of the steps. And: clipping at 0.01 instead of 1.*
#
# `part=10` changes the average and nothing else: the last weights come out the same, to the last digit. So `fit` above
# kept both averages of one training. Clipping changes the training itself.

# %%
found = {}
for seed in SEEDS:
    last, averages, _ = trained[seed]
    clipped, its, _ = fit("x0", "min_snr", seed, clip=0.01)
    for name, net in (
        ("last weights", last),
        ("average, part=40", averages[40]),
        ("average, part=10", averages[10]),
        ("last weights, clip=0.01", clipped),
        ("average, part=40, clip=0.01", its[40]),
    ):
        found.setdefault(name, []).append(mistake(net))
for name, values in found.items():
    print(f"{name:28} loss", "  ".join(f"{value:.4f}" for value in values))

# %% [markdown]
# Clipping at 0.01 does something, then. Is it what the hint suspects, AdamW's division? Its memory for the size of
# gradients is `memory`, 0.999, about a thousand steps. Clip at 1 again, but let AdamW remember ten steps only.

# %%
net = fit("x0", "min_snr", SEEDS[0], memory=0.9)[1][40]
print(f"average, memory=0.9          loss {mistake(net):.4f}")

# %% [markdown]
# **What to expect.** Over so few steps `part=10` is the worst of the three, with each seed (0.033 to 0.036, as against 0.032 to
# 0.035). It looks back over a tenth of the steps, and while the loss still falls fast that is too long ago. The average
# with `part=40` is level with the last weights. In a long training, where the weights move about a place that hardly
# moves, the long average wins: this is why the kit's runs use it.
#
# Clipping at 0.01 does no harm: here the loss is even lower, 0.026 instead of 0.033, with each seed. No gradient of
# seed 0 was as short as 0.01, so all of them were clipped, and AdamW saw gradients of one length. To AdamW a
# constant factor is nothing. But the factor was not constant: the first gradients are longer than 2 and the later ones
# a tenth of that. AdamW remembers the first ones for a thousand steps, divides by them, and takes small steps ever
# after. With a short memory and no clipping it comes out nearly as well (0.028), so this is most of the reason. Do not
# read it as advice for long trainings, where the first gradients are long forgotten.

# %% [markdown]
# ## Exercise 5 (think)
#
# *Drawing with replacement, or going through a permutation: when does it matter?*
#
# Draw $N$ times from $N$ images with replacement. A given one is missed each time with the chance $1 - 1/N$, so by all
# draws with $(1-1/N)^N \approx e^{-1} = 37\,\%$, for 60 images as for 60,000. In a permutation none is missed. After
# $k$ times $N$ draws the chance is $e^{-k}$. And an image that was to be seen $k$ times was seen $k \pm \sqrt k$ times.

# %% tags=["nbval-check-output"]
rng = np.random.default_rng(0)
for name, N, draws in (
    ("600 steps of 64, from 60,000 digits", 60_000, 600 * 64),
    ("600 steps of 64, from 60 digits", 60, 600 * 64),
    ("28 epochs, from 60,000 digits", 60_000, 28 * 60_000),
):
    seen = np.bincount(rng.integers(N, size=draws), minlength=N)
    print(f"{name}: {(seen == 0).mean():.0%} never seen (a permutation:", end=" ")
    missed = max(0, 1 - draws / N)
    print(f"{missed:.0%}), each {seen.mean():.1f} ± {seen.std():.1f} times")

# %% [markdown]
# **What to expect.** Exactly this: in a short training on many images, 53 % of them are never seen instead of 36 %, so
# it learns from fewer different digits. That is the case that matters. In a long training each was seen dozens of
# times, and whether 28 times or 28 ± 5 makes no difference to be measured here. With 60 images every one is seen very
# often, and the trouble is another: the network can learn them by heart. (The kit's `train` uses a permutation for one
# more reason: an epoch is then the same digits whatever the batch, and a run can be continued exactly.)

# %% [markdown]
# ## Exercise 6 (break it)
#
# *Tell the network a wrong time when it draws.*
#
# `Denoiser` is given a function of $(x_t, t)$ in place of the network. It still computes with the right
# $\bar\alpha_t$; only the network is deceived. A network that errs a lot by itself hides it, so this is shown with the
# weights that come with the kit (in the notebook, `trained.model` of Act 4 is a good one).

# %%
from hwkit.runs.checkpoint import best_of, load_denoiser

kits, rows = load_denoiser(best_of(notebook.find_run("pretrained"))).model, {}
names = {0: "told t", -1: "told t − 1", -50: "told t − 50", 50: "told t + 50"}
for seed in SEEDS:
    right = None
    for wrong, name in names.items():

        def told(x, t, wrong=wrong):
            return kits(x, (t + wrong).clamp(1, T))

        made = draw(told, "x0", min(12, SAMPLES), seed=seed)
        right = made if right is None else right
        moved = (made.float() - right.float()).abs().mean()
        rows.setdefault(name, made)
        black = (made < 26).float().mean()
        print(f"seed {seed}, {name:11}: black pixels {black:.1%},", end=" ")
        print(f"mean {made.float().mean():.1f}, moved by {moved:.1f} of 255")

# %% [markdown]
# The images of the first seed:

# %%
figures.labelled_rows(rows)

# %% [markdown]
# **What to expect.** With $t - 1$ there is nothing to be seen: the pixels move by 0.1 to 0.3 of 255. So the most common of these
# mistakes, counting from 0 in one place and from 1 in another, shows neither in the loss nor in the images.
#
# With $t - 50$ there is. The network thinks its input cleaner than it is, and takes noise for ink: ragged strokes, and
# specks around them. The images get brighter by 5 to 6 of 255 with each seed, and there are fewer black pixels. With
# $t + 50$ it takes ink for noise: strokes get thinner, the images darker by 3 to 4 of 255, and some turn into another
# digit. These look clean, and are wrong all the same.
