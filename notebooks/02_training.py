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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/02_training.ipynb)
#
# # 2 · Learning to see through noise
#
# Show a network a digit under noise and ask what is underneath. Tell it how far off it was. Repeat a hundred thousand times. That is all of the training; the
# rest of this notebook is about asking the question well, and about never losing an hour of answers.
#
# *About 20 minutes, and the time of the training: ten minutes without a GPU. You need: notebook 1, and to have trained some network before.*

# %% [markdown]
# ## Where this leads
#
# The first cell readies the notebook and shows what you will have at the end: what a small network learns in the same two minutes when it is asked for the noise, and
# when it is asked for the image.

# %%
import os, sys

if "google.colab" in sys.modules and os.system("[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit"):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [os.path.abspath(".."), "/content/hwkit"]
from hwkit import notebook

notebook.start("02_training", drive=False)  # drive=True keeps your runs in MyDrive/hwkit

# %% [markdown]
# `RECIPE` is what the kit trains in Act 4: `"cpu"` makes digits in ten minutes anywhere, `"original"` is the original's own 175 epochs and wants a GPU. `STEPS`, `BASE`
# (channels) and `SAMPLES` are those of the small networks that you train by hand.

# %% tags=["parameters"]
RECIPE = "cpu"
SOURCE = None
STEPS = 600
BASE = 32
SAMPLES = 64
SEED = 0

# %% [markdown]
# Digits, and the schedule of notebook 1. The networks will work on the best device that is here: a GPU, if you have one.

# %%
import torch
from hwkit.mnist.folder import load_folder
from hwkit.mnist.sources import prepare
from hwkit.schedule import linear
from hwkit.training import best_device

images, device = load_folder(prepare(SOURCE, out="data")), best_device()
schedule = linear(830)
alpha_bar, T = schedule.alpha_bar, schedule.T


# %% [markdown]
# ## Act 1 · The question
#
# From $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$ you may ask for the noise $\varepsilon$ (Ho et al.), for the image $x_0$, or for a mixture of both that
# is never trivial, $v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\,x_0$ (Salimans & Ho). Knowing one, a sampler knows all; but what a network finds *easy* differs.

# %% tags=["core"]
def target(x_0, alpha_bar_t, eps, prediction):
    if prediction == "epsilon":
        return eps
    if prediction == "x0":
        return x_0
    if prediction == "v":
        return alpha_bar_t**0.5 * eps - (1 - alpha_bar_t) ** 0.5 * x_0
    raise ValueError(f"prediction is {prediction!r}, but must be 'epsilon', 'x0' or 'v'.")


# %% [markdown]
# Not all times deserve the same attention. An error of $\hat\varepsilon$ is an error of $\hat x_0$ times $\sqrt{\mathrm{SNR}}$, with $\mathrm{SNR} = \bar\alpha_t/(1-\bar\alpha_t)$. So the plain squared error of
# $\hat\varepsilon$ weighs that of $\hat x_0$ by SNR, up to 10,000 where hardly any noise is left. *Min-SNR* (Hang et al.) caps the weight at $\gamma = 5$.

# %% tags=["core"]
def loss_weight(alpha_bar_t, prediction, weighting, gamma=5.0):
    if weighting == "uniform":
        return torch.ones_like(alpha_bar_t)
    if weighting != "min_snr":
        raise ValueError(f"weighting is {weighting!r}, but must be 'uniform' or 'min_snr'.")
    snr = alpha_bar_t / (1 - alpha_bar_t)
    return snr.clamp(max=gamma) / {"epsilon": snr, "x0": 1, "v": snr + 1}[prediction]


# %% [markdown]
# See what the cap does. Plotted is the weight that an error of $\hat x_0$ gets at each time, for the original's loss, for the same on $\hat x_0$ itself, and for min-SNR (which is the same for all
# three predictions: that is its point).

# %%
from hwkit.show import figures

table = alpha_bar[1:]
snr = table / (1 - table)
figure, axes = figures.plot("t", r"weight of the error of $\hat x_0$ (log scale)", size=(6.8, 3.2))
axes.plot(range(1, T + 1), snr, color=figures.INK, label=r"$\hat\varepsilon$, uniform (the original)")
axes.plot(range(1, T + 1), snr**0, color=figures.MUTED, label=r"$\hat x_0$, uniform")
capped = loss_weight(table, "x0", "min_snr")
axes.plot(range(1, T + 1), capped, color=figures.ACCENT, linewidth=2, label="min-SNR")
axes.set_yscale("log")
axes.legend(frameon=False)
figure

# %% [markdown]
# **What to notice.** The dark line is steep: the original's loss cares ten thousand times more about an invisible speck at $t = 1$ than about the shape of the digit at $t = 250$. With 175 epochs there is
# time for both. With ten minutes there is not, and the red line spends them where shapes are decided.

# %% [markdown]
# Put together, this is algorithm 1 of Ho et al., one line for each line of it: noise the images with the `q_sample` that you wrote, ask, compare, weigh, average:
#
# $$L = \mathbb E_{x_0, t, \varepsilon}\; w_t\, \big\| f_\theta(x_t, t) - \text{target} \big\|^2.$$

# %% tags=["core"]
from hwkit.diffusion import q_sample


def diffusion_loss(model, x_0, t, eps, alpha_bar, prediction="epsilon", weighting="uniform"):
    alpha_bar_t = alpha_bar[t].to(x_0.dtype)[:, None, None, None]  # (B, 1, 1, 1)
    output = model(q_sample(x_0, alpha_bar_t, eps), t)
    squared_error = (output.to(x_0.dtype) - target(x_0, alpha_bar_t, eps, prediction)) ** 2
    return (loss_weight(alpha_bar_t, prediction, weighting) * squared_error).mean()


# %% [markdown]
# A test on paper: a "network" that always says 0. Asked for the noise it is off by $\mathbb E\,\varepsilon^2 = 1$; asked for the image, by the mean square of the pixels, $0.74^2 + 0.62^2 \approx 0.92$. Every new network of the kit begins
# exactly there, because its last layer starts at zero.

# %% tags=["nbval-check-output"]
import numpy as np
from hwkit.mnist.batches import normalize
from hwkit.mnist.sources import SAMPLE

with np.load(SAMPLE) as arrays:
    embedded = torch.from_numpy(arrays["images"])[:, None]  # (5000, 1, 28, 28)
digits = normalize(embedded)
generator = torch.Generator().manual_seed(0)
eps = torch.randn(digits.shape, generator=generator)
t = torch.randint(1, 831, (len(digits),), generator=generator)
for prediction in ("epsilon", "x0"):
    loss = diffusion_loss(lambda x, t: torch.zeros_like(x), digits, t, eps, alpha_bar, prediction)
    print(f"{prediction:8} loss of a network that says 0: {loss:.2f}")


# %% [markdown]
# ## Act 2 · The network
#
# What should look at a noisy picture? Convolutions, at two scales: halve the sides to see the digit as a whole, double them again to place its pixels, and carry the fine detail across by
# *skips*. Such a **U-Net** takes picture and time, and returns a picture. First, let a forward pass tell the shapes.

# %%
def parts(model):
    down = {f"Down {i}": block for i, block in enumerate(model.down, 1)}
    up = {f"Up {len(down) - i}": block for i, block in enumerate(model.up)}
    ends, found = {"Stem": model.stem}, []
    for name, part in (ends | down | {"Middle": model.middle} | up | {"Head": model.head}).items():

        def note(part, inputs, output, name=name):
            count = sum(p.numel() for p in part.parameters())
            found.append((name, inputs[0].shape[-1], tuple(output.shape[1:]), count))

        part.register_forward_hook(note)
    model(torch.zeros(1, 3, 28, 28), torch.tensor([1]))
    return found


# %% [markdown]
# Numbers first, for two networks: the original's, which works on all 28×28 pixels, and that of the `cpu` recipe, which folds each 2×2 pixels into channels and so works on 14×14 with
# more channels.

# %% tags=["nbval-check-output"]
from hwkit.recipe import RECIPES
from hwkit.unet import UNet

networks = {name: UNet(RECIPES[name].model) for name in ("original", "cpu")}
for name, model in networks.items():
    print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters")
    for part, _, shape, count in parts(model):
        print(f"    {part:8} → {'×'.join(map(str, shape)):10} {count:9,}")


# %% [markdown]
# Now the drawing. A box is as tall as the picture inside it and as wide as it has channels; the dashed arrows are the skips. Below each box: the shape that it puts out, and its
# parameters. The time $t$ enters as sines and cosines, and is added in every residual block.

# %%
def diagram(axes, boxes, title):
    where, largest = {}, boxes[0][2][1]
    for x, (name, side_in, (channels, side, _), count) in enumerate(boxes):
        tall, wide = min(side_in, side) / largest, 0.2 + channels / 300
        y = 1.4 * (tall - 1) - 0.9 * (name == "Middle")
        axes.bar(x, tall, wide, y - tall / 2, color=figures.INK, alpha=0.85)
        label = f"{name}\n{channels}×{side}×{side}\n{count:,}"
        axes.text(x, y - tall / 2 - 0.06, label, ha="center", va="top", fontsize=9)
        where[name] = (x, y, wide / 2)
    arrows = [(a, b, "-") for a, b in zip(where, list(where)[1:], strict=False)]
    for a, b, style in [*arrows, ("Down 1", "Up 1", "--"), ("Down 2", "Up 2", "--")]:
        (x1, y1, w1), (x2, y2, w2) = where[a], where[b]
        look = {"arrowstyle": "->", "color": figures.ACCENT, "linestyle": style}
        axes.annotate("", (x2 - w2, y2), (x1 + w1, y1), arrowprops=look)
    axes.set(xlim=(-0.5, 6.5), ylim=(-2.7, 0.8))
    axes.set_title(title, fontsize=11)
    axes.axis("off")


# %% [markdown]
# Both networks side by side would be crowded, so one below the other. (The function above is nothing to learn from; it only draws.)

# %%
from matplotlib.figure import Figure

figure = Figure(figsize=(8.2, 7.6), layout="constrained")
for axes, (name, model) in zip(figure.subplots(2), networks.items(), strict=True):
    total = sum(p.numel() for p in model.parameters())
    diagram(axes, parts(model), f"the network of the recipe {name!r}: {total:,} parameters")
figure

# %% [markdown]
# **What to notice.** Most parameters sit at the bottom, where pictures are small and convolutions cheap; most of the *time* goes into the wide, large layers at the top. Folding
# 2×2 pixels removes just those. There is no attention: at 14×14 or 7×7 a few 3×3 convolutions already see the whole digit.

# %% [markdown]
# ## Act 3 · Twelve lines
#
# Here is the training loop of a diffusion model, all of it, with your `diffusion_loss`. There is no validation set, no label, no schedule. Draw images, draw times, draw noise,
# descend.

# %%
from tqdm.auto import trange


def fit(model, images, alpha_bar, prediction, weighting, steps, lr=1e-3, batch_size=64, seed=0):
    device, generator = next(model.parameters()).device, torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    alpha_bar, losses = alpha_bar.to(device, torch.float32), []
    for _ in trange(steps, leave=False):
        chosen = torch.randint(len(images), (batch_size,), generator=generator)
        x_0 = normalize(images[chosen])[:, : model.config.channels].to(device)
        t = torch.randint(1, len(alpha_bar), (batch_size,), generator=generator).to(device)
        eps = torch.randn(x_0.shape, generator=generator).to(device)
        loss = diffusion_loss(model, x_0, t, eps, alpha_bar, prediction, weighting)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# Try it: a small network (a quarter of the `cpu` recipe's), asked for $x_0$ with the min-SNR weight. On one CPU core, 600 steps of 64 images take about two minutes.

# %%
from hwkit.unet import UNetConfig


def small_network(channels=3):
    torch.manual_seed(SEED)
    return UNet(UNetConfig(base=BASE, patch=2, channels=channels)).to(device)


nets = {"x0": small_network()}
losses = {"x0": fit(nets["x0"], images, alpha_bar, "x0", "min_snr", STEPS, seed=SEED)}

# %% [markdown]
# The loss of single batches jumps about (each draws other times, and some times are hard), so a mean over 25 steps is drawn over it. Beneath: what the network
# now draws from pure noise.

# %%
from hwkit.diffusion import Denoiser
from hwkit.mnist.batches import to_uint8
from hwkit.sampling import ImageNoise, sample, times


def draw(net, prediction, count=16, steps=25):
    x_T = ImageNoise(SEED, range(1, count + 1), (net.config.channels, 28, 28), device)()
    *_, last = sample(Denoiser(net.eval(), schedule, prediction), x_T, times(T, steps), alpha_bar)
    return to_uint8(last.x_t).cpu()


figure, axes = figures.plot("step", "loss (log scale)", size=(6.4, 2.8))
axes.plot(losses["x0"], color=figures.MUTED, linewidth=0.5)
smooth = np.convolve(losses["x0"], np.ones(25) / 25, "valid")
axes.plot(range(12, STEPS - 12), smooth, color=figures.ACCENT)
axes.set_yscale("log")
display(figure, figures.sample_sheet(draw(nets["x0"], "x0"), columns=16))

# %% [markdown]
# **What to notice.** The first hundred steps bring most of the loss, and nearly none of the beauty: to know that digits are black pictures with something bright in the middle is easy. After
# two minutes there are strokes. What comes after is slow, and the curve hardly shows it.

# %% [markdown]
# ## Act 4 · The run
#
# The kit's `train` is your loop, and what an evening on Colab needs besides: a moving average of the weights (EMA), a falling learning rate, checkpoints that appear whole, and an exact resume. It yields a record for each
# epoch, after which it calls the hook that you give it. If the run stands there already, it goes on, or says that it is finished.

# %%
from hwkit.files import runs
from hwkit.runs.run import train
from hwkit.show.figures import preview

recipe, run = RECIPES[RECIPE], runs() / RECIPE
for _ in train(recipe, images, run, device, after_epoch=preview(run, recipe, device)):
    notebook.keep(run, minutes=5)  # to Drive, where you have mounted it
notebook.keep(run)

# %% [markdown]
# Each epoch left a line in `history.jsonl`, with points of the loss curve. The grey line is the mean of some steps, the red bars are the epochs.

# %%
from hwkit.runs.run import read_history

history = read_history(run)
seen, minutes = history[-1]["images_seen"], history[-1]["seconds"] / 60
figures.loss_curve(history, f"{seen:,} images, {minutes:.0f} min")

# %% [markdown]
# The loss says little about pictures, so the hook `preview` also draws one now and then: eight samples on their way from noise, from the EMA weights and **always from the same
# noise**, so that epochs compare. Here are the first and the last.

# %%
from PIL import Image

previews = sorted((run / "previews").glob("*.png"))
figure = Figure(figsize=(9, 5), layout="constrained")
for axes, path in zip(figure.subplots(1, 2), (previews[0], previews[-1]), strict=True):
    axes.imshow(Image.open(path))
    axes.axis("off")
figure

# %% [markdown]
# **What to notice.** The same noise leads to the same sketch in both, only cleaner in the later one: the weights move, the *map* from noise to digit stays much the same. And the loss of the later
# epoch is lower by so little that you would not have guessed it.

# %% [markdown]
# Now the part that nobody shows: pull the plug. `PressStop` hands out digits like any tensor, and presses Jupyter's ■ in the middle of the second
# epoch. A tiny network on 960 embedded digits will do.

# %%
import signal


class PressStop:
    def __init__(self, images, after):
        self.images, self.left = images, after

    def __len__(self):
        return len(self.images)

    def to(self, device):
        return self

    def __getitem__(self, index):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return self.images[index]


# %% [markdown]
# Three runs of the same recipe: one undisturbed; one stopped after 45 of its 60 batches; and the same one called again. If a single random number, momentum or average were lost on the way, the weights
# would differ. Compare them bit by bit.

# %%
import shutil
from hwkit.runs.checkpoint import load

few = embedded[:: 5000 // 960][:960]
whole, stopped = run / "undisturbed", run / "interrupted"
for folder in (whole, stopped):
    shutil.rmtree(folder, ignore_errors=True)
silent = {"device": "cpu", "quiet": True}
list(train(RECIPES["smoke"], few, whole, **silent))
try:
    list(train(RECIPES["smoke"], PressStop(few, after=45), stopped, **silent))
except KeyboardInterrupt:
    print("Stopped at step", load(stopped / "latest.pt")["resume"]["step"])
list(train(RECIPES["smoke"], few, stopped, **silent))
a, b = (load(folder / "ema_latest.pt")["weights"] for folder in (whole, stopped))
print("the same weights:", all(torch.equal(a[name], b[name]) for name in a))


# %% [markdown]
# **What to notice.** *The same*, not *about the same*. Everything random in the kit is computed from (seed, epoch) or (seed, step), and all the rest is in `latest.pt`. On Colab with Drive, losing the session costs you some minutes.

# %% [markdown]
# ## Act 5 · Why asking for the image is better here
#
# The digit is grey, its three channels are equal. The noise is not. Split any picture into the mean of its channels (*grey*) and the rest (*colour*):
#
# $$\varepsilon = \varepsilon_\text{grey} + \varepsilon_\text{colour}.$$
#
# How much of each is there in the noise, and how much in the digits?

# %% tags=["nbval-check-output"]
def split(x):
    grey = x.mean(dim=1, keepdim=True).expand_as(x)
    return grey, x - grey


for name, x in (("noise", eps), ("digits", digits)):
    grey, colour = (part.square().mean().item() for part in split(x))
    print(f"{name:6} grey {grey / (grey + colour):.2f}, colour {colour / (grey + colour):.2f}")

# %% [markdown]
# **What to notice.** Two thirds of the noise is colour, and none of the digits is. A network that is asked for $\varepsilon$ has to *copy* that colour, pixel by pixel, from its input
# to its output, at every pixel and every $t$. A network that is asked for $x_0$ may throw it away at its first layer.

# %% [markdown]
# If that is the reason, then two things must follow. The same small network, asked for $\varepsilon$, must do worse in the same 600 steps. And on *grey* pictures, with one channel and hence no
# colour noise, most of its handicap must be gone. So train both, and wait another few minutes.

# %%
nets["epsilon"] = small_network()
losses["epsilon"] = fit(nets["epsilon"], images, alpha_bar, "epsilon", "uniform", STEPS, seed=SEED)
nets["epsilon, grey"] = small_network(channels=1)
grey = nets["epsilon, grey"]
losses["epsilon, grey"] = fit(grey, images, alpha_bar, "epsilon", "uniform", STEPS, seed=SEED)

# %% [markdown]
# Sixteen samples of each, all from the noise of the same images' numbers (the grey one has a noise of its own, of one channel). Their losses cannot be compared, as each measures
# something else. Pictures can.

# %% tags=["goal"]
rows = {name: draw(net, name.split(",")[0]).expand(-1, 3, -1, -1) for name, net in nets.items()}
title = f"{STEPS} steps each. Asked for the image; for the noise; for the noise, in grey"
figures.sample_sheet(torch.cat(list(rows.values())), columns=16, title=title)

# %% [markdown]
# Where does it go wrong? Noise 256 unseen digits to a time $t$, let each network answer, turn the answer into $\hat x_0$, and split its error as above. The grey
# network is left out: it has no colour to be wrong about.

# %%
held_out = normalize(embedded[-256:])
noise = torch.randn(held_out.shape, generator=torch.Generator().manual_seed(1))
ts, errors = list(range(30, T, 100)), {}
for name in ("x0", "epsilon"):
    denoise = Denoiser(nets[name].eval(), schedule, name)
    for t in ts:
        with torch.no_grad():
            x0_hat, _ = denoise(q_sample(held_out, alpha_bar[t].item(), noise).to(device), t)
        for part, kind in zip(split(x0_hat.cpu() - held_out), ("grey", "colour"), strict=True):
            errors.setdefault((name, kind), []).append(part.square().mean().sqrt().item())

# %% [markdown]
# Drawn is the root mean square error of $\hat x_0$ against $t$: the grey part as a line, the colour part dotted. (A picture is in $[-1, 1]$, so an error of 1 is as
# good as not having looked.)

# %%
figure, axes = figures.plot("t", r"error of $\hat x_0$ (RMS)", size=(6.8, 3.4))
for (name, kind), values in errors.items():
    color = figures.ACCENT if name == "x0" else figures.INK
    label = f"{'image' if name == 'x0' else 'noise'} asked for, {kind}"
    axes.plot(ts, values, "-o" if kind == "grey" else ":o", color=color, markersize=4, label=label)
axes.legend(frameon=False, fontsize=9)
figure

# %% [markdown]
# **What to notice.** The network that is asked for the image makes no error in colour at all: its last layer starts at zero, and grey targets pull its three channels alike. The other one is wrong in colour nearly as much
# as in shape, and more so with growing $t$, because an error of $\hat\varepsilon$ counts $1/\sqrt{\mathrm{SNR}}$ times in $\hat x_0$. There its samples begin, and there their stains come from.

# %% [markdown]
# Two numbers, for `SAMPLES` samples each: how far a pixel's channels are apart, and how many samples the kit's classifier takes for a digit at all (notebook 5 tells more of it).

# %%
from hwkit.measure.features import classify, digit_features

for name, net in nets.items():
    made = draw(net, name.split(",")[0], count=SAMPLES).expand(-1, 3, -1, -1)
    colour = split(made.float())[1].square().mean().sqrt().item()
    read = (classify(digit_features(made)) < 10).mean()
    print(f"{name:14} colour {colour:5.1f} of 255, taken for a digit {read:4.0%}")

# %% [markdown]
# **What to notice.** On grey pictures the noise is a fair question: that network has no colour to copy, and its strokes hold together much better. So it is the *three channels* of this homework that make
# $\hat x_0$ the better target for a small budget. With 175 epochs on a GPU, $\hat\varepsilon$ learns to copy colour too: the original shows that.

# %% [markdown]
# ## Summary
#
# - Training is one question, asked at random: here is $x_t$, here is $t$; what was $\varepsilon$ (or $x_0$, or $v$)?
# - The predictions are equivalent for a sampler, but not for a learner: the weight of an error and the work that a network has to do differ.
# - The original's network has four times as many pixels to look at as the `cpu` recipe's; neither has attention.
# - The loop is twelve lines. The rest (EMA, decay, checkpoints, resume) is what makes it an evening without surprises.
# - A run that was interrupted ends in the same weights, bit for bit.
#
# **Next:** [03_sampling](03_sampling.ipynb), where you write the steps that turn these weights into pictures.

# %% [markdown]
# ## Exercises
#
# 1. *(think)* Why does the loss of single batches jump so much, and why is its mean at $t$ near $T$ no sign of a bad network?
# 2. *(code)* Train `small_network()` with `prediction="v"` and `"min_snr"`. Is $v$ as good as $x_0$ here? Explain it with the split into grey and colour.
# 3. *(code)* Draw the loss against $t$: noise 512 digits to each of 20 times, and plot the three predictions' errors. Where would more training steps pay most?
# 4. *(code)* Sample the `cpu` run once with `best.pt` and once with `ema_best.pt`. How much of the picture is the average's doing? (Notebook 5 measures it.)
# 5. *(think)* `images[chosen]` draws with replacement, the kit's `train` goes through a permutation. When does that matter?
# 6. *(code)* Train `RECIPE = "original-cosine"` for as long as you have patience, and compare its previews with those of `"original"`.

# %% [markdown]
# ## References
#
# - J. Ho, A. Jain, P. Abbeel. *Denoising Diffusion Probabilistic Models.* NeurIPS 2020. [arXiv:2006.11239](https://arxiv.org/abs/2006.11239). Algorithm 1 and equation 14.
# - T. Salimans, J. Ho. *Progressive Distillation for Fast Sampling of Diffusion Models.* ICLR 2022. [arXiv:2202.00512](https://arxiv.org/abs/2202.00512). Predictions and their weights.
# - T. Hang et al. *Efficient Diffusion Training via Min-SNR Weighting Strategy.* ICCV 2023. [arXiv:2303.09556](https://arxiv.org/abs/2303.09556).
# - O. Ronneberger, P. Fischer, T. Brox. *U-Net.* MICCAI 2015. [arXiv:1505.04597](https://arxiv.org/abs/1505.04597).
