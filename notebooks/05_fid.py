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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/05_fid.ipynb)
#
# # 5 · How good are they?
#
# "Looks fine to me" is no measurement, and looking at 10,000 digits takes a day. The field's answer is one number, FID: it compares the *distribution* of your images with that
# of the real ones. Here you compute it by hand, learn what it can be trusted with, and then fool it on purpose.
#
# *About 25 minutes. You need: mean and covariance, and notebook 3.*

# %% [markdown]
# ## Where this leads
#
# The first cell readies the notebook and shows what you will have at the end: the same network, sampled right and sampled wrong in four well-known ways. Which of them
# would you have noticed, and which does the number?

# %%
import os, sys

if "google.colab" in sys.modules and os.system("[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit"):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [os.path.abspath(".."), "/content/hwkit"]
from hwkit import notebook

notebook.start("05_fid", drive=False)  # drive=True keeps your runs in MyDrive/hwkit

# %% [markdown]
# `RUN` is the run to measure (`None`: your newest, else the kit's weights). `IMAGES` are made for each small experiment here: more take longer and tell more. `INCEPTION = True` measures as the
# original did, where the weights can be downloaded and you have a GPU or half an hour.

# %% tags=["parameters"]
RUN = None
IMAGES = 200
SEED = 0
INCEPTION = False

# %% [markdown]
# The weights, as in notebooks 3 and 4, and the statistics of MNIST's 60,000 training digits, which come with the kit.

# %%
from hwkit.measure.features import DigitFeatures, reference
from hwkit.runs.checkpoint import best_of, load_denoiser
from hwkit.training import best_device

run, device = notebook.find_run(RUN), best_device()
denoise = load_denoiser(best_of(run), device)
alpha_bar, T = denoise.schedule.alpha_bar, denoise.schedule.T
real = reference(DigitFeatures())

# %% [markdown]
# ## Act 1 · FID on paper
#
# Take a bell curve with mean $\mu_1$ and deviation $\sigma_1$, and another with $\mu_2$ and $\sigma_2$. How far apart are they? Fréchet's answer is the least effort of carrying one heap of sand onto the
# other, in squared distance:
#
# $$d^2 = (\mu_1 - \mu_2)^2 + (\sigma_1 - \sigma_2)^2.$$

# %%
import numpy as np
from hwkit.show import figures

figure, axes = figures.plot("value", "density", size=(7.2, 3.0))
x = np.linspace(-4, 7, 400)
curves = ((0, 1, figures.INK, "-"), (2, 1, figures.ACCENT, "-"), (0, 2, figures.ACCENT, "--"), (2, 2, figures.ACCENT, ":"))
for mean, spread, color, line in curves:
    label = f"μ = {mean}, σ = {spread}:  d² = {mean**2 + (spread - 1) ** 2}"
    axes.plot(x, np.exp(-(((x - mean) / spread) ** 2) / 2) / spread, line, color=color, label=label)
axes.legend(frameon=False, fontsize=9)
figure


# %% [markdown]
# **What to notice.** All distances are from the dark curve. Being in the wrong place costs, and being too broad or too narrow costs as well: a generator that draws one perfect digit again and again has
# $\sigma \approx 0$, and pays for it. That is why FID punishes *mode collapse*, which no look at single pictures reveals.

# %% [markdown]
# In more dimensions the means become vectors and the variances matrices. The formula keeps its shape (Dowson & Landau 1982):
#
# $$d^2 = |\mu_1 - \mu_2|^2 + \operatorname{tr}\!\big(\Sigma_1 + \Sigma_2 - 2\,(\Sigma_1 \Sigma_2)^{1/2}\big).$$
#
# The trace of a matrix root is the sum of the roots of its eigenvalues, so it fits in two lines.

# %%
from hwkit.measure.distances import statistics


def frechet(features_1, features_2):
    (mu_1, sigma_1), (mu_2, sigma_2) = statistics(features_1), statistics(features_2)
    roots = np.sqrt(np.linalg.eigvals(sigma_1 @ sigma_2).real.clip(0))
    return ((mu_1 - mu_2) ** 2).sum() + np.trace(sigma_1 + sigma_2) - 2 * roots.sum()


# %% [markdown]
# Test it where the answer is known. A cloud of points moved by (3, 4) is at $d^2 = 25$, and one stretched to twice its size in one direction out of two is at $(2-1)^2 = 1$. With 100,000 points chance is small. The
# last line compares with the kit's function, which is written so that rounding can do no harm.

# %% tags=["nbval-check-output"]
from hwkit.measure.distances import frechet_distance

cloud = np.random.default_rng(0).standard_normal((100_000, 2))
print(f"moved by (3, 4): {frechet(cloud, cloud + np.array([3, 4])):.2f}")
print(f"stretched by 2:  {frechet(cloud, cloud * np.array([2, 1])):.2f}")
other = np.random.default_rng(1).standard_normal((500, 2)) @ [[1, 0.5], [0, 2]]
kit = frechet_distance(*statistics(cloud), *statistics(other))
print("as the kit has it:", abs(frechet(cloud, other) - kit) < 1e-8)

# %% [markdown]
# ## Act 2 · FID on digits
#
# Why not put pixels into the formula? Because pixels do not know what a digit is. Move a 7 by two pixels and it is the same 7 to you. Compare the distances, from the first digit here to three others.

# %%
from hwkit.measure.features import digit_features
from hwkit.mnist.sources import SAMPLE

with np.load(SAMPLE) as arrays:
    digits, labels = arrays["images"], arrays["labels"]
seven, other_seven, one = (digits[labels == k][i] for k, i in ((7, 0), (7, 3), (1, 2)))
four = np.stack([seven, np.roll(seven, 2, axis=1), other_seven, one])
features = digit_features(four)
for name, k in (("the same, moved by 2 pixels", 1), ("another 7", 2), ("a 1", 3)):
    pixels = np.linalg.norm(four[k] / 255.0 - four[0] / 255.0)
    print(f"{name:28} pixels {pixels:5.2f}    features {np.linalg.norm(features[k] - features[0]):5.2f}")
figures.sample_sheet(four[:, None], columns=4)

# %% [markdown]
# **What to notice.** To the pixels, moving the 7 is as bad as drawing another digit. To the *features* it is nearly nothing. Features are what a network sees just before it decides: here 128 numbers of a small classifier of digits, which comes
# with the kit. Classical FID takes 2,048 of Inception, a network that was trained on photographs.

# %% [markdown]
# So: **FID is the Fréchet distance between two clouds of features.** It needs no pairs and no labels. What do *real* digits score against real digits? Nothing can be better than that floor. Draw $N$ real digits at random, ten times,
# for some $N$.

# %%
embedded = digit_features(digits)
counts, rng, floor = (250, 500, 1000, 2000, 4000), np.random.default_rng(SEED), {}
for n in counts:
    draws = [statistics(rng.permutation(embedded)[:n]) for _ in range(10)]
    floor[n] = [frechet_distance(mu, sigma, real.mu, real.sigma) for mu, sigma in draws]
print({n: round(float(np.mean(values)), 2) for n, values in floor.items()})

# %% [markdown]
# Plot them against $1/N$: few images stand on the right, very many on the left.

# %%
figure, axes = figures.plot("1 / N", "digit-FID of N real digits", size=(6.8, 3.2))
for n, values in floor.items():
    axes.plot([1 / n] * len(values), values, "o", color=figures.ACCENT, markersize=3, alpha=0.6)
    axes.annotate(f"N = {n:,}", (1 / n, max(values)), xytext=(-8, 6), textcoords="offset points", fontsize=9)
axes.plot([1 / n for n in counts], [np.mean(values) for values in floor.values()], color=figures.INK)
axes.margins(y=0.2, x=0.1)
figure

# %% [markdown]
# **What to notice.** Perfect images, and yet the value is not 0. It falls as $1/N$: FID of few images is *too high*, always, and by an amount that depends on $N$ alone. So a FID without its $N$ means nothing, two values with different $N$ cannot be
# compared, and 10,000 images are the custom. The kit prints the floor for your $N$ beside every value.

# %% [markdown]
# ## Act 3 · Your images
#
# Now the 10,000 that notebook 3 made (or, if it has not been run, `IMAGES` made now). One call gives FID with its error, KID (Bińkowski et al.: the same idea without the bias), precision (how many of yours could be real) and recall (how many of the real
# ones you could have made), all beside what real digits score.

# %%
from hwkit.measure.score import results_of, score
from hwkit.mnist.folder import load_folder
from hwkit.runs.generate import generate

folder = run / "generate"
if not folder.is_dir():
    generate(best_of(run), folder, IMAGES, device=device)
images = load_folder(folder)
record = score(DigitFeatures(), [folder], [images])
print("\n".join(record.words()))

# %% [markdown]
# A number says *that* something is wrong, a histogram often *what*. The classifier names the digit in each image, or says that there is none. MNIST has about as many of each.

# %%
from hwkit.measure.features import floors

figures.digit_histogram_figure(record.classes, floors()["classes"])

# %% [markdown]
# **What to notice.** Precision and recall are two halves of FID. A generator that is too careful has high precision and low recall, one that draws scrawls the reverse. In the histogram look at "no digit", and at
# digits that are too rare: thin 1s are often the first to be lost.

# %% [markdown]
# The original's 1.66 is FID in Inception's features. It cannot be compared with the value above, which has a scale of its own: only with its own floor, 1.1 to 1.25 for 10,000 test digits (public figures). Inception takes a
# download of 90 MB and, without a GPU, much patience.

# %%
from hwkit.measure.features import InceptionFeatures

if INCEPTION:
    inception = score(InceptionFeatures(device=device), [folder], [images])
    inception.write(results_of(folder))
    print("\n".join(inception.words()))
else:
    print("Not measured here. INCEPTION = True does, and so does, at the command line:")
    print(f"python -m hwkit fid {folder} --protocol inception")

# %% [markdown]
# How many steps are enough? Notebook 3 answered by distance to the exact solution, which nobody sees. Ask FID instead: `IMAGES` for each point, so all values stand somewhat too high, and the dashed line is the floor for as many. What is measured is kept, so a second
# call is quick.

# %%
from hwkit.measure.curve import curve

*_, whole = curve(best_of(run), run / "figures" / "fid_curve.json", n=IMAGES, device=device)
for point in whole.points:
    print(f"{point.sampler:10} digit-FID {point.value:6.2f} ± {point.error:.2f}")
figure = figures.fid_curve_figure(whole)
figures.save(figure, run / "figures" / "fid_curve.png")
figure

# %% [markdown]
# **What to notice.** Something is won up to 20 steps, next to nothing from 50 to 100: the network, not the solver, is what limits the images then. DPM-Solver++ gets there with fewer evaluations, as in notebook 3. And look at the bars: with so few images, most differences are
# smaller than the error.

# %% [markdown]
# ## Act 4 · Made, or remembered?
#
# A generator that hands out training images has a *perfect* FID. So look for copies: for each of your images the nearest of all training images, pixel by pixel, and as a yardstick the same for real test digits, which cannot be copies.

# %%
from dataclasses import replace
from hwkit.measure.memorisation import compare

copies, pairs = compare(images)
replace(record, memorisation=copies).write(results_of(folder))  # from where notebook 6 takes it
print(copies.words().replace("; ", ";\n").replace(": ", ":\n", 1))
figures.memorisation_figure(pairs)

# %% [markdown]
# **What to notice.** These are the *closest* pairs of all your images. Are they copies, or two people writing the same thin 1? Ones have so little room to differ that the closest pair is nearly always a pair of ones. A model that copies would
# show itself in the shares: far more than 1 % closer than the closest 1 % of real digits.

# %% [markdown]
# ## Act 5 · Break it
#
# Does the number notice what you would not? Take the same weights and make four mistakes, all of which stand in well-known tutorials. This function makes `IMAGES` images by the step, and with the ending, that it is given.

# %%
import torch
from hwkit.diffusion import ddim_step, ddpm_step
from hwkit.mnist.batches import to_uint8
from hwkit.sampling import ImageNoise, sample, times


def make(denoise, step=ddim_step, steps=None, ending=lambda x: x, fresh=False):
    made = []
    for first in range(1, IMAGES + 1, 100):
        noise = ImageNoise(SEED, range(first, min(first + 100, IMAGES + 1)), device=device)
        way = sample(denoise, noise(), steps or times(T, 50), alpha_bar, step, noise if fresh else None)
        *_, last = way
        made.append(to_uint8(ending(last.x_t)).cpu())
    return torch.cat(made)


# %% [markdown]
# The mistakes. *Noise to the end*: a DDPM step that forgets that nothing is added in the last step. *Wrong range*: pixels of $[-1, 1]$ saved as if they were $[0, 1]$. *Wrong times*: 50 steps by an integer stride of 16, which begin at $t = 784$, where the network
# expects a trace of signal. *No EMA*: the raw weights, where the run has kept them.

# %%
def never_quiet(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise):
    mean = ddpm_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, 0 * noise)
    return mean + (1 - alpha_bar_t / alpha_bar_s) ** 0.5 * noise


ways = {
    "DDIM, as it should be": make(denoise),
    "DDPM, as it should be": make(denoise, ddpm_step, fresh=True),
    "DDPM, noise to the end": make(denoise, never_quiet, fresh=True),
    "DDIM, wrong range": make(denoise, ending=lambda x: 2 * x - 1),
    "DDIM, wrong times": make(denoise, steps=[*range(49 * (T // 50), -1, -(T // 50))]),
}
if (run / "latest.pt").is_file():
    ways["DDIM, no EMA"] = make(load_denoiser(run / "latest.pt", device))

# %% [markdown]
# What each scores. All values are of `IMAGES` images and hence too high by the floor of that $N$, so compare them with each other only. Which ones can you tell apart by eye?

# %%
from hwkit.measure.features import classify
from hwkit.measure.score import digit_fid

for name, made in ways.items():
    value, error = digit_fid(made)
    read = (classify(digit_features(made)) < 10).mean()
    print(f"{name:24} digit-FID {value:6.1f}    taken for a digit {read:4.0%}")

# %% [markdown]
# Twenty of each, from the same noise: image by image the first, fourth and fifth row began as the same $x_T$ (the fifth a little later).

# %% tags=["goal"]
from matplotlib.figure import Figure

figure = Figure(figsize=(8.6, 0.72 * len(ways)), layout="constrained")
for axes, (name, made) in zip(figure.subplots(len(ways)), ways.items(), strict=True):
    axes.imshow(figures.tile(made[:20], columns=20))
    axes.set_title(name, loc="left", fontsize=9)
    axes.axis("off")
figure

# %% [markdown]
# **What to notice.** The wrong range looks *better* to many eyes, as the strokes are crisp: but MNIST's are not, and the number knows. The film of noise is easy to overlook; these features were trained on noisy digits as well, and forgive most of it. The last rows are nearly right, and so are their
# values: $x_{784}$ holds next to no more signal than $x_{830}$, and where the learning rate has fallen to 0, raw weights and their average have become the same.

# %% [markdown]
# ## Summary
#
# - FID is the Fréchet distance of two clouds of features: it sees quality and variety, and neither pixels nor pairs.
# - It is too high by about $c/N$. Name $N$, the features, the reference and the sampler, or say nothing.
# - Its floor is what real images score. Below the floor there is only memory, so look for copies.
# - Digit features see digits; Inception's are the custom. Values of one never compare with the other's.
# - Eye and number forgive different faults. Use both.
#
# **Next:** [06_report](06_report.ipynb) puts all of it together for handing in.

# %% [markdown]
# ## Exercises
#
# 1. *(think)* A generator returns a random *training* image each time. What are its FID, its precision, its recall? Which check finds it out?
# 2. *(code)* Blur the real digits a little (`scipy.ndimage.gaussian_filter`, 0.5 pixels) and measure them. And with one JPEG compression? Is FID "perceptual"?
# 3. *(code)* Drop all 1s from 5,000 real digits. What does FID say, what do precision and recall?
# 4. *(think)* FID only knows mean and covariance. Describe a distribution of features that has the same two as MNIST's and is none of it.
# 5. *(code)* Take $c/N$ seriously: measure your images for $N$ = 1,000, 2,000, 5,000, 10,000, fit a line in $1/N$, and read off $\mathrm{FID}_\infty$ (Chong & Forsyth 2020).
# 6. *(code)* Save your images as JPEG and as resized 32×32, back to 28×28. What does each cost? (Parmar et al. 2022 is about nothing else.)

# %% [markdown]
# ## References
#
# - M. Heusel et al. *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium.* NeurIPS 2017. [arXiv:1706.08500](https://arxiv.org/abs/1706.08500). FID.
# - M. Bińkowski et al. *Demystifying MMD GANs.* ICLR 2018. [arXiv:1801.01401](https://arxiv.org/abs/1801.01401). KID, the bias of FID, and MNIST in a LeNet's features.
# - T. Kynkäänniemi et al. *Improved Precision and Recall Metric.* NeurIPS 2019. [arXiv:1904.06991](https://arxiv.org/abs/1904.06991).
# - M. J. Chong, D. Forsyth. *Effectively Unbiased FID and Inception Score.* CVPR 2020. [arXiv:1911.07023](https://arxiv.org/abs/1911.07023).
# - G. Parmar, R. Zhang, J.-Y. Zhu. *On Aliased Resizing and Surprising Subtleties in GAN Evaluation.* CVPR 2022. [arXiv:2104.11222](https://arxiv.org/abs/2104.11222).
