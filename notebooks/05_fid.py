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
# **English** · [繁體中文](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/zh-TW/05_fid.ipynb)
#
# # 5 · How good are they?
#
# "Looks fine to me" is no measurement, and nobody looks at 10,000 digits. The usual answer is one number, FID: it compares the
# *distribution* of your images with that of the real ones. You compute it by hand, learn what it can tell, get the number that
# the homework asks for, and then try to fool it.
#
# *About 60 minutes of reading. Without a GPU the computer needs about 17 minutes on two free cores (an estimate), and needed nearly
# two hours on two busy ones without AVX-512; a cell below says how long it takes here, and `IMAGES` makes it shorter. Before it: mean and covariance, and notebook 3. After it you can say what a FID is worth.*

# %% [markdown]
# ## Where this leads
#
# The first cell starts the notebook and shows what you will have at the end: the same network, sampled right and sampled wrong
# in well-known ways. Which of the mistakes would you have seen, and which does the number see?

# %%
import os, sys

clone = "[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit hwkit"
if "google.colab" in sys.modules and os.system(clone):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [*map(os.path.abspath, ("..", "../..", "../../..")), "/content/hwkit"]
from hwkit import notebook

notebook.start("05_fid", drive=True)  # False: nothing is kept on Drive

# %% [markdown]
# `RUN` is the run to measure (`None`: your newest, else the kit's weights). `IMAGES` are made for each point of the experiments in
# Acts 3 and 5: more take longer and tell more. `INCEPTION`: whether to run the homework's own measurement (`None`: only on a
# GPU). `SOURCE` names MNIST for it, such as a .zip on Drive; `None` takes what is there, or downloads it.

# %% tags=["parameters"]
RUN = None
IMAGES = 1000
SEED = 0
INCEPTION = None
SOURCE = None

# %% [markdown]
# The weights, as in notebooks 3 and 4, and the statistics of MNIST's 60,000 training digits, which come with the kit. Then a
# sentence on the time, so that you can choose `IMAGES`: both experiments together ask the network about 500 times for each image.

# %% tags=["texts"]
from hwkit.measure.features import DigitFeatures, reference
from hwkit.runs.checkpoint import best_of, load_denoiser
from hwkit.runs.speed import best_device
from hwkit.sampling import Sampler

run, device = notebook.find_run(RUN), best_device()
denoise = load_denoiser(best_of(run), device)
alpha_bar, T = denoise.schedule.alpha_bar, denoise.schedule.T
real = reference(DigitFeatures())
pace = notebook.seconds_an_image(best_of(run), Sampler("ddim", 1), device)
minutes = 500 * pace * IMAGES / 60
print(f"The experiments with {IMAGES:,} images take about {minutes:.0f} min.")

# %% [markdown]
# ## Act 1 · FID on paper
#
# Take a bell curve with mean $\mu_1$ and deviation $\sigma_1$, and another with $\mu_2$ and $\sigma_2$. How far apart are they? Think of two
# heaps of sand, and of the least work to carry one onto the other. Measured in squared distance it is
#
# $$d^2 = (\mu_1 - \mu_2)^2 + (\sigma_1 - \sigma_2)^2.$$

# %%
import numpy as np
from hwkit.show import figures

INK, RED = figures.INK, figures.ACCENT
figure, axes = figures.plot("value", "density", size=(7.2, 3.0))
x = np.linspace(-4, 7, 400)
curves = ((0, 1, INK, "-"), (2, 1, RED, "-"), (0, 2, RED, "--"), (2, 2, RED, ":"))
for mean, spread, color, line in curves:
    density = np.exp(-(((x - mean) / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi))
    label = f"μ = {mean}, σ = {spread}:  d² = {mean**2 + (spread - 1) ** 2}"
    axes.plot(x, density, line, color=color, label=label)
axes.legend(frameon=False, fontsize=9)
figure


# %% [markdown]
# **What to notice.** All distances are from the dark curve. To be in the wrong place costs, and to be too broad or too narrow costs
# as well: a generator that draws one perfect digit again and again has $\sigma \approx 0$, and pays for it. So FID punishes *mode
# collapse*, which you cannot see in a single picture.

# %% [markdown]
# In more dimensions the means become vectors and the variances matrices. The formula keeps its shape (Dowson & Landau 1982):
#
# $$d^2 = |\mu_1 - \mu_2|^2 + \operatorname{tr}\!\big(\Sigma_1 + \Sigma_2 - 2\,(\Sigma_1 \Sigma_2)^{1/2}\big).$$
#
# It needs of each cloud two things only: the mean of each feature, and the covariance of each two.

# %% [markdown]
# The covariance divides its sum by $N - 1$, not by $N$, as pytorch-fid and NumPy do: the mean was computed from the same
# features, so they lie nearer to it than to the true one, and a division by $N$ would come out too small on average.

# %%
def statistics(features):
    """Features (N, D) → mean (D,) and covariance (D, D) (Heusel et al., §3)."""
    ### BEGIN SOLUTION 5.1: mean and covariance over the N rows
    return features.mean(axis=0), np.cov(features, rowvar=False)
    ### END SOLUTION


# %%
from hwkit.course.selfcheck import check

check(statistics)

# %% [markdown]
# The trace of a matrix root is the sum of the roots of the matrix's eigenvalues, so the distance fits in a few lines. (Rounding can make
# an eigenvalue a little negative or complex.)

# %%
def frechet_distance(mu1, sigma1, mu2, sigma2):
    """d², a number, from means (D,) and covariances (D, D) (Heusel et al., eq. 6)."""
    ### BEGIN SOLUTION 5.2: the means' distance, and the three traces
    roots = np.sqrt(np.linalg.eigvals(sigma1 @ sigma2).real.clip(0))
    traces = np.trace(sigma1) + np.trace(sigma2) - 2 * roots.sum()
    return float(((mu1 - mu2) ** 2).sum() + traces)
    ### END SOLUTION


# %%
check(frechet_distance)

# %% [markdown]
# Test it where the answer is known. A cloud of points moved by (3, 4) is at exactly $d^2 = 25$. A cloud stretched to twice its size in
# one of two directions is at $(2-1)^2 = 1$, up to chance. The last line compares with the kit's function, which is written so that
# rounding does no harm.

# %% tags=["nbval-check-output"]
from hwkit.measure import distances

def between(cloud, other):
    return frechet_distance(*statistics(cloud), *statistics(other))

cloud = np.random.default_rng(0).standard_normal((100_000, 2))
print(f"moved by (3, 4): {between(cloud, cloud + np.array([3, 4])):.2f}")
print(f"stretched by 2:  {between(cloud, cloud * np.array([2, 1])):.2f}")
other = np.random.default_rng(1).standard_normal((500, 2)) @ [[1, 0.5], [0, 2]]
kit = distances.frechet_distance(*statistics(cloud), *statistics(other))
print("as the kit has it:", abs(between(cloud, other) - kit) < 1e-8)

# %% [markdown]
# ## Act 2 · FID on digits
#
# Why not put pixels into the formula? Because pixels do not know what a digit is. Move a 7 by two pixels: to you it is the same 7.
# Compare the distances from the first digit here to the three others.

# %%
from hwkit.measure.features import digit_features
from hwkit.mnist.sources import SAMPLE

with np.load(SAMPLE) as arrays:
    digits, labels = arrays["images"], arrays["labels"]
seven, other_seven, one = (digits[labels == k][i] for k, i in ((7, 0), (7, 3), (1, 2)))
names = ("a 7", "the same, moved by 2 pixels", "another 7", "a 1")
four = np.stack([seven, np.roll(seven, 2, axis=1), other_seven, one])
pixels, features = four.reshape(4, -1) / 255.0, digit_features(four)
for k in (1, 2, 3):
    far = [np.linalg.norm(space[k] - space[0]) for space in (pixels, features)]
    print(f"{names[k]:28} pixels {far[0]:5.2f}    features {far[1]:5.2f}")
figures.labelled_rows({"": four[:, None]}, above=("a 7", "moved", "another 7", "a 1"))

# %% [markdown]
# **What to notice.** To the pixels, the moved 7 is as far away as another 7. To the *features* it is by far the nearest of the three.
# Features are what a network holds just before it decides: here 128 numbers of a small classifier of digits, which comes with the
# kit. The usual FID takes 2,048 numbers of Inception, a network that was trained on photographs.

# %% [markdown]
# So: **FID is the Fréchet distance between two clouds of features.** It needs no pairs and no labels. What do *real* digits score against
# real digits? By this number alone a model that scores as low cannot be told from real digits: it is the *floor*. Draw $N$ of the 5,000 real digits that
# come with the kit, ten times, for some $N$.

# %%
embedded = digit_features(digits)
counts, rng, floor = (250, 500, 1000, 2000, 4000), np.random.default_rng(SEED), {}
for n in counts:
    draws = [statistics(rng.permutation(embedded)[:n]) for _ in range(10)]
    floor[n] = [frechet_distance(mu, sigma, real.mu, real.sigma) for mu, sigma in draws]
print({n: round(float(np.mean(values)), 2) for n, values in floor.items()})

# %% [markdown]
# Plot them against $1/N$: values of few images stand on the right, those of many on the left.

# %%
figure, axes = figures.plot("1 / N", "digit-FID of N real digits", size=(6.8, 3.2))
for n, values in floor.items():
    axes.plot([1 / n] * len(values), values, "o", color=RED, markersize=3, alpha=0.6)
    place = {"xytext": (-8, 6), "textcoords": "offset points"}
    axes.annotate(f"N = {n:,}", (1 / n, max(values)), fontsize=9, **place)
means = [np.mean(values) for values in floor.values()]
axes.plot([1 / n for n in counts], means, color=INK)
axes.margins(y=0.2, x=0.1)
figure

# %% [markdown]
# **What to notice.** Perfect images, and yet the value is not 0. It falls about as $1/N$: FID of few images is *too high*. By how much depends on
# $N$ and on the images (Chong & Forsyth 2020), so values of different $N$ cannot be compared, and even at one $N$ small differences
# between two models may be due to it. At the left the line does not aim at 0, partly as the 5,000 hold each digit equally often: MNIST does not.
# (They are training digits, too, a part of what they are measured against. What that alone does you see in the two floors that Act 3 prints:
# `test-vs-train` is of unseen digits, `train-subset` of training digits; for 10,000 of them 0.18 and 0.05.)

# %% [markdown]
# ## Act 3 · Your images
#
# Now the images that notebook 3 made (where it made none, `IMAGES` are made now). One call gives FID with its standard error; KID, the same
# idea without the bias; precision, the share of your images that lie where real ones lie; and recall, the share of real ones that lie where yours do.
# Beside each stands what real digits score.

# %%
from hwkit.language import wrapped
from hwkit.measure.score import results_of, score
from hwkit.mnist.folder import load_folder

folder = run / "generate"
if not folder.is_dir():
    notebook.make_images(run, IMAGES, seed=SEED, device=device)
images = load_folder(folder)
record = score(DigitFeatures(), [folder], [images])
print(*(wrapped(line, indent=4) for line in record.words()), sep="\n")

# %% [markdown]
# How to read it. FID above the floor `test-vs-train` by more than twice its ± says that something differs; precision below the real digits' says that some images lie where no
# real one lies; low recall, that some kinds of digit are missing. (The ± of KID is the spread over subsets, that of FID a standard error:
# do not compare the two.) *What* differs is often told by a histogram: the classifier names the digit in each image, or says that there is none.

# %%
from hwkit.measure.features import floors

counts = np.array(record.classes)
expected = np.array(floors()["classes"]) / sum(floors()["classes"]) * counts.sum()
for digit in np.argsort(-np.abs(counts[:10] / expected[:10] - 1))[:3]:
    more, error = counts[digit] / expected[digit] - 1, expected[digit] ** -0.5
    print(f"digit {digit}: {more:+.0%} ± {error:.0%} against MNIST")
print(f"no digit: {counts[10]} of {counts.sum():,}")
figures.digit_histogram_figure(record.classes, floors()["classes"])

# %% [markdown]
# **What to notice.** The three digits that are most too frequent or too rare are named above the figure; a difference of less than twice
# its ± may be chance. FID is one number for two faults: a generator that is too careful has high precision and low recall, one
# that draws scrawls the reverse. Write down which of the two is yours, or that you see neither; notebook 6 asks for it.

# %% [markdown]
# **The graded number.** The homework measures with another program, in Inception's features, and "FID under 30" means *that* number. It has a
# scale of its own: a digit-FID of 1 says nothing about it. The two commands below are all there is to it; the second form takes
# statistics that were saved once, so the 60,000 real digits need not be read again.
#
# ```
# python -m pytorch_fid data/mnist/train runs/NAME/generate
# python -m pytorch_fid --save-stats data/mnist/train mnist.npz
# python -m pytorch_fid mnist.npz runs/NAME/generate
# ```

# %%
wanted = device == "cuda" if INCEPTION is None else INCEPTION
if wanted:
    notebook.graded_number(folder, SOURCE)
    notebook.keep(run)
else:
    print("Not run: INCEPTION = True runs it. With a GPU expect some minutes, without")
    print("one an hour or more (estimates). Inception's weights are 90 MB to download.")

# %% [markdown]
# **What to notice.** Where it ran, command and answer are kept beside your images, and the report of notebook 6 prints them. The original
# report, which this kit repeats, names 1.66. For its floor measure MNIST's test digits in the same way:
# `python -m pytorch_fid mnist.npz data/mnist/test`.

# %% [markdown]
# How many steps are enough? Ask digit-FID, with `IMAGES` for each point: all values stand somewhat too high, and the dashed line is the floor
# for as many. All points use the same noises. What is measured is kept, so a second call is quick.

# %%
from hwkit.measure.curve import curve

kept = run / "figures" / "fid_curve.json"
for whole in curve(best_of(run), kept, n=IMAGES, device=device):
    print(whole.points[-1].sampler, "is measured")
    notebook.keep(run, minutes=5)
best = min(whole.points, key=lambda point: point.value)
for point in whole.points:
    more, error = point.value - best.value, np.hypot(point.error, best.error)
    beside = "the lowest" if point is best else f"{more:.2f} ± {error:.2f} more"
    value = f"{point.value:5.2f} ± {point.error:.2f}"
    print(f"{point.sampler:10} digit-FID {value}  ({beside})")
figure = figures.fid_curve_figure(whole)
figures.save(figure, run / "figures" / "fid_curve.png")
notebook.keep(run)
figure

# %% [markdown]
# **What to notice.** Read the last column first, the difference from the lowest of all. Less than twice its ± may be chance, however the line runs:
# for how many points is that so? (As all points share their noises, the true errors of the differences are somewhat smaller.) And on each line
# for itself: the difference of two points has the error $\sqrt{a^2 + b^2}$. Where more steps bring nothing that you can measure, either the
# network's mistakes limit the images, and what the sampler makes of them (notebook 3, Act 5), or `IMAGES` are too few to see it.

# %% [markdown]
# ## Act 4 · Made, or remembered?
#
# A generator that hands out training images has a *perfect* FID. So look for copies: for each of your images the nearest of all
# training images, pixel by pixel; and to compare, the same for real test digits, which cannot be copies.

# %%
from dataclasses import replace
from hwkit.measure.memorisation import compare

copies, pairs = compare(images)
replace(record, memorisation=copies).write(results_of(folder))  # notebook 6 takes it
figure = figures.memorisation_figure(pairs)
figures.save(figure, results_of(folder) / "closest_pairs.png")
notebook.keep(run)
print(wrapped(copies.words(), indent=4))
figure

# %% [markdown]
# **What to notice.** These are the *closest* pairs of all your images. Are they copies, or two people who write the same thin 1? Ones have so
# little room to differ that the closest pairs are mostly ones. A model that copies would show in the shares: far more
# than 1 % closer than the closest 1 % of real digits.

# %% [markdown]
# ## Act 5 · Break it
#
# Does the number see what you would not? Take the same weights and make mistakes that people ask about in public (see the references). This
# function makes `IMAGES` images by the step, at the times and with the ending that it is given.

# %%
import torch
from hwkit.diffusion import ddim_step, ddpm_step
from hwkit.mnist.batches import to_uint8
from hwkit.sampling import ImageNoise, sample, times


def make(denoise, step=ddim_step, steps=None, ending=lambda x: x, fresh=False):
    made = []
    for k in range(1, IMAGES + 1, 100):
        noise = ImageNoise(SEED, range(k, min(k + 100, IMAGES + 1)), device=device)
        stops, more = steps or times(T, min(50, T)), noise if fresh else None
        *_, last = sample(denoise, noise(), stops, alpha_bar, step, more)
        made.append(to_uint8(ending(last.x_t)).cpu())
    return torch.cat(made)


# %% [markdown]
# The mistakes. *Noise to the end*: a DDPM step that adds noise in its last step too. *Wrong range*: an image of $[-1, 1]$ saved as if it were of
# $[0, 1]$. *Wrong times*: 50 times by a whole stride, which begin below $T$ (784, 768, …, 0 for $T = 830$) and make 49 steps. *No EMA*: the raw weights, where the run has kept
# them. Both right ways have 50 steps.

# %%
def never_quiet(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise):
    mean = ddpm_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, 0 * noise)
    return mean + (1 - alpha_bar_t / alpha_bar_s) ** 0.5 * noise


stride = T // 50
wrong = [*range(49 * stride, -1, -stride)]
ways = {
    "DDIM, right": make(denoise),
    "DDPM, right": make(denoise, ddpm_step, fresh=True),
    "DDPM, noise to the end": make(denoise, never_quiet, fresh=True),
    "DDIM, wrong range": make(denoise, ending=lambda x: 2 * x - 1),
    "DDIM, wrong times": make(denoise, steps=wrong),
}
if (run / "latest.pt").is_file():
    ways["DDIM, no EMA"] = make(load_denoiser(run / "latest.pt", device))

# %% [markdown]
# What each scores, and by how much that differs from the right way with the same sampler. Before you run it: which mistakes will the number
# see?

# %%
from hwkit.measure.features import classify
from hwkit.measure.score import digit_fid

found = {name: digit_fid(made) for name, made in ways.items()}
for name, (value, error) in found.items():
    right = found[name[:4] + ", right"]
    more, both = value - right[0], np.hypot(error, right[1])
    digit = (classify(digit_features(ways[name])) < 10).mean()
    beside = "" if "right" in name else f"  {more:+.2f} ± {both:.2f}"
    print(f"{name:23} {value:5.2f} ± {error:.2f}  digits {digit:4.0%}{beside}")

# %% [markdown]
# Ten of each. The DDIM rows began in the same $x_T$, image by image (*wrong times*: a little later on the way), and so did the two
# DDPM rows.

# %% tags=["goal"]
rows = {name: made[:10] for name, made in ways.items()}
figures.labelled_rows(rows, "The same network, sampled right and wrong")

# %% [markdown]
# **What to notice.** Take the last column of the table first: a mistake whose difference is less than twice its ± was *not* seen by this number, with so many
# images. Then look: can you see it in the picture? The wrong range makes strokes thinner and harder. The film of noise is faint to the eye, and these
# features were trained on noisy digits too. The column *digits* is the classifier's word, and it is easily pleased: would you
# call each of the ten in a row a digit? $x_{784}$ holds next to no more signal than $x_{830}$, so the wrong times do little harm here.

# %% [markdown]
# And compare both *right* rows: two correct samplers may differ by more than a mistake costs. So a lower FID does not prove that code is right,
# and a correct program may score worse than a broken one. The number measures the images; your tests must measure the code.

# %% [markdown]
# ## Summary
#
# - FID is the Fréchet distance of two clouds of features: it sees quality and variety, and neither pixels nor pairs.
# - It is too high by about $c/N$, where $c$ depends on the model too. Name $N$, features, reference, sampler and error, or say nothing.
# - Its floor is what as many real images score. Far below the floor there is only memory, so look for copies.
# - Digit features see digits. The homework's number is by Inception, and neither says anything about the other.
# - Eye and number forgive different faults. Use both, and test the code.
#
# **Next:** [06_report](06_report.ipynb) puts all of it together to hand in.

# %% [markdown]
# ## Exercises
#
# Worked answers, with the numbers to expect, stand in `notebooks/solutions/05_fid.ipynb`.
#
# 1. *(think, 10 minutes)* A generator returns a random *training* image each time. What are its FID, its precision,
#    its recall? Which check finds it?
#
#    <details><summary>Hint</summary>
#
#    One of the floors in this notebook was measured in just this way. And precision and recall ask where images lie,
#    not whether somebody has drawn them before.
#
#    </details>
#
# 2. *(code, 10 minutes)* Blur the 5,000 real digits a little (`scipy.ndimage.gaussian_filter`, with 0.5 and with 1
#    pixel), and measure them. Compare with what you see. Is FID "perceptual"?
#
#    <details><summary>Hint</summary>
#
#    `digits` is an array of images: blur within each image, and not from one image to the next. `digit_fid` in Act 5
#    takes the result.
#
#    </details>
#
# 3. *(code, 15 minutes)* Drop all 1s from the 5,000 real digits. What does FID say, what do precision and recall
#    (`distances.precision_recall(real, generated)`)? For those two take the real features from one half of the
#    digits, and the "generated" from the other: against themselves precision is 1.
#
#    <details><summary>Hint</summary>
#
#    The digits lie in the order 0, 1, …, 9, 0, 1, …: with `[::2]` you would take the even digits only. Halves from
#    the front and from the back hold all.
#
#    </details>
#
# 4. *(think, 15 minutes)* FID only knows mean and covariance. Describe a distribution of
#    features that has the same two as MNIST's and is none of it. What would precision say of it?
#
#    <details><summary>Hint</summary>
#
#    Which well-known distribution is given by its mean and its covariance alone? And what do you know of each of the
#    128 features, which come out of a ReLU?
#
#    </details>
#
# 5. *(code, 15 minutes)* Take $c/N$ seriously. Measure your images in parts: ten tenths, five fifths, two halves,
#    the whole. Take the mean of each kind, fit a line in $1/N$, and read off $\mathrm{FID}_\infty$ (Chong & Forsyth
#    2020). How far below the value of the whole is it?
#
#    <details><summary>Hint</summary>
#
#    `np.polyfit` with the degree 1 gives slope and intercept. At which $1/N$ does "infinitely many images" lie?
#
#    </details>
#
# 6. *(code, 15 minutes)* Save the 5,000 real digits as JPEG (quality 75) and read them again; and resize them to
#    32×32 and back to 28×28, bilinear, with `Image.resize` of Pillow and with `torch.nn.functional.interpolate`.
#    What does each cost? (Parmar et al. 2022 is about this.)
#
#    <details><summary>Hint</summary>
#
#    A file need not lie on a disk: `io.BytesIO()` is one. Compare each value with that of the 5,000 as they are, not
#    with 0.
#
#    </details>

# %% [markdown]
# ## References
#
# - D. C. Dowson, B. V. Landau. *The Fréchet Distance between Multivariate Normal Distributions.* Journal of Multivariate Analysis 12, 1982.
# - M. Heusel et al. *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium.* NeurIPS 2017. [arXiv:1706.08500](https://arxiv.org/abs/1706.08500). FID.
# - M. Bińkowski et al. *Demystifying MMD GANs.* ICLR 2018. [arXiv:1801.01401](https://arxiv.org/abs/1801.01401). KID, the bias of FID, and MNIST in a LeNet's features.
# - T. Kynkäänniemi et al. *Improved Precision and Recall Metric for Assessing Generative Models.* NeurIPS 2019. [arXiv:1904.06991](https://arxiv.org/abs/1904.06991).
# - M. J. Chong, D. Forsyth. *Effectively Unbiased FID and Inception Score and Where to Find Them.* CVPR 2020. [arXiv:1911.07023](https://arxiv.org/abs/1911.07023).
# - G. Parmar, R. Zhang, J.-Y. Zhu. *On Aliased Resizing and Surprising Subtleties in GAN Evaluation.* CVPR 2022. [arXiv:2104.11222](https://arxiv.org/abs/2104.11222).
# - Act 5's mistakes, asked about in public: noise in the last step ([TeaPearce/Conditional_Diffusion_MNIST #10](https://github.com/TeaPearce/Conditional_Diffusion_MNIST/issues/10)), the range ([lucidrains/denoising-diffusion-pytorch #20](https://github.com/lucidrains/denoising-diffusion-pytorch/issues/20)), the times ([huggingface/diffusers #2585](https://github.com/huggingface/diffusers/issues/2585)), the average of weights ([openai/improved-diffusion #59](https://github.com/openai/improved-diffusion/issues/59)).
