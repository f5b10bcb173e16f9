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
# **English** · [繁體中文](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/zh-TW/01_data.ipynb)
#
# # 1 · From ink to noise
#
# A diffusion model learns to undo damage. So we look at the damage first: how a clean digit becomes pure noise, in 830
# small steps that need no training at all. Everything later runs this film backwards.
#
# **The homework, and where each part of it is made.** Your course's own sheet decides about marks, dates and bounds.
#
# | the homework asks for | notebook |
# | --- | --- |
# | MNIST as RGB images of 28×28 pixels | 1 (this one) |
# | a DDPM, trained from scratch | 2 |
# | 10,000 images, `00001.png` to `10000.png` | 3 |
# | two pictures of the way from noise to digit, by DDPM and by DDIM | 4 |
# | the FID of the images | 5 |
# | the report, and one file to hand in | 6 |
#
# The six notebooks take about six hours, and the computer's own time. "The original" is a student's report of this
# homework that the kit reproduces; "the report" is always the page that you hand in.
#
# *This notebook: about 40 minutes, no GPU. **Before it** you should know what a mean and a variance are, and a little
# Python. **After it** you can noise an image to any strength in one line, and say whether a schedule fits its number of
# steps.*

# %% [markdown]
# ## Where this leads
#
# Run the first cell. It makes the notebook ready (on Colab it fetches the kit; elsewhere there is nothing to fetch),
# and shows the picture that you make at the end: two digits on their way into noise, by two schedules.

# %%
import os, sys

clone = "[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit hwkit"
if "google.colab" in sys.modules and os.system(clone):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [*map(os.path.abspath, ("..", "../..", "../../..")), "/content/hwkit"]
from hwkit import notebook

notebook.start("01_data", drive=True)  # False: nothing is kept on Drive

# %% [markdown]
# Three settings decide what this notebook shows. `SOURCE` may name your own copy of MNIST (a folder, a `.zip` or an
# `.npz`; on Drive name the `.zip`, as 60,000 single files are very slow there). With `None` the kit takes what is
# prepared already, or downloads MNIST, or takes the 5,000 digits that come with it. `T` is the number of noise steps.
# All that is random here follows from `SEED`.

# %% tags=["parameters"]
SOURCE = None
T = 830
SEED = 0

# %% [markdown]
# ## Act 1 · Sixty thousand digits
#
# MNIST has 60,000 training images of handwritten digits. The kit writes them as ordinary PNG files, because PNGs are
# what you hand in too. Then it keeps all of them in memory as **one** tensor of bytes: 47 MB, so training never reads
# the disk.

# %%
from hwkit.mnist.folder import load_folder
from hwkit.mnist.sources import prepare

images = load_folder(prepare(SOURCE, out="data"))
print(images.shape, images.dtype)

# %% [markdown]
# Before any mathematics, look at your data. Sixty images are drawn at random. The random generator has a seed, so this
# cell shows the same sixty each time you run it (as long as the images are the same, in the same order).

# %%
import torch
from hwkit.show import figures

generator = torch.Generator().manual_seed(SEED)
some = torch.randperm(len(images), generator=generator)[:60]
figures.sample_sheet(images[some], columns=12, title="Sixty training images")

# %% [markdown]
# **What to notice.** Strokes are white on black, and soft at their edges. Look for a seven with a bar and one without,
# for open and closed fours, and for digits that you cannot read yourself. Your model will learn all of these, the bad
# ones too: it is asked to draw *like this pile*, not to draw well.

# %% [markdown]
# The kit also carries 5,000 MNIST digits of its own, 500 of each class. What is computed from them is the same on every
# computer. If your lines differ from the saved ones below, something is wrong with your copy of the kit.

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
# The homework wants RGB, and a diffusion model wants numbers around zero. Each byte $p \in \{0, \dots, 255\}$ becomes
#
# $$x = \frac{p}{127.5} - 1 \;\in\; [-1, 1],$$
#
# and the network is shown the one grey channel three times. The way back rounds to the nearest byte, so nothing is
# lost.

# %% tags=["nbval-check-output"]
from hwkit.mnist.batches import normalize, to_uint8

x = normalize(digits[:, None])
print(x.shape, x.dtype, "from", x.min().item(), "to", x.max().item())
print("channels equal:", torch.equal(x[:, 0], x[:, 2]))
print("there and back:", torch.equal(to_uint8(x)[:, 0], digits))

# %% [markdown]
# Why this range? Because we will add noise $\varepsilon \sim \mathcal N(0, 1)$ to every pixel, and image and noise
# should be of about the same size. Here are the values of all pixels of the 5,000 digits, and the bell curve of the
# noise.

# %% tags=["nbval-check-output"]
black, white = (digits == 0).float().mean(), (digits == 255).float().mean()
bright = (digits >= 230).float().mean()
print(f"black {black:.1%}, white {white:.1%}, in between {1 - black - white:.1%}")
print(f"of the pixels that are not black, {bright / (1 - black):.0%} are 230 or more")
print(f"mean {x.mean():.3f}, standard deviation {x.std():.3f}")

# %% [markdown]
# Mind the axis of the picture: it is logarithmic. From one line to the next is a factor of ten, so the low dark block
# in the middle holds far fewer pixels than the two thin peaks at its ends together.

# %%
figure, axes = figures.plot("value", "density (log scale)", size=(6.4, 3))
axes.hist(
    x[:, 0].flatten(), 64, density=True, color=figures.INK, label="pixels of the digits"
)
grid = torch.linspace(-3.5, 3.5, 200)
bell = torch.exp(-(grid**2) / 2) / (2 * torch.pi) ** 0.5
axes.plot(grid, bell, color=figures.ACCENT, label="noise, N(0, 1)")
axes.set_yscale("log")
axes.legend(frameon=False, loc="upper right")
figure

# %% [markdown]
# **What to notice.** Four pixels in five are exactly black. Of the others about half are nearly white, and half are
# greys: the soft edges of the strokes. Had we kept $[0, 1]$, the same noise would be twice as strong beside the image.
# And whoever saves an image that lives in $[-1, 1]$ as if it lived in $[0, 1]$ loses every grey below the middle: a
# common mistake, which notebook 5 shows and measures.

# %% [markdown]
# Many tutorials mirror or turn their training images to have more of them. For a classifier that may help. For a
# *generator* it changes what it is asked to draw. See six digits as they are, in a mirror, and turned by 180°.

# %%
chosen = digits[[np.flatnonzero(labels == d)[3] for d in (2, 3, 4, 5, 6, 7)]][:, None]
mirrored, turned = chosen.flip(-1), chosen.flip(-1, -2)
rows = {"as they are": chosen, "in a mirror": mirrored, "turned by 180°": turned}
figures.labelled_rows({name: row.expand(-1, 3, -1, -1) for name, row in rows.items()})

# %% [markdown]
# An opinion is good, a number is better. The kit has a small digit classifier, right on 99.6 % of MNIST's test set. It
# reads the 5,000 digits in these three ways. The last column says how far a pile of originals *and* copies is from
# MNIST: lower is nearer (notebook 5 tells how it is measured).

# %%
from hwkit.measure.features import classify, digit_features
from hwkit.measure.score import digit_fid_of

ways = {
    "as they are": digits,
    "mirrored": digits.flip(-1),
    "turned": digits.flip(-1, -2),
}
features = {name: digit_features(changed[:, None]) for name, changed in ways.items()}
for name in ways:
    right = (classify(features[name]) == labels).mean()
    pile = np.concatenate([features["as they are"], features[name]])
    distance, error = digit_fid_of(pile)
    print(
        f"{name:12} read correctly {right:6.1%}    digit-FID of the pile {distance:.2f}"
    )

# %% [markdown]
# **What to notice.** A mirrored 2 is no 2, a turned 6 is a 9. A *perfect* model of the pile with mirrored copies would
# get the distance in the second line, a perfect model of the turned pile that in the third: the harm is done before
# training begins. **So the kit does not augment.** There is no need to: each time an image is used it gets new noise of
# another strength, so the network never sees the same input twice.

# %% [markdown]
# ## Act 3 · The forward process
#
# One step makes the image a little weaker and adds a little noise,
# $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon_t$ (Ho et al., eq. 2). With $\beta_1 = 0.0001$ rising
# to $\beta_T = 0.02$, no single step does much. Follow one white pixel and one black pixel through all steps, forty
# times each.

# %%
beta = torch.linspace(1e-4, 2e-2, T, dtype=torch.float64)
generator = torch.Generator().manual_seed(SEED)
paths = [torch.tensor([1.0, -1.0]).repeat(40)]  # forty white pixels, forty black ones
for beta_t in beta:
    noise = torch.randn(80, generator=generator)
    paths.append((1 - beta_t).sqrt() * paths[-1] + beta_t.sqrt() * noise)
white, black = (
    torch.stack(paths)[:, 0::2],
    torch.stack(paths)[:, 1::2],
)  # (T + 1, 40) each

# %% [markdown]
# How much of the image is left after $t$ steps? Each multiplies it by $\sqrt{1-\beta_i}$, so all of them by
# $\sqrt{\bar\alpha_t}$ with $\bar\alpha_t = \prod_{i \le t} (1 - \beta_i)$. Write down the table of all
# $\bar\alpha_t$, from $\bar\alpha_0 = 1$ on.

# %%
def alpha_bar_table(beta):
    """β_1 … β_T (T,) → ᾱ_0 … ᾱ_T (T + 1,), with ᾱ_0 = 1 (Ho et al., above eq. 4)."""
    ### BEGIN SOLUTION 1.1: the product of all 1 − β up to each time
    one = torch.ones(1, dtype=beta.dtype)
    return torch.cat([one, (1 - beta).cumprod(0)])
    ### END SOLUTION


# %% [markdown]
# Is it right? `check` tries what you wrote on inputs of its own. Where something is wrong it says what, and more when
# you call it again; it does not give the answer away. A cell like this stands below each task of the six notebooks.

# %%
from hwkit.course.selfcheck import check

check(alpha_bar_table)

# %% [markdown]
# Draw the eighty paths, with the band in which 95 % of them should lie at each time. The band comes from the next
# equation; for now, look how long the two colours can be told apart.

# %%
alpha_bar = alpha_bar_table(beta)  # (T + 1,)
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
# **What to notice.** Two things happen at once: the thick lines (the *signal*) go to zero, and the bands (the *noise*)
# widen to about ±2. At the right end the bands lie on top of each other, and nobody can say which path began white. The
# spread stays bounded, because each step shrinks before it adds. Song et al. (2021) call such a process *variance
# preserving*: pixels with variance 1 keep it. (Our digits begin with less. Exercise 1 asks what happens to them.)

# %% [markdown]
# Steps of Gaussian noise add up to Gaussian noise, so the first $t$ steps can be made in **one jump**:
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1-\bar\alpha_t}\; \varepsilon, \qquad
# \varepsilon \sim \mathcal N(0, I). \tag{Ho et al., eq. 4}$$
#
# No line of the kit is used more often. Read it beside the equation, symbol by symbol.

# %% tags=["core"]
def q_sample(x_0, alpha_bar_t, eps):
    """x_t, of the shape of x_0 and eps; ᾱ_t is a number, or (B, 1, 1, 1) (eq. 4)."""
    ### BEGIN SOLUTION 1.2: the image and the noise, each with its factor
    return alpha_bar_t**0.5 * x_0 + (1 - alpha_bar_t) ** 0.5 * eps
    ### END SOLUTION


# %%
check(q_sample)

# %% [markdown]
# Does the jump agree with the steps? At every time the mean should be $\sqrt{\bar\alpha_t}$ and the standard deviation
# $\sqrt{1-\bar\alpha_t}$. Forty paths are few; take 100,000 pixels that begin white, so that chance hardly counts.

# %%
generator = torch.Generator().manual_seed(SEED)
for t in (min(100, T), min(400, T), T):
    walk = torch.ones(100_000, dtype=torch.float64)
    for beta_t in beta[:t]:
        noise = torch.randn(100_000, generator=generator)
        walk = (1 - beta_t).sqrt() * walk + beta_t.sqrt() * noise
    noise = torch.randn(100_000, generator=generator)
    jump = q_sample(torch.ones(100_000), alpha_bar[t], noise)
    print(f"t = {t}: {t} steps  mean {walk.mean():+.3f}  std {walk.std():.3f}")
    print(f"         one jump  mean {jump.mean():+.3f}  std {jump.std():.3f}")

# %% [markdown]
# Now whole digits instead of a pixel: `q_sample` at eight times, from 0 to $T$. The noise $\varepsilon$ is the same all
# the way, only the mixture changes. These eight times are the columns of the picture that you hand in.

# %%
from hwkit.sampling import Frame, nodes

x_0 = normalize(chosen[[0, 2, 4]])
eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(SEED))
eight = nodes(T)[::-1]
frames = [Frame(t, q_sample(x_0, alpha_bar[t], eps).float(), x_0) for t in eight]
print("√ᾱ_t:", "  ".join(f"{alpha_bar[t].sqrt():.2f}" for t in eight))
figures.diffusion_grid(frames)

# %% [markdown]
# **What to notice.** The printed line is $\sqrt{\bar\alpha_t}$, the factor with which the digit is still there; below
# we call it its *share*. Find the column in which you lose each digit, and read its share above. It is not 0: the digit
# is there, and you do not see it any more. A network sees it for longer (notebook 3, Act 1). And the noise is
# *coloured*, though the digits are grey: each of the three channels gets noise of its own. Notebook 2 comes back to that.

# %% [markdown]
# ## Act 4 · Two schedules
#
# How fast should the image fade? *Linear* lets $\beta_t$ grow evenly (Ho et al., §4). *Cosine* starts from
# $\bar\alpha_t$ itself and lets it follow a squared cosine (Nichol & Dhariwal, eq. 17). The kit stores a schedule as
# its table of $\bar\alpha$. For the linear one it must equal the product that you just took.

# %% tags=["nbval-check-output"]
from hwkit.schedule import cosine, linear

print("same table:", torch.allclose(linear(T).alpha_bar, alpha_bar, atol=1e-12, rtol=0))
shown = [T * percent // 100 for percent in (10, 50, 62, 90, 100)]
for schedule in (linear(T), cosine(T)):
    share = schedule.alpha_bar.sqrt()
    print(
        f"{schedule.name:7}",
        "  ".join(f"t = {t}: {share[t]:.3f}" for t in shown),
    )

# %% [markdown]
# The left plot shows the share $\sqrt{\bar\alpha_t}$ of the image in $x_t$. The right one shows the *signal-to-noise
# ratio* $\mathrm{SNR} = \bar\alpha_t / (1-\bar\alpha_t)$ on a logarithmic scale: above the dotted line there is more
# image than noise. The legend gives $\sqrt{\bar\alpha_T}$, what is left at the very end.

# %%
figures.schedule_curves([linear(T), cosine(T)])

# %% [markdown]
# **What to notice.** Linear drops early: half-way about a third of the image is left ($t = 415$ in the lines above),
# and from $t = 514$ on less than a fifth, for more than a third of all steps. Those steps work on little but noise, and
# this is what Nichol & Dhariwal wanted to change. Cosine goes down almost evenly (left); on the right both fall steeply
# at the start, and only cosine falls steeply again, at its very end. Both end near zero, and they must: the sampler
# starts from *pure* noise, and a network is no good on inputs that it has never been trained on.

# %% [markdown]
# That last point is a trap. The $\beta$ of the linear schedule were chosen for $T = 1000$. With fewer steps and the
# same $\beta$, a part of the digit survives to the end. $\sqrt{\bar\alpha_T}$ tells you how much:

# %% tags=["nbval-check-output"]
for steps in (100, 300, 830, 1000):
    print(linear(steps))

# %% [markdown]
# And as a picture: the last state $x_T$ of one digit, with the same noise, for these four $T$. Before you compare with
# the lines above, say for each picture whether a digit is in it.

# %%
shares = {steps: linear(steps).alpha_bar[-1] for steps in (100, 300, 830, 1000)}
x_T = torch.cat(
    [q_sample(x_0[:1], alpha_bar_T, eps[:1]) for alpha_bar_T in shares.values()]
)
title = "$x_T$ for $T$ = " + ", ".join(map(str, shares))
figures.sample_sheet(to_uint8(x_T), columns=4, title=title)

# %% [markdown]
# **What to notice.** With $T = 100$ the "noise" shows its digit. $T = 300$ is the dangerous one: you see little or
# nothing, but 22 % of the digit is there, and a network can learn to count on it. When it then starts from pure noise,
# it waits for a hint that never comes. $T = 830$, the original's choice, leaves 1.5 %: not zero, but little. Whenever
# you change $T$ or the schedule, look at this one number first.

# %% [markdown]
# To close, the picture from the top, now from your own run of the code: the same two digits with the same noise, fading
# by the linear schedule in the upper rows and by the cosine in the lower ones.

# %% tags=["goal"]
rows = {}
for schedule in (linear(T), cosine(T)):
    for digit, x, noise in zip((2, 4), x_0, eps, strict=False):
        ways = [q_sample(x, schedule.alpha_bar[t], noise).float() for t in eight]
        rows[f"{schedule.name}, a {digit}"] = torch.stack(ways)
figures.labelled_rows(rows, above=[f"$t={t}$" for t in eight])

# %% [markdown]
# ## Summary
#
# - MNIST as RGB is one grey image three times. Inside the model it lives in $[-1, 1]$, and the way back to bytes is
#   exact.
# - The forward process has nothing to learn. `q_sample` jumps from $x_0$ to any $x_t$ in one line.
# - $\bar\alpha_t$ is the whole schedule. The image is there with the factor $\sqrt{\bar\alpha_t}$, and
#   $\sqrt{\bar\alpha_T}$ must be close to 0.
# - No augmentation: a generator learns the pile that it is shown.
#
# **Next:** [02_training](02_training.ipynb) teaches a network to look at $x_t$ and say what is underneath.

# %% [markdown]
# ## Exercises
#
# Worked answers, with the numbers to expect, stand in `notebooks/solutions/01_data.ipynb`.
#
# 1. *(by hand, 10 minutes)* Show from the one-step rule that the variance of $x_t$ stays 1 if that of $x_0$ is 1. The
#    pixels of our digits have the variance 0.617². What does the variance of their $x_t$ do?
#
#    <details><summary>Hint</summary>
#
#    The noise of a step is independent of $x_{t-1}$: variances add up, and a factor in front counts squared. For our
#    digits begin with the jump (eq. 4) instead of the single step.
#
#    </details>
#
# 2. *(code, 5 minutes)* Between which two neighbouring $t$ does the image become weaker than the noise (SNR = 1), for
#    each schedule? `linear(T).snr` is a table of the SNR at $t = 0, 1, \dots, T$.
#
#    <details><summary>Hint</summary>
#
#    The SNR only falls, so count at how many times it is above 1. Mind that the table begins at $t = 0$.
#
#    </details>
#
# 3. *(code, 15 minutes)* Write the cosine schedule from its equation, $\bar\alpha_t = f(t)/f(0)$ with
#    $f(t) = \cos^2\!\big(\tfrac{t/T + 0.008}{1.008}\cdot\tfrac\pi2\big)$, and compare it with `cosine(830).alpha_bar`.
#    Where do they differ, and why is $\beta$ capped at 0.999?
#
#    <details><summary>Hint</summary>
#
#    Work in float64, as the kit does. Find the place of the largest difference, and compute
#    $\beta_t = 1 - \bar\alpha_t/\bar\alpha_{t-1}$ there. Then ask what a sampler must divide by to get $x_0$ out of
#    $x_T$ (eq. 4).
#
#    </details>
#
# 4. *(look, 5 minutes)* In the cell of the last picture use noise that is *equal* in all three channels: write
#    `eps[:, :1].expand(-1, 3, -1, -1)` for `eps`. Which of the two pictures would you find easier to clean, and why?
#    Put a number to it.
#
#    <details><summary>Hint</summary>
#
#    The digit is the same in all three channels. Take the mean of the channels: what does it do to the digit, and what
#    to each of the two kinds of noise?
#
#    </details>
#
# 5. *(code, 10 minutes)* Take the linear $\beta$ of $T = 100$ and multiply all of them by one number, so that
#    $\sqrt{\bar\alpha_T} \approx 0.015$ again. By which number, about? How large is $\beta$ in the last step then, and
#    how much noise does that step add?
#
#    <details><summary>Hint</summary>
#
#    The more you multiply by, the less is left, so halve an interval until it fits.
#
#    </details>
#
# <details><summary>Numbers to check your answers with</summary>
#
# 1: it rises from 0.381 towards 1; at $t = 415$ it is 0.925. 2: linear between 236 and 237, cosine between 411 and 412.
# 3: only the last $\bar\alpha$ differs: there $\beta$ would be 1, and no $\bar\alpha$ may be 0. 4: after the mean the
# coloured noise is $\sqrt 3$ times weaker. 5: about 7.9, and the last step then has $\beta = 0.158$, eight times what
# it was: noise of 0.40 instead of 0.14.
#
# </details>

# %% [markdown]
# ## References
#
# - J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, 2020,
#   [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): §2, eq. 2 and 4.
# - A. Nichol, P. Dhariwal, *Improved Denoising Diffusion Probabilistic Models*, 2021,
#   [arXiv:2102.09672](https://arxiv.org/abs/2102.09672): §3.2, the cosine schedule.
# - Y. Song et al., *Score-Based Generative Modeling through Stochastic Differential Equations*, 2021,
#   [arXiv:2011.13456](https://arxiv.org/abs/2011.13456): "variance preserving".
# - Y. LeCun, C. Cortes, C. Burges, *The MNIST database of handwritten digits* (CC BY-SA 3.0).
