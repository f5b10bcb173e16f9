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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/02_training.ipynb)
#
# **English** · [繁體中文](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/zh-TW/02_training.ipynb)
#
# # 2 · Learning to see through noise
#
# Show a network a digit under noise and ask what is underneath. Tell it how wrong it was. Repeat, a hundred thousand
# times. That is all of the training. The rest of this notebook is about asking the question well, and about losing
# nothing on the way.
#
# *About 80 minutes for you. The computer needs 12 minutes for the run of Act 4 and its guide (without a GPU), and about
# 20 for the experiment of Act 5, on the two CPU cores where these outputs were saved; on two without AVX-512 it needed
# 45. It says how long it takes on yours before it starts. **Before it** you should know notebook 1, and have
# trained some network in PyTorch. **After it** you can write the network, the loss and the training loop of a DDPM, and
# know which of the choices in them you have measured.*

# %% [markdown]
# ## Where this leads
#
# The first cell makes the notebook ready, and shows what you will have at the end: images by a network that you have
# trained, the first twenty-four, not the best.

# %%
import os, sys

clone = "[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit hwkit"
if "google.colab" in sys.modules and os.system(clone):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [*map(os.path.abspath, ("..", "../..", "../../..")), "/content/hwkit"]
from hwkit import notebook

notebook.start("02_training", drive=True)  # False: nothing is kept on Drive

# %% [markdown]
# `RECIPE` is what Act 4 trains: `"cpu"` takes ten minutes on any computer, `"gpu"` fifteen of a GPU (tried on a large
# one); `"original"` is the 175 epochs of the original (the student's report that the kit reproduces) and wants a GPU.
# `STEPS` and `BASE` (channels) are those of the small networks that you train yourself, `SEEDS` is how often Act 5
# repeats each of them, and `SAMPLES` how many images it judges.

# %% tags=["parameters"]
RECIPE = "cpu"
SOURCE = None
STEPS = 600
BASE = 32
SEEDS = 3
SAMPLES = 64
SEED = 0

# %% [markdown]
# Get the digits, and the schedule of notebook 1. The networks work on the best device that is here: a GPU, if there is
# one (on Colab: *Runtime → Change runtime type*).

# %%
import torch
from hwkit.mnist.folder import load_folder
from hwkit.mnist.sources import prepare
from hwkit.runs.speed import best_device
from hwkit.schedule import linear

images, device = load_folder(prepare(SOURCE, out="data")), best_device()
schedule = linear(830)
alpha_bar, T = schedule.alpha_bar, schedule.T


# %% [markdown]
# ## Act 1 · The question
#
# From $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$ you may ask for the noise $\varepsilon$ (Ho
# et al.), for the image $x_0$, or for a mixture of both,
# $v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\,x_0$ (Salimans & Ho, §4). Who knows one of them and
# $x_t$ knows the others. But they are not equally *easy* for a network.

# %% tags=["core"]
def target(x_0, alpha_bar_t, eps, prediction):
    """What the network is asked for: "epsilon", "x0" or "v" (Salimans & Ho, §4)."""
    ### BEGIN SOLUTION 2.1: the target for each of the three
    if prediction == "epsilon":
        return eps
    if prediction == "x0":
        return x_0
    if prediction == "v":
        return alpha_bar_t**0.5 * eps - (1 - alpha_bar_t) ** 0.5 * x_0
    raise ValueError(
        f"prediction is {prediction!r}, but must be 'epsilon', 'x0' or 'v'."
    )
    ### END SOLUTION


# %%
from hwkit.course.selfcheck import check

check(target)

# %% [markdown]
# Not all times need the same attention. With $\mathrm{SNR} = \bar\alpha_t/(1-\bar\alpha_t)$, an error of
# $\hat\varepsilon$ is $\sqrt{\mathrm{SNR}}$ times that of $\hat x_0$. So the plain squared error of $\hat\varepsilon$
# weighs that of $\hat x_0$ by SNR, which is huge where there is hardly any noise. *Min-SNR* (Hang et al.) caps this
# weight at $\gamma = 5$: an error of $\hat x_0$ weighs $\min(\mathrm{SNR}, \gamma)$. Seen as an error of
# $\hat\varepsilon$ that is divided by SNR, and as an error of $\hat v$ by $\mathrm{SNR} + 1$.

# %% tags=["core"]
def loss_weight(alpha_bar_t, prediction, weighting, gamma=5.0):
    """The weight of each image's error, in alpha_bar_t's shape (Hang et al., eq. 5).

    With "uniform" all are 1; with "min_snr" an error of x_0 weighs min(SNR, gamma).
    """
    ### BEGIN SOLUTION 2.2: the weight of an error of ε, x_0 or v
    if weighting == "uniform":
        return torch.ones_like(alpha_bar_t)
    if weighting != "min_snr":
        raise ValueError(
            f"weighting is {weighting!r}, but must be 'uniform' or 'min_snr'."
        )
    snr = alpha_bar_t / (1 - alpha_bar_t)
    return snr.clamp(max=gamma) / {"epsilon": snr, "x0": 1, "v": snr + 1}[prediction]
    ### END SOLUTION


# %%
check(loss_weight)

# %% [markdown]
# See what the cap does. Plotted is the weight that an error of $\hat x_0$ gets at each time: in the original's loss, in
# the plain loss of $\hat x_0$ itself, and with min-SNR, which is the same for all three predictions (that is its
# point).

# %%
from hwkit.show import figures

table = alpha_bar[1:]
snr = table / (1 - table)
ylabel = r"weight of the error of $\hat x_0$ (log scale)"
figure, axes = figures.plot("t", ylabel, size=(6.8, 3.2))
for values, look, label in (
    (snr, "--", r"$\hat\varepsilon$, uniform (original)"),
    (loss_weight(table, "x0", "uniform"), ":", r"$\hat x_0$, uniform"),
    (loss_weight(table, "x0", "min_snr"), "-", "min-SNR"),
):
    color = figures.ACCENT if look == "-" else figures.INK
    axes.plot(range(1, T + 1), values, look, color=color, label=label)
axes.set_yscale("log")
axes.legend(frameon=False)
print("SNR at t = 1, 250, 830:", "  ".join(f"{snr[t - 1]:.3g}" for t in (1, 250, 830)))
figure

# %% [markdown]
# **What to notice.** The dashed line is steep: the original's loss counts an error of $\hat x_0$ at $t = 1$, where
# nobody sees the noise, ten thousand times more than the same error at $t = 250$, where image and noise are about
# equally strong. Whether the cap helps, in a short training above all, is a question for an experiment: Act 5.

# %% [markdown]
# Put together this is the loss of algorithm 1 of Ho et al. (its line 5; the other lines draw $x_0$, $t$ and
# $\varepsilon$, and come in Act 3):
#
# $$L = \mathbb E_{x_0, t, \varepsilon}\; w_t\, \big\| f_\theta(x_t, t) - \text{target} \big\|^2.$$
#
# The paper adds up the squares of all pixels; the code takes their mean, which is the same up to a constant.

# %% tags=["core"]
from hwkit.diffusion import q_sample


def diffusion_loss(
    model, x_0, t, eps, alpha_bar, prediction="epsilon", weighting="uniform"
):
    """A scalar: x_0, eps (B, C, H, W), t (B,), alpha_bar (T + 1,) (algorithm 1)."""
    ### BEGIN SOLUTION 2.3: noise, ask, compare, weigh, take the mean
    alpha_bar_t = alpha_bar[t].to(x_0.dtype)[:, None, None, None]  # (B, 1, 1, 1)
    output = model(q_sample(x_0, alpha_bar_t, eps), t)
    squared_error = (
        output.to(x_0.dtype) - target(x_0, alpha_bar_t, eps, prediction)
    ) ** 2
    return (loss_weight(alpha_bar_t, prediction, weighting) * squared_error).mean()
    ### END SOLUTION


# %%
check(diffusion_loss)

# %% [markdown]
# **Two remarks on $t$.** Here $t$ runs from 1 to $T$, and $t = 0$ is the clean image, which is never asked about. Many
# other programs (diffusers, most tutorials) count from 0: their `alphas_cumprod[t - 1]` is `alpha_bar[t]` here, and
# their network is told $t - 1$. If you mix the two, nothing crashes and the loss looks fine; the sampler just works
# with a slightly wrong noise level at every step. So whenever you copy a line from elsewhere, look first what its $t$
# means.

# %% [markdown]
# **Why a squared error?** You may believe it, and go on. Or open the box: it takes a page.
#
# <details><summary>From the bound on the likelihood to the mean squared error (may be skipped)</summary>
#
# *The way back is Gaussian, nearly.* In one small step of noise the density of the images hardly bends, so by Bayes'
# rule the step back is a Gaussian too, the better the smaller $\beta_t$ is (Sohl-Dickstein et al., 2015). So the model
# is $p_\theta(x_{t-1}|x_t) = \mathcal N(\mu_\theta(x_t, t), \sigma_t^2 I)$, and only its mean is learned. That is why
# it takes hundreds of small steps, and not three big ones.
#
# *The bound.* The negative log likelihood of an image is at most a sum over the steps, and all of them but the two ends
# are (Ho et al., eq. 5)
#
# $$L_{t-1} = D_{\mathrm{KL}}\big(q(x_{t-1}|x_t, x_0)\,\big\|\,p_\theta(x_{t-1}|x_t)\big).$$
#
# *Two Gaussians.* If one knows $x_0$, the step back is exactly a Gaussian, with the mean (eq. 7)
#
# $$\tilde\mu_t(x_t, x_0) = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\, x_0 +
# \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\, x_t .$$
#
# The divergence of two Gaussians with the same fixed variance is the squared distance of their means (eq. 8):
#
# $$L_{t-1} = \mathbb E\, \frac{1}{2\sigma_t^2}
# \big\| \tilde\mu_t(x_t, x_0) - \mu_\theta(x_t, t) \big\|^2 + \text{const}.$$
#
# *Let the network say $\hat x_0$,* and put it into eq. 7: $\mu_\theta = \tilde\mu_t(x_t, \hat x_0)$. The parts with
# $x_t$ cancel, and
#
# $$L_{t-1} = \mathbb E\, \frac{\bar\alpha_{t-1}\,\beta_t^2}{2\sigma_t^2\,(1-\bar\alpha_t)^2}
# \big\| x_0 - \hat x_0 \big\|^2 + \text{const}.$$
#
# *Or let it say $\hat\varepsilon$.* With
# $\hat x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon)/\sqrt{\bar\alpha_t}$ in eq. 7 the mean is eq. 11 of the
# paper,
#
# $$\mu_\theta = \frac{1}{\sqrt{\alpha_t}} \Big( x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\, \hat\varepsilon \Big),$$
#
# the form in most tutorials (notebook 3 checks by numbers that the two are one). As
# $x_0 - \hat x_0 = -\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}\,(\varepsilon - \hat\varepsilon)$, the loss becomes eq. 12:
#
# $$L_{t-1} = \mathbb E\, \frac{\beta_t^2}{2\sigma_t^2\,\alpha_t\,(1-\bar\alpha_t)}
# \big\| \varepsilon - \hat\varepsilon \big\|^2 + \text{const}.$$
#
# *The step that is not mathematics.* Ho et al. leave the factor out, because the images get better (eq. 14):
# $L_\text{simple} = \mathbb E\,\|\varepsilon - \hat\varepsilon\|^2$. From there on $w_t$ is a matter of choice. The
# bound itself would weigh the error of $\hat x_0$ by $\tfrac12\big(\mathrm{SNR}(t-1) - \mathrm{SNR}(t)\big)$ if
# $\sigma_t^2 = \tilde\beta_t$ (Kingma et al., 2021).
#
# </details>

# %% [markdown]
# A test on paper: a "network" that always says 0. Asked for the noise its loss is $\mathbb E\,\varepsilon^2 = 1$. Asked
# for the image it is the mean square of the pixels, $0.737^2 + 0.617^2 \approx 0.92$ (mean and standard deviation from
# notebook 1). Every new network of this kit begins there, because its last layer starts at zero.

# %% tags=["nbval-check-output"]
import numpy as np
from hwkit.mnist.batches import normalize
from hwkit.mnist.sources import SAMPLE

with np.load(SAMPLE) as arrays:
    embedded = torch.from_numpy(arrays["images"])[:, None]  # (5000, 1, 28, 28)
digits = normalize(embedded)
generator = torch.Generator().manual_seed(0)
eps = torch.randn(digits.shape, generator=generator)
t = torch.randint(1, 831, (len(digits),), generator=generator)
for prediction in ("epsilon", "x0"):
    loss = diffusion_loss(
        lambda x, t: torch.zeros_like(x), digits, t, eps, alpha_bar, prediction
    )
    print(f"{prediction:8} loss of a network that says 0: {loss:.2f}")


# %% [markdown]
# ## Act 2 · The network
#
# It takes an image and a time, and returns an image. First the time: one number $t$ becomes many, sines and cosines of
# it, slow ones and quick ones, as a clock has hands (Vaswani et al., §3.5).

# %% tags=["network"]
import copy, math
from torch import nn
from torch.nn import functional as F


def time_embedding(t, dim):
    """t (B,) → (B, dim): sines, then cosines, of t / 10000^(i/h), i < h = dim/2."""
    ### BEGIN SOLUTION 2.4: the angles, their sines and their cosines
    steps = torch.arange(dim // 2, device=t.device) / (dim // 2)
    angles = t.float()[:, None] * torch.exp(-math.log(10_000) * steps)  # (B, dim / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
    ### END SOLUTION


# %%
check(time_embedding)

# %% [markdown]
# Two small layers make of these numbers what every block below is told. They are learned; the sines and cosines are
# not.

# %% tags=["network"]
class TimeEmbedding(nn.Module):
    def __init__(self, dim, dim_out):
        super().__init__()
        self.dim, last = dim, (nn.Linear(dim_out, dim_out), nn.SiLU())
        self.mlp = nn.Sequential(nn.Linear(dim, dim_out), nn.SiLU(), *last)

    def forward(self, t):
        return self.mlp(time_embedding(t, self.dim))  # (B, dim_out)


# %% [markdown]
# The unit that repeats is the **residual block**: its input *plus* a correction by two convolutions. *GroupNorm* brings
# groups of channels to mean 0 and variance 1, each image for itself, so that images of different $t$ in a batch do not
# mix. *SiLU*, $x \cdot \mathrm{sigmoid}(x)$, is a smooth bend. The last convolution starts at zero, so a new block
# changes nothing.

# %% tags=["network"]
def zero(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


# %% [markdown]
# Read `forward`: norm, bend, convolution; add the time, one number for each channel; norm, bend, convolution; add the
# input. Where the number of channels changes, a 1×1 convolution fits the input to the sum.

# %% tags=["network"]
class ResBlock(nn.Module):
    def __init__(self, c_in, c_out, time_dim):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time = nn.Linear(time_dim, c_out)
        self.norm2 = nn.GroupNorm(8, c_out)
        self.conv2 = zero(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x, emb):
        """x (B, c_in, H, W) and emb (B, time_dim) → (B, c_out, H, W) (appendix B)."""
        ### BEGIN SOLUTION 2.5: the input, plus a correction that is told the time
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(emb)[:, :, None, None]  # the same for all pixels
        h = self.conv2(F.silu(self.norm2(h)))
        return self.skip(x) + h
        ### END SOLUTION


# %%
check(ResBlock)

# %% [markdown]
# Why a **U-Net**? To know that this is a 7, one must see the whole digit; to draw it, one must place single pixels. So
# one path goes down to smaller pictures, where 3×3 convolutions see far, and one comes up again. Here are its parts,
# for two sizes of picture. (`patch=2` folds 2×2 pixels into channels, so that 28×28 becomes 14×14.)

# %% tags=["network"]
class Parts(nn.Module):
    def __init__(self, base=64, patch=1, channels=3):
        super().__init__()
        self.patch, self.channels, wide, time_dim = patch, channels, 2 * base, 4 * base
        self.time = TimeEmbedding(base, time_dim)
        self.stem = nn.Conv2d(channels * patch**2, base, 3, padding=1)
        self.down1 = ResBlock(base, base, time_dim)
        self.shrink = nn.Conv2d(base, base, 3, stride=2, padding=1)
        self.down2 = ResBlock(base, wide, time_dim)
        self.middle = ResBlock(wide, wide, time_dim)
        self.up2 = ResBlock(2 * wide, wide, time_dim)
        fit = nn.Conv2d(wide, base, 3, padding=1)
        self.grow = nn.Sequential(nn.Upsample(scale_factor=2), fit)
        self.up1 = ResBlock(2 * base, base, time_dim)
        last = zero(nn.Conv2d(base, channels * patch**2, 3, padding=1))
        self.head = nn.Sequential(nn.GroupNorm(8, base), nn.SiLU(), last)


# %% [markdown]
# And the way through them. What was seen on the way down is kept (`fine` after `down1`, `coarse` after `down2`) and laid
# beside what comes up (`coarse` before `up2`, `fine` before `up1`): these are the **skips**. In the channels, what comes up is
# first, and the skip behind it. Without skips every fine
# detail would have to pass through the small pictures. With `patch`, `F.pixel_unshuffle` folds before the stem, and
# `F.pixel_shuffle` unfolds after the head.

# %% tags=["network"]
class UNet(Parts):
    def forward(self, x, t):
        """x (B, C, H, W) and times t (B,) → a tensor of x's shape (appendix B)."""
        ### BEGIN SOLUTION 2.6: down, through the middle, and up, with the skips
        emb = self.time(t)
        fine = self.down1(self.stem(F.pixel_unshuffle(x, self.patch)), emb)
        coarse = self.down2(self.shrink(fine), emb)
        h = self.middle(coarse, emb)
        h = self.up2(torch.cat([h, coarse], dim=1), emb)
        h = self.up1(torch.cat([self.grow(h), fine], dim=1), emb)
        return F.pixel_shuffle(self.head(h), self.patch)
        ### END SOLUTION


# %%
check(UNet.forward, task="2.6")

# %% [markdown]
# Is this the network that the original trains, and that the kit calls `hwkit.unet.UNet`? Give both the same weights
# (drawn at random, as fresh ones would say 0 to everything) and the same input. Their answers must be equal.

# %% tags=["nbval-check-output"]
from hwkit import unet
from hwkit.recipe import RECIPES

mine, kits = UNet(), unet.UNet(RECIPES["original"].model)
with torch.no_grad():
    for ours, theirs in zip(mine.parameters(), kits.parameters(), strict=True):
        ours.copy_(theirs.normal_(std=0.05))
    x_t, t = torch.randn(4, 3, 28, 28), torch.tensor([1, 200, 400, 830])
    print("the same answers:", torch.allclose(mine(x_t, t), kits(x_t, t), atol=1e-5))


# %% [markdown]
# What does each part take in and put out, and what does it cost? A *hook* is a function that a part calls when it has
# worked; here it notes the shapes. PyTorch itself counts the multiplications that an image takes.

# %%
from torch.utils.flop_counter import FlopCounterMode


def parts(model):
    found = {}
    for name, part in model.named_children():

        def note(part, inputs, output, name=name):
            found[name] = (inputs[0].shape[1:], output.shape[1:])

        part.register_forward_hook(note)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, model.channels, 28, 28), torch.tensor([1]))
    flops = counter.get_flop_counts()  # a product and a sum are two
    work = {name: sum(flops[f"UNet.{name}"].values()) / 2e6 for name in found}
    return {name: (*found[name], work[name]) for name in found}


# %% [markdown]
# The table is of the original's network, on 28×28 pixels. Below it the same network with `patch=2`, on 14×14, and that
# of the recipe `cpu`, which has `patch=2` too, half the channels, and two blocks wherever this one has one.

# %% tags=["nbval-check-output"]
def count(module):
    return sum(p.numel() for p in module.parameters())


rows = parts(UNet())
for name, (taken, put, work) in rows.items():
    shapes = [f"{'×'.join(map(str, shape)) or 't':>10}" for shape in (taken, put)]
    print(f"{name:7}{' → '.join(shapes)}", end="")
    print(f"{count(getattr(mine, name)):11,} parameters{work:7.1f} million")
for patch in (1, 2):
    work = sum(row[2] for row in parts(UNet(patch=patch)).values())
    print(f"patch={patch}: {count(UNet(patch=patch)):,} parameters, {work:.0f} million")
print(f"the recipe cpu: {count(unet.UNet(RECIPES['cpu'].model)):,} parameters")


# %% [markdown]
# Now the drawing. A box is as tall as the picture that it puts out, and as wide as it has channels; below it stand its
# channels in → out. Dashed arrows are the skips, dotted ones the time, which goes into every block.

# %%
import itertools

def diagram(axes, rows):
    where, boxes = {}, [name for name in rows if name not in ("time", "shrink", "grow")]
    for x, name in enumerate(boxes):
        (c_in, *_), (c_out, side, _), _ = rows[name]
        tall, wide = side / 28, 0.06 + c_out / 256
        y = -1.1 * (side < 28) - 0.7 * (name == "middle")
        axes.bar(x, tall, wide, y, color=figures.INK, alpha=0.85)
        text = f"{name}\n{c_in} → {c_out}\n{side}×{side}"
        axes.text(x, y - 0.06, text, ha="center", va="top", fontsize=9)
        where[name] = (x - wide / 2, x + wide / 2, y + tall / 2)
        if name not in ("stem", "head"):  # it is told the time
            at, look = (x, y + tall), {"arrowstyle": "->", "linestyle": ":"}
            axes.annotate("$t$", at, (x, at[1] + 0.3), ha="center", arrowprops=look)
    path = [(*pair, "-") for pair in itertools.pairwise(boxes)]
    for a, b, style in [*path, ("down1", "up1", "--"), ("down2", "up2", "--")]:
        look = {"arrowstyle": "->", "color": figures.ACCENT, "linestyle": style}
        start, end = (where[a][1], where[a][2]), (where[b][0], where[b][2])
        axes.annotate("", end, start, arrowprops=look)


# %% [markdown]
# The function above only draws; there is nothing of diffusion in it. Between `down1` and `down2` the picture shrinks,
# between `up2` and `up1` it grows again.

# %%
figure, axes = figures.plot("", size=(8.2, 4.4))
diagram(axes, rows)
axes.set(xlim=(-0.5, 6.5), ylim=(-2.5, 1.4))
axes.axis("off")
figure

# %% [markdown]
# **What to notice.** In the table: the three blocks at the bottom (`down2`, `middle`, `up2`) hold 72 % of the
# parameters and do 47 % of the work; the rest of the work is on the large pictures, with few channels. Folding 2×2
# pixels halves the sides of *every* picture, so all convolutions have a quarter of the places to visit: about a quarter
# of the work, with nearly the same parameters. There is no attention: at 14×14 or 7×7 a few 3×3 convolutions see the
# whole digit.

# %% [markdown]
# ## Act 3 · The loop
#
# Training draws images, times and noise, and descends. First the draw for a batch: a time for each image, and a noise
# for each value (algorithm 1, lines 3 and 4).

# %%
def draw_t_and_eps(x_0, T):
    """x_0 (B, C, H, W) → times t (B,) in {1, …, T}, and ε ~ N(0, I) of x_0's shape."""
    ### BEGIN SOLUTION 2.7: draw both, on the device of x_0
    t = torch.randint(1, T + 1, (len(x_0),), device=x_0.device)
    return t, torch.randn_like(x_0)
    ### END SOLUTION


# %%
check(draw_t_and_eps)

# %% [markdown]
# Two lines more make the descent steady. The first: each step throws the weights about a little, and a *moving average*
# of the weights (**EMA**, exponential moving average) lies in the middle of that. So we keep a second network, and move it a little
# towards the first after each step. Images are made by the second. How much of itself it keeps grows with the steps: it
# looks back over a tenth of them.

# %% tags=["average"]
def ema_decay(step, longest=0.9999, part=10):
    return min(longest, (1 + step) / (part + step))


# %% [markdown]
# The second: **clipping**. Now and then a batch has a very large gradient, and one step could spoil the work of many.
# `nn.utils.clip_grad_norm_` makes a gradient that is longer than 1 exactly as long as 1, and returns how long it was.
# Both belong to one update.

# %%
def update_weights(model, ema, optimizer, loss, clip=1.0, decay=0.999):
    """One update for a loss (a scalar); returns the gradient's length before clipping.

    Of each weight a of the average, `decay` stays; the rest comes from the model's.
    """
    ### BEGIN SOLUTION 2.8: gradient, clipping, step, average (algorithm 1, line 5)
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    with torch.no_grad():
        for a, p in zip(ema.parameters(), model.parameters(), strict=True):
            a.lerp_(p, 1 - decay)
    return norm
    ### END SOLUTION


# %%
check(update_weights)

# %% [markdown]
# This is the whole loop, with the loss of Act 1, and the draw and the update above. The digits are drawn by a generator
# of their own, so that trainings of one seed see the same ones.

# %%
from tqdm.auto import trange


def fit(model, images, prediction, weighting, steps, lr=1e-3, batch=64, seed=0):
    generator, average = torch.Generator().manual_seed(seed), copy.deepcopy(model)
    torch.manual_seed(seed)  # of times and noise
    optimizer, log = torch.optim.AdamW(model.parameters(), lr), []
    table = alpha_bar.to(device, torch.float32)
    for step in trange(steps, leave=False):
        chosen = torch.randint(len(images), (batch,), generator=generator)
        x_0 = normalize(images[chosen])[:, : model.channels].to(device)
        t, eps = draw_t_and_eps(x_0, T)
        loss = diffusion_loss(model, x_0, t, eps, table, prediction, weighting)
        decay = ema_decay(step, part=40)  # the loss falls fast here
        norm = update_weights(model, average, optimizer, loss, decay=decay)
        log.append((loss.item(), norm.item()))
    return average, log


# %% [markdown]
# Try it with a small network: the U-Net of Act 2 with `BASE` channels, on 14×14. It is as wide as that of the recipe
# `cpu`, but has one block where that has two, so that many of them can be trained.

# %%
def small_network(seed, channels=3):
    torch.manual_seed(seed)
    return UNet(BASE, 2, channels).to(device, memory_format=torch.channels_last)


# %% [markdown]
# Ask it for $x_0$, with the min-SNR weight. `STEPS` steps of 64 images take one to three minutes on a CPU. The time is
# measured, as Act 5 will need many such fits. (The saved outputs of this notebook come from two cores with AVX-512.
# Without it the run of Act 4 sees about half as many images.)

# %%
import time

model, started = small_network(SEED), time.perf_counter()
average, log = fit(model, images, "x0", "min_snr", STEPS, seed=SEED)
seconds = time.perf_counter() - started
losses, norms = np.array(log).T
share = count(model) / count(unet.UNet(RECIPES["cpu"].model))
print(f"{count(model):,} parameters, {share:.0%} of the recipe cpu's; {seconds:.0f} s")

# %% [markdown]
# The loss of single batches jumps about: each draws other times, and some times are harder. So a mean over 25 steps is
# drawn over it. The second curve is the length of the gradient; what lies above the dotted line was clipped.

# %%
figure, axes = figures.plot("step", "log scale", size=(6.4, 3.2))
for values, color, name in (
    (losses, figures.INK, "loss"),
    (norms, figures.ACCENT, "gradient"),
):
    axes.plot(values, color=color, linewidth=0.5, alpha=0.5)
    smooth = np.convolve(values, np.ones(25) / 25, "valid")
    axes.plot(range(12, 12 + len(smooth)), smooth, color=color, label=name)
axes.axhline(1, color=figures.INK, linewidth=0.8, linestyle=":")
axes.set_yscale("log")
axes.legend(frameon=False)
half = STEPS // 2
print(f"clipped: {(norms[:half] > 1).mean():.0%} of the first half's steps,", end=" ")
print(f"{(norms[half:] > 1).mean():.0%} of the second's; longest {norms.max():.1f}")
figure

# %% [markdown]
# What does the average do? Ask the last weights and their average the same questions: 512 digits, each with a time and
# a noise of its own. A lower loss is a better answer.

# %%
def mistake(net, count=512):
    generator = torch.Generator().manual_seed(1)
    x_0, t = digits[:count], torch.randint(1, T + 1, (count,), generator=generator)
    eps = torch.randn(x_0.shape, generator=generator)
    asked = [part.to(device) for part in (x_0, t, eps, alpha_bar.float())]
    with torch.no_grad():
        return diffusion_loss(net, *asked, "x0", "min_snr").item()


both = {"last weights": model, "average": average}
for name, net in both.items():
    print(f"{name:13} loss {mistake(net):.4f}")

# %% [markdown]
# And let both draw, from the same noise. (How a network draws is notebook 3's matter. Here `sample` does it, in 25
# steps.)

# %%
from hwkit.diffusion import Denoiser
from hwkit.mnist.batches import to_uint8
from hwkit.sampling import ImageNoise, sample, times


def draw(net, prediction, count=12, steps=25):
    x_T = ImageNoise(SEED, range(1, count + 1), (net.channels, 28, 28), device)()
    denoise = Denoiser(net.eval(), schedule, prediction)
    *_, last = sample(denoise, x_T, times(T, steps), alpha_bar)
    return to_uint8(last.x_t).expand(-1, 3, -1, -1).cpu()


# %% [markdown]
# The upper row is drawn by the weights as the last step left them, the lower row by their average. Look for strokes
# that are whole in one and broken in the other.

# %%
figures.labelled_rows({name: draw(net, "x0") for name, net in both.items()})

# %% [markdown]
# **What to notice.** *Clipping* acts on the first steps, where gradients are long, and hardly ever after: it is an
# insurance. *The average* answers a little better than the last weights, in the printed losses. It must not look back
# too far, though: while the loss still falls fast, an old average lags behind (exercise 4). *The curve:* most of the
# loss is gone after the first hundred steps, because it is easy to learn that digits are black with something bright in
# the middle. Strokes come later, when the curve hardly moves. So do not judge a training by its loss alone.

# %% [markdown]
# ## Act 4 · The run
#
# The kit's `train` is your loop, and what an evening on Colab needs besides: a learning rate that rises at first and
# falls to zero at the end, checkpoints, an exact resume. (The recipe `cpu` also has a second optimizer for the
# convolutions, Muon, in `hwkit/muon.py`.) If a run stands in the folder already, it goes on; `train(…, resume=False)`
# starts anew.

# %% [markdown]
# Your functions can train this run. Name them in `own`, as in `own(diffusion_loss, update_weights, ResBlock, UNet.forward)`:
# the kit then calls yours, and the report says so. One that the check above does not accept is refused, before it costs you an
# evening. With nothing named, as here, the kit's functions do the work.

# %%
from hwkit.course.own import own
from hwkit.files import runs
from hwkit.runs.run import train
from hwkit.show.figures import preview

recipe, run = RECIPES[RECIPE], runs() / RECIPE
now_and_then = {
    "after_epoch": preview(run, recipe, device),
    "after_save": notebook.keep_often,
}
with own():
    for _ in train(recipe, images, run, device, **now_and_then):
        pass  # what an epoch leaves stands in the folder
notebook.keep(run)  # to Drive, where you have mounted it

# %% [markdown]
# One thing more belongs to a run, its *guide*: a network a quarter as dear, trained on the same images for a fifth of the time at
# most. By itself it draws worse digits than yours. Notebook 3 shows how that makes yours better. It goes into
# `ema_latest.pt`, beside your weights.

# %%
from hwkit.runs.guide import train_guide

train_guide(run, images, device)
notebook.keep(run)

# %% [markdown]
# Each epoch leaves a line in `history.jsonl`, with points of the loss curve. Printed is the loss early and late in this
# run, each the mean of five points of the thin line.

# %%
from hwkit.runs.run import read_history

history = read_history(run)
curve = [loss for record in history for _, loss in record["curve"]]
for part in (0.25, 0.5, 1):
    end = max(5, round(part * len(curve)))
    print(f"after {part:4.0%} of the run: loss {np.mean(curve[end - 5 : end]):.4f}")
seen, minutes = history[-1]["images_seen"], history[-1]["seconds"] / 60
figures.loss_curve(history, f"{seen:,} images, {minutes:.0f} min")

# %% [markdown]
# The loss says little about pictures. So `preview` also draws eight samples on their way from noise, after the first
# epoch, after the last, and now and then between, **always from the same noise**. Here are the first and the last of
# them.

# %%
from matplotlib.figure import Figure
from PIL import Image
previews = sorted((run / "previews").glob("*.png"))
figure = Figure(figsize=(9, 9.4), layout="constrained")
for axes, path in zip(figure.subplots(2), (previews[0], previews[-1]), strict=True):
    axes.imshow(Image.open(path))
    axes.set_title(path.stem)
    axes.axis("off")
figure

# %% [markdown]
# **What to notice.** Compare the right-hand columns, row by row: in which rows do both networks make the same digit of
# the same noise? Usually in some and not in all. The way from noise to digit is learned, and moves as long as the
# network learns. And compare how much the pictures changed with how much the loss did. (A run of less than an epoch has
# drawn only one such picture: then you see it twice.)

# %% [markdown]
# The network is trained. Draw twenty-four images with the averaged weights of its best epoch; this is the picture from
# the top. (Notebook 3 explains the sampler, and makes ten thousand.)

# %% tags=["goal"]
from hwkit.runs.checkpoint import best_of, load_denoiser
from hwkit.runs.generate import images as make_images
from hwkit.sampling import Sampler

trained = load_denoiser(best_of(run), device)
made = make_images(trained, Sampler("dpm++sde"), SEED, range(1, 25), device)
figures.sample_sheet(made, columns=12, title="The first 24 images of this network")

# %% [markdown]
# Now pull the plug. `PressStop` hands out digits like any tensor, and presses Jupyter's ■ in the middle of the second
# epoch. A tiny network on 960 of the kit's digits will do.

# %%
import signal


class PressStop:
    def __init__(self, images, after):
        self.images, self.left = images, after

    def __len__(self):
        return len(self.images)

    def to(self, device):
        return self

    def __getitem__(self, index):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return self.images[index]


# %% [markdown]
# Three runs of the same recipe: one without a break; one that is stopped after 45 of its 60 batches; and that one
# called again. If a random number, a momentum or an average were lost on the way, the weights would differ. Compare
# them bit by bit.

# %%
import shutil
from hwkit.runs.checkpoint import load

few = embedded[:: 5000 // 960][:960]
whole, stopped = run / "undisturbed", run / "interrupted"
for folder in (whole, stopped):
    shutil.rmtree(folder, ignore_errors=True)
silent = {"device": "cpu", "quiet": True}
list(train(RECIPES["smoke"], few, whole, **silent))
try:
    list(train(RECIPES["smoke"], PressStop(few, after=45), stopped, **silent))
except KeyboardInterrupt:
    print("Stopped at step", load(stopped / "latest.pt")["resume"]["step"])
list(train(RECIPES["smoke"], few, stopped, **silent))
a, b = (load(folder / "ema_latest.pt")["weights"] for folder in (whole, stopped))
print("the same weights:", all(torch.equal(a[name], b[name]) for name in a))


# %% [markdown]
# **What to notice.** *The same*, not *about the same*. All that is random in the kit is computed from (seed, epoch) or
# (seed, step), and the rest stands in `latest.pt`. A Colab session that ends takes its own disk with it: what you lose
# then is the training since the last copy to Drive, and all of it if Drive is not mounted.

# %% [markdown]
# ## Act 5 · An experiment: what makes a short training good?
#
# The recipe `cpu` differs from the original: it asks for $\hat x_0$, not $\hat\varepsilon$, and weighs by min-SNR. Is
# that better, and why? One suspect is *colour*. A digit is grey, its three channels are equal. The noise is not. Split
# an image into the mean of its channels (*grey*) and the rest (*colour*):

# %% tags=["nbval-check-output"]
def split(x):
    grey = x.mean(dim=1, keepdim=True).expand_as(x)
    return grey, x - grey


for name, x in (("noise", eps), ("digits", digits)):
    grey, colour = (part.square().mean().item() for part in split(x))
    whole = grey + colour
    print(f"{name:6} grey {grey / whole:.2f}, colour {colour / whole:.2f}")

# %% [markdown]
# Two thirds of the noise is colour. A network that is asked for $\varepsilon$ has to *copy* it, pixel by pixel, from
# its input to its output. A network that is asked for $x_0$ may forget it in its first layer.
#
# But a suspicion is no proof. If two trainings differ in three things, nobody knows which one mattered. So change **one
# thing at a time**: target ($x_0$ or $\varepsilon$) × weight (uniform or min-SNR) × images (colour or grey, with one
# channel) are eight trainings, and each is repeated with `SEEDS` seeds, to see how much is chance.

# %% [markdown]
# **Guess first.** Write down which of the eight you think best and worst, and what colour does. Then let this cell say
# how long the experiment will take here. If that is too long for you, lower `SEEDS` or `STEPS` above.

# %%
from hwkit.runs.speed import duration

targets, weights, kinds = ("x0", "epsilon"), ("uniform", "min_snr"), ("colour", "grey")
eight = list(itertools.product(targets, weights, kinds))
nets = {("x0", "min_snr", "colour", SEED): average}  # this one is done: Act 3
todo = [(*way, SEED + k) for k in range(SEEDS) for way in eight]
print(f"{len(todo) - 1} fits, about {duration(seconds * (len(todo) - 1))} here")

# %% [markdown]
# All use the same loop, the same number of steps and the same learning rate. If you stop the cell (■), run it again:
# what is done is not done twice.

# %%
for way in todo:
    if way not in nets:
        prediction, weighting, kind, seed = way
        model = small_network(seed, channels=3 if kind == "colour" else 1)
        nets[way], _ = fit(model, images, prediction, weighting, STEPS, seed=seed)

# %% [markdown]
# Losses of different targets cannot be compared. Images can. So each network draws `SAMPLES` images, and the kit's
# classifier says which of them it takes for a digit at all. (It is a program, and more easily pleased than you: look at
# the rows, too.)

# %%
from hwkit.measure.features import classify, digit_features

share, stains = {}, {}
for way, net in nets.items():
    made = draw(net, way[0], SAMPLES)
    share[way] = 100 * (classify(digit_features(made)) < 10).mean()
    stains[way] = split(made.float())[1].square().mean().sqrt().item()
for way in eight:
    found = [share[(*way, SEED + k)] for k in range(SEEDS)]
    each = ", ".join(f"{value:.0f}" for value in found)
    colour = np.mean([stains[(*way, SEED + k)] for k in range(SEEDS)])
    print("{:8}{:8}{:7}".format(*way), end="")
    print(f"digits {np.mean(found):3.0f} % ({each}), colour {colour:.1f} of 255")

# %% [markdown]
# The same as a picture: a dot for each seed, a mark at their mean, and a bar from the lowest to the highest.

# %%
figure, axes = figures.plot(
    "images that the classifier takes for a digit (%)", size=(7, 3.6)
)
for y, way in enumerate(reversed(eight)):
    found = np.array([share[(*way, SEED + k)] for k in range(SEEDS)])
    color = figures.ACCENT if way[0] == "x0" else figures.INK
    axes.plot(found, [y] * SEEDS, "o", color=color, alpha=0.4, markersize=5)
    axes.plot([found.min(), found.max()], [y, y], color=color)
    axes.plot(found.mean(), y, "|", color=color, markersize=14, markeredgewidth=2)
axes.set_yticks(range(8), [" · ".join(way) for way in reversed(eight)])
axes.set_xlim(-3, 103)
figure

# %% [markdown]
# And what each choice does while the other two stay as they are: four comparisons for each, with the largest difference
# between two seeds of one training beside them, as a measure of chance.

# %%
mean = {way: np.mean([share[(*way, SEED + k)] for k in range(SEEDS)]) for way in eight}
for place, (a, b) in enumerate((targets, weights, kinds)):
    for way in eight:
        if way[place] == a:
            rest = ", ".join(way[:place] + way[place + 1 :])
            gain = mean[way] - mean[(*way[:place], b, *way[place + 1 :])]
            print(f"{a} instead of {b}: {gain:+4.0f} points ({rest})")
seeds = [[share[(*way, SEED + k)] for k in range(SEEDS)] for way in eight]
print(f"chance: seeds of one training differ by up to {np.ptp(seeds, 1).max():.0f}")

# %% [markdown]
# **What to notice.** Read the lines as the answer to three questions; a difference smaller than the last line says
# nothing.
#
# 1. *Is $x_0$ the better target?* The four lines "x0 instead of epsilon".
# 2. *Is colour the reason?* If it were the whole reason, those lines would be near zero on grey images. If it were no
#    reason, $\varepsilon$ would do as badly on grey as in colour. Something between means: a part of it.
# 3. *Is min-SNR better in a short training?* The four lines "uniform instead of min_snr". A minus speaks for min-SNR.
#
# Keep what you found, not what you hoped: with other steps, networks or data it may come out differently.

# %% [markdown]
# Now see them: the first twelve images of the four trainings with uniform weight, all from the first seed. (The grey
# networks have a noise of their own, of one channel.)

# %%
rows = {}
for name, kind in itertools.product(targets, kinds):
    rows[f"{name}, {kind}"] = draw(nets[name, "uniform", kind, SEED], name)
figures.labelled_rows(rows)

# %% [markdown]
# Where on the way does it go wrong? Noise 256 digits to a time $t$, let a network answer, turn its answer into
# $\hat x_0$, and split the error of $\hat x_0$ into grey and colour. (The digits are MNIST training digits: this is
# about *how* it errs, not about new digits.)

# %%
some = digits[-256:]
noise = torch.randn(some.shape, generator=torch.Generator().manual_seed(1))
ts, errors = list(range(30, T, 100)), {}
for name in targets:
    denoise = Denoiser(nets[name, "uniform", "colour", SEED].eval(), schedule, name)
    for t in ts:
        x0_hat, _ = denoise(q_sample(some, alpha_bar[t].item(), noise).to(device), t)
        both = zip(("grey", "colour"), split(x0_hat.cpu() - some), strict=True)
        for kind, part in both:
            rms = part.square().mean().sqrt().item()
            errors.setdefault((name, kind), []).append(rms)

# %% [markdown]
# Drawn is the root mean square of the error against $t$: the grey part with filled marks, the colour part dotted.
# (Pixels live in $[-1, 1]$; who always answers "the mean of all pixels" has an error of 0.62.)

# %%
figure, axes = figures.plot("t", r"error of $\hat x_0$ (RMS)", size=(6.8, 3.4))
for (name, kind), values in errors.items():
    color = figures.ACCENT if name == "x0" else figures.INK
    style = {"grey": "-o", "colour": ":s"}[kind]
    axes.plot(ts, values, style, color=color, label=f"asked for {name}, {kind}")
axes.legend(frameon=False, fontsize=9)
ratio = np.array(errors["epsilon", "colour"]) / errors["epsilon", "grey"]
shown = (f"t={t}: {r:.2f}" for t, r in zip(ts, ratio, strict=True))
print("ε: colour error / grey error:", *shown)
figure

# %% [markdown]
# **What to notice.** The network that is asked for the image makes no error in colour, at any $t$. Its last layer
# starts at zero and all three channels are asked for the same, so they stay equal. The other one errs in both parts,
# and more and more with $t$. That has a reason which is no matter of colour: an error of $\hat\varepsilon$ counts
# $1/\sqrt{\mathrm{SNR}}$ times in $\hat x_0$, which is 67 at $t = 830$ (clipping to $[-1, 1]$ limits the damage). And
# at $t = 830$ the drawing begins. With 175 epochs on a GPU $\hat\varepsilon$ becomes good enough for that: the original
# shows it.

# %% [markdown]
# ## Summary
#
# - Training is one question, asked at random: here is $x_t$, here is $t$; what was $\varepsilon$ (or $x_0$, or $v$)?
#   The squared error comes from a bound on the likelihood; its weight over $t$ is a choice.
# - For a sampler the three targets are the same. For a learner they are not: see your table.
# - The network is two paths with skips, made of one residual block, which is also told the time.
# - The loop is some twenty lines, EMA and clipping among them. The rest makes it an evening without surprises: a run that
#   was interrupted ends in the same weights, bit for bit.
# - One change at a time, several seeds, and a look at the images: otherwise you do not know what helped.
#
# **Next:** [03_sampling](03_sampling.ipynb), with the steps that turn these weights into images.

# %% [markdown]
# ## Exercises
#
# Worked answers, with the numbers to expect, stand in `notebooks/solutions/02_training.ipynb`.
#
# 1. *(think, 10 minutes)* Why does the loss of single batches jump so much? And why is a large error of $\hat x_0$ at
#    $t$ near $T$ no sign of a bad network?
#
#    <details><summary>Hint</summary>
#
#    What differs from batch to batch, besides the digits? And what could the best of all networks say about $x_0$ if
#    $x_t$ is next to nothing but noise?
#
#    </details>
#
# 2. *(code, 10 minutes)* Fit `small_network(SEED)` with the target `"v"` and uniform weight, in colour. Let it draw
#    `SAMPLES` images, and put its share of digits and its colour beside the eight of the table in Act 5. Then explain
#    it: at which $t$ is $v$ coloured?
#
#    <details><summary>Hint</summary>
#
#    Only the part $\sqrt{\bar\alpha_t}\,\varepsilon$ of $v$ can be coloured. Apply `split` to the target at three
#    times, and ask how much the answer of the network counts where the drawing begins.
#
#    </details>
#
# 3. *(code, 20 minutes)* Where do more steps pay? Fit one network for `STEPS // 4` steps and take one that was fitted
#    for `STEPS`, both with the target $x_0$ and min-SNR. Noise 512 digits to each of 20 times, and plot the error of
#    $\hat x_0$ of both against $t$. Where did the longer training help most, and where can no training help?
#
#    <details><summary>Hint</summary>
#
#    The cell of Act 5 that fills `errors` shows how to ask at given times, and `average` of Act 3 is the longer one of
#    the two. Look at the difference of the errors, and at their ratio.
#
#    </details>
#
# 4. *(code, 15 minutes)* In `fit`, let the average look back over a tenth of the steps (`part=10`, as the kit's long
#    runs do), and fit again. Which is better now by `mistake`, the average or the last weights? Then go back to
#    `part=40`, and clip at 0.01 instead of 1. Is the loss any worse for it?
#
#    <details><summary>Hint</summary>
#
#    `update_weights` has an argument for the second. AdamW divides every gradient by its own recent size: what is left
#    then of a factor that stands before all of them?
#
#    </details>
#
# 5. *(think, 5 minutes)* `images[chosen]` draws with replacement, the kit's `train` goes through a permutation. When
#    does that matter?
#
#    <details><summary>Hint</summary>
#
#    Draw $N$ times from $N$ images: what is the chance that a given image is never drawn? Then think of 60 images
#    instead of 60,000, and of one epoch instead of a hundred.
#
#    </details>
#
# 6. *(break it, 10 minutes)* Leave the training as it is, but tell the network a wrong time when it draws: in `draw`,
#    give `Denoiser` a function that asks `net` for $t - 1$ instead of $t$. Can you see it? Then take $t - 50$.
#
#    <details><summary>Hint</summary>
#
#    `Denoiser` calls what it is given as `model(x_t, t)`, so any function of two arguments will do; `clamp` keeps its
#    times at 1 or above. Does the network think its input cleaner than it is, or noisier?
#
#    </details>

# %% [markdown]
# ## References
#
# - J. Ho, A. Jain, P. Abbeel. *Denoising Diffusion Probabilistic Models.* NeurIPS 2020.
#   [arXiv:2006.11239](https://arxiv.org/abs/2006.11239). Algorithm 1, equations 5 to 14, appendix B.
# - J. Sohl-Dickstein et al. *Deep Unsupervised Learning using Nonequilibrium Thermodynamics.* ICML 2015.
#   [arXiv:1503.03585](https://arxiv.org/abs/1503.03585). Why the way back is Gaussian.
# - T. Salimans, J. Ho. *Progressive Distillation for Fast Sampling of Diffusion Models.* ICLR 2022.
#   [arXiv:2202.00512](https://arxiv.org/abs/2202.00512). Targets and their weights.
# - T. Hang et al. *Efficient Diffusion Training via Min-SNR Weighting Strategy.* ICCV 2023.
#   [arXiv:2303.09556](https://arxiv.org/abs/2303.09556).
# - D. Kingma et al. *Variational Diffusion Models.* NeurIPS 2021. [arXiv:2107.00630](https://arxiv.org/abs/2107.00630).
#   The bound's weight.
# - O. Ronneberger, P. Fischer, T. Brox. *U-Net.* MICCAI 2015. [arXiv:1505.04597](https://arxiv.org/abs/1505.04597).
