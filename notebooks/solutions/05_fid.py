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
# **Worked answers to the exercises of notebook 5 (05_fid). They give everything away: try the exercises first.**
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/solutions/05_fid.ipynb)
#
# # Answers to 5 · How good are they?
#
# For each exercise: its text in short, one way to do it, and what to expect. Where chance plays a part, ± is how far
# other seeds were from it, as the cells print it. All of it runs in about two minutes on one core.

# %%
import os, sys

clone = "[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit hwkit"
if "google.colab" in sys.modules and os.system(clone):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [*map(os.path.abspath, ("..", "../..", "../../..")), "/content/hwkit"]
from hwkit import notebook

notebook.start("solutions/05_fid", drive=False)

# %% [markdown]
# `RUN` is the run whose images exercise 5 measures (`None`: your newest, else the kit's). `SEEDS` choose the halves
# and the random draws, and `DIGITS` is how many of the kit's 5,000 real digits are used.

# %% tags=["parameters"]
RUN = None
SEEDS = (0, 1, 2)
DIGITS = 5000

# %% [markdown]
# What all answers use: the real digits, their features, and the reference: the statistics of MNIST's 60,000 training
# digits.

# %%
import numpy as np
from hwkit.measure import distances
from hwkit.measure.features import DigitFeatures, digit_features, reference
from hwkit.mnist.sources import SAMPLE

with np.load(SAMPLE) as arrays:
    digits, labels = arrays["images"][:DIGITS], arrays["labels"][:DIGITS]
features, real = digit_features(digits), reference(DigitFeatures())

# %% [markdown]
# The exercises compare clouds of features. `halves` splits the digits at random, by a seed; `told` prints a mean over
# the seeds, and how far the farthest of them is from it.

# %%
def fid(cloud):
    return distances.frechet_distance(*distances.statistics(cloud), real.mu, real.sigma)

def halves(seed):
    order = np.random.default_rng(seed).permutation(len(features))
    return order[: len(order) // 2], order[len(order) // 2 :]

def told(name, values):
    far = np.abs(np.array(values) - np.mean(values)).max()
    print(f"{name:28} {np.mean(values):.2f} ± {far:.2f}")

# %% [markdown]
# ## Exercise 1 (think)
#
# *A generator returns a random training image each time. Its FID, its precision, its recall? Which check finds it?*
#
# Its images *are* draws of MNIST. So its FID is the floor for as many images (*train-subset* in the notebook), its
# precision and its recall are those of real digits: no number of Act 3 finds anything wrong. The check for copies
# does. Here the kit's digits, which are training images, play its images.

# %%
from hwkit.measure.memorisation import compare

told("FID of half the digits", [fid(features[halves(seed)[0]]) for seed in SEEDS])
copies, _ = compare(digits[: min(DIGITS, 300)])
print(f"near-copies: {copies.near_copies:.0%} (of unseen real digits 0.1 %)")

# %% [markdown]
# **What to expect.** FID 0.42 ± 0.01 for 2,500 real digits, which is a floor and not a fault. Precision is 0.89 and
# recall 0.90, those of real digits (*train-subset* in `data/digit_features/floors.json`; exercise 3 finds the same).
# And 100 % of the images are near-copies, where unseen real digits have 0.1 %. So a perfect FID is no proof that a
# model has learned anything: only a look at the nearest training images tells a memory from a generator. (Without all
# of MNIST on this computer the comparison is with the kit's own 5,000, and finds the same 100 %.)

# %% [markdown]
# ## Exercise 2 (code)
#
# *Blur the real digits with 0.5 and 1 pixel. Is FID "perceptual"?*
#
# A `sigma` for each axis: 0 for the first, so that nothing runs from one image into the next.

# %%
from scipy.ndimage import gaussian_filter
from hwkit.show import figures

rows = {}
for width in (0, 0.5, 1):
    blurred = gaussian_filter(digits, (0, width, width))
    rows[f"{width} pixels"] = blurred[:10, None]
    seen = digit_features(blurred) if width else features
    told(f"blurred by {width} pixels", [fid(seen[halves(seed)[0]]) for seed in SEEDS])
figures.labelled_rows({name: row.repeat(3, axis=1) for name, row in rows.items()})

# %% [markdown]
# **What to expect.** As they are 0.42 ± 0.01, blurred by half a pixel 0.64 ± 0.02, by one pixel 7.6 ± 0.2. You hardly
# see the first blur, and FID sees it by a small but certain step; you see the second at once, but every digit is as
# easy to read as before, and FID is worse than that of a generator with real faults (DDIM in notebook 5 has 1.8). So
# it is perceptual only as far as its features are. These were made to name digits that are sharp, and a soft stroke is
# new to them. What is a fault to them need not be one to you, and the reverse.

# %% [markdown]
# ## Exercise 3 (code)
#
# *Drop all 1s. What do FID, precision and recall say?*
#
# One half plays the real digits, the other the generated ones, without its 1s. To compare, the same with all digits.

# %%
for name, kept in (("all digits", labels >= 0), ("no 1s", labels != 1)):
    found = []
    for seed in SEEDS:
        one, other = halves(seed)
        other = other[kept[other]]
        pair = distances.precision_recall(features[one], features[other])
        found.append((fid(features[other]), *pair))
    names = "FID", "precision", "recall"
    for what, values in zip(names, np.array(found).T, strict=True):
        told(f"{name}: {what}", values)

# %% [markdown]
# **What to expect.** FID rises from 0.45 ± 0.06 to 5.07 ± 0.06: it sees at once that a tenth of the data is missing,
# since the mean and the covariance move. Precision stays (0.90 and 0.89 ± 0.01): each image that is there is a good
# one. Recall falls from 0.89 to 0.82 ± 0.01: the 1s of the real digits find nobody near. It falls by less than their
# tenth, as a few of them lie in the ball of another digit. (Against themselves instead of the other half, precision
# would be 1 by its definition.) If FID is high and precision good, ask what is missing: the histogram of digits says
# it in one look.

# %% [markdown]
# ## Exercise 4 (think)
#
# *A distribution of features with MNIST's mean and covariance that is none of it. What does precision say?*
#
# The plainest is the normal distribution $\mathcal N(\mu, \Sigma)$ itself: by its making it has both, and FID cannot
# tell it from the digits. But features come out of a ReLU and are never negative, they lie in ten heaps, and many are
# exactly 0. A cloud of one normal shape has none of that. In code:

# %%
found = []
for seed in SEEDS:
    rng = np.random.default_rng(seed)
    cloud = rng.multivariate_normal(real.mu, real.sigma, len(features), method="eigh")
    found.append((fid(cloud), *distances.precision_recall(features, cloud)))
for what, values in zip(("FID", "precision", "recall"), np.array(found).T, strict=True):
    told(f"normal cloud: {what}", values)
told("its share of negative values", [(cloud < 0).mean()])

# %% [markdown]
# **What to expect.** FID 0.13 ± 0.02 for 5,000 draws, *less* than 0.29 for as many real digits (exercise 5: those are
# balanced by class, and MNIST is not). Precision is 0.00: not one draw lies where real ones do, and 29 % of its
# numbers are negative, which no image can have. Recall is 0.80, since the balls about the draws are so large that they
# cover much; so look at both. No image belongs to these features, and FID calls them better than real. It is a
# distance of two summaries, and a summary of two moments forgets the rest.

# %% [markdown]
# ## Exercise 5 (code)
#
# *Parts of your images: tenths, fifths, halves, the whole. The line in $1/N$, and its intercept.*
#
# The images of the run, where notebook 3 has made 1,000 or more; and the real digits, for which the right answer is
# known: nearly 0.

# %%
from hwkit.mnist.folder import load_folder

run, clouds = notebook.find_run(RUN), {"real digits": features}
if len(list(run.glob("generate/*.png"))) >= 1000:
    clouds["the run's images"] = digit_features(load_folder(run / "generate"))
for name, cloud in clouds.items():
    limits = []
    for seed in SEEDS:
        cloud = np.random.default_rng(seed).permutation(cloud)
        parts = [np.array_split(cloud, k) for k in (10, 5, 2, 1)]
        means = [np.mean([fid(part) for part in equal]) for equal in parts]
        slope, limit = np.polyfit(np.array((10, 5, 2, 1)) / len(cloud), means, 1)
        limits.append(limit)
    print(f"{name}, N = {len(cloud):,}: whole {means[-1]:.2f}", end=", ")
    print(f"c = {slope:.0f}", end="; ")
    told("intercept", limits)

# %% [markdown]
# **What to expect.** For the 10,000 images by `dpm++sde` from the kit's weights: the whole has 0.19, $c$ is about 700
# and the intercept 0.11 ± 0.00, so 0.07 to 0.08 lower. For the 5,000 real digits it is 0.15 ± 0.02 and not 0, partly as they
# hold each digit equally often, and MNIST does not. So about 0.07 of the value of 10,000 images, and 0.7 of that of
# 1,000, is there only because they are few. The two $c$ are nearly equal here; for images that vary less, or more,
# than digits they need not be. (Another seed divides the images otherwise; that is the ±. It is not the error that
# comes from having just these images, 0.03 for the whole.)

# %% [markdown]
# ## Exercise 6 (code)
#
# *JPEG, and a resize to 32×32 and back by two libraries. What does each cost?*
#
# Four ways of doing "nothing" to the real digits. `F.interpolate` does not smooth before it makes an image smaller,
# Pillow does.

# %%
import io
import torch
import torch.nn.functional as F
from PIL import Image

def jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=75)
    return np.asarray(Image.open(file))

def by_pillow(image):
    large = Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)
    return np.asarray(large.resize((28, 28), Image.Resampling.BILINEAR))

def by_torch(images):
    x = torch.from_numpy(images)[:, None].float()
    for side in (32, 28):
        x = F.interpolate(x, (side, side), mode="bilinear")
    return x.round().byte()[:, 0].numpy()

# %% [markdown]
# Each is measured on the same random halves, so that chance is the same for all.

# %%
changed = {"as they are": digits, "JPEG": np.stack([jpeg(image) for image in digits])}
changed["resized by Pillow"] = np.stack([by_pillow(image) for image in digits])
changed["resized by PyTorch"] = by_torch(digits)
for name, images in changed.items():
    seen = features if images is digits else digit_features(images)
    told(name, [fid(seen[halves(seed)[0]]) for seed in SEEDS])

# %% [markdown]
# **What to expect.** JPEG with quality 75 costs nothing that can be seen here: 0.42 ± 0.02, as before. A resize to
# 32×32 and back costs more than the whole floor: 1.16 ± 0.03 by Pillow, 0.95 ± 0.03 by PyTorch, instead of 0.42, with
# images that nobody would call worse. Bilinear resizing is a small blur, twice, and exercise 2 shows what a blur
# costs; Pillow smooths once more on the way down. So who trains at 32×32 must say how the images became 28×28, and
# real digits that go the same way are the fair comparison. (For Inception's features these costs are others: measure
# them there.)
