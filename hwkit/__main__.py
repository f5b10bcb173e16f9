"""The command line, `python -m hwkit --help`: a function in `Commands` is a command, its parameters are its flags."""

import contextlib
import difflib
import inspect
import os
import re
import sys
from dataclasses import make_dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args, get_type_hints

from tyro import cli, conf, extras

from hwkit import __version__
from hwkit.files import expanded, runs, write_bytes, write_text
from hwkit.language import filled, language, say

SAMPLERS = Literal["ddim", "ddpm", "dpm++", "dpm++sde", "unipc"]
PRECISIONS = Literal["auto", "fp32", "bf16", "fp16"]
FLAGS = {  # type, default, help; where a command means something else by a flag, the command stands before it
    "run": (Path, None, "a run's folder; by default the one trained last, else the kit's weights (train: runs/NAME)"),
    "checkpoint": (Path, None, "a checkpoint rather than the run's best weights"),
    "recipe": (str, None, "train by it: original, original-t1000, original-cosine, cpu, cpu-long, gpu or smoke"),
    "minutes": (float, None, "train so long; by default the recipe's time"),
    "from_scratch": (bool, False, "train by the recipe that suits the machine, whatever weights are there"),
    "source": (str, None, "MNIST: IDX files, PNGs, .npz or .zip; or the word download or sample; else what is found"),
    "split": (Literal["train", "test", "both"], "both", "which digits to prepare"),
    "weights": (Path, None, "a checkpoint or run's folder to go on from; its minutes and epochs count too"),
    "fresh": (bool, False, "start over; what stands in the run's folder is discarded once the new run has begun"),
    "yes": (bool, False, "do not ask before that"),
    "stream": (bool, False, "read the PNGs while training (4 workers) rather than hold them in memory"),
    "compile": (
        bool,
        False,
        "let torch.compile work on the network; it was not worth the wait on a CPU, or on an H100",
    ),
    "save_minutes": (float, 2.0, "save so often within an epoch"),
    "folder": (Path, None, "where the images are to be; by default generate/ in the run"),
    "n": (int, 10_000, "how many images"),
    "fid-curve n": (int, 2_000, "images for each point"),
    "sampler": (SAMPLERS, "dpm++sde", "dpm++sde makes the best digits; ddim and ddpm are the original's"),
    "steps": (
        int,
        None,
        "network evaluations an image; by default 50 for ddim, all T for ddpm, 16 for dpm++sde, else 15",
    ),
    "eta": (float, None, "of ddim (by default 0) and dpm++sde (1): 0 adds no noise, 1 as much as ddpm"),
    "variance": (Literal["posterior", "beta"], "posterior", "of ddpm"),
    "guidance": (float, None, "weight of the guide in the weights, 1 for none; for dpm++sde by default what they say"),
    "export guidance": (float, None, "the weight with which its guide is used by default; 1 where it is not needed"),
    "power": (
        float,
        None,
        "above 1, steps are short where little noise is left; by default 1.25 for a guided dpm++sde, else 1",
    ),
    "seed": (int, 0, "image k depends on (seed, k) only"),
    "batch": (int, 100, "images made together"),
    "precision": (PRECISIONS, "auto", "of the convolutions; auto: the quicker of fp32 and bf16 on this CPU"),
    "device_noise": (bool, False, "draw noise on the device: quicker on a GPU, but an image then depends on its batch"),
    "device": (Literal["cpu", "cuda", "mps"], None, "by default the best that is there"),
    "out": (Path, None, "the folder to write into; by default in the run, beside the images, or (data) data/"),
    "dpi": (int, 150, "of the figures; 300 for print"),
    "onnx": (bool, False, "the network as an ONNX file too, float32, for programs without Python"),
    "webgpu": (bool, False, "for browsers that have it, a runtime for the graphics card too: 4 MB more"),
    "html": (Path, None, "the file, which needs no network; by default figures/slider.html in the run"),
    "ddpm": (bool, False, "DDPM over all T as well"),
    "folders": (conf.Positional[tuple[Path, ...]], (), "folders of images; by default the run's generate/"),
    "places": (conf.Positional[tuple[Path, ...]], (), "runs or folders of images; by default the run trained last"),
    "protocol": (Literal["digits", "inception"], None, "by default digits; on a GPU, and by --weights, inception too"),
    "reference": (Path, None, "statistics (.npz with mu, sigma) or images; by default MNIST's training digits"),
    "floor": (Path, None, "real images outside the reference, to measure what perfect images would score"),
    "train": (Path, None, "images to look for copies of; by default MNIST's where it is at hand, else the sample's"),
    "fid weights": (Path, None, "Inception's; by default HWKIT_INCEPTION, else pytorch-fid's own"),
    "allow_small": (bool, False, "Inception FID even of less than 2,048 images"),
    "submissions": (conf.Positional[tuple[Path, ...]], (), "the folder with a .zip or a folder of each student"),
    "roster": (Path, None, "a CSV of the students, with a column id and perhaps name"),
    "rubric": (Path, None, "a rubric.toml with your numbers; what it leaves out is as in hwkit/grade/rubric.toml"),
    "grade protocol": (Literal["digits", "inception"], "digits", "whose FID the points for quality are given for"),
    "grade reference": (Path, None, "of inception: statistics (.npz with mu, sigma) or images; else MNIST as prepared"),
    "grade weights": (Path, None, "Inception's, of --protocol inception; else HWKIT_INCEPTION's or pytorch-fid's own"),
    "functions": (bool, False, "try the students' own functions too, in a sandbox"),
    "seeds": (Path, None, "a file of numbers that draw the inputs of --functions; by default drawn once, and kept"),
    "jobs": (int, None, "processes; by default one for each core"),
    "grade minutes": (float, None, "after which a submission's examination is ended; by default 20, by inception 180"),
    "grade out": (Path, None, "the folder for marks and feedback; by default FOLDER-graded beside it"),
    "quick": (bool, False, "without the search for copies of training images"),
    "title": (str, "A diffusion model for MNIST, from scratch", "of the page"),
    "author": (str, "", "your name"),
    "conclusion": (str, "", "two to five sentences of yours: what worked, what did not, what you would try next"),
}


class Commands:
    """Each function is a command, and each of its parameters a flag, whose type, default and help are in FLAGS.

    Each imports what it needs itself: torch and matplotlib take seconds, for which `--help` does not wait.
    """

    def report(run, recipe, minutes, from_scratch, source, n, sampler, steps, dpi, title, author, conclusion, device):
        """Everything: data, weights, N images, figures, FID and the page. Example: python -m hwkit report --n 1000"""
        from hwkit.recipe import RECIPES
        from hwkit.runs import checkpoint, guide, processes
        from hwkit.runs.generate import images
        from hwkit.runs.run import Position, unfinished
        from hwkit.sampling import Sampler
        from hwkit.show import figures, report

        figures.check_dpi(dpi)
        name, asked = recipe or ("cpu" if device == "cpu" else "original"), recipe or minutes or from_scratch or source
        chosen, run = RECIPES[one_of(name, RECIPES, "recipe")], run or (runs() / name if asked else newest())
        todo = asked or not checkpoint.best_of(run).is_file()
        if not recipe and (content := checkpoint.state(run)):
            chosen = checkpoint.recipe_of(content)  # what was begun goes on as it was begun
            todo = minutes or unfinished(chosen, Position(**content["resume"]["position"]))
        if todo:
            Sampler(sampler, steps).resolve(chosen.T)
            chosen = replace(chosen, minutes=minutes or chosen.minutes)
            call("train", [name], recipe=chosen, run=run, source=source, device=device)
        elif guide.is_begun(run) and not (run / "generate").exists():
            try:
                call("guide", run=run, source=source, device=device)
            except (ValueError, FileNotFoundError) as error:  # the digits of its training are not at hand
                if processes.processes(device).count > 1:
                    raise
                print(say("Without a guide: {error}", error=error))
        first = processes.processes(device).rank == 0
        if first and n > 64 and not (run / "generate").exists():  # something to look at in the first minute
            denoise = checkpoint.load_denoiser(checkpoint.best_of(run), device)
            sheet = figures.sample_sheet(images(denoise, Sampler(sampler, steps), 0, range(1, 65), device), columns=16)
            path = figures.save(sheet, run / "figures" / "first_digits.png", dpi)
            print(say("The first 64 digits: {path}", path=path))
        call("sample", run=run, n=n, sampler=sampler, steps=steps, device=device)
        if first:
            call("figures", run=run, dpi=dpi, device=device)
            call("fid", run=run, protocol="digits")
            pages = filter(None, report.write_report(run, title, author, conclusion))
            print(say("The report: {pages}", pages=" ".join(map(str, pages))))

    def data(source, split, out):
        """Prepares MNIST as folders of RGB PNGs. Example: python -m hwkit data --source ~/mnist"""
        from hwkit.mnist.sources import prepare

        for part in ("train", "test") if split == "both" else (split,):
            prepare(source, part, out)

    def train(recipe, run, source, weights, fresh, yes, stream, compile, save_minutes, device):
        """Trains a recipe, or goes on with its run. Example: python -m hwkit train cpu --minutes 20 --run runs/mine"""
        from hwkit.mnist import folder, sources
        from hwkit.runs import guide, processes
        from hwkit.runs import run as runner
        from hwkit.show.figures import preview

        run, world = run or runs() / recipe.name, processes.processes(device)
        made = [name for name in ("latest.pt", *runner.WRITTEN) if fresh and not yes and (run / name).exists()]
        if made and (world.count > 1 or not sys.stdin.isatty()):
            raise ValueError(f"{run} holds a run, and nobody is there to ask: add --yes to discard it.")
        if made and input(f"Discard the run in {run} ({', '.join(made)})? [y/N] ").lower() not in ("y", "yes"):
            raise ValueError(f"{run} was left as it is; without --fresh the run goes on.")
        pngs = world.on_first(lambda: sources.prepare(source))
        images = folder.PNGFolder(pngs) if stream else folder.load_folder(pngs)
        draw = preview(run, recipe, device)
        for _ in runner.train(recipe, images, run, device, not fresh, weights, draw, save_minutes, compile):
            pass  # the records are in history.jsonl, and what a person wants of them is printed
        guide.train_guide(run, images, device)
        print(say("Trained: {run}", run=run))

    def guide(run, source, device):
        """Trains the small network that guides a run's samples, as train does. Example: python -m hwkit guide"""
        from hwkit.mnist.folder import load_folder
        from hwkit.mnist.sources import prepare
        from hwkit.runs import guide, processes

        run = run or newest()
        images = load_folder(processes.processes(device).on_first(lambda: prepare(source)))
        guide.train_guide(run, images, device)
        print(say("Guided: {run}", run=run))

    # fmt: off
    def sample(
        run, checkpoint, folder, n, sampler, steps, eta, variance, guidance, power, seed, batch, device_noise,
        precision, device,
    ):
        # fmt: on
        """Writes N images, those that are missing. Example: python -m hwkit sample --n 100 --sampler dpm++ --steps 9"""
        from hwkit.runs.generate import generate
        from hwkit.sampling import Sampler

        sampler, folder = Sampler(sampler, steps, eta, variance, guidance, power), folder or run / "generate"
        print(say("Sampling from {checkpoint}", checkpoint=checkpoint))
        made = generate(checkpoint, folder, n, sampler, seed, batch, device, device_noise, precision)
        print(say("Images: {n:,} in {folder} ({made:,} new)", n=n, folder=folder, made=made))

    def figures(run, checkpoint, out, seed, dpi, device):
        """Draws diffusion grids, loss curve, samples and schedules. Example: python -m hwkit figures --dpi 300"""
        from hwkit.show.report import draw_figures

        for path in draw_figures(run, checkpoint, out or run / "figures", seed, dpi, device):
            print(say("Figure: {path}", path=path))

    def slider(run, checkpoint, html, seed, device):
        """Writes one HTML file in which a slider moves t. Example: python -m hwkit slider --html slider.html"""
        from hwkit.runs.checkpoint import load_denoiser
        from hwkit.show.slider import slider_frames, slider_html

        html = html or run / "figures" / "slider.html"
        frames = slider_frames(load_denoiser(checkpoint, device), seed, device)
        write_text(html, slider_html(frames, f"From noise to digits: {run.resolve().name}"))
        print(say("Slider: {file} ({size:.1f} MB)", file=html, size=html.stat().st_size / 1e6))

    def page(run, checkpoint, out, webgpu):
        """Writes a site on which the network runs in the browser. Example: python -m hwkit page --out site"""
        from hwkit.runs.checkpoint import load
        from hwkit.show.page import write_page

        out = out or run / "page"
        size = write_page(load(checkpoint), out, run.resolve().name, webgpu)
        way = f"python -m http.server --bind 127.0.0.1 --directory {out}"
        print(say("Page: {out} ({size:.1f} MB). To see it: {way}", out=out, size=size / 1e6, way=way))

    def export(run, checkpoint, out, guidance, onnx):
        """Writes weights to hand on, at half the size. Example: python -m hwkit export --run runs/mine --out gift"""
        from hwkit.runs.checkpoint import EXPORTED, export, load, recipe_of
        from hwkit.sampling import GUIDANCE, Sampler

        file, history = (out or run / "export") / EXPORTED, run / "history.jsonl"
        content = load(checkpoint)
        if guidance is not None:
            Sampler(guidance=guidance).resolve(recipe_of(content).T, GUIDANCE if "guide" in content else None)
            if "guide" in content:
                content["guide"]["guidance"] = guidance
        if onnx:
            from hwkit.runs.onnx_export import export_onnx

            export_onnx(content, network := file.with_name("network.onnx"))
            print(say("Network: {file} ({size:.1f} MB)", file=network, size=network.stat().st_size / 1e6))
        export(content, file)
        if history.is_file():
            write_bytes(file.with_name(history.name), history.read_bytes())
        print(say("Weights: {file} ({size:.1f} MB)", file=file, size=file.stat().st_size / 1e6))

    def fid(folders, run, protocol, reference, floor, train, weights, allow_small, quick, out, device):
        """Measures images: FID, KID, precision, recall, copies. Example: python -m hwkit fid runs/cpu/generate"""
        import numpy as np

        from hwkit.measure import features, memorisation, score
        from hwkit.show import figures

        by_default = "inception" if device == "cuda" or weights or os.environ.get("HWKIT_INCEPTION") else "digits"
        inception, sets = (protocol or by_default) == "inception", [score.load_images(path) for path in folders]
        if inception and not allow_small and (fewest := min(map(len, sets))) < score.TOO_FEW:
            text = "FID by Inception needs {needed:,} images, not {count:,} (or --allow-small)."
            raise ValueError(say(text, needed=score.TOO_FEW, count=fewest))
        inception = features.InceptionFeatures(weights, device) if inception else None
        for number, (paths, images) in enumerate(parts := score.groups(folders, sets), 1):
            place = (out / str(number) if len(parts) > 1 else out) if out else score.place_of(paths)
            found = score.score(features.DigitFeatures(), paths, images, None if inception else reference, floor)
            if not quick:
                grey = np.concatenate([memorisation.grey(of_folder) for of_folder in images])
                copies, pairs = memorisation.compare(grey, train)
                found = replace(found, memorisation=copies)
            scores = [found]
            print(*paths, *found.words(), sep="\n")  # first: what took minutes is not lost where it cannot be written
            if inception:
                scores.append(score.score(inception, paths, images, reference, floor))
                print(*paths, *scores[1].words(), sep="\n")
            if not quick:
                figures.save(figures.memorisation_figure(pairs), place / "closest_pairs.png")
            histogram = figures.digit_histogram_figure(scores[0].classes, features.floors()["classes"])
            figures.save(histogram, place / "digit_histogram.png")
            for found in scores:
                print(say("  written: {path}", path=found.write(place)))
        if not inception:
            print(say("FID by Inception, as the original has it, was not asked for: add --protocol inception."))

    def fid_curve(run, checkpoint, n, ddpm, seed, batch, out, device):
        """Draws digit-FID against network evaluations. Example: python -m hwkit fid-curve --run runs/cpu --n 500"""
        from hwkit.measure.curve import curve
        from hwkit.show.figures import fid_curve_figure, save

        out = out or run / "figures"
        for so_far in curve(checkpoint, out / "fid_curve.json", n, ddpm, seed, batch, device):
            point = so_far.points[-1]
            facts = {"sampler": point.sampler, "value": point.value, "error": point.error, "seconds": point.seconds}
            print(say("{sampler}: digit-FID {value:.2f} ± {error:.2f}, {seconds:.0f} s", **facts))
        path = save(fid_curve_figure(so_far), out / "fid_curve.png")
        text = "{n:,} images a point, floor (as many real test digits) {floor:.2f}: {path}"
        print(say(text, n=n, floor=so_far.floor, path=path))

    def check(folders, run, n, train):
        """Checks images before you hand them in; exit code 1 for faults. Example: python -m hwkit check ~/generate"""
        from hwkit.measure.check import rows

        faults = dict.fromkeys(folders, 0)
        for path in folders:
            for row in rows(path, n, train):
                print({True: "✓", False: "✗", None: "–"}[row.passed], filled(row.what, 16), row.found)
                if row.passed is False:
                    faults[path] += 1
                    print(f"  {'':<16} → {row.mend}")
            text = "{path}: {count} of the checks failed." if faults[path] else "{path}: everything passes."
            print(say(text, path=path, count=faults[path]))
        return int(any(faults.values()))

    def doctor(places, train):
        """Names the likely mistake in a run or images; exit code 1 for any. Example: python -m hwkit doctor runs/cpu"""
        from hwkit.course.doctor import CLINIC, findings

        ill = False
        for place in list(map(expanded, places)) or [newest()]:
            well = True
            for finding in findings(place, train):
                well, ill = False, True
                print(*finding.words(), sep="\n")
            text = "✓ {place}: no sign of a known mistake." if well else "{place}: see {page}."
            print(say(text, place=place, page=say(CLINIC)))
        return int(ill)

    def grade(submissions, roster, rubric, protocol, functions, seeds, jobs, minutes, train, reference, weights, out):
        """Grades a folder of submissions. Example: python -m hwkit grade submissions --roster students.csv"""
        from hwkit.grade.examine import Settings
        from hwkit.grade.grading import grade

        if len(submissions) != 1:
            raise ValueError("Name one folder, which holds a .zip or a folder of each: python -m hwkit grade FOLDER.")
        if (jobs is not None and jobs < 1) or (minutes is not None and not minutes > 0):
            raise ValueError("--jobs and --minutes must be more than 0.")
        train, reference, weights, seeds = (str(p.resolve()) if p else None for p in (train, reference, weights, seeds))
        settings = Settings(protocol=protocol, train=train, reference=reference, inception=weights)
        settings = replace(settings, functions=functions, seeds=seeds)
        folder = expanded(submissions[0]).resolve()
        out = out or folder.with_name(f"{folder.name}-graded")
        for line in grade(folder, out, roster, rubric, settings, jobs, minutes):
            print(line)


COMMANDS = {name.replace("_", "-"): function for name, function in vars(Commands).items() if name[0] != "_"}


def call(name: str, words=(), **given) -> int | None:
    """Runs a command with the flags in `words`, then those given, else the defaults. What cannot work ends here."""
    flags = parsed(name, words) | given
    from hwkit.mnist.folder import refusal
    from hwkit.runs.checkpoint import KITS, best_of, unpack_pretrained
    from hwkit.runs.speed import best_device

    for flag, path in flags.items():
        path = flags[flag] = expanded(path) if isinstance(path, Path) else path
        if path and flag in ("weights", "reference", "floor", "train") and not path.exists():
            raise FileNotFoundError(f"--{flag}: {refusal(path, flag)}")
        if path and flag in ("run", "out", "html"):
            for file in filter(Path.is_file, path.parents if flag == "html" else (path, *path.parents)):
                other = "weights" if name == "train" else "checkpoint"
                itself = f" (as a checkpoint it is --{other} {file})" if flag == "run" and other in flags else ""
                raise ValueError(f"--{flag} {path}: {file} is a file, no folder: its folder is {file.parent}{itself}.")
        if path and flag == "html" and path.is_dir():
            raise ValueError(f"--html {path} is a folder: name a file in it, {path / 'slider.html'}.")
    for flag, least, most in (("n", 1, 99_999), ("batch", 1, 99_999), ("seed", 0, 2**63)):
        if not least <= flags.get(flag, least) <= most:
            raise ValueError(f"--{flag} is {flags[flag]}, but must be between {least} and {most:,}.")
    run = flags.get("run")
    for kit in KITS:
        if name != "train" and run and run.resolve() == (runs() / kit).resolve() and not best_of(run).is_file():
            unpack_pretrained(runs(), kit)
    if "device" in flags:
        best = best_device()
        if flags["device"] not in (None, "cpu", best):
            raise ValueError(f"--device {flags['device']}: there is none here. Leave it out, which takes {best}.")
        flags["device"] = flags["device"] or best
    if "checkpoint" in flags:
        weights = flags["checkpoint"] or flags["run"] or newest()
        weights = best_of(weights) if weights.is_dir() or not flags["checkpoint"] else weights
        flags |= {"checkpoint": weights, "run": flags["run"] or weights.parent}
    if "folders" in flags:
        named = [path if path.name not in ("", "..") else path.resolve() for path in map(expanded, flags["folders"])]
        if bare := [path for path in named if not path.name]:
            raise ValueError(f"{bare[0]} is a whole drive: put the images into a folder on it, and name that.")
        flags["folders"] = named or [(flags["run"] or newest()) / "generate"]  # "." has no name to keep results by
    return COMMANDS[name](**flags)


def newest() -> Path:
    """The run trained last, or else that of the weights that come with the kit. FileNotFoundError without either."""
    from hwkit.runs.checkpoint import newest_run, unpack_pretrained

    run = newest_run(runs()) or unpack_pretrained(runs())
    if run is None:
        text = "There is no run in {folder}: `python -m hwkit train cpu` makes one, --run names one."
        raise FileNotFoundError(say(text, folder=runs()))
    text = "The run: {run}"
    if run.name == "pretrained":
        text = "The run: {run}: the kit's own weights, as there is none of yours yet"
    print(say(text, run=run))
    return run


def one_of(word: str, choices, what: str) -> str:
    """The word, if it is one of the choices. ValueError else, with the one that may be meant."""
    if word not in choices:
        former = {choice.replace("original", "report"): choice for choice in choices}  # as recipes were called before
        guess = difflib.get_close_matches(word.lower(), [*choices, *former], 1)
        meant = f", did you mean {former.get(guess[0], guess[0])}?" if guess else "."
        raise ValueError(f"There is no {what} {word!r}{meant} There are {', '.join(choices)}.")
    return word


def parsed(name: str, words) -> dict:
    """The flags of a command. Where they do not parse, or help is asked for, tyro answers and raises SystemExit."""
    fields = []
    for flag in inspect.signature(COMMANDS[name]).parameters:
        kind, default, said = FLAGS.get(f"{name} {flag}") or FLAGS[flag]
        hint = "" if default in (None, "", ()) or default is False else None
        path = "PATH" if flag == "source" else None  # a text, as a Path would lose the ./ before a word
        look = conf.arg(help=said, metavar=path, help_behavior_hint=hint)
        kind = conf.DisallowNone[kind | None] if default is None else kind  # in the help PATH, not {None}|PATH
        fields.append((flag, Annotated[kind, look], default))
    if name == "train":
        from hwkit.recipe import RECIPES, Recipe

        named = [word for before, word in zip(["", *words], words, strict=False) if "-" not in (before[:1], word[:1])]
        if named and (named[0] == words[0] or not {*RECIPES, "-h", "--help"} & set(words)):
            one_of(named[0], RECIPES, "recipe")
        for field, kind in get_type_hints(Recipe).items():
            if type(None) in get_args(kind):  # here the word None is taken: --muon-lr None
                Recipe.__annotations__[field] = Annotated[kind, conf.arg(metavar="NUMBER")]
        fields[0] = ("recipe", extras.subcommand_type_from_defaults(RECIPES, {n: r.about for n, r in RECIPES.items()}))
    about = {"prog": f"python -m hwkit {name}", "description": COMMANDS[name].__doc__}
    marks = (conf.OmitArgPrefixes, conf.OmitSubcommandPrefixes, conf.CascadeSubcommandArgs, conf.FlagCreatePairsOff)
    return vars(cli(make_dataclass(name, fields, kw_only=True), args=words, config=marks, **about))


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, 1 where `check` or `doctor` found something, 2 with one sentence, 128 + n on signal n.

    Only one process prints.
    """
    name, *words = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    for stream in (sys.stdout, sys.stderr):  # Windows' code pages lack some of our signs
        getattr(stream, "reconfigure", dict)(errors="replace")
    if name == "help":  # help train
        name, *words = [words[0], "--help"] if words else ["--help"]
    try:
        language()  # where HWKIT_LANG names one that is not spoken, that is said first
        with contextlib.redirect_stdout(sys.stdout if os.environ.get("RANK", "0") == "0" else open(os.devnull, "w")):
            if name not in ("--version", "-h", "--help"):
                return call(one_of(name, COMMANDS, "command"), words) or 0
        print(f"hwkit {__version__}")
        for command, function in COMMANDS.items() if name != "--version" else ():
            print(f"  {command:<10} {function.__doc__.split(' Example')[0]}")
        return 0
    except KeyboardInterrupt as stop:
        return 128 + (stop.args[0] if stop.args else 2)
    except RuntimeError as error:  # torch's for memory: OutOfMemoryError on a GPU, one without a name on a CPU
        if not re.search("out of memory|not enough memory|can't allocate memory", str(error)):
            raise
        text = "hwkit: the memory is not enough ({error}): lower --batch-size or --batch, where there is one."
        print(say(text, error=str(error).split("\n")[0][:200]), file=sys.stderr)
        return 2
    except (ValueError, OSError, FloatingPointError, EOFError) as error:
        print("hwkit:", *str(error).removeprefix(f"[Errno {getattr(error, 'errno', 0)}] ").split("\n"), file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
