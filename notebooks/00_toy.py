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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/00_toy.ipynb)
#
# **English** · [繁體中文](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/zh-TW/00_toy.ipynb)
#
# # 0 · The whole method on points
#
# A warm-up. Here is everything that notebooks 1 to 3 do with digits, done with points in the plane: noise, loss,
# training, DDPM, DDIM. It is so small that a network trains in seconds, and the right answer is a formula. So you can
# see not only *that* it works, but what each part does, and who is to blame where it does not.
#
# *About 30 minutes, 2 to 9 of them waiting (an estimate for two CPU cores, free or busy), no GPU. Nothing is to be
# filled in or handed in. **Before it** you should know what a normal distribution is, and have trained some network in
# PyTorch. **After it** you can say what each part of a diffusion model is for, test training code before you train, and
# tell a mistake of the network from one of the sampler.*

# %% [markdown]
# ## Where this leads
#
# The first cell makes the notebook ready and shows the picture that you make in Act 4: three points on their way from
# noise to the data, by DDPM and by DDIM. (On Colab it asks for your Drive, as all notebooks do; this one keeps nothing
# there.)

# %%
import os, sys

clone = "[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit hwkit"
if "google.colab" in sys.modules and os.system(clone):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [*map(os.path.abspath, ("..", "../..", "../../..")), "/content/hwkit"]
from hwkit import notebook

notebook.start("00_toy", drive=True)  # False: nothing is kept on Drive

# %% [markdown]
# All that is random follows from `SEED`. `STEPS` is how long a network trains, `POINTS` how many points are sampled and
# measured, and `SEEDS` how often Act 5 repeats its experiment. `T` is that of the homework. `PREDICTION` is what the
# network says: `"epsilon"`, the noise, as in the paper; or `"x0"`, the point; or `"v"`, a mixture (notebook 2).

# %% tags=["parameters"]
SEED = 0
T = 830
STEPS = 2000
POINTS = 2000
SEEDS = 3
PREDICTION = "epsilon"

# %% [markdown]
# ## Act 1 · Points, and noise
#
# The "images" are points $x_0$ in the plane. They lie in six round heaps on a circle. One heap is three times as large
# as each of the others, as if one digit were more frequent. So we know everything about them: the middles $m_k$, the
# spread $s = 0.25$, and the shares. Points are cheap: draw as many as you like.

# %%
import math
import torch

torch.set_num_threads(1)  # for networks as small as here more threads are no gain
angle = torch.arange(6) * math.pi / 3
middles, spread = 2 * torch.stack([angle.cos(), angle.sin()], dim=1), 0.25
shares = torch.tensor([3, 1, 1, 1, 1, 1]) / 8

# %% [markdown]
# To draw a point, choose a heap by its share, and add normal noise to its middle. The function also tells the heap, so
# that a picture can show it.

# %%
def draw_points(count, generator):
    """`count` points (count, 2), and the heap (count,) that each is of."""
    heap = torch.multinomial(shares, count, replacement=True, generator=generator)
    noise = torch.randn(count, 2, generator=generator)
    return middles[heap] + spread * noise, heap

# %% [markdown]
# Noise is added as to images, in one jump: $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$ (Ho et
# al., eq. 4). The function is the kit's, which you write in notebook 1. Before you run it: at which of these times can
# you still tell the large heap (red) from the others?

# %%
from matplotlib.figure import Figure
from hwkit.diffusion import q_sample
from hwkit.sampling import nodes
from hwkit.schedule import linear
from hwkit.show import figures

schedule = linear(T)
alpha_bar, generator = schedule.alpha_bar.float(), torch.Generator().manual_seed(SEED)
x_0, heap = draw_points(1000, generator)
eps = torch.randn(x_0.shape, generator=generator)

# %% [markdown]
# Draw a thousand points at five times, always with the same noise. The red ones are those of the large heap. (What
# stands above each picture is explained below.)

# %%
colours = [figures.ACCENT if k == 0 else figures.INK for k in heap]
figure = Figure(figsize=(9.4, 2.2), layout="constrained")
for axes, t in zip(figure.subplots(1, 5), nodes(T, 5)[::-1], strict=True):
    axes.scatter(*q_sample(x_0, alpha_bar[t], eps).T, s=2, c=colours)
    axes.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"$t={t}$: share {alpha_bar[t].sqrt():.2f}", fontsize=10)
figure

# %% [markdown]
# **What to notice.** The *share* is $\sqrt{\bar\alpha_t}$, the factor with which the points are still there. At
# $t = 208$ the heaps run into each other; at 415 the red points only lean to one side; at the end all is one round
# cloud, $\mathcal N(0, I)$ but for a share of 0.02, and no eye can tell where a point came from. There sampling begins.

# %% [markdown]
# ## Act 2 · A network, a loss, and the first test
#
# For images the network is a U-Net. For points three small layers do. It is told the time as a few sines and cosines of
# $t$; `uses_t=False` keeps the time from it, for Act 5.

# %%
from torch import nn


class Network(nn.Module):
    """`network(x, t)`: points x (B, 2) and times t (B,) → (B, 2)."""

    def __init__(self, uses_t=True, width=64):
        super().__init__()
        self.uses_t, layers, size = uses_t, [], 2 + 6
        for _ in range(3):
            layers, size = [*layers, nn.Linear(size, width), nn.SiLU()], width
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(self, x, t):
        angle = math.pi * t[:, None] / T * torch.arange(1, 4) * self.uses_t
        return self.layers(torch.cat([x, angle.sin(), angle.cos()], dim=1))

# %% [markdown]
# The loss, as in algorithm 1 of Ho et al.: draw a time and a noise for each point, noise it, and compare what the
# network says with what it should say. `target` is the kit's, too; for `"epsilon"` it is the noise itself.

# %%
from hwkit.diffusion import target


def draw_batch(count, generator):
    """Points (count, 2), times (count,) in 1 … T, and noise (count, 2)."""
    x_0, _ = draw_points(count, generator)
    t = torch.randint(1, T + 1, (count,), generator=generator)
    return x_0, t, torch.randn(count, 2, generator=generator)

# %% [markdown]
# Three lines are the whole loss: $x_t$ from eq. 4, the network's answer, and the mean of the squared differences from
# the target. For digits the same three lines stand in notebook 2.

# %%
def loss_of(network, x_0, t, eps):
    a = alpha_bar[t][:, None]  # (B, 1)
    said = network(q_sample(x_0, a, eps), t)
    return (said - target(x_0, a, eps, PREDICTION)).square().mean()

# %% [markdown]
# **Overfit one batch before you train.** Take 64 points, with *one* time and *one* noise each, and show the network
# nothing else, again and again. It has far more weights than these numbers, so it can learn them by heart: its loss
# must go to about 0. If it does not, training for hours will not help. It is the first test of any training code, and
# takes seconds.

# %%
def overfit(loss_of, network, steps=1000):
    """The loss of the first step, and the mean of the last hundred."""
    batch = draw_batch(64, torch.Generator().manual_seed(SEED))
    optimizer, losses = torch.optim.Adam(network.parameters(), 5e-3), []
    for _ in range(steps):
        loss = loss_of(network, *batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], sum(losses[-100:]) / 100

# %% [markdown]
# Try it on right code, and on three mistakes. *Shapes*: the target is (64, 1, 2), so PyTorch quietly compares all
# answers with all targets. *ReLU*: the network's last layer is one, and it cannot say a negative number. *Root*: $x_t$
# is made with $1-\bar\alpha_t$ instead of its root.

# %%
def wrong_shapes(network, x_0, t, eps):
    a = alpha_bar[t][:, None]
    said = network(q_sample(x_0, a, eps), t)
    return (said - target(x_0, a, eps, PREDICTION)[:, None]).square().mean()

def wrong_root(network, x_0, t, eps):
    a = alpha_bar[t][:, None]
    said = network(a**0.5 * x_0 + (1 - a) * eps, t)
    return (said - target(x_0, a, eps, PREDICTION)).square().mean()

# %% [markdown]
# Before you run it: which of the three will this test find, and which not? The numbers are the loss in the first step,
# and the mean of the last hundred.

# %%
torch.manual_seed(SEED)
ends_in_relu = Network()
ends_in_relu.layers.append(nn.ReLU())
tests = {"right": (loss_of, Network()), "shapes": (wrong_shapes, Network())}
tests |= {"ReLU": (loss_of, ends_in_relu), "root": (wrong_root, Network())}
for name, (loss, network) in tests.items():
    print("{:8} loss {:.3f} → {:.3f}".format(name, *overfit(loss, network)))

# %% [markdown]
# **What to notice.** *Shapes* and *ReLU* stay far from 0: found, in seconds. But *root* goes to 0 like the right code.
# The test finds what keeps a network from learning. It does not find that you teach it the wrong thing. For that you
# need answers that are known: the checks of notebooks 1 to 3, or the formula of the next act. And mind the word *one*:
# with new times and noises in each step the loss cannot go to 0, even in right code. How far can it go, then?

# %% [markdown]
# ## Act 3 · Training, and the truth
#
# The best answer to a squared error is an average: the mean of all $x_0$ that could be under $x_t$. For six normal
# heaps it can be written down. Let $v = \bar\alpha_t s^2 + 1 - \bar\alpha_t$, and $r_k$ the probability that $x_t$ came
# from heap $k$ (its share, times $\mathcal N(x_t;\, \sqrt{\bar\alpha_t}\,m_k, v)$, made to add up to 1):
#
# $$\mathbb E[x_0 \mid x_t] = \sum_k r_k \Big(m_k + \tfrac{\sqrt{\bar\alpha_t}\, s^2}{v}\,
# \big(x_t - \sqrt{\bar\alpha_t}\, m_k\big)\Big).$$

# %%
def best_guess(x_t, a):
    """E[x_0 | x_t] (B, 2), for points x_t (B, 2); ᾱ_t is a number, or (B, 1)."""
    a = torch.as_tensor(a, dtype=x_t.dtype).expand(len(x_t), 1)[:, :, None]  # (B, 1, 1)
    v = a * spread**2 + 1 - a
    off = x_t[:, None] - a**0.5 * middles  # (B, 6, 2)
    squares = off.square().sum(dim=2, keepdim=True)
    r = (shares.log()[:, None] - squares / (2 * v)).softmax(dim=1)  # (B, 6, 1)
    return (r * (middles + a**0.5 * spread**2 / v * off)).sum(dim=1)

# %% [markdown]
# Whatever a network is asked for, point or noise, its best answer follows from this guess, as $x_t$ is known. So this
# is what a perfect network would say:

# %%
from hwkit.diffusion import predict_x0_eps


def perfect(x_t, a):
    """What a perfect network would make of x_t: (x̂_0, ε̂), each (B, 2)."""
    return predict_x0_eps(best_guess(x_t, a), x_t, a, "x0")

# %% [markdown]
# How good is that, then, on 100,000 noisy points? Guess before you run it: is its loss nearly 0?

# %%
x_0, t, eps = draw_batch(100_000, torch.Generator().manual_seed(SEED + 1))
a = alpha_bar[t][:, None]
exam = q_sample(x_0, a, eps), t  # of 100,000 questions
x0_best, eps_best = perfect(exam[0], a)
best = target(x0_best, a, eps_best, PREDICTION)  # the best answers to them
floor = (best - target(x_0, a, eps, PREDICTION)).square().mean().item()
print(f"The loss of a perfect network: {floor:.3f}")

# %% [markdown]
# That number is the *floor* of the loss: no network and no training gets below it, because $x_t$ does not tell all.
# Now train one. Each step sees new points; there are no epochs. Before you look: will the curve still fall in the last
# third?

# %%
def fit(seed, uses_t=True, steps=STEPS, batch=256):
    """A trained network, and the loss of each step (Ho et al., algorithm 1)."""
    torch.manual_seed(seed)
    network, generator = Network(uses_t), torch.Generator().manual_seed(seed)
    optimizer, losses = torch.optim.Adam(network.parameters(), 5e-3), []
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, steps)  # down to 0
    for _ in range(steps):
        loss = loss_of(network, *draw_batch(batch, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        slower.step()
        losses.append(loss.item())
    return network, losses

# %% [markdown]
# Train one network. This takes some seconds. Is the loss of its last steps near that of a perfect network?

# %%
network, losses = fit(SEED)
last = sum(losses[-200:]) / 200
print(f"the last 200 steps: {last:.3f}; a perfect network: {floor:.3f}")

# %% [markdown]
# Draw the loss with its floor. A single step's loss jumps, as each batch holds other times; so the dark line is the
# mean of fifty steps.

# %%
smooth = torch.tensor(losses).unfold(0, 50, 1).mean(1)
figure, axes = figures.plot("step", "loss", size=(6.8, 2.8))
axes.plot(losses, color=figures.MUTED, linewidth=0.4, label="single steps")
axes.plot(range(50, len(losses) + 1), smooth, color=figures.INK, label="mean of fifty")
axes.axhline(floor, color=figures.ACCENT, linestyle="--", label=f"floor: {floor:.3f}")
axes.set(xlim=(0, len(losses)), ylim=(0, 1))
axes.legend(frameon=False, ncols=3, loc="upper right", fontsize=9)
figure

# %% [markdown]
# **What to notice.** After some hundred steps the loss lies near its floor, and jumps about it; 0 is far away. A flat
# loss is no sign of broken code: most of it is what nobody can know. Does the network still learn? The curve can hardly
# show it, as its jumps are larger. With the truth at hand, look directly.

# %% [markdown]
# For noisy points at four times: where is the best guess (dark rings), and what does the network say (red dots)? Before
# you run it: where will the guesses lie at $t = 622$, when $x_t$ is nearly pure noise?

# %%
from hwkit.diffusion import Denoiser

denoise = Denoiser(network, schedule, PREDICTION, clip=False)
x_0, _, eps = draw_batch(300, torch.Generator().manual_seed(SEED + 2))
figure = Figure(figsize=(9.4, 2.7), layout="constrained")
times_shown = [round(share * T) for share in (0.75, 0.5, 0.25, 0.06)]
for axes, t in zip(figure.subplots(1, 4), times_shown, strict=True):
    x_t = q_sample(x_0, alpha_bar[t], eps)
    ideal, said = best_guess(x_t, alpha_bar[t]), denoise(x_t, t)[0]
    axes.scatter(*ideal.T, s=22, linewidths=0.7, color=figures.INK, facecolors="none")
    axes.scatter(*said.T, s=3, color=figures.ACCENT)
    axes.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", xticks=[], yticks=[])
    apart = (said - ideal).square().mean().sqrt()
    axes.set_title(f"$t={t}$: {apart:.2f} apart", fontsize=10)
figure.set_label("Best guesses and the network's, at four times")
figure

# %% [markdown]
# **What to notice.** At $t = 622$ the rings lie close together, near the mean of *all* points (to the right of the
# middle, because of the large heap). It is what the grey blur is in digits (notebook 3). At 415 many lie between the
# heaps, where no data is: an average of what could be. At 50 nearly all are in the heaps. And the dots? From 415 on
# nearly each is in its ring: the network has learned a formula that nobody told it. At 622 some are off: a small error in
# $\hat\varepsilon$ is divided by the share, 0.09.

# %% [markdown]
# ## Act 4 · Back: DDPM and DDIM
#
# One look gives an average. The sampler makes it a point: take a small step towards the guess, look again. `sample` is
# the kit's loop, with DDPM's step in all $T$ steps, and with DDIM's in 50. These are the functions that you write in
# notebook 3; they never ask whether the points are images.

# %%
from hwkit.diffusion import ddim_step, ddpm_step
from hwkit.sampling import sample


def path(denoise, step, stops, count, seed):
    """The states (len(stops), count, 2) on the way from noise to points."""
    generator = torch.Generator().manual_seed(seed)
    def noise():
        return torch.randn(count, 2, generator=generator)
    frames = sample(denoise, noise(), stops, schedule.alpha_bar, step, noise)
    return torch.stack([frame.x_t for frame in frames])

# %% [markdown]
# Which times does each sampler stop at? DDPM at all of them; DDIM at 51, evenly spaced, both ends included.

# %%
from hwkit.sampling import times

samplers = {"DDPM": (ddpm_step, range(T, -1, -1)), "DDIM": (ddim_step, times(T, 50))}

# %% [markdown]
# Draw the ways of three points, from the same three noises (rings) to their ends (dots), over the data in grey. What
# will be different between DDPM, which adds fresh noise in each step, and DDIM, which adds none?

# %% tags=["goal"]
data, _ = draw_points(1500, torch.Generator().manual_seed(SEED))
colours = figures.INK, figures.ACCENT, figures.MUTED
figure = Figure(figsize=(8.6, 4.3), layout="constrained")
for axes, name in zip(figure.subplots(1, 2), samplers, strict=True):
    step, stops = samplers[name]
    axes.scatter(*data.T, s=2, color=figures.MUTED, alpha=0.25)
    ways = path(denoise, step, stops, 3, SEED + 3).unbind(1)
    for way, color in zip(ways, colours, strict=True):
        axes.plot(*way.T, color=color, linewidth=0.7)
        axes.scatter(*way[0], s=60, edgecolors=color, facecolors="white", zorder=3)
        axes.scatter(*way[-1], s=60, color=color, zorder=4)
    axes.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"{name}, {len(stops) - 1} steps", fontsize=11)
figure.set_label("Three points from noise to the data, by DDPM and by DDIM")
figure

# %% [markdown]
# **What to notice.** DDPM's ways tremble, and most of their length is chance. DDIM's are smooth and short. Rings of
# one colour are in the same place on both sides, and still the dots need not be. Look where the dots lie: nearly always
# in a heap or close to one, though at the start every guess was between the heaps. Many small steps decide what one
# look cannot.

# %% [markdown]
# Are the ends as they should be? Three numbers, for `POINTS` ends: how many lie more than $3s$ from every heap
# (*stray*, as an image that is no digit), how much the others spread about the circle, and which share the large heap
# has. And now the advantage of a toy: the samplers can also be given the *best* guess, by formula. Then no network can
# be to blame.

# %%
def measures(points):
    """The share of strays, the others' spread, the share of the large heap."""
    distance, heap = torch.cdist(points, middles).min(dim=1)
    near = distance < 3 * spread
    about = points[near].norm(dim=1).std().item()
    return (~near).float().mean().item(), about, (heap == 0).float().mean().item()

# %% [markdown]
# The samplers ask a function of $x_t$ and of the whole number $t$. This one answers by formula; for the network,
# `denoise` above does.

# %%
def by_formula(x_t, t):
    return perfect(x_t, schedule.alpha_bar[t].item())

# %% [markdown]
# The first line is of fresh points of the data, as many: its values differ from the true ones by chance only. Which of
# the others should come nearest to it, and which is the farthest? (With 2,000 points chance moves a share of 37 % by
# about 1 %, and one of 1 % by 0.2 %.)

# %%
line = "{:22} stray {:5.1%}   spread {:.3f}   large heap {:.1%}"
fresh, _ = draw_points(POINTS, torch.Generator().manual_seed(SEED + 4))
print(line.format("the data", *measures(fresh)))
for who, guesser in (("perfect", by_formula), ("network", denoise)):
    for name, (step, stops) in samplers.items():
        ends = path(guesser, step, stops, POINTS, SEED + 5)[-1]
        print(line.format(f"{who}, {name}", *measures(ends)))

# %% [markdown]
# **What to notice.** *Perfect, DDPM* is as good as the data, up to chance: nothing is wrong with the sampler.
# *Perfect, DDIM* has heaps that are a little too narrow: the price of 50 steps instead of 830. The additional strays
# of the two lines below are the network's own. So here it can be said who is to blame. For digits nobody has the lines
# "perfect": notebooks 3 and 5 show what can be measured instead.

# %% [markdown]
# ## Act 5 · A network that is not told the time
#
# Is $t$ of any use to the network? It sees $x_t$, and could perhaps tell how noisy that is. Train the same network with
# and without $t$, `SEEDS` times each. Guess first: how much worse will its points be?

# %%
ends = {}
for name, uses_t in (("with t", True), ("without t", False)):
    found = []
    for seed in range(SEED, SEED + SEEDS):
        net, _ = fit(seed, uses_t)
        with torch.no_grad():
            off = (net(*exam) - best).square().mean().item()
        guesser = Denoiser(net, schedule, PREDICTION, clip=False)
        ends[name] = path(guesser, *samplers["DDPM"], POINTS, seed)[-1]
        found.append((off, measures(ends[name])[0]))
    mean = torch.tensor(found).mean(0)
    error = torch.tensor(found).std(0, correction=min(1, SEEDS - 1)) / SEEDS**0.5
    print(f"{name:9} above the floor: {mean[0]:.4f} ± {error[0]:.4f}", end="    ")
    print(f"stray: {mean[1]:.1%} ± {error[1]:.1%}")

# %% [markdown]
# The numbers are means over the networks, with standard errors: how far the loss lies *above its floor*, and the
# strays of DDPM. And here is the picture: 500 points each, by the last network of either kind.

# %%
figure = Figure(figsize=(6.4, 3.3), layout="constrained")
for axes, (name, points) in zip(figure.subplots(1, 2), ends.items(), strict=True):
    axes.scatter(*data.T, s=2, color=figures.MUTED, alpha=0.3)
    axes.scatter(*points[:500].T, s=3, color=figures.ACCENT)
    axes.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal", xticks=[], yticks=[])
    axes.set_title(name, fontsize=11)
figure.set_label("Points by a network that is told the time, and by one that is not")
figure

# %% [markdown]
# **What to notice.** Without $t$ more than half of the points lie in no heap, and the differences are many times their
# errors. An $x_t$ at the place of a heap may be a point with little noise, or pure noise that happens to lie there; the
# best answers to the two differ, and a network that cannot tell them apart gives an average. Its loss shows it too: far
# above the floor.

# %% [markdown]
# Would it be as bad with digits? See whether a picture tells its own noise. An RGB digit has three equal channels, and
# each gets noise of its own, so *red minus green* is nothing but noise, $\sqrt 2$ times as strong as that of one
# channel. Take one digit with a hundred different noises.

# %%
import numpy as np
from hwkit.mnist.batches import normalize
from hwkit.mnist.sources import SAMPLE

with np.load(SAMPLE) as arrays:
    digit = normalize(torch.from_numpy(arrays["images"][3:4, None]))  # (1, 3, 28, 28)
generator = torch.Generator().manual_seed(SEED)
for t in reversed(times_shown):
    noise = torch.randn(100, 3, 28, 28, generator=generator)
    noisy = q_sample(digit, alpha_bar[t], noise)
    seen = (noisy[:, 0] - noisy[:, 1]).std(dim=(1, 2)) / 2**0.5  # (100,)
    print(f"t = {t}: noise {(1 - alpha_bar[t]).sqrt():.3f}", end=", ")
    print(f"seen in one picture {seen.mean():.3f} ± {seen.std():.3f}")

# %% [markdown]
# **What to notice.** One picture of 784 pixels tells its noise to within a few per cent. So a network for images can
# see from $x_t$ alone about how noisy it is, and $t$ matters much less to it: Sun et al. (2025) trained networks
# without it on photographs, and most were only a little worse. (Near $t = T$ all pictures look
# alike; but there the best answers are alike, too.) A point has two numbers, and tells nearly nothing. What
# is vital in a toy can be a detail in the large, and the reverse.

# %% [markdown]
# **Where the toy differs from digits.** Keep this table in mind when you carry over what you saw here.
#
# | | points | digits |
# | --- | --- | --- |
# | numbers in one $x_0$ | 2 | 2,352, most of them black |
# | the data | a formula; new points in each step | 60,000 images; a network can learn them by heart |
# | the best guess | known | never known, so no floor of the loss |
# | the noise that hides them | little: at $t = 208$ heaps run together | more: at $t = 415$ some digits can be seen |
# | the time | has to be told | can be seen, nearly |
# | how good is it? | strays, spread, shares | a FID (notebook 5), and your eyes |

# %% [markdown]
# ## Summary
#
# - Noise the data in one jump, train a network to say what was added, and walk back in many small steps: that is all.
# - The best answer to a squared error is an average. Samplers make a decision of it, step by step.
# - The loss has a floor, which is not 0. A flat loss may be a good one.
# - Overfit one batch first: it finds in seconds what keeps a network from learning, but not that you teach it the wrong
#   thing.
# - Mistakes of the sampler and of the network are two things. With a known density they can be told apart.
#
# **Next:** [01_data](01_data.ipynb) begins with digits.

# %% [markdown]
# ## Exercises
#
# Worked answers, with the numbers to expect, stand in `notebooks/solutions/00_toy.ipynb`.
#
# 1. *(by hand, 10 minutes)* Take one heap only, with the middle 0 and the spread $s$. Derive the best guess of $x_0$
#    from $x_t$. What does it become for $t$ near 0, and for $t = T$?
#
#    <details><summary>Hint</summary>
#
#    $x_0$ and $x_t$ are both normal, with means 0. Then the best guess is a number times $x_t$: their covariance,
#    divided by the variance of $x_t$.
#
#    </details>
#
# 2. *(code, 10 minutes)* Let the network say something else: set `PREDICTION` to `"x0"`, then to `"v"`, and run all
#    from the top. Compare strays and spread in Act 4 with those of `"epsilon"`. Which heaps get too thin, and can you
#    see it in the last picture?
#
#    <details><summary>Hint</summary>
#
#    At $t = 1$ a network that says $x_0$ must hand through what it sees, exactly. What must one do that says the noise,
#    and by what is its error multiplied then?
#
#    </details>
#
# 3. *(code, 10 minutes)* Fewer steps with the same $\beta$: take `linear(100)` instead of `linear(830)`. No training is
#    needed: give DDPM the perfect guesses. How good are the ends, and who is to blame?
#
#    <details><summary>Hint</summary>
#
#    `perfect` takes $\bar\alpha_t$, of whatever schedule. How much of the points is left in $x_T$, and from where does
#    the sampler start?
#
#    </details>
#
# 4. *(code, 15 minutes)* Pretend that there are only twelve points: draw them once, and train on nothing else. How far
#    are the samples from the nearest of the twelve, and how far are fresh points of the data? Has the network learned
#    the heaps, or the points?
#
#    <details><summary>Hint</summary>
#
#    `torch.randint` chooses a batch of the twelve. A median of the distances says more than a mean, as it forgives a few
#    strays.
#
#    </details>
#
# 5. *(code, 5 minutes)* In the test of Act 2 keep the 64 points, but draw new times and noises in each step. To what
#    does the loss go now? Compare with the floor.
#
#    <details><summary>Hint</summary>
#
#    Draw the points before the loop, and times and noises in it; `draw_batch` shows how. Take one generator for all
#    steps: one that begins anew in each would draw the same again. Average more than a hundred steps, as the loss jumps
#    now.
#
#    </details>

# %% [markdown]
# ## References
#
# - J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, 2020,
#   [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): eq. 4, algorithms 1 and 2.
# - J. Song, C. Meng, S. Ermon, *Denoising Diffusion Implicit Models*, 2021,
#   [arXiv:2010.02502](https://arxiv.org/abs/2010.02502): eq. 12.
# - T. Karras et al., *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022,
#   [arXiv:2206.00364](https://arxiv.org/abs/2206.00364): appendix B.3, the best guess for a finite set of images.
# - Q. Sun, Z. Jiang, H. Zhao, K. He, *Is Noise Conditioning Necessary for Denoising Generative Models?*, 2025,
#   [arXiv:2502.13129](https://arxiv.org/abs/2502.13129): networks without the time.
# - A. Karpathy, [*A Recipe for Training Neural Networks*](https://karpathy.github.io/2019/04/25/recipe/), 2019:
#   overfit one batch.
