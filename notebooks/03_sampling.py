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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/03_sampling.ipynb)
#
# **English** · [繁體中文](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/zh-TW/03_sampling.ipynb)
#
# # 3 · From noise to digits
#
# You have a network that looks at a noisy image and says what is underneath. One look is not enough: from pure noise it
# sees only a grey blur. So take a small step in the direction that it names, look again, and again. This notebook
# writes out two such steps, DDPM's and DDIM's, lets them draw, and makes the images that you hand in.
#
# *About 60 minutes for you. The computer needs some minutes in Acts 2 to 4, some more for a comparison in Act 5, and for
# 10,000 images 7 to 21 minutes on two CPU cores, free or busy (estimates; Act 5 measures it first). **Before it** you should know notebook 1, and have a run of
# notebook 2 (without one, this notebook takes the kit's weights and says so). **After it** you can write both samplers,
# choose a number of steps with a reason, and say what fresh noise is good for.*

# %% [markdown]
# ## Where this leads
#
# The first cell makes the notebook ready, and shows what you will have at the end: images from your run, the first 120
# of them, numbered, checked, and ready to be handed in.

# %%
import os, sys

clone = "[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit hwkit"
if "google.colab" in sys.modules and os.system(clone):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [*map(os.path.abspath, ("..", "../..", "../../..")), "/content/hwkit"]
from hwkit import notebook

notebook.start("03_sampling", drive=True)  # False: nothing is kept on Drive

# %% [markdown]
# `RUN` names a run's folder under `runs/`, such as `"original"`; `None` takes your newest one. `IMAGES` is how many
# PNGs Act 5 makes: the homework wants 10,000 (a smaller number is a quick trial). `COMPARE` is how many images each of two
# samplers makes there to be compared, `STEPS` are DDIM's. All that is random follows from `SEED`.

# %% tags=["parameters"]
RUN = None
IMAGES = 10_000
COMPARE = 1000
STEPS = 50
SEED = 0

# %% [markdown]
# Load the network, with its *EMA* weights: the moving average over training, which notebook 2 explains. If there is no
# run yet, these are the weights that come with the kit, and the cell says so loudly.

# %%
from hwkit.runs.checkpoint import best_of, load_denoiser
from hwkit.runs.speed import best_device

run, device = notebook.find_run(RUN), best_device()
trained = load_denoiser(best_of(run), device)
model, schedule = trained.model, trained.schedule
alpha_bar, T = schedule.alpha_bar, schedule.T
print(f"The network predicts {trained.prediction!r}. {schedule}")


# %% [markdown]
# ## Act 1 · What the network says
#
# A network may be trained to say the noise $\varepsilon$, the image $x_0$, or the mixture
# $v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\,x_0$ (notebook 2). To a sampler it is all the same,
# because $x_t$ is known, and
#
# $$x_t = \sqrt{\bar\alpha_t}\,\hat x_0 + \sqrt{1-\bar\alpha_t}\,\hat\varepsilon$$
#
# is one equation for two unknowns: if you know one of them, or a mixture of both, you know the other. So first, a
# translator.

# %% tags=["core"]
def predict_x0_eps(output, x_t, alpha_bar_t, prediction):
    """(x̂_0, ε̂), each of x_t's shape; predicted: "epsilon", "x0" or "v" (eq. 15)."""
    ### BEGIN SOLUTION 3.1: solve the equation for what the network did not say
    signal, noise = alpha_bar_t**0.5, (1 - alpha_bar_t) ** 0.5
    if prediction == "epsilon":
        return (x_t - noise * output) / signal, output
    if prediction == "x0":
        return output, (x_t - signal * output) / noise
    if prediction == "v":
        return signal * x_t - noise * output, noise * x_t + signal * output
    raise ValueError(
        f"prediction is {prediction!r}, but must be 'epsilon', 'x0' or 'v'."
    )
    ### END SOLUTION


# %%
from hwkit.course.selfcheck import check

check(predict_x0_eps)

# %% [markdown]
# Test it before you trust it. Noise ten real digits, one of each class, and pretend that the network is perfect: its
# answer is exactly its training target. The translator must give back the digit and the noise, whichever of the three
# was asked for.

# %% tags=["nbval-check-output"]
import numpy as np
import torch
from hwkit.diffusion import q_sample, target
from hwkit.mnist.batches import normalize
from hwkit.mnist.sources import SAMPLE

with np.load(SAMPLE) as arrays:
    print("classes:", arrays["labels"][:10])
    digits = torch.from_numpy(arrays["images"][:10, None])
x_0 = normalize(digits)
eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
for prediction in ("epsilon", "x0", "v"):
    output = target(x_0, 0.25, eps, prediction)
    x0_hat, eps_hat = predict_x0_eps(output, q_sample(x_0, 0.25, eps), 0.25, prediction)
    right = [
        torch.allclose(a, b, atol=1e-5) for a, b in ((x0_hat, x_0), (eps_hat, eps))
    ]
    print(f"{prediction:8} gives back x_0: {right[0]}, ε: {right[1]}")


# %% [markdown]
# A thin wrapper goes around the network, so that samplers meet one kind of thing only: `denoise(x_t, t)` gives
# $(\hat x_0, \hat\varepsilon)$. It does one thing more. Images live in $[-1, 1]$, so a guess outside is surely wrong.
# It is clipped, and $\hat\varepsilon$ is computed again, so that both still agree with $x_t$. (The network wants a time
# for each image, as a tensor of shape (B,), and $\bar\alpha_t$ is `schedule.alpha_bar[t]`.)

# %% tags=["core"]
class Denoiser:
    def __init__(self, model, schedule, prediction, clip=True):
        self.model, self.schedule = model, schedule
        self.prediction, self.clip = prediction, clip

    @torch.no_grad()
    def __call__(self, x_t, t):
        """(x̂_0, ε̂), each of x_t's shape (B, C, H, W); t is one whole number."""
        ### BEGIN SOLUTION 3.2: ask the network, translate, clip, translate again
        alpha_bar_t = self.schedule.alpha_bar[t].item()
        times = torch.full((len(x_t),), t, device=x_t.device)
        output = self.model(x_t, times).to(x_t.dtype)
        x0_hat, eps_hat = predict_x0_eps(output, x_t, alpha_bar_t, self.prediction)
        if self.clip:
            x0_hat, eps_hat = predict_x0_eps(
                x0_hat.clamp(-1, 1), x_t, alpha_bar_t, "x0"
            )
        return x0_hat, eps_hat
        ### END SOLUTION


# %%
check(Denoiser)

# %% [markdown]
# Now ask it. The ten digits are noised to four strengths. Below each row of $x_t$ stands what the network sees in it in
# a single look, its guess $\hat x_0$. The last row is the truth.

# %%
from hwkit.show import figures

denoise = Denoiser(model, schedule, trained.prediction)
rows = {}
for t in (T, 6 * T // 10, 4 * T // 10, 2 * T // 10):
    x_t = q_sample(x_0, alpha_bar[t].item(), eps).to(device)
    rows |= {f"noised, t={t}": x_t, f"guess, t={t}": denoise(x_t, t)[0]}
figures.labelled_rows({**rows, "the truth": x_0})


# %% [markdown]
# **What to notice.** At $t = T$ there is next to nothing to be seen in $x_t$. The best answer to a squared error is
# then nearly the average of all digits, and the network's ten grey blurs are not far from it, though each leans a little
# to a side of its own. At $0.6\,T$ you still see next to nothing, but the network finds most digits; where several would fit, the guess is soft, an average of what *could* be
# underneath. At $0.2\,T$ it is right. A squared error asks for an average; it is the sampler that makes it decide.

# %% [markdown]
# ## Act 2 · One step back: DDPM
#
# If we knew $x_0$, the step back from $t$ to $s = t-1$ would be a Gaussian that we can write down (Ho et al., eq. 7),
# with $\beta = 1 - \bar\alpha_t/\bar\alpha_s$:
#
# $$\tilde\mu = \frac{\sqrt{\bar\alpha_s}\,\beta}{1-\bar\alpha_t}\, x_0 +
# \frac{\sqrt{1-\beta}\,(1-\bar\alpha_s)}{1-\bar\alpha_t}\, x_t, \qquad
# \tilde\beta = \frac{1-\bar\alpha_s}{1-\bar\alpha_t}\,\beta.$$

# %% [markdown]
# DDPM takes the guess $\hat x_0$ for $x_0$, and adds fresh noise of variance $\tilde\beta$ (or $\beta$: §3.2 tries
# both), but none in the last step, to $s = 0$ (algorithm 2). That the step is Gaussian holds for small steps: see the box in notebook 2.

# %% tags=["core"]
def ddpm_step(
    x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, variance="posterior"
):
    """x_s, of x_t's shape (eq. 7); `variance` is "posterior" or "beta" (§3.2)."""
    ### BEGIN SOLUTION 3.3: the mean, and noise of the right size
    alpha = alpha_bar_t / alpha_bar_s  # α_t, or the product of the α between s and t
    beta = 1 - alpha
    mean = (
        alpha_bar_s**0.5 * beta * x0_hat + alpha**0.5 * (1 - alpha_bar_s) * x_t
    ) / (1 - alpha_bar_t)
    if alpha_bar_s == 1:
        return mean
    if variance == "posterior":
        return mean + (beta * (1 - alpha_bar_s) / (1 - alpha_bar_t)) ** 0.5 * noise
    if variance == "beta":
        return mean + beta**0.5 * noise
    raise ValueError(f"variance is {variance!r}, but must be 'posterior' or 'beta'.")
    ### END SOLUTION


# %%
check(ddpm_step)

# %% [markdown]
# In most tutorials the mean looks different: it is written with $\hat\varepsilon$ (Ho et al., eq. 11),
#
# $$\mu = \frac{1}{\sqrt{\alpha_t}} \Big( x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\, \hat\varepsilon \Big), \qquad
# \alpha_t = 1 - \beta_t.$$
#
# It is eq. 7 with $\hat x_0$, in other letters. Write it down as it stands, with $\alpha_t = \bar\alpha_t/\bar\alpha_s$.

# %%
def ddpm_mean_eps(x_t, eps_hat, alpha_bar_t, alpha_bar_s):
    """The mean of x_s, of x_t's shape, from ε̂ (eq. 11)."""
    ### BEGIN SOLUTION 3.4: the mean by eq. 11
    alpha = alpha_bar_t / alpha_bar_s
    return (x_t - (1 - alpha) / (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha**0.5
    ### END SOLUTION


# %%
check(ddpm_mean_eps)

# %% [markdown]
# Are eq. 7 and eq. 11 one? Compare them with any $x_t$ and any $\hat\varepsilon$, at three times: the means must be the
# same.

# %% tags=["nbval-check-output"]
from hwkit.schedule import linear
ab = linear(830).alpha_bar.tolist()
x_t, eps_hat = torch.randn(2, 10, 3, 28, 28, generator=torch.Generator().manual_seed(2))
none = torch.zeros_like(x_t)
for t in (830, 415, 2):
    eq_11 = ddpm_mean_eps(x_t, eps_hat, ab[t], ab[t - 1])
    x0_hat, _ = predict_x0_eps(eps_hat, x_t, ab[t], "epsilon")
    eq_7 = ddpm_step(x_t, x0_hat, eps_hat, ab[t], ab[t - 1], noise=none)
    print(f"t = {t}: the same mean: {torch.allclose(eq_7, eq_11, atol=1e-4)}")

# %% [markdown]
# There is one difference in practice. The form with $\hat x_0$ can clip the guess to $[-1, 1]$ first; the form with
# $\hat\varepsilon$, as most write it, does not. That is why this kit's steps take both.
#
# The mean is a weighted sum of two images: the guess, and where we stand. How much does the guess count? Draw the two
# weights over the whole way, and the size of the noise that is added.

# %%
ab_t, ab_s = alpha_bar[1:], alpha_bar[:-1]
beta = 1 - ab_t / ab_s
guess = ab_s.sqrt() * beta / (1 - ab_t)
stand = (1 - beta).sqrt() * (1 - ab_s) / (1 - ab_t)
fresh = (beta * (1 - ab_s) / (1 - ab_t)).sqrt()
figure, axes = figures.plot("t", "weight (log scale)", size=(6.8, 3.2))
for values, look, label in (
    (guess, "-", r"of the guess $\hat x_0$"),
    (stand, "--", "of where we stand, $x_t$"),
    (fresh, ":", r"fresh noise, $\sqrt{\tilde\beta}$"),
):
    color = figures.ACCENT if look == "-" else figures.INK
    axes.plot(range(1, T + 1), values, look, color=color, label=label)
axes.set(yscale="log", ylim=(1e-4, 3))
axes.legend(frameon=False, ncols=3, fontsize=9, loc="lower center")
for t in (T, T // 2, T // 10, T // 20, 1):
    print(f"t = {t}: guess {guess[t - 1]:.4f}, fresh noise {fresh[t - 1]:.4f}")
figure

# %% [markdown]
# **What to notice.** Far from the end a single guess hardly counts: see its weight at $t = T$ and half-way in the lines
# above. Many of them add up. Where the curves of guess and fresh noise cross (near $t = 50$ with the original's
# schedule) it becomes larger than the fresh noise, and in the very last step the weights are 1 and 0: the image *is* the
# guess. No noise is added there. Code that forgets this leaves a film of noise on every image (notebook 5 measures it).

# %% [markdown]
# The last remarks can be checked exactly. From $t = 1$, with the truth as the guess, the step must return the truth,
# whatever the noise; and the variances must be those of the schedule's table.

# %% tags=["nbval-check-output"]
table = linear(830)
last = ddpm_step(q_sample(x_0, ab[1], eps), x_0, eps, ab[1], 1.0, noise=100 * eps)
print("the last step returns the guess:", torch.allclose(last, x_0, atol=1e-5))
for t in (830, 415, 2):
    zero = torch.zeros(1)
    added = ddpm_step(zero, zero, zero, ab[t], ab[t - 1], noise=torch.ones(1)).item()
    listed = table.posterior_variance[t]
    print(f"t = {t}: variance added {added**2:.6f}, of the table {listed:.6f}")

# %% [markdown]
# Now give the function to the kit's loop. `sample` begins with pure noise $x_T$, asks `denoise`, calls `ddpm_step`, and
# gives out a frame at every time. `ImageNoise` has a random generator for each image, so image 3 is the same in any
# batch.

# %%
from tqdm.auto import tqdm
from hwkit.sampling import ImageNoise, nodes, sample

noise = ImageNoise(SEED, range(1, 13), device=device)
x_T = noise()  # (12, 3, 28, 28)
way = sample(denoise, x_T, range(T, -1, -1), alpha_bar, step=ddpm_step, noise=noise)
way = [frame for frame in tqdm(way, "DDPM", T + 1, leave=False) if frame.t in nodes(T)]
by_ddpm = way[-1].x_t
figures.diffusion_grid([frame._replace(x_t=frame.x_t[:4]) for frame in way])


# %% [markdown]
# **What to notice.** For the first half of the way nothing seems to happen; then, between two or three columns, a digit
# comes out of the noise. Nothing *seems* to happen: notebook 4 looks at the guesses meanwhile, and measures when the
# digit is decided.

# %% [markdown]
# ## Act 3 · Skipping steps: DDIM
#
# All these looks at the network are slow. Song et al. (2021, eq. 12) noticed that training never fixes how we *travel*,
# only what $x_t$ looks like at each time. So split $x_t$ into $\hat x_0$ and $\hat\varepsilon$, and mix them again for
# any earlier time $s$:
#
# $$x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s-\sigma^2}\;\hat\varepsilon + \sigma\,\varepsilon, \qquad
# \sigma = \eta \sqrt{\tfrac{1-\bar\alpha_s}{1-\bar\alpha_t}\Big(1-\tfrac{\bar\alpha_t}{\bar\alpha_s}\Big)}.$$

# %% tags=["core"]
def ddim_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0):
    """x_s, of x_t's shape (Song et al., eq. 12, 16); without noise where η = 0."""
    ### BEGIN SOLUTION 3.5: the guess, the direction to x_t, and fresh noise
    sigma = eta * (
        ((1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)) ** 0.5
    )
    x_s = alpha_bar_s**0.5 * x0_hat + (1 - alpha_bar_s - sigma**2) ** 0.5 * eps_hat
    return x_s + sigma * noise if sigma > 0 else x_s
    ### END SOLUTION


# %%
check(ddim_step)

# %% [markdown]
# With $\eta = 0$ nothing is random any more: the image follows from $x_T$ alone. With $\eta = 1$ it must be the DDPM
# step, noise and all. Two short checks say so, on the ten digits.

# %% tags=["nbval-check-output"]
x_t, s, t = q_sample(x_0, ab[300], eps), ab[299], ab[300]
fresh = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
with_noise = ddim_step(x_t, x_0, eps, t, s, fresh, eta=1.0)
the_same = torch.allclose(with_noise, ddpm_step(x_t, x_0, eps, t, s, fresh), atol=1e-5)
print("η = 1 is DDPM:", the_same)
there, expected = ddim_step(x_t, x_0, eps, t, ab[100]), q_sample(x_0, ab[100], eps)
the_same = torch.allclose(there, expected, atol=1e-5)
print("η = 0 goes back the way that the noise came:", the_same)

# %% [markdown]
# Which times? `STEPS` steps instead of all, evenly from $T$ to 0, both included, rounded to whole numbers. (Many programs
# count in whole strides: 50 times that lie 16 apart are 784, 768, …, 0, and begin at 784, not at 830. With so many that
# does little harm; with few they begin far too low.)

# %%
def times(T, steps):
    """`steps` + 1 falling whole numbers, evenly spaced, from T to 0 (§4.2)."""
    ### BEGIN SOLUTION 3.6: T first, 0 last
    return torch.linspace(T, 0, steps + 1, dtype=torch.float64).round().int().tolist()
    ### END SOLUTION


# %%
check(times)

# %% [markdown]
# Now with the network, from the *same* twelve $x_T$ as DDPM, and once more, to see whether anything is random.

# %%
print(times(T, STEPS)[:5], "…", times(T, STEPS)[-3:])
*_, last = sample(denoise, x_T, times(T, STEPS), alpha_bar, step=ddim_step)
*_, again = sample(denoise, x_T, times(T, STEPS), alpha_bar, step=ddim_step)
print("the same noise gives the same image:", torch.equal(last.x_t, again.x_t))
figures.labelled_rows({f"DDPM, {T} steps": by_ddpm, f"DDIM, {STEPS} steps": last.x_t})

# %% [markdown]
# **What to notice.** In each column both began with the same noise, and most are different digits: DDPM's fresh noise
# leads it elsewhere. With 50 steps the second row costs a seventeenth of the first. Is each image a digit? Which row
# looks better to you? Keep your answer for Act 5. And a friend with the same weights and the same $x_T$ gets the same DDIM images as you.

# %% [markdown]
# So with DDIM, noise is an *address*. And one can walk between addresses: take two $x_T$ and go from one to the other
# along a circle, $\cos\theta\,a + \sin\theta\,b$, which is standard normal noise all the way (a straight line is not:
# exercise 1).

# %%
theta = torch.linspace(0, torch.pi / 2, 10, device=device)[:, None, None, None]
walks = [
    theta.cos() * x_T[i] + theta.sin() * x_T[j] for i, j in ((0, 1), (2, 4), (9, 7))
]
*_, between = sample(
    denoise, torch.cat(walks), times(T, STEPS), alpha_bar, step=ddim_step
)
rows = {f"walk {k}": row for k, row in enumerate(between.x_t.split(10), 1)}
figures.labelled_rows(rows, above=[f"{10 * k}°" for k in range(10)])

# %% [markdown]
# **What to notice.** Hardly any image is one digit laid over another, as a blend of the two ends would be. Look for two kinds
# of change: strokes that bend a little from one image to the next, and places where one digit jumps into another.
# Between the classes there are hardly any images in MNIST, so the model crosses that ground quickly.

# %% [markdown]
# ## Act 4 · How many steps?
#
# Steps are time, and time is what 10,000 images cost. Here are the same ten noises with 2 to 100 steps of DDIM. Before
# you run the cell, guess from which row on it is good enough for you.

# %%
import time

rows = {}
for steps in (2, 5, 10, 20, 50, 100):
    started = time.perf_counter()
    *_, frame = sample(denoise, x_T[:10], times(T, steps), alpha_bar, step=ddim_step)
    rows[f"{steps} steps"], seconds = frame.x_t, time.perf_counter() - started
print(f"100 steps for ten images: {seconds:.1f} s, {10 * seconds:.0f} ms a step")
figures.labelled_rows(rows)

# %% [markdown]
# **What to notice.** Each step asks the network once, so twice the steps take twice the time. Two steps give soft, grey
# shapes, some of which are no digit; with five some images are not yet what they become with a hundred. Further down most
# columns differ in fine points only. But one whose noise lies near the border of two digits may end in another digit even
# between 50 and 100: do you find such a column? What the eye does not see can be measured.

# %% [markdown]
# DDIM with $\eta = 0$ solves a differential equation, as Euler's method does. Then twice the steps should halve the
# distance to the exact solution: a method of *first order*. DPM-Solver++(2M) (Lu et al., 2022) also uses the guess
# before the last, and is of *second order*: twice the steps, a quarter of the distance. UniPC-2 (Zhao et al., 2023)
# takes the same steps, of order 2, and corrects each afterwards, which makes it a method of third order: an eighth.

# %%
from hwkit.solvers import dpm_solver_step, unipc_step

def solve(steps, step, end=T // 10):
    ts = torch.linspace(T, end, steps + 1).round().long().tolist()
    *_, frame = sample(denoise, x_T[:8], ts, alpha_bar, step=step)
    return frame.x_t

counts = (5, 10, 20, 40, 80)
solvers = {"DDIM": ddim_step, "DPM++(2M)": dpm_solver_step, "UniPC-2": unipc_step}
exact, errors = solve(min(300, T // 2), dpm_solver_step), {}
for name, step in solvers.items():
    off = [(solve(n, step) - exact).square().mean() for n in counts]
    errors[name] = torch.stack(off).sqrt().tolist()
    factor = (errors[name][0] / errors[name][2]) ** 0.5  # from 5 steps to 20
    print(f"{name:10} twice the steps divide the distance by {factor:.1f}")

# %% [markdown]
# Three hundred steps are "exact" for us. All stop at $t = T/10$: the last step, to $t = 0$, returns the guess itself,
# with every solver, and would hide the difference. The distance is an *RMS*, the root of the mean square, here of all
# pixels' differences. Both axes are logarithmic, so that a power law is a straight line; the dotted guides fall as
# 1/steps from DDIM's second point, and as 1/steps² from DPM-Solver++'s. (A line that keeps its order hides its guide.)

# %%
figure, axes = figures.plot(
    "network evaluations", "distance to the exact solution (RMS)"
)
for (name, error), look in zip(errors.items(), ("o-", "s--", "^-."), strict=True):
    color = figures.INK if name == "DDIM" else figures.ACCENT
    axes.plot(counts, error, look, color=color, label=name)
for order, name in ((1, "DDIM"), (2, "DPM++(2M)")):
    guide = [errors[name][1] * (10 / n) ** order for n in counts]
    axes.plot(counts, guide, ":", color=figures.INK, linewidth=1)
axes.set(xscale="log", yscale="log", xticks=counts, xticklabels=counts)
axes.minorticks_off()
axes.legend(frameon=False)
figure

# %% [markdown]
# **What to notice.** Which solver needs how many evaluations for the same distance? Go from DDIM's last point to the
# left, until you meet the other lines. An order says what happens when steps become smaller and smaller; it is no
# promise for each of these points. An image may still become another digit, most often with five or ten, so the printed
# factors change with `SEED`, and lines bend. Is UniPC-2's line really steeper than DPM++'s, or only lower? But *distance to the
# exact solution* is not *quality*: it is the exact image of an imperfect network. That brings us to the last question
# before the ten thousand images.

# %% [markdown]
# **If you like: a step of your own.** Write one of second order, such as DPM-Solver++(2M) (Lu et al., algorithm 2). It
# puts a better guess $D$ in the place of $\hat x_0$: it goes on in the direction in which the guess has moved since the
# step before. That step came from $r$ to $t$, and had $(\bar\alpha_r, \hat x_0^{(r)})$. Measured in
# $\lambda = \tfrac12 \log \tfrac{\bar\alpha}{1-\bar\alpha}$, with $h = \lambda_s - \lambda_t$,
#
# $$D = \hat x_0 + \frac{h}{2\,(\lambda_t - \lambda_r)}\,\big(\hat x_0 - \hat x_0^{(r)}\big), \qquad
# x_s = \sqrt{\tfrac{1-\bar\alpha_s}{1-\bar\alpha_t}}\; x_t + \sqrt{\bar\alpha_s}\,\big(1 - e^{-h}\big)\, D .$$

# %% [markdown]
# `past` holds what the steps before had, as pairs $(\bar\alpha, \hat x_0)$, the newest last; it is empty in the first
# step. There, and in the last step, where $\lambda_s$ is infinite, $D$ is $\hat x_0$. (Nothing below needs this one: you
# may leave it out.)

# %%
import math


def second_order_step(
    x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=()
):
    """x_s, of x_t's shape, without noise (Lu et al., algorithm 2)."""
    ### BEGIN SOLUTION 3.7: carry the guess to the middle of the step
    if past and alpha_bar_s < 1:
        a_r, before = past[-1]
        λ_r, λ_t, λ_s = (
            0.5 * math.log(a / (1 - a)) for a in (a_r, alpha_bar_t, alpha_bar_s)
        )
        x0_hat = x0_hat + (x0_hat - before) / (λ_t - λ_r) * (λ_s - λ_t) / 2
    eps_hat = (x_t - alpha_bar_t**0.5 * x0_hat) / (1 - alpha_bar_t) ** 0.5
    return alpha_bar_s**0.5 * x0_hat + (1 - alpha_bar_s) ** 0.5 * eps_hat
    ### END SOLUTION


# %%
check(second_order_step)

# %% [markdown]
# ## Act 5 · Ten thousand PNGs
#
# Which sampler should make them? So far, randomness only seemed to cost steps. But a network makes mistakes, and a
# solver without noise carries each of them to the end. **Fresh noise corrects.** In every step a part of $x_t$ is
# thrown away and replaced by noise of exactly the right size; what was wrong in that part is gone with it.

# %% [markdown]
# See it where everything is known. Let "images" be numbers from $\mathcal N(0, 0.617^2)$ (the spread of our pixels):
# then the best guess is a formula, with no network and no mistake. Half-way we make one mistake on purpose: all $x_t$
# are 20 % too large. How much of the 20 % is left at the end, after twenty steps?

# %%
from functools import partial
from hwkit.sampling import Sampler

table, spread, middle = linear(830).alpha_bar, 0.617, 415
def perfect(x_t, t):  # the best guess of x_0 from x_t, if x_0 ~ N(0, spread²)
    x0_hat = ab[t] ** 0.5 * spread**2 / (ab[t] * spread**2 + 1 - ab[t]) * x_t
    return predict_x0_eps(x0_hat, x_t, ab[t], "x0")

right = (ab[middle] * spread**2 + 1 - ab[middle]) ** 0.5
ts = torch.linspace(middle, 0, 21).round().long().tolist()
for name in ("ddim", "dpm++", "ddpm", "dpm++sde"):
    ends = []
    for mistake in (1.0, 1.2):
        draw = torch.Generator().manual_seed(1)
        fresh = partial(torch.randn, 200_000, generator=draw)
        x_t = fresh() * right * mistake
        *_, end = sample(perfect, x_t, ts, table, Sampler(name).step, fresh)
        ends.append(end.x_t.std().item() / spread)
    left = ends[1] / ends[0] - 1
    print(f"{name:9} no mistake: {ends[0]:.2f}; of the 20 %, {left:4.0%} is left")

# %% [markdown]
# **What to notice.** Without noise (`ddim`, `dpm++`) the whole mistake arrives at the end. With noise (`ddpm`,
# `dpm++sde`) next to nothing of it is left. The column "no mistake" should be 1.00. There `ddim` and `ddpm` are off most,
# `ddpm` by a tenth: both are methods of first order, and twenty steps are few for them. `dpm++sde` corrects, and is off
# less: it is DPM-Solver++(2M) with fresh noise, of second order.

# %% [markdown]
# This is its step from $t$ to $s$ (Lu et al., 2022, §6). With $\lambda = \tfrac12 \log \mathrm{SNR}$,
# $h = \lambda_s - \lambda_t$, and the guess $D$ carried on to the middle of the step,
#
# $$x_s = \sqrt{\tfrac{1-\bar\alpha_s}{1-\bar\alpha_t}}\; e^{-h}\, x_t +
# \sqrt{\bar\alpha_s}\,\big(1 - e^{-2h}\big)\, D +
# \sqrt{(1-\bar\alpha_s)\big(1 - e^{-2h}\big)}\;\varepsilon .$$
#
# Of the old noise the factor $e^{-h}$ stays, the rest is fresh. The code is `dpm_solver_step` in `hwkit/solvers.py`,
# with `eta=1`.

# %% [markdown]
# Does it hold with your network, too? Measure it: `COMPARE` images by DDIM and as many by `dpm++sde`, with their
# digit-FID, a distance to the real digits (lower is better; notebook 5 explains it).

# %%
from hwkit.measure.curve import measure
from hwkit.measure.score import floor_at

for sampler in (Sampler("ddim", STEPS), Sampler("dpm++sde", guidance=1.0)):
    point = measure(trained, sampler.resolve(T), COMPARE, SEED, 100, device)
    score = f"{point.value:.2f} ± {point.error:.2f}"
    print(f"{point.sampler:12} digit-FID of {COMPARE:,} images: {score}")
print(f"as many real digits score {floor_at(COMPARE):.2f}")

# %% [markdown]
# **What to notice.** Take the difference of the two values. Its own error is $\sqrt{a^2 + b^2}$ of the errors $a$ and $b$
# behind the ±; a difference of less than twice that may be chance, and more images might tell. If it is more, the sampler
# with the lower value makes the better images. Is it `dpm++sde`, which also asks the network less often? Then fresh noise
# pays for your network, too. (Only values of equally many images may be compared:
# with fewer images the number comes out higher, for real digits too.)

# %% [markdown]
# A second way to better digits needs a **worse** network. With every run the kit trains a small one for a short time, the
# run's *guide*. What both get wrong, it gets more wrong; so go from its guess to yours, and beyond (*autoguidance*,
# Karras et al. 2024, eq. 3):
#
# $$\hat x_0 = \hat x_0^{\text{guide}} + w\,\big(\hat x_0^{\text{yours}} - \hat x_0^{\text{guide}}\big).$$
#
# With $w = 0$ the guide draws alone, with $w = 1$ your network does. Predict: what does $w = 4$ do to a stroke?

# %%
if trained.guide is None:
    print("These weights have no guide: python -m hwkit guide trains one in minutes.")
else:
    from hwkit.sampling import trajectory

    rows = {"the guide alone": (trained.guide, 1.0), "w = 1": (trained, 1.0)}
    rows |= {f"w = {w}": (trained, w) for w in (1.3, 4.0)}
    for name, (denoiser, w) in rows.items():
        led = Sampler("dpm++sde", guidance=w, power=1)  # with even times in all rows
        *_, end = trajectory(denoiser, led, SEED, range(1, 11), device)
        rows[name] = end.x_t
figures.labelled_rows(rows) if trained.guide else None

# %% [markdown]
# **What to notice.** All rows began in the same noise and got the same noise on the way, so they may be compared column by
# column. A little guidance mends some strokes, not all; it may also turn a digit into another one, or spoil it. Too much
# of it makes some digits thick and hard, and turns more of them into others. `dpm++sde` takes 1.3 where the weights have a
# guide, unless they say another weight. The kit's say 1, which is none: they have trained so long that their images score no
# worse without it. Those of a network of ten minutes do (the README's table has both numbers).

# %% [markdown]
# One thing more before the long work: it may be interrupted at any time. Called again, `generate` makes only what is
# missing. See it on a small scale: sixty images, three of which get lost, and then a hundred are asked for.

# %%
import shutil

from hwkit.runs.generate import generate

practice = run / "practice"
shutil.rmtree(practice, ignore_errors=True)
options = {"sampler": Sampler("ddim", 10), "batch": 20, "device": device}
make = partial(generate, best_of(run), practice, **options)
print("made:", make(n=60))
for lost in ("00007.png", "00021.png", "00060.png"):
    (practice / lost).unlink()
print("made:", make(n=100))

# %% [markdown]
# **What to notice.** 43 = 40 new ones and the 3 that were lost. The lost ones come back as the same images, because
# image $k$ depends on (seed, $k$) only: not on the batch, and not on how often you were interrupted.

# %% [markdown]
# Now the real thing, by `Sampler("dpm++sde")` with its 16 evaluations. The cell first says how long it will take here.
# If you are interrupted, run it again. With Drive, the images are kept there too, as one zip. (If `generate/` was begun
# with another sampler, it goes on with that one: delete the folder to begin anew. Images of other weights than you have
# now are refused.)

# %% [markdown]
# Here, too, your functions can do the work: `own(Denoiser)` with this sampler, `own(Denoiser, times, ddim_step)` with
# `Sampler("ddim")`, `own(Denoiser, ddpm_step)` with `Sampler("ddpm")`. The images then are the same but for rounding, and
# what made them is noted beside them and in the report. (With a guide the times of this sampler lie closer where little
# noise is left, so it does not ask your `times`.)

# %%
from hwkit.course.own import own
from hwkit.runs.generate import numbered, read_manifest, sampler_of

with own():
    folder = notebook.make_images(run, IMAGES, Sampler("dpm++sde"), SEED, device)
count = len(numbered(folder))
made_by = sampler_of(read_manifest(folder))
print(f"{count:,} images in {folder}, by {made_by}")

# %% [markdown]
# Would the course accept them? The kit's check of a folder looks as a strict assistant would: number, names, size, mode, duplicates, copies
# of training images, and whether all ten digits are there. ("No copies" allows a few: of unseen real digits, too, one
# in a thousand is as near to a training image.) It works on any folder: `python -m hwkit check FOLDER`.

# %%
from hwkit.language import filled, wrapped
from hwkit.measure import check as folder_check

for row in folder_check.rows(folder, count):
    sign = {True: "✓", False: "✗", None: "–"}[row.passed]
    print(wrapped(f"{sign} {filled(row.what, 16)} {row.found}", indent=19))
    if row.passed is False:
        print(wrapped(f"→ {row.mend}", indent=2))

# %% [markdown]
# And with your own eyes: the first 120, not the best 120. Look for strokes that end in the air, for digits that are two
# digits at once, and for how much the handwriting varies.

# %% tags=["goal"]
from hwkit.mnist.folder import read_png

first = np.stack([read_png(file) for file in numbered(folder)[:120]])
figures.sample_sheet(first, columns=12, title=f"The first {len(first)} images")

# %% [markdown]
# ## Summary
#
# - Every prediction is $(\hat x_0, \hat\varepsilon)$ in other letters; samplers know only these two.
# - DDPM: an average of the guess and of where we stand, plus fresh noise; none in the last step. Eq. 7 with $\hat x_0$
#   and eq. 11 with $\hat\varepsilon$ are one.
# - DDIM: split, and mix again for an earlier time; nothing random, any number of steps. The same $x_T$ gives the same
#   image.
# - DDIM is a first-order solver, DPM-Solver++ a second-order one: fewer steps for the same exactness.
# - Exact is not yet good: without noise a mistake arrives at the end, with fresh noise it is corrected.
#
# **Next:** [04_visualization](04_visualization.ipynb) puts a slider on the way from noise to digit.

# %% [markdown]
# ## Exercises
#
# Worked answers, with the numbers to expect, stand in `notebooks/solutions/03_sampling.ipynb`.
#
# 1. *(code, 10 minutes)* Walk between two noises along the straight line $(1-\lambda) a + \lambda b$ instead of the
#    circle. What is the variance of the noise half-way? Compare the strokes there with the circle's.
#
#    <details><summary>Hint</summary>
#
#    $a$ and $b$ are independent: variances add up, and the factors count squared. One pair of noises shows little; take
#    the mean brightness half-way of sixteen pairs, for the line and for the circle.
#
#    </details>
#
# 2. *(code, 15 minutes)* Draw twelve images with `functools.partial(ddim_step, eta=1.0)` and `noise=noise`, with 50
#    steps and with 10, beside those of $\eta = 0$. Which look better? Then let `generate` make 100 of each of the four
#    (its sampler is `Sampler("ddim", 50, eta=1.0)`, and so on, each in a folder of its own), and compare their
#    digit-FID.
#
#    <details><summary>Hint</summary>
#
#    Fresh noise does two things: it corrects mistakes, and it makes a long step less exact (see the column "no mistake"
#    in Act 5). Which of the two grows with the length of the steps?
#
#    </details>
#
# 3. *(break it, 10 minutes)* Let your `ddpm_step` add noise in the last step, too: leave out what it does where
#    `alpha_bar_s` is 1. Sample with 50 steps and `variance="beta"` (which adds noise of variance $\beta$, not
#    $\tilde\beta$). What do you see, and why is it hardly visible with 830 steps?
#
#    <details><summary>Hint</summary>
#
#    In the last step $\bar\alpha_s = 1$: put that into $\tilde\beta$ and into $\beta$. From which $t$ does the last
#    step start with 50 steps, and from which with 830?
#
#    </details>
#
# 4. *(break it, 15 minutes)* Set `clip=False` in the `Denoiser`. How many pixels of your network's guesses are outside
#    $[-1, 1]$ then, and at which times? A network that says $\hat\varepsilon$ or $\hat v$ may have more need of the
#    clip: add an error of 0.01 to the true `target` of ten digits, for each of the three predictions, and see how large
#    it is in $\hat x_0$ at $t = T$.
#
#    <details><summary>Hint</summary>
#
#    `predict_x0_eps` turns each answer into $\hat x_0$. By which number does it multiply or divide the answer, and how
#    large is that number at $t = T$?
#
#    </details>
#
# 5. *(code, 10 minutes)* Put your `second_order_step` of Act 4 into the plot there, beside the kit's solvers. Twice the
#    steps should divide the distance by four. (The cell of the plot has three kinds of marks: add a fourth, such as
#    `"d:"`.)
#
#    <details><summary>Hint</summary>
#
#    `solvers` is a dictionary, and `sample` hands `past` to every step that has such an argument. Run the cells from
#    `solvers` on again, below the cell in which you wrote yours.
#
#    </details>
#
# 6. *(code, 10 minutes)* In the experiment with the 20 %, make the mistake at $t = 119$ instead of 415. How much is
#    left now with `dpm++sde`? What does that say about *when* a network must not err?
#
#    <details><summary>Hint</summary>
#
#    You need to change one number. Then compare $1-\bar\alpha_t$, the share of noise in $x_t$, at both times: only
#    noise is replaced by fresh noise.
#
#    </details>
#
# <details><summary>Numbers to check your answers with</summary>
#
# 1: half of it, 0.5 (the circle keeps 1), and the strokes get thinner. 3: a film of noise with $\sigma = 0.070$, 9 of
# 255 grey levels; with 830 steps 0.010, 1.3 levels. 4: 0.67 for $\hat\varepsilon$, as it is divided by
# $\sqrt{\bar\alpha_T} = 0.015$; 0.01 for the two others. 6: 13 %. Near the end little noise is replaced, and little can
# be corrected.
#
# </details>

# %% [markdown]
# ## References
#
# - J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, 2020,
#   [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): eq. 6, 7 and 11, algorithm 2.
# - J. Song, C. Meng, S. Ermon, *Denoising Diffusion Implicit Models*, 2021,
#   [arXiv:2010.02502](https://arxiv.org/abs/2010.02502): eq. 12, 16; §5.3 on interpolation.
# - C. Lu et al., *DPM-Solver++*, 2022, [arXiv:2211.01095](https://arxiv.org/abs/2211.01095): algorithm 2; §6 with
#   noise.
# - W. Zhao et al., *UniPC*, 2023, [arXiv:2302.04867](https://arxiv.org/abs/2302.04867).
# - T. Salimans, J. Ho, *Progressive Distillation*, 2022, [arXiv:2202.00512](https://arxiv.org/abs/2202.00512): §4, the
#   prediction $v$.
# - T. Karras et al., *Elucidating the Design Space of Diffusion-Based Generative Models*, 2022,
#   [arXiv:2206.00364](https://arxiv.org/abs/2206.00364): §4, why fresh noise corrects.
# - T. Karras et al., *Guiding a Diffusion Model with a Bad Version of Itself*, 2024,
#   [arXiv:2406.02507](https://arxiv.org/abs/2406.02507): the guide.
