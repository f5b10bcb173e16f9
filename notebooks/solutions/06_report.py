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
# **Worked answers to the exercises of notebook 6 (06_report). They give everything away: try the exercises first.**
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/solutions/06_report.ipynb)
#
# # Answers to 6 · The report
#
# For each exercise: its text in short, one way to do it, and what to expect. Where chance plays a part, ± is how far
# other seeds were from it, as the cells print it. All of it runs in about three minutes on one core.

# %%
import os, sys

clone = "[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit hwkit"
if "google.colab" in sys.modules and os.system(clone):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [*map(os.path.abspath, ("..", "../..", "../../..")), "/content/hwkit"]
from hwkit import notebook

notebook.start("solutions/06_report", drive=False)

# %% [markdown]
# `RUN` is the run that is reported (`None`: your newest, else the kit's). `SEEDS` are those of the small trainings of
# exercise 3, on `DIGITS` of the kit's digits, and `IMAGES` is how many images each of them makes.

# %% tags=["parameters"]
RUN = None
SEEDS = (0, 1, 2)
DIGITS = 1500
IMAGES = 100

# %% [markdown]
# What the first two answers use: the run, and the kit's functions for a report.

# %%
from hwkit.measure.curve import curve
from hwkit.runs.checkpoint import best_of
from hwkit.runs.speed import best_device
from hwkit.show import figures, handin, report

run, device = notebook.find_run(RUN), best_device()
practice = run / "practice-report"

# %% [markdown]
# ## Exercise 1 (write)
#
# *A question of your own, one that a reader of your figures would ask, and your answer.*
#
# A good question names what would have to be different, and the answer says where in the report it can be seen. One
# example. The kit takes answers of 20 characters or more; yours should be two or three sentences, in your own words.

# %%
ANSWERS = {
    "Would 100 steps of DDIM instead of 50 have made better images?": (
        "Hardly: in the figure of digit-FID against steps, 20 and 50 steps differ by "
        "less than twice their errors, so it is not more steps of DDIM that these "
        "images lack."
    ),
}
print(handin.unfinished({}, ANSWERS) or "The kit takes this answer.")
print(handin.unfinished({}, {"a short one": "Yes, better."}))

# %% [markdown]
# **What to expect.** An empty list for the long answer, and for the short one a sentence that names its 12 characters.
# The kit cannot judge more than that: whether the answer is *right* only a reader can. Ask yourself three things. Does
# it follow from a number or a picture in the report? Would it be false if that number were different? Could somebody
# who disagrees test it? An answer such as "the images look good" fails all three.

# %% [markdown]
# ## Exercise 2 (code)
#
# *The figure of digit-FID against steps, with a caption.*
#
# In the notebook one line is enough, before `result_part` is made: `pictures.append((run / "figures" /
# "fid_curve.png", caption))`. Here the curve is measured on a few images only, if notebook 5 has not drawn it, and the
# chapter is printed alone, to see that picture and caption are in the page.

# %%
drawn = run / "figures" / "fid_curve.png"
if not drawn.is_file():
    *_, whole = curve(best_of(run), practice / "curve.json", n=10, device=device)
    drawn = figures.save(figures.fid_curve_figure(whole), practice / "fid_curve.png")
caption = "Digit-FID against evaluations of the network, with standard errors."
rows = [("figure", "below")]
part = report.Part("Result analysis", rows=rows, pictures=[(drawn, caption)])
page = report.write_html(practice / "report.html", "Practice", "me", [part])
text = page.read_text("utf-8")
count = text.count("data:image/png")
print("caption in the page:", caption in text, "· pictures:", count)

# %% [markdown]
# **What to expect.** `True`, and 1 picture: the page holds it inside, so it may be sent without the folder. A caption
# should stand alone: what is on the axes, of how many images each point is, what ± means, and one thing to see. The
# one above lacks two of these four. Better: "Digit-FID of 1,000 images a point against evaluations of the network; ±
# is a standard error; from 15 evaluations on the stochastic solver no longer gains more than that."

# %% [markdown]
# ## Exercise 3 (code)
#
# *A control: the same with $T = 1000$. What may you say of the two numbers?*
#
# The commands are these. Each training takes 10 minutes, and its guide 2 more:
#
# ```
# python -m hwkit train cpu
# python -m hwkit train cpu --T 1000 --run runs/cpu-t1000
# python -m hwkit sample --run runs/cpu-t1000 --n 1000
# python -m hwkit fid runs/cpu-t1000/generate
# ```
#
# And the same for `runs/cpu`. To see what two numbers are worth, do it small, with the recipe `smoke` (seconds; no
# digits to be expected), but with three seeds for each $T$. What the commands do is called here as functions, which is
# quicker.

# %%
from dataclasses import replace
import torch
from hwkit.mnist.sources import SAMPLE, read_source
from hwkit.recipe import RECIPES
from hwkit.runs.generate import generate
from hwkit.runs.run import train
from hwkit.sampling import Sampler

images = torch.from_numpy(read_source(SAMPLE).images[:DIGITS])
for T in (830, 1000):
    for seed in SEEDS:
        folder = practice / "runs" / f"T{T}-seed{seed}"
        recipe = replace(RECIPES["smoke"], T=T, seed=seed, epochs=1)
        for _ in train(recipe, images, folder, "cpu", resume=False, quiet=True):
            pass
        weights, sampler = best_of(folder), Sampler("dpm++sde")
        generate(weights, folder / "generate", IMAGES, sampler, seed, progress=False)

# %% [markdown]
# The table that the notebook prints for all runs in a folder, and the means over the seeds.

# %%
from hwkit.measure.score import digit_fid
from hwkit.mnist.folder import load_folder
import numpy as np

for T in (830, 1000):
    folders = [practice / "runs" / f"T{T}-seed{seed}" / "generate" for seed in SEEDS]
    values = [digit_fid(load_folder(folder))[0] for folder in folders]
    far = np.abs(np.array(values) - np.mean(values)).max()
    middle = np.mean(values)
    print(f"T = {T}: digit-FID {middle:.1f} ± {far:.1f} over {len(SEEDS)} seeds")
for name, said in report.run_rows(practice / "runs"):
    print(f"{name}: {said.split(';')[0]}")

# %% [markdown]
# **What to expect.** Digit-FID 96 ± 6 with $T = 830$ and 95 ± 11 with $T = 1000$ (after seconds of training there are
# no digits, hence the high values). The two means differ by 1, and the ± of the seeds is 6 and 11: so *nothing* can
# be said of $T$ from these six runs, and from one run for each nothing at all, whichever came out lower. With 10
# minutes of training the values are near 1 (README), and how far seeds differ then must be measured again. What you
# may write without more runs: "one run each; the difference is not larger than seeds may make it", or the two values
# with no verdict. The table also shows what can be said for certain: $\sqrt{\bar\alpha_T}$ is 0.0150 and 0.0064, so
# both start close enough to pure noise.

# %% [markdown]
# ## Exercise 4 (think)
#
# *Which number does your friend ask for that is not in the report?*
#
# There is no one answer. Six that are worth asking for, and where each of them is:
#
# | they ask | where it is |
# | --- | --- |
# | how different would another seed be? | nowhere: train and sample with two seeds, and measure both |
# | on which computer, and how much memory? | the time is there, the computer is not: write it into the conclusion |
# | how good is the network without EMA? | notebook 5, Act 5, where the run has kept its raw weights |
# | how many runs were tried before this one? | only you know; say so, if the best of several was taken |
# | what is the loss on digits that were not trained on? | not measured by the kit |
# | which exact weights? | `run.json` in the zip: their SHA-256 |

# %% [markdown]
# **What to expect.** There is no right answer, but after 10 minutes two or three questions should stand on paper. Look
# above all for the *spread*: one run, one seed, one number is what a report of this homework has, and the spread decides
# whether a comparison in it means anything (exercise 3). If your friend asks for nothing, ask them to write down the
# commands by which they would repeat your work, and look where they stop.
