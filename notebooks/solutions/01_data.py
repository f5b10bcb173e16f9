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
# **Worked answers to the exercises of notebook 1 (01_data). They give everything away: try the exercises first.**
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/solutions/01_data.ipynb)
#
# # Answers to 1 · From ink to noise
#
# For each exercise: its text in short, one way to do it, and what to expect. Where chance plays a part, ± is how far
# other seeds were from it, as the cells print it. All of it runs in a few seconds.

# %%
import os, sys

clone = "[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit hwkit"
if "google.colab" in sys.modules and os.system(clone):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [*map(os.path.abspath, ("..", "../..", "../../..")), "/content/hwkit"]
from hwkit import notebook

notebook.start("solutions/01_data", drive=False)

# %% [markdown]
# `SEEDS` are those of the noise, each for a measurement of its own; `DIGITS` is how many of the kit's 5,000 digits are
# noised for it.

# %% tags=["parameters"]
SEEDS = (0, 1, 2)
DIGITS = 5000

# %% [markdown]
# What all answers use: the digits that come with the kit, in $[-1, 1]$, and the two schedules of the notebook.

# %%
import numpy as np
import torch
from hwkit.diffusion import q_sample
from hwkit.mnist.batches import normalize
from hwkit.mnist.sources import SAMPLE
from hwkit.sampling import nodes
from hwkit.schedule import cosine, linear
from hwkit.show import figures

T = 830
with np.load(SAMPLE) as arrays:
    labels = arrays["labels"][-DIGITS:]
    digits = torch.from_numpy(arrays["images"][-DIGITS:, None])
x_0, alpha_bar = normalize(digits)[:, :1], linear(T).alpha_bar

# %% [markdown]
# ## Exercise 1 (by hand)
#
# *The variance of $x_t$: it stays 1 where it began as 1. What does it do for digits, which begin with 0.617²?*
#
# In $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon$ the noise is new, so it is independent of
# $x_{t-1}$, and variances add up:
#
# $$\operatorname{Var} x_t = (1-\beta_t) \operatorname{Var} x_{t-1} + \beta_t .$$
#
# If $\operatorname{Var} x_{t-1} = 1$ this is $1 - \beta_t + \beta_t = 1$, and so on from step to step. In general take 1
# from both sides: $\operatorname{Var} x_t - 1 = (1-\beta_t)(\operatorname{Var} x_{t-1} - 1)$. So the distance from 1
# shrinks by $1-\beta_t$ in each step, by $\bar\alpha_t$ in all of them together:
#
# $$\operatorname{Var} x_t = 1 - \bar\alpha_t\,(1 - \operatorname{Var} x_0) .$$
#
# The digits have $\operatorname{Var} x_0 = 0.617^2 = 0.381$. Theirs therefore rises, always, from 0.381 towards 1. See
# whether whole noised digits agree.

# %%
rows = {t: [] for t in (0, 100, 415, T)}
for t, found in rows.items():
    for seed in SEEDS:
        noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed))
        found.append(q_sample(x_0, alpha_bar[t].item(), noise).var().item())
    by_hand = 1 - alpha_bar[t].item() * (1 - x_0.var().item())
    off = max(abs(value - by_hand) for value in found)
    print(f"t = {t:3}: by hand {by_hand:.3f}, noised {found[0]:.3f}", end="")
    print(f" (the worst of {len(SEEDS)} seeds is {off:.4f} off)")

# %% [markdown]
# **What to expect.** 0.381 at $t = 0$, 0.456 at 100, 0.925 at 415, and 1.000 at 830; another seed moves the measured
# values by less than 0.001. "Variance preserving" is thus a name for data of variance 1, and some programs scale theirs
# to have it. The kit leaves the digits as they are: a network that is told $t$ can allow for it.

# %% [markdown]
# ## Exercise 2 (code)
#
# *Between which two neighbouring $t$ does the image become weaker than the noise, for each schedule?*
#
# The SNR falls from infinity at $t = 0$. The number of entries above 1 is therefore the first $t$ at which it is not.

# %% tags=["nbval-check-output"]
for schedule in (linear(T), cosine(T)):
    first = int((schedule.snr > 1).sum())
    around = (f"SNR({t}) = {schedule.snr[t]:.4f}" for t in (first - 1, first))
    print(f"{schedule.name:7}", ", ".join(around))

# %% [markdown]
# **What to expect.** Exactly this, as nothing is random: linear between 236 and 237, cosine between 411 and 412. With
# SNR = 1 both factors of `q_sample` are $\sqrt{1/2}$. The linear schedule is there after 28 % of its steps, the cosine
# after half of them. (The pixels' spread is 0.617 and not 1, so in terms of contrast the noise is ahead still earlier.)

# %% [markdown]
# ## Exercise 3 (code)
#
# *The cosine schedule from its equation. Where does it differ from the kit's, and why is $\beta$ capped at 0.999?*
#
# Compute $f$ at all times at once, in float64, and divide by its first value.

# %% tags=["nbval-check-output"]
times = torch.arange(T + 1, dtype=torch.float64)
f = torch.cos((times / T + 0.008) / 1.008 * torch.pi / 2) ** 2
mine, kits = f / f[0], cosine(T).alpha_bar
off = (mine - kits).abs()
print("equal up to t =", int((off < 1e-12).cumprod(0).sum()) - 1)
for name, table in (("by the equation", mine), ("the kit's", kits)):
    beta = 1 - table[1:] / table[:-1]
    print(f"{name:15} β of the last two steps {beta[-2]:.3f}, {beta[-1]:.3f};", end=" ")
    print(f"√ᾱ_T = {table[-1].sqrt():.1e}")

# %% [markdown]
# Two tables may also be "equal" in what matters and differ in a number: the largest difference itself is small, as
# $\bar\alpha_T$ is nearly zero in both.

# %% tags=["nbval-check-output"]
print(f"largest difference {off.max():.1e}, at t = {off.argmax()}")

# %% [markdown]
# **What to expect.** The tables are equal up to $t = 829$. At $T$ the equation says $\cos^2(\pi/2) = 0$ (in floating
# point 4 · 10⁻³³, whose root is the 6 · 10⁻¹⁷ above), so the last $\beta$ would be 1: a step that throws away all that
# is left of the image. Who begins to sample at $T$ and wants $\hat x_0$ from a network that says $\hat\varepsilon$ must
# divide by $\sqrt{\bar\alpha_T}$, and that is then a division by nothing. With the cap it is 6 · 10⁻⁵: still very
# small, which is one reason to ask for $x_0$ or $v$ with this schedule (notebook 2).

# %% [markdown]
# ## Exercise 4 (look)
#
# *Noise that is equal in all three channels, or noise of its own in each: which is easier to clean?*
#
# The same digit with both kinds at the eight times. Below each row stands the mean of its three channels.

# %%
one = x_0[[np.flatnonzero(labels == 4)[0]]].expand(-1, 3, -1, -1)
eps = torch.randn(one.shape, generator=torch.Generator().manual_seed(SEEDS[0]))
eight, rows = nodes(T)[::-1], {}
for name, noise in (("coloured", eps), ("grey", eps[:, :1].expand(-1, 3, -1, -1))):
    seen = torch.cat([q_sample(one, alpha_bar[t], noise).float() for t in eight])
    rows[f"{name} noise"] = seen
    rows[f"{name}, mean"] = seen.mean(1, keepdim=True).expand(-1, 3, -1, -1)
figures.labelled_rows(rows, above=[f"$t={t}$" for t in eight])

# %% [markdown]
# A number to it. The simplest way to clean is $\hat x_0 = \text{mean of the channels of } x_t / \sqrt{\bar\alpha_t}$.
# How far is it from the digit, at the time where signal and noise are equal?

# %%
t = 237
for name, channels in (("coloured", 3), ("grey", 1)):
    found = []
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(x_0), channels, 28, 28, generator=generator)
        x_t = q_sample(x_0.expand(-1, 3, -1, -1), alpha_bar[t].item(), noise)
        x0_hat = x_t.mean(1, keepdim=True) / alpha_bar[t].item() ** 0.5
        found.append((x0_hat - x_0).square().mean().sqrt().item())
    print(f"{name:8} noise: error of x̂_0 (RMS) {found[0]:.4f}", end="")
    print(f" (± {max(found) - min(found):.4f} over {len(SEEDS)} seeds)")

# %% [markdown]
# **What to expect.** 0.579 with coloured noise and 1.003 with grey noise (± 0.001): a factor of $\sqrt 3$. The digit is
# the same in all channels, so the mean leaves it alone. Three independent noises partly cancel in the mean, and one
# noise three times does not. So the coloured picture is the easier one, although it looks wilder: it holds the digit
# three times. In the picture above compare the second row with the fourth: the digit is to be seen at least a column longer.
# It also means that digits in RGB are an easier task than grey ones with the same schedule.

# %% [markdown]
# ## Exercise 5 (code)
#
# *By which number must the linear $\beta$ of $T = 100$ be multiplied, so that $\sqrt{\bar\alpha_T} \approx 0.015$?*
#
# $\sqrt{\bar\alpha_T}$ falls as the number $c$ grows. So halve an interval that holds the right $c$, forty times.

# %% tags=["nbval-check-output"]
beta = torch.linspace(1e-4, 2e-2, 100, dtype=torch.float64)
low, high = 1.0, 1 / beta[-1].item()  # at the upper end the last β would be 1
for _ in range(40):
    c = (low + high) / 2
    left = (1 - c * beta).prod().sqrt().item()
    low, high = (c, high) if left > 0.015 else (low, c)
print(f"c = {c:.2f}, and √ᾱ_T = {left:.4f}")
print(f"a guess by log(1 - x) ≈ -x: {-2 * np.log(0.015) / beta.sum():.2f}")
for name, b in (("T = 830", beta[-1]), (f"c = {c:.2f}", c * beta[-1])):
    print(f"{name}: the last step has β = {b:.3f}, noise √β = {b.sqrt():.2f},", end=" ")
    print(f"and keeps {1 - (1 - b).sqrt():.1%} less of the image")

# %% [markdown]
# **What to expect.** Exactly this: $c = 7.90$. The last step then has $\beta = 0.158$ and adds noise of 0.40 instead of
# 0.14. (The sum of logarithms gives 8.36 as a first guess, as the $\beta$ are no longer small.) It takes fewer steps of
# larger noise to get to the same end. But that the way back is made of *Gaussian* steps holds for small $\beta$ only,
# as notebook 2 explains. That is the price of a small $T$.
