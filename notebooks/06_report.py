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
# **English** · [繁體中文](https://colab.research.google.com/github/OWNER/hwkit/blob/main/notebooks/zh-TW/06_report.ipynb)
#
# # 6 · The report
#
# Images, figures and a number are there. What is missing is a page that says how they came about, so that somebody else could do it
# again. This notebook writes that page from the files of your run, asks you the questions that only you can answer, and packs
# what you hand in.
#
# *About 90 minutes, most of them for your own words, and the time for missing images. Before it: notebooks 2 to 5, or at least
# a trained run. After it you have one zip to hand in.*

# %% [markdown]
# ## Where this leads
#
# The first cell starts the notebook and shows the figure that the report turns on: eight samples of your network on their way from
# noise to digit. The rest stands around it in the usual order: model, implementation, results, conclusion.

# %%
import os, sys

clone = "[ -d hwkit ] || git clone -q -b main https://github.com/OWNER/hwkit hwkit"
if "google.colab" in sys.modules and os.system(clone):
    sys.exit("GitHub did not answer: wait a minute, then run this cell again.")
sys.path[:0] = [*map(os.path.abspath, ("..", "../..", "../../..")), "/content/hwkit"]
from hwkit import notebook

notebook.start("06_report", drive=True)  # False: nothing is kept on Drive

# %% [markdown]
# Your name, your student number, and your conclusion: two to five sentences of your own, in English or in Chinese. What worked, what did
# not, what would you try next? Nothing is packed before they are written. `IMAGES` are handed in: 10,000, unless your course
# says another number. If the check finds a fault that you cannot mend in time, `DESPITE_FAULTS = True` packs all the same. `GRID_SEED` chooses the eight samples of the two figures.

# %% tags=["parameters"]
RUN = None
TITLE = "A diffusion model for MNIST, from scratch"
AUTHOR = ""
STUDENT_NUMBER = ""
CONCLUSION = ""
IMAGES = 10_000
DESPITE_FAULTS = False
SEED = 0
GRID_SEED = 7

# %% [markdown]
# The run: yours, or else the kit's own weights. Then this cell says NOT YOUR MODEL, and so does the report. Everything below is read
# from the run's folder, so no number in the report can differ from what was measured.

# %%
from dataclasses import replace

from hwkit.runs.checkpoint import best_of, load, load_denoiser, recipe_of
from hwkit.runs.run import read_history
from hwkit.runs.speed import best_device
from hwkit.show import figures, handin, report

run, device = notebook.find_run(RUN), best_device()
weights, out = best_of(run), run / "report"
print(*sorted(path.name for path in run.iterdir() if path.name[0] != "."), sep="\n")

# %% [markdown]
# ## Act 1 · What the model is
#
# A reader wants the idea in a paragraph, the equations, and the network in a drawing and a table. Paragraph and equations come with the
# page; drawing and table come from the checkpoint, which describes itself: nothing in them was typed.

# %%
from hwkit.language import labelled

network = report.model_rows(run)
for what, value in network:
    print(labelled(what, value))
recipe = recipe_of(load(weights))
drawing = figures.network_diagram(recipe.model)
drawing

# %% [markdown]
# The schedule says how much of the image is left at each time. It belongs here: with another $T$ or another schedule, the same network
# would be another model.

# %% tags=["texts"]
from hwkit.schedule import cosine, linear

schedules = figures.schedule_curves([linear(recipe.T), cosine(recipe.T)])
said = "Left: the share √ᾱ of the image in x_t. Right: signal to noise. "
said += f"This model: {recipe.schedule}."
model_part = report.Part(
    "Model description",
    rows=network,
    pictures=[
        (figures.save(drawing, out / "network.png"), "The U-Net. Dashed: skips."),
        (figures.save(schedules, out / "schedule.png"), said),
    ],
)
schedules

# %% [markdown]
# **What to notice.** $\sqrt{\bar\alpha_T}$ is in the legend and in the table. If it were not close to 0, sampling would begin from noise that
# the network never saw in training.

# %% [markdown]
# ## Act 2 · How it was trained
#
# *Implementation details* is the chapter by which somebody else repeats your run. Optimizer, batch, seed, number of images, software,
# time: all from the recipe in the checkpoint and from `history.jsonl`. Below it the first and last lines of the training log.

# %%
details, log = report.training_rows(run), report.log_lines(run)
for what, value in details:
    print(labelled(what, value))
print(*log, sep="\n")

# %% [markdown]
# The loss curve goes below it. (Weights without a history, such as somebody else's, have no curve: then the report says nothing about it.)

# %% tags=["texts"]
from IPython.display import display

history, pictures = read_history(run), []
if history:
    curve = figures.loss_curve(history)
    said = f"The training loss over {history[-1]['images_seen']:,} images."
    pictures = [(figures.save(curve, out / "loss_curve.png"), said)]
    display(curve)
training_part = report.Part("Implementation details", (), details, pictures, log)

# %% [markdown]
# **What to notice.** The scale of a loss depends on what the network predicts and on the weights, so losses of two recipes cannot be compared:
# compare images. A step in the curve can come from a run in several parts, as the learning rate begins anew in each. (The kit's
# weights are of one run.)

# %% [markdown]
# ## Act 3 · What came out
#
# First the two figures that the homework asks for: eight samples, eight equally spaced times, ends included, by DDPM over all $T$ steps and by
# DDIM in 50. Both begin from the same noise. About a minute on two CPU cores.

# %%
from hwkit.sampling import Sampler

denoise, grids = load_denoiser(weights, device), {}
for sampler in (Sampler("ddpm"), Sampler("ddim")):
    title = f"{sampler.name.upper()}, {sampler.resolve(denoise.schedule.T).steps} steps"
    frames = figures.grid_frames(denoise, sampler, GRID_SEED, device)
    grids[sampler.name] = figures.diffusion_grid(frames, title)
grids["ddpm"]

# %% [markdown]
# In both figures rows are samples and columns are times, with pure noise on the left and digits on the right.

# %% tags=["goal"]
grids["ddim"]

# %% [markdown]
# **What to notice.** In both, digits can be seen only in the last columns, and most rows end in different digits although they began in the same
# noise. You will say why in your own words below: a figure without a sentence is decoration.

# %% [markdown]
# Then the images that you hand in. Missing ones are made, after a word on the time that it takes, with the sampler of notebook 3: `dpm++sde`, which
# needs only 16 evaluations of the network. A hundred are shown.

# %%
from hwkit.mnist.folder import load_folder

sampler = Sampler("dpm++sde")
folder = notebook.make_images(run, IMAGES, sampler, SEED, device)
images = load_folder(folder)
sheet = figures.sample_sheet(images[:100], columns=10)
sheet

# %% [markdown]
# The check of notebook 3 looks at all of them as course staff would: are there `IMAGES`, numbered, of the right form, no copies, all ten
# digits? Below a row that fails stands what to do.

# %%
from hwkit.language import filled, wrapped
from hwkit.measure import check

table = list(check.rows(folder, IMAGES))
faults = [row for row in table if row.passed is False]
for row in table:
    mark = {True: "✓", False: "✗", None: "–"}[row.passed]
    print(wrapped(f"{mark} {filled(row.what, 16)} {row.found}", indent=19))
    if row in faults:
        print(wrapped(f"→ {row.mend}", indent=2))

# %% [markdown]
# And the numbers. What notebook 5 measured *of these very images* is taken as it is; if images were made since, digit-FID is measured again. The
# homework's own FID is in the table if notebook 5 ran it; else the table says how.

# %%
from hwkit.measure.features import DigitFeatures
from hwkit.measure.score import results_of, score, scores_of

if not scores_of(folder):
    score(DigitFeatures(), [folder], [images]).write(results_of(folder))
numbers = report.result_rows(folder)
for what, value in numbers:
    print(labelled(what, value))
notebook.keep(run)

# %% [markdown]
# **What to notice.** "FID by pytorch-fid" is the number that is graded ("under 30", the original's 1.66). Digit-FID has another scale: read it beside its
# floor, and beside nothing else. A value, its error, its $N$, its features, its floor: a FID is five things.

# %% [markdown]
# Now yours: answer each question in two or three sentences, in English or in Chinese, between the quotation marks, each on one line. The report prints question and
# answer. For the fourth, look at the two schedules in Act 1 and at your other runs, if you have any: the cell after the next lists them. The last asks what you looked up: name the
# tasks, and explain the lines in your own words; if you looked up nothing, say so. Name friends and programs that helped, too.

# %% tags=["texts"]
ANSWERS = {
    "Why does the network predict what it predicts, and why by squared error?": "",
    "In which column of the DDPM figure do digits first show, and why so late?": "",
    "What do DDPM and DDIM have in common in the figures, what differs, and why?": "",
    "T = 830 or 1000, linear or cosine: what would change, and how do you know?": "",
    "What do FID, its floor, precision, recall and the digits say of the images?": "",
    "Which of the library's answers did you read, and what else helped you?": "",
}

# %% [markdown]
# Other runs of yours stand beside this one: the original report compared $T = 830$ with its control $T = 1000$, and the linear schedule with the
# cosine. Only runs that exist are listed (`train original-t1000` and `original-cosine` make two more).

# %%
others = report.run_rows(run.parent)
for name, value in others:
    print(labelled(name, value))

# %% [markdown]
# All figures of this chapter, with captions. Many readers look at the figures first, so each caption should be understood
# alone: where one says too little, write more.

# %% tags=["texts"]
steps = "eight samples (rows) at eight times (columns), from noise to digit."
captions = {
    "diffusion_grid_ddpm": f"DDPM, all T steps: {steps}",
    "diffusion_grid_ddim": "DDIM, 50 steps, from the same noise.",
    "samples": "The first hundred of the images that are handed in.",
}
pictures = []
shown = (grids["ddpm"], grids["ddim"], sheet)
for (name, caption), figure in zip(captions.items(), shown, strict=True):
    pictures.append((figures.save(figure, out / f"{name}.png"), caption))
answers = list(ANSWERS.items())
result_part = report.Part("Result analysis", (), numbers, pictures, answers=answers)

# %% [markdown]
# **What to notice.** What you did not write is not there yet. The next act names it.

# %% [markdown]
# ## Act 4 · Hand it in
#
# Is everything written? Where a name, an answer or the conclusion is missing, it is named here, and nothing is packed. Run the cells
# from the top again after you have typed (Runtime → Run all): images and numbers are kept, so only the figures take their minutes again. Save your notebooks before the
# cell that packs: what is packed is what stands in the files.

# %% tags=["texts"]
names = {"AUTHOR": AUTHOR, "STUDENT_NUMBER": STUDENT_NUMBER}
missing = handin.unfinished(names, {"CONCLUSION": CONCLUSION, **ANSWERS})
found = [f"The check above found a fault: {row.what}." for row in faults]
missing += [] if DESPITE_FAULTS else found
print(*missing or found or ["All is written, and the check passes."], sep="\n")

# %% [markdown]
# The page. The HTML holds its pictures inside, so it can be mailed; the PDF is the same in A4, printed by Chromium. Colab has no Chromium:
# there open the HTML in your own browser and print it.

# %% tags=["texts"]
conclusion = report.Part("Conclusion", CONCLUSION.split("\n\n") if CONCLUSION else ())
result_part = replace(result_part, answers=list(ANSWERS.items()))  # as they are now
parts = [model_part, training_part, result_part, conclusion]
if len(others) > 1:
    parts.insert(3, report.Part("Runs side by side", rows=others))
by = " · ".join(filter(None, (AUTHOR, STUDENT_NUMBER)))
page, warning = out / "report.html", report.warning_of(run)
report.write_html(page, TITLE, by, parts, warning=warning)
pdf = report.write_pdf(page)
notebook.keep(run)
print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
print(f"{pdf}: {pdf.stat().st_size / 1e6:.1f} MB" if pdf else "No PDF: print the HTML.")
print(wrapped(warning, indent=4))

# %% [markdown]
# Last, one zip with all that is asked for: the images in a flat folder, the report, the figures, your notebooks, the weights, and
# `run.json`, which says what made the images (hash of the weights, recipe, sampler, seed, history). So whoever marks it can make some of
# the images again. On Colab the browser then asks where to save it.

# %% tags=["texts"]
if missing:
    print("Nothing is packed before this is mended:", *missing, sep="\n")
else:
    facts = handin.write_facts(out / "run.json", run, folder)
    files = [path for path in (page, pdf, facts, weights) if path]
    files += [path for part in parts for path, _ in part.pictures]
    code = notebook.own_notebooks()
    zipped = handin.write_submission(run / "submission.zip", folder, files, code)
    print(f"{len(images):,} images, {len(files)} other files, {len(code)} notebooks")
    notebook.keep(run)
    notebook.offer(zipped)

# %% [markdown]
# **What to notice.** Unpack it once, somewhere else, and look at it as if it were another student's. That is what the marker sees.

# %% [markdown]
# Did you fill in the student edition? These are its tasks, from notebooks 1 to 5, with a tick at each whose last `check` on this
# computer passed.

# %%
from hwkit.course import selfcheck

selfcheck.progress()

# %% [markdown]
# ## Summary
#
# - A report answers three questions: what is it, how would I repeat it, how good is it?
# - Every number came from a file of the run. If you train longer and run this again, all of them change together.
# - Numbers and figures need sentences, and only you can write them.
#
# **Back to:** [01_data](01_data.ipynb), or on to the exercises that you have left out.

# %% [markdown]
# ## Exercises
#
# Worked answers, with the numbers to expect, stand in `notebooks/solutions/06_report.ipynb`.
#
# 1. *(write, 10 minutes)* Add a question of your own to `ANSWERS`, one that a reader of your figures would ask, and
#    answer it.
#
#    <details><summary>Hint</summary>
#
#    Take one number or one picture of the report, and ask what it would be if one thing were different. A good
#    question can be answered from what the report shows.
#
#    </details>
#
# 2. *(code, 5 minutes)* Add the figure of digit-FID against steps from notebook 5 to the report, with a caption
#    (`run / "figures" / "fid_curve.png"`, which is there once notebook 5 has drawn it for this run).
#
#    <details><summary>Hint</summary>
#
#    `pictures` is a list of pairs, file and caption. The chapter is made of it in the last line of its cell, so the
#    new pair must be there before.
#
#    </details>
#
# 3. *(code, 15 minutes)* Report a control, as the original did. With a GPU train `original` and `original-t1000`;
#    without one, the recipe `cpu` twice, as it is and with `--T 1000 --run runs/cpu-t1000` (each trains for 10
#    minutes, and its guide for 2 more). Sample and measure both, write the name of *your* run into `RUN` (else the newest is taken: the
#    control), and run this notebook again. What may you say of the two numbers?
#
#    <details><summary>Hint</summary>
#
#    `python -m hwkit train`, `sample` and `fid`, each with `--help`. Two runs with one seed each differ even if
#    nothing was changed: how large is that difference?
#
#    </details>
#
# 4. *(think, 10 minutes)* Give the report to a friend for ten minutes. Which number do they ask for that is not
#    there?
#
#    <details><summary>Hint</summary>
#
#    Let them try to repeat your work from the page alone, and write down each time they have to guess.
#
#    </details>

# %% [markdown]
# ## References
#
# - J. Ho, A. Jain, P. Abbeel. *Denoising Diffusion Probabilistic Models.* NeurIPS 2020. [arXiv:2006.11239](https://arxiv.org/abs/2006.11239).
# - J. Song, C. Meng, S. Ermon. *Denoising Diffusion Implicit Models.* ICLR 2021. [arXiv:2010.02502](https://arxiv.org/abs/2010.02502).
# - J. Pineau et al. *Improving Reproducibility in Machine Learning Research.* JMLR 2021. [arXiv:2003.12206](https://arxiv.org/abs/2003.12206). A checklist for reports.
