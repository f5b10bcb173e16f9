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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/01_data.ipynb)
#
# # 1 · From ink to noise
#
# A diffusion model learns to undo damage. So the first thing to understand is the damage: how a clean digit becomes
# pure noise, in 830 small steps that need no training at all. Everything later runs this film backwards.
#
# *About 10 minutes. You need: what a mean and a variance are. You do not need a GPU.*

# %% [markdown]
# ## Where this leads
#
# Run the first cell. It makes the notebook ready (on Colab it fetches the kit; elsewhere it has nothing to fetch), and shows
# the picture that you will have drawn yourself by the end: digits on their way into noise, by two schedules.

# %%
import os, sys

if "google.colab" in sys.modules and os.system("[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit"):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [os.path.abspath(".."), "/content/hwkit"]
from hwkit import notebook

notebook.start("01_data", drive=False)  # drive=True keeps your runs in MyDrive/hwkit

# %% [markdown]
# Three numbers decide what this notebook shows. `SOURCE` may name your own copy of MNIST (a folder, a `.zip`, an `.npz`); with
# `None` the kit takes what is prepared already, or downloads it, or falls back on 5,000 digits that it carries along.

# %% tags=["parameters"]
SOURCE = None
T = 830
SEED = 0

# %% [markdown]
# ## Act 1 · Sixty thousand digits
#
# MNIST is 60,000 training images of handwritten digits. The kit writes them as ordinary PNG files, because that is what you
# will hand in at the end too, and then keeps them in memory as **one** tensor of bytes: 47 MB, and no disk in the training loop.

# %%
from hwkit.mnist.folder import load_folder
from hwkit.mnist.sources import prepare

images = load_folder(prepare(SOURCE, out="data"))
print(images.shape, images.dtype)

# %% [markdown]
# Before any mathematics, look at your data. A hundred of them are drawn at random, by a generator with a seed of its own, so
# that you and your neighbour see the same hundred.

# %%
import torch
from hwkit.show import figures

generator = torch.Generator().manual_seed(SEED)
some = torch.randperm(len(images), generator=generator)[:100]
figures.sample_sheet(images[some], columns=20)

# %% [markdown]
# **What to notice.** Strokes are white on black, and nearly always soft at the edge. Sevens come with and without a bar, some
# fours are open and some closed, a few digits are hardly digits. Your model will learn all of that, the doubtful ones included:
# it is asked to draw *like this pile*, not to draw well.

# %% [markdown]
# Results should not depend on whose machine they come from. So the kit carries 5,000 MNIST digits inside the repository, and
# cells with the tag `nbval-check-output` must print the same thing everywhere: `make test` compares them, letter by letter.

# %% tags=["nbval-check-output"]
import hashlib
import numpy as np
from hwkit.mnist.sources import SAMPLE

with np.load(SAMPLE) as arrays:
    digits, labels = torch.from_numpy(arrays["images"]), arrays["labels"]
print(digits.shape, digits.dtype, "of each class:", np.bincount(labels))
print("SHA-256", hashlib.sha256(digits.numpy()).hexdigest()[:16])

# %% [markdown]
# ## Act 2 · Colour, range, and what not to do
#
# The homework wants RGB, and a diffusion model wants numbers near zero. Each byte $p \in \{0, \dots, 255\}$ becomes
#
# $$x = \frac{p}{127.5} - 1 \;\in\; [-1, 1],$$
#
# and the one grey channel is shown to the network as three equal ones. The way back rounds to the nearest byte, so
# nothing is lost.

# %% tags=["nbval-check-output"]
from hwkit.mnist.batches import normalize, to_uint8

x = normalize(digits[:, None])
print(x.shape, x.dtype, "from", x.min().item(), "to", x.max().item())
print("channels equal:", torch.equal(x[:, 0], x[:, 2]))
print("there and back:", torch.equal(to_uint8(x)[:, 0], digits))

# %% [markdown]
# Why this range? Because in a moment we add noise $\varepsilon \sim \mathcal N(0, 1)$ to every pixel, and picture and noise should speak
# at about the same volume. Here are the values of all pixels of the 5,000 digits, and the bell of the noise beside them.

# %%
figure, axes = figures.plot("value", "density (log scale)", size=(6.4, 3))
axes.hist(x[:, 0].flatten(), bins=64, density=True, color=figures.INK, label="pixels of the digits")
grid = torch.linspace(-3.5, 3.5, 200)
axes.plot(grid, torch.exp(-(grid**2) / 2) / 2.507, color=figures.ACCENT, label="noise, N(0, 1)")
axes.set_yscale("log")
axes.legend(frameon=False, loc="upper right")
print(f"{(digits == 0).float().mean():.0%} black; mean {x.mean():.2f}; standard deviation {x.std():.2f}")
figure

# %% [markdown]
# **What to notice.** Four pixels in five are exactly black, and hardly any are grey: this is a picture made of *shapes*, not of shades.
# Had we kept $[0, 1]$, the same noise would be twice as loud beside the picture, and a sampler that returns to $[-1, 1]$
# would find no digits there: a classic mistake, whose result you will see (and measure) in notebook 5.

# %% [markdown]
# Many tutorials flip or turn their training images to have more of them. For a classifier that is often wise. For a *generator*
# it changes what it is asked to draw. See what six digits look like in a mirror, and upside down.

# %%
chosen = digits[[np.flatnonzero(labels == d)[3] for d in (2, 3, 4, 5, 6, 7)]][:, None]
rows = torch.cat([chosen, chosen.flip(-1), chosen.flip(-1, -2)])
figures.sample_sheet(rows, columns=6, title="as they are · in a mirror · upside down")

# %% [markdown]
# An opinion is good, a number is better. The kit has a small classifier of digits, right on 99.6 % of MNIST's test set. We ask it to
# read the 5,000 digits as they are, in a mirror, and upside down. (How the last column is measured is the subject of notebook 5.)

# %%
from hwkit.measure.features import classify, digit_features
from hwkit.measure.score import digit_fid

ways = {"as they are": digits, "mirrored": digits.flip(-1), "upside down": digits.flip(-1, -2)}
for name, changed in ways.items():
    right = (classify(digit_features(changed[:, None])) == labels).mean()
    distance, error = digit_fid(torch.cat([digits, changed])[:, None])
    print(f"{name:12} read correctly {right:6.1%}    digit-FID of originals and copies {distance:5.2f}")

# %% [markdown]
# **What to notice.** A mirrored 2 is no 2, a turned 6 is a 9. Even a *perfect* model of the augmented pile would score 8 instead of 0.3:
# the harm is done before training begins. **So the kit does not augment.** It has no need to: whenever an image comes round again it
# carries fresh noise at another strength, so the network never sees the same input twice. The noise *is* the augmentation.

# %% [markdown]
# ## Act 3 · The forward process
#
# One step shrinks the picture a little and adds a little noise, $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon_t$. With
# $\beta_1 = 0.0001$ rising to $\beta_{830} = 0.02$, no single step does much. Follow one white pixel and one black
# pixel through all of them, forty times each.

# %%
beta = torch.linspace(1e-4, 2e-2, T, dtype=torch.float64)
generator = torch.Generator().manual_seed(SEED)
paths = [torch.tensor([1.0, -1.0]).repeat(40)]  # forty white pixels, forty black ones
for beta_t in beta:
    noise = torch.randn(80, generator=generator)
    paths.append((1 - beta_t).sqrt() * paths[-1] + beta_t.sqrt() * noise)
white, black = torch.stack(paths)[:, 0::2], torch.stack(paths)[:, 1::2]  # (T + 1, 40) each

# %% [markdown]
# Now draw the eighty walks, with the band in which 95 % of them should lie at each time. Where the band comes from is the next
# equation; for now, watch how long the two colours can still be told apart.

# %%
alpha_bar = torch.cat([torch.ones(1), (1 - beta).cumprod(0)])  # (T + 1,), with ᾱ_0 = 1
mean, spread = alpha_bar.sqrt(), 2 * (1 - alpha_bar).sqrt()
figure, axes = figures.plot("t", "pixel value", size=(7.5, 3.6))
for start, walks, color in ((1, white, figures.ACCENT), (-1, black, figures.INK)):
    axes.plot(walks, color=color, linewidth=0.4, alpha=0.5)
    low, high = start * mean - spread, start * mean + spread
    axes.fill_between(range(T + 1), low, high, color=color, alpha=0.12)
    axes.plot(start * mean, color=color, linewidth=2, label=f"began at {start:+}")
axes.legend(frameon=False, loc="lower right", ncols=2)
figure


# %% [markdown]
# **What to notice.** Two things happen at once: the thick lines (the *signal*) sink to zero, and the bands (the *noise*) widen to ±2. At
# $t = 830$ the bands lie on top of each other, and nobody can say which walk began white: the information is gone. And the
# spread stays bounded, because each step shrinks before it adds. That is why the paper calls it *variance preserving*.

# %% [markdown]
# Steps of Gaussian noise add up to Gaussian noise, so all of the first $t$ steps can be made in **one jump**. With
# $\bar\alpha_t = \prod_{i \le t} (1 - \beta_i)$,
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1-\bar\alpha_t}\; \varepsilon, \qquad \varepsilon \sim \mathcal N(0, I). \tag{Ho et al., eq. 4}$$
#
# This is the most used line of the whole kit. Write it.

# %% tags=["core"]
def q_sample(x_0, alpha_bar_t, eps):
    return alpha_bar_t**0.5 * x_0 + (1 - alpha_bar_t) ** 0.5 * eps


# %% [markdown]
# Your function should agree with the eighty walks: at every time, their mean is $\pm\sqrt{\bar\alpha_t}$ and their variance $1-\bar\alpha_t$, up to
# the luck of forty draws. Many more pixels make the luck small, so let us take 100,000 that begin white.

# %%
generator = torch.Generator().manual_seed(SEED)
for t in (100, 400, 830):
    walk = torch.ones(100_000, dtype=torch.float64)
    for beta_t in beta[:t]:
        walk = (1 - beta_t).sqrt() * walk + beta_t.sqrt() * torch.randn(100_000, generator=generator)
    jump = q_sample(torch.ones(100_000), alpha_bar[t], torch.randn(100_000, generator=generator))
    print(f"t = {t}: {t} steps  mean {walk.mean():+.3f}  std {walk.std():.3f}")
    print(f"         one jump  mean {jump.mean():+.3f}  std {jump.std():.3f}")

# %% [markdown]
# Now a whole digit instead of a pixel: your `q_sample` at eight times from 0 to 830, with the same noise $\varepsilon$ all the way, so that only
# the mixture changes. These eight times will return: they are the columns of the figure that you hand in.

# %%
from hwkit.sampling import Frame, nodes

x_0 = normalize(chosen[[0, 2, 4]])
eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(SEED))
frames = [Frame(t, q_sample(x_0, alpha_bar[t], eps).float(), x_0) for t in nodes(T)[::-1]]
print("share of the image:", "  ".join(f"{alpha_bar[frame.t].sqrt():.2f}" for frame in frames))
figures.diffusion_grid(frames)

# %% [markdown]
# **What to notice.** The noise is *coloured*, though the digit is grey: each of the three channels gets noise of its own. (Two thirds of that
# noise is pure colour. Notebook 2 turns this remark into far better digits in the same time.) By $t = 356$ the digit is hard
# to see, by $t = 474$ it is gone for you, yet 25 % of it is still there. A network will see it longer than you do.

# %% [markdown]
# ## Act 4 · Two schedules
#
# How fast should the picture fade? *Linear* raises $\beta_t$ evenly (Ho et al.). *Cosine* bends $\bar\alpha_t$ itself into a gentle S
# (Nichol & Dhariwal), so that the middle times are not wasted on near-noise. The kit stores a schedule as its table of $\bar\alpha$, and here it must
# equal the product that you just took.

# %% tags=["nbval-check-output"]
from hwkit.schedule import cosine, linear

print("same table:", torch.allclose(linear(830).alpha_bar, alpha_bar, atol=1e-12, rtol=0))
for schedule in (linear(830), cosine(830)):
    values = (f"ᾱ_{t} = {schedule.alpha_bar[t]:.4f}" for t in (1, 119, 356, 593, 830))
    print(f"{schedule.name:7}", "  ".join(values))

# %% [markdown]
# The left plot shows the share $\sqrt{\bar\alpha_t}$ of the image in $x_t$, the right one the *signal-to-noise ratio* $\bar\alpha_t / (1-\bar\alpha_t)$, on a
# logarithmic scale: above the dotted line there is more image than noise. The legend gives $\sqrt{\bar\alpha_T}$, what is left at the very end.

# %%
figures.schedule_curves([linear(T), cosine(T)])

# %% [markdown]
# **What to notice.** Linear drops quickly and then lingers: from half-way on, less than a fifth of the picture is left. Cosine keeps it
# for longer and then falls off a cliff. Both end (almost) at zero, and they must: the sampler starts from *pure* noise, and if the
# training never saw pure noise, it starts from a place where the network has never been.

# %% [markdown]
# That last point is a trap in which many a homework sits. The $\beta$ of the linear schedule were chosen for $T = 1000$. Take fewer
# steps and keep the same $\beta$, and a ghost of the digit survives to the end. $\sqrt{\bar\alpha_T}$ gives it away:

# %% tags=["nbval-check-output"]
for steps in (100, 300, 830, 1000):
    print(linear(steps))

# %% [markdown]
# And as a picture: the last state $x_T$ of the same digit with the same noise, for these four $T$. On the left there is still a digit
# in what should be noise.

# %%
last = [linear(steps).alpha_bar[-1] for steps in (100, 300, 830, 1000)]
x_T = torch.cat([q_sample(x_0[:1], alpha_bar_T, eps[:1]) for alpha_bar_T in last])
figures.sample_sheet(to_uint8(x_T), columns=4, title="x_T for T = 100, 300, 830, 1000")

# %% [markdown]
# **What to notice.** With $T = 100$ the "noise" is a digit. $T = 830$, the choice of the original that this kit follows, leaves 1.5 % of
# the picture: not zero, but far below what matters. Whenever you change $T$ or a schedule, look at this one number first.

# %% [markdown]
# To close, the picture from the top, now by your own hand: the same digits with the same noise, fading by the linear schedule in the
# upper rows and by the cosine in the lower ones.

# %% tags=["goal"]
both = []
for t in nodes(T)[::-1]:
    x_t = [q_sample(x_0[:2], schedule.alpha_bar[t], eps[:2]) for schedule in (linear(T), cosine(T))]
    both.append(Frame(t, torch.cat(x_t).float(), x_0))
figures.diffusion_grid(both, "linear (above) and cosine (below)")

# %% [markdown]
# ## Summary
#
# - MNIST as RGB is one grey picture three times; inside the model it lives in $[-1, 1]$, and the way back to bytes is exact.
# - The forward process has nothing to learn. `q_sample` jumps from $x_0$ to any $x_t$ in one line.
# - $\bar\alpha_t$ is the whole schedule. $\sqrt{\bar\alpha_t}$ of the image is left at time $t$, and $\sqrt{\bar\alpha_T}$ must be close to 0.
# - No augmentation: a generator learns the pile it is shown.
#
# **Next:** [02_training](02_training.ipynb) teaches a network to look at $x_t$ and say what is underneath.

# %% [markdown]
# ## Exercises
#
# 1. *(by hand)* Show from the one-step rule that the variance of $x_t$ stays 1 if that of $x_0$ is 1. Our digits have 0.62² = 0.38: what does it do then?
# 2. *(code)* At which $t$ is there exactly as much image as noise (SNR = 1), for each schedule? One line with `schedule.snr`.
# 3. *(code)* Write the cosine schedule from its equation, $\bar\alpha_t = f(t)/f(0)$ with $f(t) = \cos^2\!\big(\tfrac{t/T + 0.008}{1.008}\cdot\tfrac\pi2\big)$, and compare it with `cosine(830)`. Where do they differ, and why is $\beta$ capped at 0.999?
# 4. *(look)* Use noise that is *equal* in all three channels (`eps[:, :1].expand(-1, 3, -1, -1)`) in the last picture. Which of the two pictures would you find easier to clean, and why?
# 5. *(think)* Rescale the linear $\beta$ for $T = 100$ so that $\sqrt{\bar\alpha_T} \approx 0.015$ again. What do single steps look like then?

# %% [markdown]
# ## References
#
# - J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, 2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): §2, eq. 2 and 4.
# - A. Nichol, P. Dhariwal, *Improved Denoising Diffusion Probabilistic Models*, 2021, [arXiv:2102.09672](https://arxiv.org/abs/2102.09672): §3.2, the cosine schedule.
# - Y. LeCun, C. Cortes, C. Burges, *The MNIST database of handwritten digits* (CC BY-SA 3.0).
