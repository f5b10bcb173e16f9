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
# **Worked answers to the exercises of notebook 4 (04_visualization). They give everything away: try the exercises first.**
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/solutions/04_visualization.ipynb)
#
# # Answers to 4 · Watching it happen
#
# For each exercise: its text in short, one way to do it, and what to expect. The numbers are of the kit's own weights;
# where chance plays a part, ± is how far other seeds were from it, as the cells print it. All of it runs in about two
# minutes on one core.

# %%
import os, sys

clone = "[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit hwkit"
if "google.colab" in sys.modules and os.system(clone):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [*map(os.path.abspath, ("..", "../..", "../../..")), "/content/hwkit"]
from hwkit import notebook

notebook.start("solutions/04_visualization", drive=False)

# %% [markdown]
# `RUN` is the run to look at (`None`: your newest, else the kit's weights). `SAMPLES` ways are made for each of
# `SEEDS`; `ROWS` is the height of the figure of exercise 4.

# %% tags=["parameters"]
RUN = None
SEEDS = (0, 1, 2)
SAMPLES = 8
ROWS = 2

# %% [markdown]
# What all answers use: the network, the 50 times of the notebook, and its way of making and reading images.

# %%
from functools import partial
import numpy as np
import torch
from hwkit.diffusion import ddim_step
from hwkit.measure.features import classify, digit_features
from hwkit.mnist.batches import to_uint8
from hwkit.runs.checkpoint import best_of, load_denoiser
from hwkit.runs.speed import best_device
from hwkit.sampling import ImageNoise, Sampler, nodes, sample, times
from hwkit.show import figures

run, device = notebook.find_run(RUN), best_device()
denoise = load_denoiser(best_of(run), device)
schedule, T = denoise.schedule, denoise.schedule.T
stops, dice = times(T, min(50, T)), partial(ddim_step, eta=1.0)

# %% [markdown]
# `go` sends images on their way from any stop, `read` names their digits. For each seed, `SAMPLES` ways with fresh
# noise ($\eta = 1$, as in Act 3): the first three answers look at them.

# %%
def go(x_t, start, step, noise=None):
    return list(sample(denoise, x_t, stops[start:], schedule.alpha_bar, step, noise))

def read(images):
    return classify(digit_features(to_uint8(images).cpu()))

ways = {}
for seed in SEEDS:
    noise = ImageNoise(seed, range(1, SAMPLES + 1), device=device)
    ways[seed] = go(noise(), 0, dice, noise)

# %% [markdown]
# ## Exercise 1 (look)
#
# *At which $t$ does a guess change its class for the last time? Is that before you see a digit in $x_t$?*
#
# By hand, with the slider, this takes a minute for each sample. Here the classifier reads the guess at all 51 stops,
# and the last stop is noted at which it is not yet the digit of the end.

# %%
for seed, way in ways.items():
    classes = np.stack([read(frame.x0_hat) for frame in way])  # (51, SAMPLES)
    unlike = classes != classes[-1]
    last = [stops[max(np.flatnonzero(column), default=0)] for column in unlike.T]
    low, middle, high = np.quantile(last, (0.1, 0.5, 0.9)).round().astype(int)
    print(f"seed {seed}: half of the last changes come before t = {middle},", end=" ")
    print(f"one in ten before {high}, nine in ten before {low}")

# %% [markdown]
# **What to expect.** Half of the last changes come before $t = 550$ to 570, and nine in ten before 540 to 470
# ("before" on the way, so at larger $t$). With eight ways for a seed these numbers jump: 538, 471 and 543 for the
# three. In $x_t$ most people see a digit first in the column $t = 356$. So most guesses change for the last time while
# the eye still sees nothing, but not all of them: look for a late one with the slider. The classifier names even a
# grey blur, so its earliest changes say little; the last one counts.

# %% [markdown]
# ## Exercise 2 (code)
#
# *Forks with $\eta = 0$: what do the copies have in common, and do they end as the way itself does?*
#
# Two copies for each fork are enough to see it. The step is now `ddim_step` itself, and no noise is given.

# %%
for seed, way in ways.items():
    for at in (12, 28):
        copies = way[at].x_t[:1].repeat(2, 1, 1, 1)
        end = go(copies, at, ddim_step)[-1].x_t
        apart = (end[0] - end[1]).square().mean().sqrt()
        other = (end[0] - way[-1].x_t[0]).square().mean().sqrt()
        print(f"seed {seed}, forked at t = {stops[at]}:", end=" ")
        print(f"copies {apart:.3f} apart,", end=" ")
        print(f"{other:.2f} from the end of the way")

# %% [markdown]
# **What to expect.** The copies are 0.000 apart: with $\eta = 0$ all that follows is a function of $x_t$, so a row
# would show the same image eight times. But it is *not* the end of the way, which went on with fresh noise: 0.57 to
# 0.63 away for a fork at $t = 631$ (another digit, or another hand), 0.12 to 0.18 for one at 365 (the same digit, in a
# slightly other hand). So "no randomness" does not mean "nothing is open" at $t$: it means that one of the possible
# ends is taken, always the same one.

# %% [markdown]
# ## Exercise 3 (code)
#
# *The handwriting: the distance (RMS) between both ends, of pairs that end in the same digit.*
#
# At $t = T$ the fork has nothing in common with the way, so its pairs are two different images of one digit. There are
# few of them among `SAMPLES`; therefore all pairs of ends of different ways are taken, whose digit is the same.

# %%
def apart(a, b):
    return (a - b).square().mean(dim=(1, 2, 3)).sqrt()

for seed, way in ways.items():
    ends, digit = way[-1].x_t, read(way[-1].x_t)
    i, j = np.nonzero(np.triu(digit[:, None] == digit, k=1))
    print(f"seed {seed}: two ways {apart(ends[i], ends[j]).mean():.2f}", end="")
    for at in (20, 26, 32, 38, 44):
        noise = ImageNoise(seed + 100, range(1, SAMPLES + 1), device=device)
        fork = go(way[at].x_t, at, dice, noise)[-1].x_t
        same = torch.from_numpy(read(fork) == digit)
        print(f"; t = {stops[at]}: {apart(fork, ends)[same].mean():.2f}", end="")
    print()

# %% [markdown]
# **What to expect.** Two different images of the same digit are 0.51 to 0.67 apart. A fork at $t = 498$ ends 0.37 to
# 0.44 from its way, at 398 0.25 to 0.26, at 299 0.16 to 0.17, at 100 0.05 to 0.06. So it falls to half between $t = 498$ and 398, and
# goes on falling to the end. The class was decided earlier: in Act 4 of the notebook its share rises most between 564
# and 432. First the digit, then the hand, last the soft edge of the strokes: coarse to fine, as in Choi et al. (2022).
# Other seeds move these numbers by up to 0.07, and that of two ways by twice as much, as it depends on which digits there are.

# %% [markdown]
# ## Exercise 4 (code)
#
# *The DDPM figure over equal steps of log-SNR, from $t = T$ to $t = 1$.*
#
# Eight values of $\log \mathrm{SNR}$, evenly spaced between the two ends, and for each the $t$ that is nearest.

# %%
logs = schedule.snr[1:].log()  # of t = 1, …, T
wanted = torch.linspace(logs[-1], logs[0], 8, dtype=torch.float64)
columns = [1 + int((logs - value).abs().argmin()) for value in wanted]
seed = SEEDS[0]
frames = figures.grid_frames(denoise, Sampler("ddpm"), seed, device, ROWS, at=columns)
print("equal steps of t:      ", nodes(T))
print("equal steps of log-SNR:", columns)
figures.diffusion_grid(frames, "DDPM, equal steps of log-SNR")

# %% [markdown]
# **What to expect.** The columns are 830, 695, 527, 313, 117, 32, 7 and 1: nothing is random in them. Half of the
# picture now shows a finished digit with less and less noise, and the moment in which it appears fills one column
# instead of three. For an engineer this is the better figure: solvers of second order count in log-SNR (notebook 3), and
# one sees what the last steps are for. For a reader who wants to see how a digit comes about, and for the homework,
# which asks for equal *times*, it is the worse one. Note that it has no column for $t = 0$, whose SNR is infinite.

# %% [markdown]
# ## Exercise 5 (think)
#
# *Where does 1.39 come from?*
#
# At $t = T$ the state $x_T$ is nearly pure noise: mean 0, variance 1. With fresh noise in each step it is nearly
# independent of the image $x_0$ in which the way ends. Then
#
# $$\mathbb E (x_T - x_0)^2 = \mathbb E x_T^2 + \mathbb E x_0^2 = 1 + (-0.737)^2 + 0.617^2 = 1.924,$$
#
# since the mixed term is $2\,\mathbb E x_T\,\mathbb E x_0 = 0$. The root is 1.387. (With DDIM the image follows from the
# noise: it is a little brighter where the noise was, so the mixed term is not 0, and the line begins lower, at 1.34 for
# 400 images of the kit's weights.) To see it, take the kit's digits for the images.

# %%
from hwkit.mnist.batches import normalize
from hwkit.mnist.sources import SAMPLE

with np.load(SAMPLE) as arrays:
    digits = normalize(torch.from_numpy(arrays["images"][:, None]))[:, :1]
for seed in SEEDS:
    noise = torch.randn(digits.shape, generator=torch.Generator().manual_seed(seed))
    rms = [(x - digits).square().mean().sqrt() for x in (noise, noise.clamp(-1, 1))]
    print(f"seed {seed}: without clipping {rms[0]:.3f}, with clipping {rms[1]:.3f}")

# %% [markdown]
# **What to expect.** 1.387 without clipping, on paper and with all three seeds, and 1.200 with clipping, where the
# dotted line of η = 1 in Act 3 begins (a little off, as generated images are not exactly MNIST's). The difference is the noise
# beyond $\pm 1$, a third of its values, which clipping takes away: the mean square of clipped noise is 0.516 instead
# of 1, and $\sqrt{0.516 + 0.924} = 1.200$.
