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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/04_visualization.ipynb)
#
# **English** · [繁體中文](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/zh-TW/04_visualization.ipynb)
#
# # 4 · Watching it happen
#
# Noise goes in, a digit comes out. When does it become *that* digit? You draw the two figures that the homework asks for,
# put a slider on the whole way, look at what the network believes, and measure the moment of decision.
#
# *About 45 minutes, 2 to 8 of them waiting (an estimate for two CPU cores, free or busy). Before it: notebook 3, and a run. After it you can
# say when a digit is decided, and show it.*

# %% [markdown]
# ## Where this leads
#
# The first cell starts the notebook and shows its last picture, which moves: eight samples, from noise to digits, ready for
# your slides.

# %%
import os, sys

clone = "[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit hwkit"
if "google.colab" in sys.modules and os.system(clone):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [*map(os.path.abspath, ("..", "../..", "../../..")), "/content/hwkit"]
from hwkit import notebook

notebook.start("04_visualization", drive=True)  # False: nothing is kept on Drive

# %% [markdown]
# `RUN` names a run's folder under `runs/`; `None` takes your newest one. Another `SEED` gives eight other samples. `DPI` is
# the resolution of the two figures that you hand in: 300 is right for print. `SAMPLES` is how many ways Acts 3 and 4 measure.

# %% tags=["parameters"]
RUN = None
SEED = 7
DPI = 300
SAMPLES = 100

# %% [markdown]
# The network and its schedule, as in notebook 3. From here on we use the kit's own `Denoiser`, `ddim_step` and `ddpm_step`:
# what they compute is what notebook 3 asks you to write.

# %%
from hwkit.runs.checkpoint import best_of, load_denoiser
from hwkit.runs.speed import best_device

run, device = notebook.find_run(RUN), best_device()
denoise = load_denoiser(best_of(run), device)
alpha_bar, T = denoise.schedule.alpha_bar, denoise.schedule.T

# %% [markdown]
# ## Act 1 · The two figures
#
# Eight samples, each at eight times. Which times? Evenly from pure noise to the finished image, **both ends included**:
#
# $$t_k = T\,\big(1 - \tfrac{k}{7}\big), \qquad k = 0, \dots, 7.$$
#
# Write them down, rounded to whole numbers.

# %%
def nodes(T, count=8):
    """`count` falling whole numbers, evenly spaced, from T to 0."""
    ### BEGIN SOLUTION 4.1: the times of the columns
    return [round(T * (1 - k / (count - 1))) for k in range(count)]
    ### END SOLUTION


# %%
from hwkit.course.selfcheck import check

check(nodes)

# %% [markdown]
# DDIM with 50 steps does not stop at all of these by itself. So its nearest stop is moved onto each of them, and it
# still makes 50 steps.

# %% tags=["nbval-check-output"]
from hwkit.sampling import times

columns = [int(t) for t in nodes(830)]
print(columns)
ddim_times = times(830, 50, through=columns)
through = set(columns) <= set(ddim_times)
print(len(ddim_times) - 1, "steps, through all of them:", through)

# %% [markdown]
# Sample once, draw often. `slider_frames` sends the same eight $x_T$ down both ways, DDIM in 50 steps and DDPM in all of
# them. It keeps $x_t$ and $\hat x_0$ at DDIM's times: 51 of them for $T = 830$. On two CPU cores this takes about a minute.

# %%
from hwkit.show.slider import slider_frames

frames = slider_frames(denoise, SEED, device)
print(len(frames.times), "times; columns at", list(frames.nodes))
for name, images in frames.sequences.items():
    print(f"{name}: {images.shape}")

# %% [markdown]
# The frames at the eight columns are the figure. A small helper picks them, and each figure is saved at full resolution into
# the run's folder.

# %%
import torch
from hwkit.mnist.batches import normalize
from hwkit.sampling import Frame
from hwkit.show import figures


def pick(sampler, rows=8):
    columns = []
    for t in frames.nodes:
        at, parts = frames.times.index(t), []
        for kind in ("xt", "x0"):
            images = frames.sequences[f"{sampler}-{kind}"][at][:rows]
            parts.append(normalize(torch.from_numpy(images)))
        columns.append(Frame(t, *parts))
    return columns


ddpm_grid = figures.diffusion_grid(pick("ddpm"), frames.samplers[1])
figures.save(ddpm_grid, run / "figures" / "diffusion_grid_ddpm.png", dpi=DPI)
ddpm_grid

# %% [markdown]
# And DDIM, from the same noise: compare the first columns of both figures, they are equal. (Say so in your report: only then
# is the comparison fair, and readers look for it.)

# %%
ddim_grid = figures.diffusion_grid(pick("ddim"), frames.samplers[0])
figures.save(ddim_grid, run / "figures" / "diffusion_grid_ddim.png", dpi=DPI)
notebook.keep(run)
ddim_grid

# %% [markdown]
# **What to notice.** The first columns of both figures look like nothing but noise, and the last one is clean. Compare row by
# row: the noise was the same, and still DDPM and DDIM end in different pictures in most rows. DDPM adds fresh noise on the
# way, and that leads it elsewhere. In the second-last column the digit is finished; what is left is a film of noise on it.
# (If a row ends in something that is no digit: your model makes such images too. Do not hide it.)

# %% [markdown]
# ## Act 2 · The slider
#
# Eight columns are eight moments. Now look at all of them: drag the slider, use the arrow keys, or press play. Change between
# DDIM and DDPM, and between $x_t$ and $\hat x_0$. The marks are the columns of the figures above. (A page that cannot run the
# slider, as GitHub, shows one picture of it.)

# %%
notebook.show_slider(frames)

# %% [markdown]
# **What to notice.** Nothing is computed while you drag: the frames were sampled before, and your browser moves them. The same
# slider as a page needs neither Python nor network. Write that page, and send it to a friend.

# %%
from hwkit.files import write_text
from hwkit.show.slider import slider_html

page = run / "figures" / "slider.html"
write_text(page, slider_html(frames, "From noise to digits"))
notebook.keep(run)
print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# **And where the network itself runs in the browser?** Try [the kit's page](https://OWNER.github.io/hwkit/index.html), where your
# course has published it: draw a digit and noise it, fork any state, bend the schedule, or drop your
# `ema_latest.safetensors` on it (`python -m hwkit export` makes that file). `make page`, or
# `python -m hwkit page --out site`, builds such a page from your run; the folder works on any static host.

# %% [markdown]
# ## Act 3 · What the network believes
#
# On most of the way $x_t$ is mostly noise: in its mean square noise has the share $1-\bar\alpha_t$. What the network *believes* to be
# under it is $\hat x_0$. Here are both, for two of the samples, at the same eight times.

# %%
rows = {}
for i in range(2):
    way = pick("ddpm")
    rows[f"sample {i + 1}: $x_t$"] = torch.stack([frame.x_t[i] for frame in way])
    rows[f"sample {i + 1}: guess"] = torch.stack([frame.x0_hat[i] for frame in way])
columns = [f"$t={t}$" for t in frames.nodes]
figures.labelled_rows(rows, "DDPM: the image so far, and the guess", above=columns)

# %% [markdown]
# **What to notice.** Where $x_t$ is still noise to your eye, the guess is already a soft shape, and between two columns it may
# turn into another digit. But these are two samples. Is it so for most of them, and when does it stop? That has to be counted.

# %% [markdown]
# So send `SAMPLES` new noises down, 50 steps each: once by DDIM, and once by its noisy form, $\eta = 1$, which adds as much
# fresh noise as DDPM does. At each stop note two things: how far $\hat x_0$ and $x_t$ are from the picture in which this way ends
# (root of the mean square), and whether the kit's classifier reads in $\hat x_0$ the digit of the end.

# %%
from functools import partial
from hwkit.diffusion import ddim_step
from hwkit.measure.features import classify, digit_features
from hwkit.mnist.batches import to_uint8
from hwkit.sampling import ImageNoise, sample

stops = times(T, min(50, T))


def ways(eta, seed=SEED):
    noise = ImageNoise(seed, range(1, SAMPLES + 1), device=device)
    step = partial(ddim_step, eta=eta)
    return list(sample(denoise, noise(), stops, alpha_bar, step, noise))


def read(images):
    return classify(digit_features(to_uint8(images).cpu()))


# %% [markdown]
# Now the two ways, and what was noted. The distance is taken for each sample and then averaged; the class is compared with that
# of the same sample's end. This takes about a minute on two CPU cores (an estimate).

# %%
found = {}
for name, eta in (("DDIM", 0.0), ("DDIM, η = 1", 1.0)):
    way = ways(eta)
    end = way[-1].x_t
    far = {"x_t": [], "guess": [], "same digit": []}
    for frame in way:
        for kind, x in (("x_t", frame.x_t.clamp(-1, 1)), ("guess", frame.x0_hat)):
            rms = (x - end).square().mean(dim=(1, 2, 3)).sqrt()
            far[kind].append(rms.mean().item())
        far["same digit"].append((read(frame.x0_hat) == read(end)).mean())
    found[name] = far

# %% [markdown]
# Draw them: the distances on the left, the share of samples whose guess is read as the digit of the end on the right. Time
# runs from left to right, towards the image. On the left the colour tells the sampler, and $x_t$ is dotted; on the right
# the samplers differ in colour and in style.

# %%
from matplotlib.figure import Figure

figure = Figure(figsize=(9.4, 3.6), layout="constrained")
left, right = figure.subplots(1, 2)
looks = ((figures.INK, "-"), (figures.ACCENT, "--"))
for (name, far), (color, line) in zip(found.items(), looks, strict=True):
    for kind, style in (("x_t", ":"), ("guess", "-")):
        label = f"{name}: {'$x_t$' if kind == 'x_t' else 'guess'}"
        left.plot(stops, far[kind], style, color=color, label=label)
    right.plot(stops, far["same digit"], line, color=color, label=name)
left.set(xlabel="t", ylabel="distance to the end (RMS)")
right.set(xlabel="t", ylabel="guess is read as the digit of the end", ylim=(0, 1.02))
for axes in (left, right):
    axes.invert_xaxis()
    axes.legend(frameon=False, fontsize=9)
figure.set_label(f"Left: distances; right: agreement with the end; {SAMPLES} samples")
figure

# %% [markdown]
# And as numbers, at the times of the figure's columns (the stop that is nearest to each). With $n$ samples the standard error of a
# share $p$ is $\sqrt{p(1-p)/n}$: for 100 samples 0.05 at most, so a difference of 0.05 tells you nothing.

# %%
print(f"{SAMPLES} samples; share of guesses that are read as the digit of the end")
print(f"{'t':>14} " + " ".join(f"{t:5}" for t in frames.nodes))
near = [min(range(len(stops)), key=lambda i: abs(stops[i] - t)) for t in frames.nodes]
for name, far in found.items():
    print(f"{name:>14} " + " ".join(f"{far['same digit'][i]:5.2f}" for i in near))
    for kind in ("x_t", "guess"):
        left_over = far[kind][len(stops) // 2] / far[kind][0]
        print(f"    half-way, {kind} is at {left_over:.0%} of its first distance")

# %% [markdown]
# **What to notice.** Find in each of the two rows the first column where nine of ten guesses already name the digit of the end,
# and look at the same column of the figures of Act 1: how much can *you* see there? The guess gets near the end well before $x_t$ does. With
# fresh noise ($\eta = 1$) it settles later, as each new noise can change its mind.

# %% [markdown]
# ## Act 4 · When is the digit decided?
#
# A guess can be wrong. A cleaner experiment: **fork** the way. Stop at some $t$, copy $x_t$, and let each copy go on with fresh
# noise of its own ($\eta = 1$). What all copies have in common at the end was decided before $t$. First look at one way, with
# eight copies for each $t$.

# %%
noise = ImageNoise(SEED, [3], device=device)
dice = partial(ddim_step, eta=1.0)
one = list(sample(denoise, noise(), stops, alpha_bar, dice, noise))
rows = {}
for at in sorted({len(stops) * k // 51 for k in (0, 12, 20, 28, 38)}):
    noise = ImageNoise(SEED + 1, range(8), device=device)
    copies = one[at].x_t.repeat(8, 1, 1, 1)
    *_, end = sample(denoise, copies, stops[at:], alpha_bar, dice, noise)
    rows[f"forked at t = {stops[at]}"] = end.x_t.cpu()
figures.labelled_rows(rows, "One way, eight copies for each fork")

# %% [markdown]
# **What to notice.** Read the rows from the top, and ask of each: do the eight have the same class? the same slant? the same
# pixels? The last row forks so late that little is left to decide. But one way is an anecdote. Count.

# %% [markdown]
# For all `SAMPLES` noisy ways of Act 3 (`way` holds them): fork each at seven times, one copy each, and compare the end of the
# copy with the end of the way itself. Are both read as the same digit? Two digits drawn at random agree in about one case of ten.
# About two minutes on two CPU cores (an estimate).

# %%
import numpy as np

ends, agree = read(way[-1].x_t), {}
for at in sorted({(len(stops) - 1) * k // 50 for k in (0, 8, 16, 24, 32, 40, 46)}):
    noise = ImageNoise(SEED + 2, range(1, SAMPLES + 1), device=device)
    *_, end = sample(denoise, way[at].x_t, stops[at:], alpha_bar, dice, noise)
    same = (read(end.x_t) == ends).sum()
    p = (same + 1) / (SAMPLES + 2)  # so that "all of them" has an error too
    agree[stops[at]] = same / SAMPLES, np.sqrt(p * (1 - p) / SAMPLES)
for t, (share, error) in agree.items():
    print(f"forked at t = {t:3}: {share:4.0%} ± {error:.0%} end in the same digit")

# %% [markdown]
# The same as a picture, with the standard errors, and the 10 % of chance as a dotted line.

# %%
figure, axes = figures.plot("forked at t", "end in the same digit", size=(7, 3.2))
share, error = np.array(list(agree.values())).T
axes.errorbar(list(agree), share, error, fmt="o-", color=figures.INK, capsize=3)
axes.axhline(0.1, color=figures.ACCENT, linestyle=":", label="two random digits")
axes.set_ylim(0, 1.05)
axes.invert_xaxis()
axes.legend(frameon=False)
figure

# %% [markdown]
# **What to notice.** From which time to which does the share rise from chance to nearly all? On that stretch the class of most
# samples is decided. Forks after it still differ, but mostly in the handwriting, not in the digit. Compare with the right-hand
# plot of Act 3, for $\eta = 1$: the network's belief and the decision rise together, since what is believed pulls $x_t$ towards itself.

# %% [markdown]
# ## Act 5 · An animation for your slides
#
# Slides want a file that moves by itself. An *animated PNG* plays in web browsers, and shows its first frame where a program
# cannot play it, so the first frame is the finished digits. It runs three times and stops. One palette for all frames, of 16
# greys and 24 colours of the noise, keeps it small.

# %%
shots = [figures.tile(step, columns=4) for step in frames.sequences["ddim-xt"]]
png, gif = figures.animation(shots)

# %% [markdown]
# Save both beside the other figures, and look at it. Browsers play the PNG; for slides the GIF is the safer one. (We could not
# try Google Slides or PowerPoint.)

# %% tags=["goal"]
from IPython.display import Image as Picture
from hwkit.files import write_bytes

write_bytes(run / "figures" / "diffusion.png", png)
write_bytes(run / "figures" / "diffusion.gif", gif)
notebook.keep(run)
what = "Eight samples of DDIM, two rows of four, on their way from noise to digits"
Picture(png, metadata={"alt": what})

# %% [markdown]
# **What to notice.** For about half of the way you see next to nothing but noise. What you see happen in the last part was
# decided in the middle.

# %% [markdown]
# ## Summary
#
# - The homework's two figures: eight samples × eight times, both ends included, DDPM and DDIM from the same noise.
# - The slider shows the whole way; `slider.html` needs no Python.
# - The network's belief $\hat x_0$ settles before $x_t$ shows it, and later where fresh noise is added.
# - A fork tells when the digit is decided. One sample is an anecdote: count, and give the error.
#
# **Next:** [05_fid](05_fid.ipynb) asks how good the digits are, in a number, and how such a number misleads.

# %% [markdown]
# ## Exercises
#
# Worked answers, with the numbers to expect, stand in `notebooks/solutions/04_visualization.ipynb`.
#
# 1. *(look, 5 minutes)* With the slider on $\hat x_0$ and DDPM, find a sample whose guess changes its class on the
#    way. At which $t$ is the last change? Do most of the eight change for the last time before or after the column
#    at which *you* first see a digit in $x_t$?
#
#    <details><summary>Hint</summary>
#
#    Click on a mark in the middle, then go with the arrow keys, first towards the noise and then towards the digit,
#    and watch one sample at a time.
#
#    </details>
#
# 2. *(code, 10 minutes)* In the cell with the eight copies, let the copies go on with $\eta = 0$. Say before you run
#    it: what do the eight of a row have in common? Do they end in what the way itself ends in?
#
#    <details><summary>Hint</summary>
#
#    `dice` is the only place where chance comes in. The way that is forked was still made with $\eta = 1$.
#
#    </details>
#
# 3. *(code, 15 minutes)* Act 4 counts the class. Measure the handwriting too: take the distance (RMS) between both
#    ends, of those pairs only that end in the same digit. Between which two forks does it fall to half of what it is
#    at $t = T$? Is that earlier or later on the way than the class?
#
#    <details><summary>Hint</summary>
#
#    Both ends are images of the shape (`SAMPLES`, 3, 28, 28). Act 3 has a line that takes such a distance for each
#    sample; the comparison of the classes tells which samples to keep.
#
#    </details>
#
# 4. *(code, 15 minutes)* Draw the DDPM figure over equal steps of log-SNR, from $t = T$ to $t = 1$, instead of equal
#    steps of $t$. Is it a better figure? For whom?
#
#    <details><summary>Hint</summary>
#
#    For each of the eight values, find the $t$ whose $\log \mathrm{SNR}$ is nearest (the schedule's `snr` holds
#    them all). `figures.grid_frames` has an argument for the times of the columns.
#
#    </details>
#
# 5. *(think, 10 minutes)* In Act 3 $x_t$ was clipped to $[-1, 1]$. Without that the dotted line of η = 1
#    begins at about 1.39. Derive that number from the mean and the standard deviation of the pixels in notebook 1 (−0.737 and
#    0.617). DDIM's begins a little lower. Why?
#
#    <details><summary>Hint</summary>
#
#    With fresh noise in each step, $x_T$ knows next to nothing of the image in which the way ends. What is the mean
#    square of a difference of two things that are independent?
#
#    </details>

# %% [markdown]
# ## References
#
# - J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, 2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): figures 6 and 7, progressive generation and shared latents (the forks).
# - J. Song, C. Meng, S. Ermon, *Denoising Diffusion Implicit Models*, 2021, [arXiv:2010.02502](https://arxiv.org/abs/2010.02502): §5.2, consistency of DDIM.
# - J. Choi et al., *Perception Prioritized Training of Diffusion Models*, 2022, [arXiv:2204.00227](https://arxiv.org/abs/2204.00227): §3, coarse to fine.
