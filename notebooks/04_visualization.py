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
# # 4 · Watching it happen
#
# Noise goes in, a digit comes out. When does it become *that* digit? You will draw the two figures that the homework asks for, put a
# slider on the whole way, look under the surface at what the network believes, and find the moment of decision by a
# small experiment.
#
# *About 10 minutes. You need: notebook 3, and a run.*

# %% [markdown]
# ## Where this leads
#
# The first cell readies the notebook and shows the last picture of it, which moves: eight samples condensing out of
# noise, ready for your slides.

# %%
import os, sys

if "google.colab" in sys.modules and os.system("[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit"):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [os.path.abspath(".."), "/content/hwkit"]
from hwkit import notebook

notebook.start("04_visualization", drive=False)  # drive=True keeps your runs in MyDrive/hwkit

# %% [markdown]
# `RUN` names a run's folder under `runs/`; `None` takes your newest one. Another `SEED` gives eight other samples. `DPI` is the resolution of the two figures that you
# hand in: 300 is right for print.

# %% tags=["parameters"]
RUN = None
SEED = 0
DPI = 300

# %% [markdown]
# The network and its schedule, as in notebook 3. From here on the kit's own `Denoiser`, `ddim_step` and `ddpm_step` are used: you have written
# them, and a test in the repository holds your cells and the kit's functions together.

# %%
from hwkit.runs.checkpoint import best_of, load_denoiser
from hwkit.training import best_device

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
# DDIM with 50 steps does not stop at all of these by itself, so its nearest stop is moved onto each.

# %% tags=["nbval-check-output"]
from hwkit.sampling import nodes, times

print([round(830 * (1 - k / 7)) for k in range(8)])
print(nodes(830))
ddim_times = times(830, 50, through=nodes(830))
print(len(ddim_times) - 1, "steps, through all of them:", set(nodes(830)) <= set(ddim_times))

# %% [markdown]
# Sample once, draw often. `slider_frames` sends the same eight $x_T$ down both ways, DDIM in 50 steps and DDPM in all of them, and keeps $x_t$ and
# $\hat x_0$ at 51 times. On two CPU cores that takes about a minute.

# %%
from hwkit.show.slider import slider_frames

frames = slider_frames(denoise, SEED, device)
print(len(frames.times), "times; columns at", list(frames.nodes))
print({name: images.shape for name, images in frames.sequences.items()})

# %% [markdown]
# The frames at the eight columns are the figure. A small helper picks them out, and each figure is saved at full resolution into the run's folder, where the
# report of notebook 6 finds it.

# %%
import torch
from hwkit.mnist.batches import normalize
from hwkit.sampling import Frame
from hwkit.show import figures


def pick(sampler, rows=8):
    columns = []
    for t in frames.nodes:
        at = [frames.sequences[f"{sampler}-{kind}"][frames.times.index(t)] for kind in ("xt", "x0")]
        columns.append(Frame(t, *(normalize(torch.from_numpy(images[:rows])) for images in at)))
    return columns


ddpm_grid = figures.diffusion_grid(pick("ddpm"), frames.samplers[1])
figures.save(ddpm_grid, run / "figures" / "diffusion_grid_ddpm.png", dpi=DPI)
ddpm_grid

# %% [markdown]
# And DDIM, from the same noise: compare the first columns of both figures, they are equal. (In a report, say that they are: it is what makes the comparison fair, and
# readers will look for it.)

# %%
ddim_grid = figures.diffusion_grid(pick("ddim"), frames.samplers[0])
figures.save(ddim_grid, run / "figures" / "diffusion_grid_ddim.png", dpi=DPI)
ddim_grid

# %% [markdown]
# **What to notice.** In both, three columns of pure static; then something stirs; the last column is clean. DDPM and DDIM part ways early, and
# most rows end in different digits. Column $t=119$ looks like dirt on a finished drawing: the remaining steps only clean up.

# %% [markdown]
# ## Act 2 · The slider
#
# Eight columns are eight moments. Now scrub through all 51: drag the slider, use the arrow keys, or press play; switch between DDIM and DDPM, and between $x_t$ and $\hat x_0$. The
# marks are the columns of the figures above, which stand in for the slider where a page cannot run it (GitHub, for one).

# %%
from hwkit.show.slider import timestep_slider

timestep_slider(frames)

# %% [markdown]
# **What to notice.** Nothing is computed while you drag: the frames were sampled beforehand, and your browser moves them. So it works with the kernel stopped, in a
# saved notebook, and as a page of its own that needs neither Python nor network. Write that page, and send it to a friend.

# %%
from hwkit.files import write_text
from hwkit.show.slider import slider_html

write_text(run / "figures" / "slider.html", slider_html(frames, "From noise to digits"))
size = (run / "figures" / "slider.html").stat().st_size
print(f"{run / 'figures' / 'slider.html'}: {size / 1e6:.1f} MB")

# %% [markdown]
# **And where the network itself runs in the browser?** `make page`, or `python -m hwkit page --out site`, builds such a page from your run: draw a digit of your own and noise it, fork
# any state, bend the schedule, or drop your `ema_latest.safetensors` on it (`python -m hwkit export` makes that file). Put the folder on any static host; `.github/workflows/page.yml`
# does so on GitHub Pages.

# %% [markdown]
# ## Act 3 · Under the surface
#
# $x_t$ is mostly noise, by construction: $1-\bar\alpha_t$ of its variance. What the network *believes* is $\hat x_0$. Here both are shown for two of the samples, $x_t$ above and $\hat x_0$ below,
# at the same eight times.

# %%
woven = []
for t, x_t, x0_hat in pick("ddpm", rows=2):
    woven.append(Frame(t, torch.stack([x_t, x0_hat], dim=1).flatten(0, 1), x0_hat))
figures.diffusion_grid(woven, "DDPM: two samples, x_t above and the guess below")

# %% [markdown]
# **What to notice.** Where $x_t$ still is static to your eye, the guess is a soft digit already, and it changes its mind: look at the second and third columns. From then on it only
# sharpens. The picture is decided long before it can be seen.

# %% [markdown]
# Put a number on that. For each time, how far is $\hat x_0$ from the picture that it ends in? And how far $x_t$? Take the root of the mean squared difference, for both samplers.

# %%
figure, axes = figures.plot("t", "distance to the final picture (RMS)", size=(7, 3.4))
for name, color in (("ddim", figures.INK), ("ddpm", figures.ACCENT)):
    final = torch.from_numpy(frames.sequences[f"{name}-xt"][-1]).float()
    for kind, style, label in (("xt", ":", "$x_t$"), ("x0", "-", r"$\hat x_0$")):
        way = torch.from_numpy(frames.sequences[f"{name}-{kind}"]).float()  # (51, 8, 3, 28, 28)
        distance = (way - final).square().mean(dim=(1, 2, 3, 4)).sqrt() / 127.5
        axes.plot(frames.times, distance, style, color=color, label=f"{name.upper()} {label}")
axes.invert_xaxis()
axes.legend(frameon=False, ncols=2)
figure

# %% [markdown]
# **What to notice.** Time runs to the right, towards the image. The solid lines (the belief) do most of their falling between $t = 650$ and 350, where the dotted ones (the state) have
# hardly begun; afterwards it is the other way round. DDIM's belief settles sooner than DDPM's, because no fresh noise comes along to change its mind.

# %% [markdown]
# ## Act 4 · When is the digit decided?
#
# Here is a cleaner experiment than looking: **fork** the way. Stop at some $t$, make eight copies of $x_t$, and let each go on with dice of its own (DDIM with $\eta = 1$, so with fresh noise).
# What all eight have in common had been decided by then. First, one way with its states kept:

# %%
from functools import partial
from hwkit.diffusion import ddim_step
from hwkit.sampling import ImageNoise, sample

dice = partial(ddim_step, eta=1.0)
noise = ImageNoise(SEED, [3], device=device)
stops = times(T, min(50, T))
way = list(sample(denoise, noise(), stops, alpha_bar, step=dice, noise=noise))

# %% [markdown]
# Now fork it at five of its stops. Each row of the picture is a fork: eight continuations of one and the same state. The last row forks so late that there is little left to decide.

# %%
from hwkit.mnist.batches import to_uint8

rows, forks = [], [stops[i] for i in (0, 12, 20, 28, 38)]
for t in forks:
    at = stops.index(t)
    noise = ImageNoise(SEED + 1, range(8), device=device)
    *_, end = sample(
        denoise, way[at].x_t.repeat(8, 1, 1, 1), stops[at:], alpha_bar, step=dice, noise=noise
    )
    rows.append(to_uint8(end.x_t).cpu())
figures.sample_sheet(torch.cat(rows), columns=8, title=f"Forked at t = {', '.join(map(str, forks))}")

# %% [markdown]
# **What to notice.** Forked from pure noise the eight go to eight places. Some hundred steps later they share a shape, then the class, then the handwriting; at the end only single pixels
# differ. A diffusion model decides from the coarse to the fine. In the first figure you can point at the column where the class is fixed.

# %% [markdown]
# ## Act 5 · An animation for your slides
#
# Slides and reports want a file that moves by itself. An *animated PNG* plays in every browser and shows its first frame where it cannot, so the first frame shall be
# the finished digits. One palette for all frames, of 16 greys and 24 colours of the noise, keeps it small.

# %%
import io
from PIL import Image

shots = [figures.tile(step, columns=4) for step in frames.sequences["ddim-xt"]]
colours = Image.fromarray(shots[len(shots) // 2]).quantize(24).getpalette()[:72]
palette = Image.new("P", (1, 1))
palette.putpalette([grey for grey in range(0, 256, 17) for _ in "RGB"] + colours)
shots = [Image.fromarray(shot).resize((488, 248), Image.Resampling.NEAREST) for shot in shots]
shots = [shot.quantize(palette=palette, dither=Image.Dither.NONE) for shot in shots]
buffer = io.BytesIO()
order = [shots[-1], *shots[::2], shots[-1]]
durations = [800] + [90] * (len(order) - 2) + [1600]
order[0].save(buffer, "png", save_all=True, append_images=order[1:], duration=durations, loop=0)

# %% [markdown]
# Save it beside the other figures, and look at it. (GitHub, Colab and JupyterLab play it; so do Keynote and Google Slides, as an image.)

# %% tags=["goal"]
from IPython.display import Image as Picture
from hwkit.files import write_bytes

write_bytes(run / "figures" / "diffusion.png", buffer.getvalue())
notebook.keep(run)
Picture(buffer.getvalue())

# %% [markdown]
# ## Summary
#
# - The homework's two figures: eight samples × eight times, both ends included, DDPM and DDIM from the same noise.
# - The slider shows the way itself; it needs no kernel, and `slider.html` needs no Python.
# - The network's belief $\hat x_0$ settles in the first half of the way, the visible $x_t$ in the second.
# - Coarse things are decided first. A fork tells you when.
#
# **Next:** [05_fid](05_fid.ipynb) asks how good the digits are, in a number, and how to be wrong about it.

# %% [markdown]
# ## Exercises
#
# 1. *(look)* With the slider on $\hat x_0$ and DDPM, find a sample that changes its class on the way. At which $t$ is the last change?
# 2. *(code)* Fork with $\eta = 0$. What do you expect before you run it?
# 3. *(code)* Let the kit's classifier read every continuation of a fork (`classify(digit_features(images))`, as in notebook 2), for many ways and many forks, and plot the share of pairs that agree on the class against $t$. Where is it 50 %?
# 4. *(code)* Draw the grid over equal steps of log-SNR instead of equal steps of $t$. Is it a better figure? For whom?
# 5. *(think)* If $x_t$ were not clipped to $[-1, 1]$ to be shown, the dotted lines of Act 3 would begin at 1.39. Derive that number from the mean and the standard deviation of the pixels in notebook 1.

# %% [markdown]
# ## References
#
# - J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, 2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): figures 6 and 7, progressive generation and shared latents (the forks).
# - J. Song, C. Meng, S. Ermon, *Denoising Diffusion Implicit Models*, 2021, [arXiv:2010.02502](https://arxiv.org/abs/2010.02502): §5.2, consistency of DDIM.
# - J. Choi et al., *Perception Prioritized Training of Diffusion Models*, 2022, [arXiv:2204.00227](https://arxiv.org/abs/2204.00227): §3, coarse to fine.
