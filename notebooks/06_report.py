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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/06_report.ipynb)
#
# # 6 · The report
#
# Images, figures and a number are there; what is missing is a page that says how they came about, so that somebody else could do it again. This notebook writes that page from the files of your run, as HTML
# and PDF, and packs what you hand in.
#
# *About 15 minutes, most of them for your own words. You need: notebooks 2 to 5, or at least a trained run.*

# %% [markdown]
# ## Where this leads
#
# The first cell readies the notebook and shows the figure that the report turns on: eight samples of your network on their way from noise to digit. Around it the rest is arranged in the usual order: model, implementation, results, conclusion.

# %%
import os, sys

if "google.colab" in sys.modules and os.system("[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit"):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [os.path.abspath(".."), "/content/hwkit"]
from hwkit import notebook

notebook.start("06_report", drive=False)  # drive=True keeps your runs in MyDrive/hwkit

# %% [markdown]
# Your name, and your conclusion: two to five sentences of your own. What worked, what did not, what would you try next? No program can write that for you, and everybody who
# marks reports reads it first. `IMAGES` are handed in; if `generate/` is not there yet, they are made now.

# %% tags=["parameters"]
RUN = None
TITLE = "A diffusion model for MNIST, from scratch"
AUTHOR = "your name"
CONCLUSION = "Your conclusion stands here: what worked, what did not, and what you would try next."
IMAGES = 10_000
SEED = 0

# %% [markdown]
# The run: yours, or else the kit's own weights (then say so in your report). Everything below is read from its folder, so that no number in the report can differ from what was measured.

# %%
from hwkit.runs.checkpoint import best_of, load, load_denoiser, recipe_of
from hwkit.runs.run import read_history
from hwkit.show import report
from hwkit.training import best_device

run, device = notebook.find_run(RUN), best_device()
weights, out = best_of(run), run / "report"
print("\n".join(sorted(path.name for path in run.iterdir() if not path.name.startswith("."))))

# %% [markdown]
# ## Act 1 · What the model is
#
# A reader wants the network in one table and the idea in one paragraph. The table comes from the checkpoint, which describes itself: nothing in it was typed.

# %%
description = [
    "A denoising diffusion probabilistic model (Ho et al. 2020). The forward process mixes an image "
    "with Gaussian noise, x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε, until at t = T nothing of the image is left. "
    "A U-Net that is given x_t and t is trained to undo it, and new images are made by going back "
    "from pure noise, step by step.",
]
network = report.model_rows(run)
for what, value in network:
    print(f"{what:22} {value}")

# %% [markdown]
# The schedule says how much of the image is left at each time. It belongs here, because T and the schedule are the only parts of a diffusion model that are not network.

# %%
from hwkit.schedule import cosine, linear
from hwkit.show import figures

recipe = recipe_of(load(weights))
schedules = figures.schedule_curves([linear(recipe.T), cosine(recipe.T)])
said = f"Left: the share of the image in x_t. Right: signal to noise. This model: {recipe.schedule}."
picture = figures.save(schedules, out / "schedule.png"), said
model_part = report.Part("Model description", description, network, [picture])
schedules

# %% [markdown]
# **What to notice.** $\sqrt{\bar\alpha_T}$ is in the table. If it were not close to 0, sampling would begin from noise that the network never saw in training, and no FID would be worth reading.

# %% [markdown]
# ## Act 2 · How it was trained
#
# *Implementation details* is the chapter by which somebody else repeats your run. Optimizer, batch, seed, number of images, software, time: all from the recipe in the checkpoint and from `history.jsonl`.

# %%
repeatable = [
    "All images are sampled with the moving average of the weights. Training and sampling are seeded, "
    "so that the same recipe on the same machine gives the same weights and the same images.",
]
details = report.training_rows(run)
for what, value in details:
    print(f"{what:22} {value}")

# %% [markdown]
# The loss curve goes below it. (Weights without a history, such as somebody else's, have no curve: then the report says nothing about it rather than something made up.)

# %%
history, pictures = read_history(run), []
if history:
    curve = figures.loss_curve(history)
    said = f"The training loss over {history[-1]['images_seen']:,} images."
    pictures = [(figures.save(curve, out / "loss_curve.png"), said)]
    display(curve)
training_part = report.Part("Implementation details", repeatable, details, pictures)

# %% [markdown]
# **What to notice.** Its scale depends on what the network predicts and on the weighting, so a loss of 0.01 with $\hat\varepsilon$ and one with $\hat x_0$ are two different things. Never compare losses across recipes; compare images.

# %% [markdown]
# ## Act 3 · What came out
#
# First the two figures that the homework asks for: eight samples, eight equally spaced times, ends included, by DDPM over all $T$ steps and by DDIM in 50. Both begin from the same noise.

# %%
from hwkit.sampling import Sampler

denoise = load_denoiser(weights, device)
grids = {}
for sampler in (Sampler("ddpm"), Sampler("ddim")):
    title = f"{sampler.name.upper()}, {sampler.resolve(denoise.schedule.T).steps} steps"
    grids[sampler.name] = figures.diffusion_grid(figures.grid_frames(denoise, sampler, SEED, device), title)
display(grids["ddpm"])

# %% [markdown]
# The second one is the picture at the top of this notebook. Rows are samples, columns are times: noise on the left, digits on the right.

# %% tags=["goal"]
grids["ddim"]

# %% [markdown]
# **What to notice.** In both, most of the way looks like noise, and all of the digit appears in the last third. DDIM's rows settle earlier: it adds no new noise. Say so in your own words; a figure without a sentence is decoration.

# %% [markdown]
# Then the images themselves. Missing ones are made (and only these), a hundred are shown, and the check of notebook 3 looks at all of them as course staff would.

# %%
from hwkit.measure import check
from hwkit.mnist.folder import load_folder
from hwkit.runs.generate import generate

folder = run / "generate"
if not folder.is_dir() or len(list(folder.glob("*.png"))) < IMAGES:
    generate(weights, folder, IMAGES, seed=SEED, device=device)
images = load_folder(folder)
table = list(check.rows(folder, len(images)))
faults = [row for row in table if row.passed is False]
for row in table:
    print({True: "✓", False: "✗", None: "–"}[row.passed], f"{row.what:<16} {row.found}")
    if row in faults:
        print("  →", row.mend)
sheet = figures.sample_sheet(images[:100], columns=20)
sheet

# %% [markdown]
# And the number. What notebook 5 measured is taken as it is; where nothing was measured, digit-FID is measured now. If you have measured FID in Inception's features too, it is in the table as well.

# %%
from hwkit.measure.features import DigitFeatures
from hwkit.measure.score import read_scores, results_of, score

if not read_scores(results_of(folder)):
    score(DigitFeatures(), [folder], [images]).write(results_of(folder))
numbers = report.result_rows(folder)
for what, value in numbers:
    print(f"{what:22} {value}")

# %% [markdown]
# All figures of this chapter, with captions that can stand alone: many readers look at the figures first, and at nothing else.

# %%
captions = {
    "diffusion_grid_ddpm": "DDPM, all T steps: eight samples (rows) at eight times (columns), noise to digit.",
    "diffusion_grid_ddim": "DDIM, 50 steps, from the same noise.",
    "samples": "The first hundred of the images that are handed in.",
}
shown = (grids["ddpm"], grids["ddim"], sheet)
pictures = []
for (name, caption), figure in zip(captions.items(), shown, strict=True):
    pictures.append((figures.save(figure, out / f"{name}.png"), caption))
floor = "FID is given with its error, the number of images, and what as many real digits score."
result_part = report.Part("Result analysis", [floor], numbers, pictures)

# %% [markdown]
# **What to notice.** A value, its error, its $N$, its features, its floor. The original's 1.66 stands near the floor of *its* features; yours, in digit features, has to be read against the floor beside it.

# %% [markdown]
# ## Act 4 · Hand it in
#
# Four parts, one page. The HTML holds its pictures inside, so it can be mailed; the PDF is the same, printed by Chromium. Colab has no Chromium: there, print the HTML from your browser.

# %%
parts = [model_part, training_part, result_part, report.Part("Conclusion", [CONCLUSION])]
page = report.write_html(out / "report.html", TITLE, AUTHOR, parts)
pdf = report.write_pdf(page)
print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
print(f"{pdf}: {pdf.stat().st_size / 1e6:.1f} MB" if pdf else "No PDF: open the HTML, and print it.")

# %% [markdown]
# Last, one zip with all that is asked for: the PNGs in a flat folder, the report, and the figures. Where the check above found faults, there is no zip yet: mend them first, it says how.

# %%
if faults:
    print(f"The check found {len(faults)} faults: no zip before they are mended.")
else:
    others = [path for path in (page, pdf) if path]
    others += [path for part in parts for path, _ in part.pictures]
    zipped = report.write_submission(run / "submission.zip", folder, others)
    print(f"{zipped}: {len(images):,} images and {len(others)} other files, {zipped.stat().st_size / 1e6:.1f} MB")
notebook.keep(run)

# %% [markdown]
# **What to notice.** Unpack it once, somewhere else, and look at it as if it were another student's. That is what the marker sees.

# %% [markdown]
# ## Summary
#
# - A report answers three questions: what is it, how would I repeat it, how good is it?
# - Every number came from a file of the run. If you train longer and run this again, all of them change together.
# - Value, error, $N$, features, floor: a FID is five things.
#
# **Back to:** [01_data](01_data.ipynb), or on to the exercises that you have left out.

# %% [markdown]
# ## Exercises
#
# 1. *(write)* Add a paragraph to `description` on why the network predicts what it predicts. Notebook 2 measured the reason.
# 2. *(code)* Add the figure of digit-FID against steps from notebook 5 (`run / "figures" / "fid_curve.png"`) to the results, with a caption.
# 3. *(code)* Report a control, as the original did: train `original-t1000`, and put both runs' `result_rows` side by side.
# 4. *(think)* Give the report to a friend for ten minutes. Which number do they ask for that is not there?

# %% [markdown]
# ## References
#
# - J. Ho, A. Jain, P. Abbeel. *Denoising Diffusion Probabilistic Models.* NeurIPS 2020. [arXiv:2006.11239](https://arxiv.org/abs/2006.11239).
# - J. Song, C. Meng, S. Ermon. *Denoising Diffusion Implicit Models.* ICLR 2021. [arXiv:2010.02502](https://arxiv.org/abs/2010.02502).
# - J. Pineau et al. *Improving Reproducibility in Machine Learning Research.* JMLR 2021. [arXiv:2003.12206](https://arxiv.org/abs/2003.12206). A checklist for reports.
