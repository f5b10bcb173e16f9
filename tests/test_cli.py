"""The command line: what works, and that whatever a person gets wrong ends in exit code 2 and one sentence."""

import contextlib
import errno
import gzip
import io
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

import hwkit
from hwkit.__main__ import main
from hwkit.files import read_json
from hwkit.mnist.folder import encode_png, file_name, read_png
from hwkit.mnist.sources import SAMPLE, read_source
from hwkit.recipe import RECIPES
from hwkit.runs import checkpoint, generate, guide
from hwkit.runs.checkpoint import EXPORTED, export, load, load_denoiser, recipe_of
from hwkit.runs.guide import guide_recipe
from hwkit.show import figures
from hwkit.unet import UNetConfig

KIT = Path(__file__).resolve().parent.parent
COMMANDS = ("report", "data", "train", "sample", "figures", "slider", "page", "export", "fid", "fid-curve", "check")
COMMANDS += ("doctor", "grade", "guide")
QUICK = ["--quick", "--protocol", "digits"]
TRAIN = ["train", "smoke", "--batch-size", "8", "--T", "20", "--epochs", "1"]


def ask(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def refusal(capsys):
    """`refusal("sample", …)`: the one sentence with which the command line refuses."""

    def refusal(*arguments) -> str:
        capsys.readouterr()
        assert ask(*arguments) == 2
        return one_sentence(capsys.readouterr().err)

    return refusal


def one_sentence(stderr: str) -> str:
    assert "Traceback" not in stderr
    before, _, said = stderr.rpartition("hwkit: ")
    assert before == "" or before[-1] in "\r\n", "a progress bar may stand before the sentence, on a line of its own"
    assert said.endswith("\n") and "\n" not in said[:-1] and "\r" not in said, stderr
    assert len(said.split()) >= 4 and len(said) < 700, stderr
    return said.strip()


@pytest.fixture
def tiny(monkeypatch):
    """The recipe `smoke`, smaller still where it is looked up by name; and no Chromium, which would take long."""
    monkeypatch.setitem(RECIPES, "smoke", TINY)
    monkeypatch.setenv("PATH", "")


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """No measuring of speeds but in the tests of `report`, which do all that training and sampling do."""
    if "report" not in request.node.name:
        monkeypatch.setattr("hwkit.runs.speed.images_per_second", lambda *_, **__: 1000.0)
        monkeypatch.setattr("hwkit.runs.generate.quickest_precision", lambda *_: "fp32")


@pytest.fixture
def run(trained_run, tmp_path) -> Path:
    """A copy of the trained run, to do damage to."""
    return shutil.copytree(trained_run, tmp_path / "run")


@pytest.fixture
def digit_folder(tmp_path) -> Path:
    return write_digits(tmp_path / "digits", 0, 20)


def write_digits(folder: Path, first: int, count: int) -> Path:
    """Test digits of the sample as PNGs."""
    folder.mkdir(parents=True)
    for k, image in enumerate(read_source(SAMPLE, "test").images[first : first + count], 1):
        (folder / file_name(k)).write_bytes(encode_png(image))
    return folder


def content(*folders: Path) -> dict[Path, bytes]:
    """All files below the folders."""
    return {path: path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}


def png(path: Path, size=(28, 28)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)).save(path)
    return path


def truncated(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def text(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("I am a text")
    return path


def in_a_process(command, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command, common = [str(part) for part in command], {"capture_output": True, "text": True, "timeout": 300}
    return subprocess.run(command, cwd=KIT, env=environment, **common, **options)


# What is told


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"hwkit {hwkit.__version__}\n"


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_the_list_of_commands_is_whole(capsys, word):
    assert main([word]) == 0
    listed = re.findall(r"^  (\S+)  +\S", capsys.readouterr().out, re.M)
    assert sorted(listed) == sorted(COMMANDS)


def test_help_of_a_command_is_its_own(capsys):
    shown = []
    for words in (["help", "train"], ["train", "--help"]):
        try:
            main(words)
        except SystemExit as end:
            assert not end.code
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and "--minutes" in shown[0]


@pytest.mark.parametrize("command", [[c] for c in COMMANDS] + [["train", recipe] for recipe in RECIPES], ids=" ".join)
def test_help_speaks_of_values_and_gives_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    said = capsys.readouterr().out
    assert not end.value.code and "{None" not in said and "None}" not in said
    if len(command) == 1:
        example = re.search(rf"python -m hwkit {command[0]} [^\n]*", said).group().split()[4:]
        assert example and all(word in said.split("options ─")[1] for word in example if word.startswith("--"))


def test_what_help_says_of_a_flag_is_about_that_command(capsys):
    """By a flag of the same name another command means something else: each says what it means by it."""
    said = {}
    for command in ("train", "fid", "grade"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = re.sub(r"[│\s]+", " ", capsys.readouterr().out)
        said[command] = re.search(r"--weights PATH (.*?)(?= --|╰)", shown).group(1)
    assert "go on from" in said["train"]
    assert all("Inception" in said[command] and "go on" not in said[command] for command in ("fid", "grade"))


@pytest.mark.parametrize(
    "arguments, meant",
    [
        (["trian"], "train"),
        (["Sample"], "sample"),
        (["fid_curve"], "fid-curve"),
        (["reports", "--n", "3"], "report"),
        (["train", "report"], "original"),  # as it was called before
        (["train", "report-cosine"], "original-cosine"),
        (["train", "smok", "--lr", "0.1"], "smoke"),
        (["train", "orignal", "--run", "smoke"], "original"),
        (["train", "--run", "smokes", "cpuu"], "cpu"),
        (["report", "--recipe", "report-t1000"], "original-t1000"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistyped_command_or_recipe_is_guessed(refusal, arguments, meant):
    assert f"did you mean {meant}?" in refusal(*arguments)


@pytest.mark.parametrize("arguments", [["zzz"], ["train", "nosuch"], ["report", "--recipe", "zzz"]], ids=" ".join)
def test_what_resembles_nothing_is_answered_with_what_there_is(refusal, arguments):
    said = refusal(*arguments)
    assert arguments[-1] in said and ("smoke" in said or "fid-curve" in said) and "did you mean" not in said


@pytest.mark.parametrize(
    "arguments, hints",
    [
        (["sample", "--sampler", "euler"], ["euler", "dpm++", "unipc"]),
        (["sample", "--steps", "many"], ["many", "--steps"]),
        (["train", "smoke", "--T", "0"], ["T is 0"]),
        (["train", "smoke", "--base", "12"], ["base is 12"]),
        (["train", "smoke", "--name", "../x"], ["name is '../x'"]),
        (["train", "smoke", "--minutes", "-1"], ["minutes is -1.0"]),
        (["train", "smoke", "--batch-szie", "1"], ["--batch-szie", "--batch-size"]),
        (["train"], ["original-t1000", "smoke"]),
        (["check", "--run", "~nobody-of-this-name/x"], ["~nobody-of-this-name"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_an_argument_that_does_not_parse_is_named_with_what_would(capsys, arguments, hints):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert code == 2 and "Traceback" not in said and all(hint in said for hint in hints), said


# What works


SHORT = ["report", "--n", "5", "--steps", "7", "--dpi", "40"]


def test_report_does_it_all_and_goes_on_where_it_stopped(tiny, digits_npz, tmp_path, capsys):
    words = ["--title", "Of mine & others", "--author", "A. Student", "--conclusion", "It <works>."]
    assert ask(*SHORT, "--recipe", "smoke", "--source", digits_npz, *words) == 0
    run = tmp_path / "runs/smoke"
    assert sorted(os.listdir(run / "generate")) == [file_name(k) for k in range(1, 6)]
    drawn = {"diffusion_grid_ddpm.png", "diffusion_grid_ddim.png", "loss_curve.png", "samples.png"}
    assert drawn <= set(os.listdir(run / "figures")) and len(os.listdir(run / "previews")) > 0
    assert json.loads((run / "generate-evaluation/digits_fid.json").read_text())["images"] == 5
    page = (run / "report/report.html").read_text("utf-8")
    assert all(part in page for part in ("Of mine &amp; others", "A. Student", "It &lt;works&gt;.", "digit-FID"))
    assert str(run / "report/report.html") in capsys.readouterr().out
    before = {path: path.read_bytes() for path in [*run.glob("*.pt"), *run.glob("generate/*")]}
    os.remove(digits_npz)  # nothing is left to be trained, so no digits are needed
    assert ask(*SHORT) == 0
    assert {path: path.read_bytes() for path in before} == before and "(0 new)" in capsys.readouterr().out


def test_report_takes_the_weights_of_the_kit_where_there_is_no_run(trained_run, tiny, tmp_path, monkeypatch, capsys):
    export(load(trained_run / "ema_latest.pt"), tmp_path / "shipped" / EXPORTED)
    shutil.copy(trained_run / "history.jsonl", tmp_path / "shipped")
    monkeypatch.setattr(checkpoint, "PRETRAINED", tmp_path / "shipped")
    assert ask(*SHORT) == 0
    assert "kit's own weights" in capsys.readouterr().out
    assert len(os.listdir(tmp_path / "runs/pretrained/generate")) == 5
    assert (tmp_path / "runs/pretrained/report/report.html").is_file()


def test_report_shows_the_first_digits_before_the_others_are_made(trained_run, tiny, tmp_path, monkeypatch):
    """64 of them, the same that are then made; and not again where images are there already."""
    run, real, seen = tmp_path / "run", generate.generate, []
    shutil.copytree(trained_run, run)
    sheet = run / "figures/first_digits.png"
    monkeypatch.setattr(generate, "generate", lambda *args: seen.append(sheet.read_bytes()) or real(*args))
    words = ["report", "--run", run, "--n", "70", "--steps", "3", "--dpi", "40"]
    assert ask(*words) == 0
    made = np.stack([read_png(run / "generate" / file_name(k)) for k in range(1, 65)])
    expected = figures.save(figures.sample_sheet(made, columns=16), tmp_path / "expected.png", 40)
    assert seen == [expected.read_bytes()]
    before = sheet.stat().st_mtime_ns
    assert ask(*words) == 0 and sheet.stat().st_mtime_ns == before


@pytest.mark.parametrize("flags, minutes", [(["--from-scratch"], None), (["--minutes", "3"], 3)], ids=str)
def test_report_trains_the_recipe_that_suits_the_machine(
    trained_run, tiny, digits_npz, tmp_path, monkeypatch, flags, minutes
):
    shutil.copytree(trained_run, tmp_path / "runs/before")  # weights that would do
    monkeypatch.setitem(RECIPES, "cpu", replace(TINY, name="cpu"))
    monkeypatch.setenv("HWKIT_MNIST", str(digits_npz))
    assert ask(*SHORT, *flags, "--device", "cpu") == 0
    assert recipe_of(load(tmp_path / "runs/cpu/ema_latest.pt")).minutes == minutes
    assert not (tmp_path / "runs/before/generate").exists()


def test_what_was_interrupted_goes_on_by_its_own_recipe(tiny, digits_npz, tmp_path, monkeypatch, capsys):
    run = tmp_path / "runs/smoke"
    monkeypatch.setenv("HWKIT_MNIST", str(digits_npz))
    with interrupted_at(run / "ema_latest.pt"):
        assert ask("train", "smoke", "--T", "31", "--epochs", "3", "--save-minutes", "0") == 130
    said = capsys.readouterr()
    assert "The same command goes on from here" in said.out + said.err and "Traceback" not in said.err
    assert load(run / "latest.pt")["images_seen"] < 3 * 64
    assert ask(*SHORT) == 0
    assert recipe_of(load(run / "ema_latest.pt")).T == 31 and load(run / "ema_latest.pt")["images_seen"] == 3 * 64


@contextlib.contextmanager
def interrupted_at(path: Path):
    """Within it, Ctrl-C comes once when the file is there."""
    real, once = os.replace, [path]

    def replace(source, target):
        real(source, target)
        if Path(target) in once:
            once.clear()
            os.kill(os.getpid(), signal.SIGINT)

    os.replace = replace
    try:
        yield
    finally:
        os.replace = real


def test_data_prepares_both_splits(digits_npz, tmp_path):
    assert ask("data", "--source", digits_npz, "--out", tmp_path / "out") == 0
    assert [len(os.listdir(tmp_path / "out/mnist" / split)) for split in ("train", "test")] == [64, 32]
    assert ask("data", "--source", digits_npz, "--split", "test") == 0
    assert os.listdir(tmp_path / "data/mnist") != [] and not (tmp_path / "data/mnist/train").exists()


def test_fields_of_a_recipe_can_be_changed(digits_npz, tmp_path):
    changed = ["--lr", "0.002", "--prediction", "v", "--base", "32", "--multipliers", "1", "--muon-lr", "None"]
    assert ask(*TRAIN, *changed, "--source", digits_npz, "--run", tmp_path / "run") == 0
    network = UNetConfig(base=32, multipliers=(1,), patch=2)
    expected = {
        "batch_size": 8,
        "T": 20,
        "epochs": 1,
        "lr": 0.002,
        "prediction": "v",
        "muon_lr": None,
        "model": network,
    }
    assert recipe_of(load(tmp_path / "run/latest.pt")) == replace(RECIPES["smoke"], **expected)


def test_a_stream_of_pngs_trains_as_well_and_a_run_is_called_as_its_recipe(digits_npz, tmp_path):
    assert ask(*TRAIN, "--stream", "--source", digits_npz, "--name", "stream") == 0
    assert ask(*TRAIN, "--source", digits_npz) == 0
    one, other = (load(tmp_path / "runs" / name / "best.pt")["weights"] for name in ("stream", "smoke"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_trained_run_has_a_guide_and_weights_without_one_are_given_it(digits_npz, run, tmp_path):
    assert ask(*TRAIN, "--source", digits_npz) == 0
    made = tmp_path / "runs" / "smoke"
    assert load_denoiser(made).guide is not None and load_denoiser(run).guide is None
    assert ask("guide", "--run", run, "--source", digits_npz) == 0
    assert load_denoiser(run).guide.model.config == guide_recipe(recipe_of(load(run))).model
    assert ask("sample", "--run", run, "--n", "1", "--steps", "2", "--guidance", "2") == 0
    assert read_json(run / "generate.json")["sampler"]["guidance"] == 2


def test_report_goes_on_with_a_guide_that_was_interrupted(tiny, digits_npz, tmp_path, monkeypatch):
    """Else the images would be made without one, and nobody would be told."""
    monkeypatch.setenv("HWKIT_MNIST", str(digits_npz))
    run = tmp_path / "runs/smoke"
    with interrupted_at(run / "guide" / "ema_latest.pt"):
        assert ask("train", "smoke", "--epochs", "2", "--save-minutes", "0") == 130
    assert load_denoiser(run).guide is None and guide.is_begun(run)
    assert ask(*SHORT) == 0
    assert load_denoiser(run).guide is not None and not guide.is_begun(run)
    assert read_json(run / "generate.json")["sampler"]["guidance"] > 1


def test_report_needs_no_whole_latest_checkpoint_where_the_weights_are_whole(tiny, run):
    truncated(run / "latest.pt")
    assert ask(*SHORT, "--run", run) == 0


@pytest.mark.parametrize(
    "command", [["sample", "--n", "2", "--steps", "2"], ["figures", "--dpi", "40"], ["fid"]], ids=str
)
def test_the_kits_weights_may_be_named_before_anything_has_unpacked_them(
    trained_run, tmp_path, monkeypatch, capsys, command
):
    export(load(trained_run / "ema_latest.pt"), tmp_path / "shipped" / EXPORTED)
    shutil.copy(trained_run / "history.jsonl", tmp_path / "shipped")
    monkeypatch.setattr(checkpoint, "PRETRAINED", tmp_path / "shipped")
    kits = tmp_path / "runs" / "pretrained"
    assert ask(*command, "--run", kits) == (2 if command == ["fid"] else 0)
    assert (kits / EXPORTED).is_file()


def test_without_a_run_being_named_the_newest_is_taken(trained_run, tmp_path):
    for name, age in (("old", 100), ("new", 10), ("older", 200)):
        run = shutil.copytree(trained_run, tmp_path / "runs" / name)
        written = (run / "ema_latest.pt").stat().st_mtime - age
        os.utime(run / "ema_latest.pt", (written, written))
    new = tmp_path / "runs/new"
    assert ask("sample", "--n", "20", "--steps", "2") == 0
    assert len(os.listdir(new / "generate")) == 20
    assert ask("fid", *QUICK) == 0 and (new / "generate-evaluation/digits_fid.json").is_file()
    assert ask("check", "--n", "20", "--train", SAMPLE) in (0, 1)
    assert ask("export") == 0 and (new / "export" / EXPORTED).is_file()


def test_every_command_takes_a_run_alike(run, tmp_path):
    write_digits(run / "generate", 0, 20)
    assert ask("fid", "--run", run, *QUICK) == 0 and (run / "generate-evaluation/digits_fid.json").is_file()
    assert ask("check", "--run", run, "--n", "20") == 0
    assert ask("slider", "--run", run) == 0 and (run / "figures/slider.html").is_file()
    assert not (tmp_path / "runs").exists()


def test_weights_are_exported_for_handing_on(run, tmp_path, capsys):
    assert ask("export", "--run", run, "--out", tmp_path / "gift") == 0
    assert str(tmp_path / "gift") in capsys.readouterr().out
    assert (tmp_path / "gift" / "history.jsonl").read_bytes() == (run / "history.jsonl").read_bytes()
    assert ask("sample", "--run", tmp_path / "gift", "--n", "2", "--steps", "2") == 0


def test_training_goes_on_from_exported_weights(run, tiny, digits_npz, refusal, tmp_path):
    assert ask("export", "--run", run, "--out", tmp_path / "gift") == 0
    command = ["train", "smoke", "--source", digits_npz, "--run", tmp_path / "new", "--weights", tmp_path / "gift"]
    assert str(tmp_path / "gift") in refusal(*command), "its two epochs are done"
    assert ask(*command, "--epochs", "3") == 0
    assert len((tmp_path / "new/history.jsonl").read_text().splitlines()) == 3


def test_sample_options_reach_the_sampler(run, tmp_path):
    options = ["--sampler", "ddpm", "--steps", "3", "--variance", "beta", "--seed", "7", "--batch", "2", "--n", "3"]
    command = ["sample", "--checkpoint", run / "best.pt", *options, "--folder"]
    assert ask(*command, tmp_path / "g") == ask(*command, tmp_path / "device", "--device-noise") == 0
    manifest = json.loads((tmp_path / "g.json").read_text())
    assert manifest["sampler"] == {
        "name": "ddpm",
        "steps": 3,
        "eta": 0.0,
        "variance": "beta",
        "guidance": 1.0,
        "power": 1.0,
    }
    assert (manifest["checkpoint"], manifest["seed"], manifest["batch"]) == ("best.pt", 7, 2)
    assert (tmp_path / "g/00001.png").read_bytes() != (tmp_path / "device/00001.png").read_bytes()


def test_a_run_given_as_checkpoint_stands_for_its_best_weights(run, tmp_path):
    (run / "ema_best.pt").write_bytes(b"not these, as the learning rate decays")
    common = ["--n", "2", "--steps", "2", "--folder"]
    assert ask("sample", "--checkpoint", run, *common, tmp_path / "a") == 0
    assert ask("sample", "--checkpoint", run / "ema_latest.pt", *common, tmp_path / "b") == 0
    assert (tmp_path / "a/00002.png").read_bytes() == (tmp_path / "b/00002.png").read_bytes()
    assert ask("sample", "--checkpoint", run, "--n", "1", "--steps", "1") == 0 and (run / "generate").is_dir()
    assert ask("slider", "--checkpoint", run) == ask("export", "--checkpoint", run) == 0


def test_folders_that_nothing_vouches_for_are_measured_one_by_one(digit_folder, tmp_path, capsys):
    other = write_digits(tmp_path / "other", 100, 30)
    assert ask("fid", digit_folder, other, *QUICK, "--out", tmp_path / "out") == 0
    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("*/digits_fid.json"))]
    assert [one["folders"] for one in found] == [[str(digit_folder)], [str(other)]]
    assert [one["images"] for one in found] == [20, 30] and found[0]["value"] != found[1]["value"]
    said = capsys.readouterr().out
    assert all(f"{one['value']:.2f}" in said for one in found)


def test_folders_of_one_model_are_measured_together(run, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(folders):
        assert ask("sample", "--run", run, "--n", "8", "--steps", "2", "--seed", seed, "--folder", folder) == 0
    assert ask("fid", *folders, *QUICK, "--out", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out/digits_fid.json").read_text())
    assert found["seeds"] == [0, 1] and len(found["values"]) == 2


@pytest.mark.parametrize("named", [".", "..", "./", "../digits"])
def test_a_folder_may_be_named_from_within(digit_folder, monkeypatch, named):
    """Its results stand beside it, as by any other name."""
    inside = digit_folder if named != ".." else digit_folder / "figures"
    inside.mkdir(exist_ok=True)
    monkeypatch.chdir(inside)
    assert ask("fid", named, *QUICK) == 0
    assert (digit_folder.parent / "digits-evaluation" / "digits_fid.json").is_file()


def test_what_was_measured_is_said_also_where_it_cannot_be_written(digit_folder, monkeypatch, capsys):
    """As beside images on a read-only disk, after minutes of measuring."""

    def full(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(figures, "save", full)
    assert ask("fid", digit_folder, *QUICK) == 2
    said = capsys.readouterr()
    assert "digit-FID" in said.out and "Read-only" in said.err


def test_what_several_folders_score_together_replaces_nothing_that_one_scored(run, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(folders):
        assert ask("sample", "--run", run, "--n", "8", "--steps", "2", "--seed", seed, "--folder", folder) == 0
    assert ask("fid", folders[0], *QUICK) == 0
    before = (tmp_path / "a-evaluation/digits_fid.json").read_bytes()
    copy_of = read_png(folders[1] / "00003.png")
    digits = np.stack([copy_of.mean(axis=0).round()] * 3)
    digits[1:, 5, 5] = abs(digits[0, 5, 5] - np.array([1, 2]))  # so near to each other that only the copy is as near
    np.savez(tmp_path / "train.npz", x_train=digits.astype(np.uint8))
    assert ask("fid", *folders, "--protocol", "digits", "--train", tmp_path / "train.npz") == 0
    assert (tmp_path / "a-evaluation/digits_fid.json").read_bytes() == before
    both = read_json(tmp_path / "a+b-evaluation/digits_fid.json")
    assert both["folders"] == [str(folder) for folder in folders]
    assert both["memorisation"]["near_copies"] == 1 / 16, "the one of the second folder"


def test_check_tells_of_each_folder_and_ends_with_its_verdict(digit_folder, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert ask("check", digit_folder, "--n", "20") == 0
    assert ask("check", empty, digit_folder, "--n", "20") == 1
    *_, last = capsys.readouterr().out.splitlines()
    assert last == f"{digit_folder}: everything passes."


def test_one_process_of_several_speaks(run, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert ask("sample", "--run", run, "--n", "1", "--steps", "1") == 0
    assert capsys.readouterr().out == "" and (run / "generate/00001.png").is_file()


def test_a_terminal_that_lacks_our_signs_stops_nothing(digit_folder, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))  # as Windows' pipes have it
    assert ask("check", digit_folder, "--n", "20") == 0


# The home folder


AT_HOME = {
    "sample": lambda: ["sample", "--run=~/run", "--n", "1", "--steps", "1", "--folder=~/made"],
    "sample of a checkpoint": lambda: ["sample", "--checkpoint=~/run/best.pt", "--n=1", "--steps=1", "--folder=~/made"],
    "export": lambda: ["export", "--run", "~/run", "--out", "~/made"],
    "slider": lambda: ["slider", "--run=~/run", "--html=~/made/slider.html"],
    "train": lambda: [*TRAIN, "--source=~/mnist.npz", "--run=~/made"],
    "data": lambda: ["data", "--source", "~/mnist.npz", "--out=~/made"],
    "fid": lambda: ["fid", "~/digits", *QUICK, "--out=~/made", "--reference=~/digits"],
    "fid-curve": lambda: ["fid-curve", "--run=~/run", "--n=2", "--batch=2", "--out=~/made"],
    "check": lambda: ["check", "~/digits", "--n", "20", "--train=~/mnist.npz"],
}


@pytest.mark.parametrize("name", AT_HOME)
def test_a_tilde_is_the_home_folder(trained_run, digits_npz, digit_folder, tmp_path, monkeypatch, name):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    shutil.copytree(trained_run, home / "run")
    shutil.move(digits_npz, home), shutil.move(digit_folder, home), elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(elsewhere)
    assert ask(*AT_HOME[name]()) == 0
    assert os.listdir(elsewhere) == [] and (name == "check" or (home / "made").is_dir())


def test_a_tilde_in_the_environment_is_the_home_folder(digits_npz, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir(), (tmp_path / "elsewhere").mkdir()
    shutil.move(digits_npz, tmp_path / "home")
    for name, value in (("HOME", str(tmp_path / "home")), ("HWKIT_RUNS", "~/r"), ("HWKIT_MNIST", "~/mnist.npz")):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert ask(*TRAIN) == 0
    assert (tmp_path / "home/r/smoke/latest.pt").is_file() and os.listdir(".") == []


# What is wrong with the data


def bomb(path: Path, side: int = 20_000) -> None:
    """A PNG of a few kilobytes that unpacks to more than Pillow takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = zlib.compressobj(9)
    body = b"".join(row.compress(bytes(1 + side * 3)) for _ in range(side // 100)) + row.flush()

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def truncated_gz(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(gzip.compress(bytes(10_000))[:-10])


BAD_SOURCES = {
    "missing folder": (lambda d: None, "{d}"),
    "empty folder": (lambda d: d.mkdir(), "{d}"),
    "truncated PNG": (lambda d: truncated(png(d / "3.png")), "{d}/3.png"),
    "32×32 PNG": (lambda d: png(d / "3.png", (32, 32)), "{d}/3.png"),
    "text named .png": (lambda d: text(d / "3.png"), "{d}/3.png"),
    "RGBA PNG": (lambda d: Image.new("RGBA", (28, 28)).save(png(d / "3.png")), "{d}/3.png"),
    "a bomb": (lambda d: bomb(d / "3.png"), "{d}/3.png"),
    "a file": (text, "{d}"),
    "truncated gz": (lambda d: truncated_gz(d / "train-images-idx3-ubyte.gz"), "{d}/train-images-idx3-ubyte.gz"),
    "text named .npz": (lambda d: text(d.parent / "digits.npz"), "digits.npz"),
}


@pytest.mark.parametrize("command", [["data"], TRAIN], ids=["data", "train"])
@pytest.mark.parametrize("name", BAD_SOURCES)
def test_a_bad_source_is_named(refusal, tmp_path, command, name):
    spoil, expected = BAD_SOURCES[name]
    source = tmp_path / "source"
    spoil(source)
    source = tmp_path / "digits.npz" if "npz" in name else source
    assert expected.format(d=source) in refusal(*command, "--source", source)


@pytest.mark.parametrize("flags", [["{d}"], ["{d2}", "--reference", "{d}"], ["{d2}", "--train", "{d}"]], ids=len)
def test_a_decompression_bomb_is_named_wherever_it_lies(refusal, digit_folder, tmp_path, flags):
    bomb(tmp_path / "d" / "00007.png")
    flags = [flag.format(d=tmp_path / "d", d2=digit_folder) for flag in flags]
    assert "00007.png" in refusal("fid", *flags, "--protocol", "digits")


def test_prepared_data_of_another_source_is_not_overwritten(refusal, digits_npz, tmp_path):
    assert ask("data", "--source", digits_npz) == 0
    before = content(tmp_path / "data")
    assert str(tmp_path / "data") in refusal("data", "--source", png(tmp_path / "pngs/3.png").parent)
    assert content(tmp_path / "data") == before


# What is wrong with the command


IMPOSSIBLE = [
    ["--steps", "41"],
    ["--steps", "0"],
    ["--n", "0"],
    ["--n", "100000"],
    ["--batch", "0"],
    ["--eta", "2"],
    ["--sampler", "ddpm", "--eta", "0.5"],
    ["--sampler", "ddim", "--variance", "beta"],
    ["--seed", "-1"],
]


@pytest.mark.parametrize("options", IMPOSSIBLE, ids=" ".join)
def test_an_impossible_wish_for_images_is_refused(refusal, run, tmp_path, options):
    more = [] if "--n" in options else ["--n", "2"]
    said = refusal("sample", "--run", run, "--folder", tmp_path / "images", *options, *more)
    assert options[-2].strip("-") in said and options[-1] in said
    assert not (tmp_path / "images").exists() and not (tmp_path / "images.json").exists()


@pytest.mark.parametrize(
    "options",
    [["--steps", "41"], ["--n", "0"], ["--n", "100000"], ["--dpi", "0"], ["--dpi", "20000"], ["--device", "no"]],
    ids=" ".join,
)
def test_what_cannot_work_in_the_end_is_refused_before_training(refusal, tiny, digits_npz, tmp_path, options):
    options = ["--device", missing_device()] if "no" in options else options
    said = refusal("report", "--recipe", "smoke", "--source", digits_npz, *options)
    assert options[0].strip("-") in said and options[1] in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("dpi", [0, 1, 20_000, -150])
def test_a_resolution_that_cannot_work_is_refused_before_sampling(refusal, run, monkeypatch, dpi):
    monkeypatch.setattr("hwkit.show.report.load_denoiser", None)  # would be called first
    said = refusal("figures", "--run", run, "--dpi", dpi)
    assert "dpi" in said and str(dpi) in said.replace(",", "") and not (run / "figures").exists()


@pytest.mark.parametrize("options", [["--batch", "0"], ["--seed", "-2"], ["--n", "1"], ["--n", "0"]], ids=" ".join)
def test_an_impossible_curve_is_refused(refusal, run, options):
    said = refusal("fid-curve", "--run", run, *options)
    assert options[0] in said and options[1] in said and not (run / "figures").exists()


@pytest.mark.parametrize("command", ["figures", "slider"])
def test_a_seed_that_there_is_not_is_named(refusal, run, command):
    assert "--seed is -1" in refusal(command, "--run", run, "--seed", "-1")


@pytest.mark.parametrize("T", [1, 5])
def test_too_few_noise_levels_are_refused_before_training(refusal, digits_npz, tmp_path, T):
    said = refusal(*TRAIN, "--T", T, "--source", digits_npz, "--run", tmp_path / "run")
    assert "--T" in said and str(T) in said and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options", [["--seed", "20251127120000"], ["--channels", "1"]], ids=["a date and time", "grey"]
)
def test_a_recipe_that_could_not_train_is_refused_before_it_begins(refusal, digits_npz, tmp_path, options):
    said = refusal(*TRAIN, *options, "--source", digits_npz, "--run", tmp_path / "run")
    assert options[0].strip("-") in said and not (tmp_path / "run").exists()


def test_too_little_memory_is_told_with_the_flag_that_helps(refusal, run, monkeypatch):
    """As torch says it on a GPU, and on a CPU."""
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried …"),
        RuntimeError("[enforce fail] not enough memory"),
    ):
        monkeypatch.setattr("hwkit.runs.generate.images", raising(error))
        said = refusal("sample", "--run", run, "--n", "2", "--steps", "2")
        assert "--batch" in said and "memory" in said


def raising(error: Exception):
    def fail(*_, **__):
        raise error

    return fail


def missing_device() -> str:
    return "mps" if torch.cuda.is_available() else "cuda"


@pytest.mark.parametrize("command", ["sample", "train", "figures", "slider", "fid", "fid-curve"])
def test_a_device_that_is_not_there_is_named(refusal, run, digits_npz, tmp_path, command):
    more = [*TRAIN[1:], "--source", digits_npz, "--run", tmp_path / "new"] if command == "train" else ["--run", run]
    said = refusal(command, *more, "--device", missing_device())
    assert missing_device() in said and "--device" in said and not (tmp_path / "new").exists()


def test_too_few_images_for_a_batch_are_named(refusal, digits_npz, tmp_path):
    said = refusal("train", "smoke", "--batch-size", "65", "--source", digits_npz, "--run", tmp_path / "run")
    assert "64" in said and "--batch-size" in said


def test_a_loss_that_is_not_finite_is_told(refusal, digits_npz, tmp_path):
    said = refusal(*TRAIN, "--lr", "1e30", "--source", digits_npz, "--run", tmp_path / "run")
    assert "nan" in said and "--lr" in said


@pytest.mark.parametrize("flag", ["--reference", "--floor", "--train", "--weights"])
def test_a_file_that_is_not_there_is_named_with_its_flag(refusal, digit_folder, tmp_path, flag):
    said = refusal("fid", digit_folder, "--protocol", "digits", flag, tmp_path / "digist")
    assert flag in said and str(tmp_path / "digist") in said and f"did you mean {digit_folder}" in said
    assert sorted(os.listdir(tmp_path)) == ["digits"], "nothing was measured yet"


def test_weights_that_are_not_there_are_named_before_anything_is_done(refusal, digits_npz, tmp_path):
    said = refusal(*TRAIN, "--weights", tmp_path / "nosuch.pt", "--source", digits_npz, "--run", tmp_path / "run")
    assert "--weights" in said and str(tmp_path / "nosuch.pt") in said
    assert os.listdir(tmp_path) == [digits_npz.name]


def test_inception_of_too_few_images_is_refused_with_both_numbers(refusal, digit_folder):
    said = refusal("fid", digit_folder, "--protocol", "inception")
    assert "2,048" in said and "20" in said and "--allow-small" in said


# What is wrong with the run or the checkpoint


@pytest.mark.parametrize("command", ["sample", "figures", "slider", "export", "fid", "fid-curve", "check"])
def test_without_a_run_it_is_said_how_to_come_to_one(refusal, tmp_path, command):
    said = refusal(command)
    assert str(tmp_path / "runs") in said and "python -m hwkit train" in said and "--run" in said


@pytest.mark.parametrize("command", ["sample", "figures", "slider", "export", "fid-curve"])
def test_a_run_or_checkpoint_that_is_not_there_is_named(refusal, tmp_path, command):
    assert str(tmp_path / "none") in refusal(command, "--run", tmp_path / "none")
    assert str(tmp_path / "none.pt") in refusal(command, "--checkpoint", tmp_path / "none.pt")


@pytest.mark.parametrize(
    "command, flag",
    [("sample", "--checkpoint"), ("figures", "--checkpoint"), ("fid-curve", "--checkpoint"), ("train", "--weights")],
)
def test_a_checkpoint_given_as_run_is_named_with_the_flags_to_give(refusal, run, digits_npz, command, flag):
    file, before = run / "best.pt", content(run)
    said = refusal(*(TRAIN if command == "train" else [command]), "--run", file)
    assert f"{flag} {file}" in said and str(run) in said.replace(str(file), "")
    assert content(run) == before
    other = refusal("report", "--run", file)
    assert str(run) in other.replace(str(file), "") and "--checkpoint" not in other


def other_architecture(path):
    """The weights of one network under the description of another."""
    content = torch.load(path, weights_only=True)
    model = {**content["recipe"]["model"], "base": 32}
    torch.save({**content, "recipe": {**content["recipe"], "model": model}}, path)


def foreign(path):
    torch.save({"state_dict": {"conv1.weight": torch.zeros(3)}}, path)


SPOILT = [truncated, lambda path: path.write_bytes(b""), text, other_architecture, foreign]


@pytest.mark.parametrize("spoil", SPOILT, ids=["truncated", "empty", "text", "another architecture", "foreign"])
@pytest.mark.parametrize("command", [["sample", "--n", "1", "--steps", "2"], ["figures"]], ids=lambda c: c[0])
def test_a_checkpoint_that_cannot_be_used_is_named(refusal, run, command, spoil):
    spoil(run / "ema_latest.pt")
    assert f"{run}/ema_latest.pt" in refusal(*command, "--run", run)


def test_a_run_whose_last_checkpoint_is_truncated_is_not_trained_over(refusal, run, digits_npz):
    truncated(run / "latest.pt")
    before = content(run)
    said = refusal(*TRAIN, "--source", digits_npz, "--run", run)
    assert f"{run}/latest.pt" in said and "--weights" in said and content(run) == before


def test_a_run_without_its_latest_checkpoint_is_not_trained_over(refusal, run, digits_npz):
    (run / "latest.pt").unlink()
    before = content(run)
    said = refusal(*TRAIN, "--source", digits_npz, "--run", run)
    assert "latest.pt" in said and "--fresh" in said and content(run) == before


def test_a_run_of_another_recipe_is_not_gone_on_with(refusal, run, digits_npz):
    said = refusal(*TRAIN, "--source", digits_npz, "--run", run)
    assert "T 40 → 20" in said and "--fresh" in said


def test_images_of_another_run_are_not_mixed_in(refusal, run):
    command = ["sample", "--run", run, "--n", "2", "--steps", "2"]
    assert ask(*command) == 0
    assert "--seed 0" in refusal(*command, "--seed", "1")
    assert ask(*command, "--n", "3", "--batch", "1") == 0, "the batch changes no image"
    text(run / "generate/notes.txt")
    assert "notes.txt" in refusal(*command)


@pytest.mark.parametrize("junk", [".DS_Store", "Thumbs.db", "._00001.png", ".ipynb_checkpoints/", "__MACOSX/"])
def test_sampling_goes_on_beside_what_a_program_left(run, junk):
    command = ["sample", "--run", run, "--steps", "1", "--n"]
    assert ask(*command, 2) == 0
    left = run / "generate" / junk
    left.mkdir() if junk.endswith("/") else left.write_bytes(b"\0")
    assert ask(*command, 4) == 0 and (run / "generate/00004.png").is_file()


# Starting over


def test_starting_over_asks_first(refusal, run, digits_npz, monkeypatch):
    command, asked = [*TRAIN, "--source", digits_npz, "--run", run, "--fresh"], []
    before = content(run)
    assert "--yes" in refusal(*command), "nobody is there to ask"
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)

    def answer(question: str) -> str:
        asked.append(question)
        if len(asked) == 1:
            raise EOFError("EOF when reading a line")  # Ctrl-D
        return {2: "", 3: "n"}.get(len(asked), "y")

    monkeypatch.setattr("builtins.input", answer)
    for _ in range(3):
        refusal(*command)
    assert str(run) in asked[0] and content(run) == before
    assert ask(*command) == 0
    assert recipe_of(load(run / "latest.pt")).T == 20 and len((run / "history.jsonl").read_text().splitlines()) == 1


def test_nobody_is_asked_where_nothing_would_be_lost(digits_npz, tmp_path):
    text(tmp_path / "run/notes.txt")
    assert ask(*TRAIN, "--source", digits_npz, "--run", tmp_path / "run", "--fresh") == 0


def test_starting_over_keeps_what_training_did_not_make(run, digits_npz):
    png(run / "generate/00001.png")
    text(run / "notes.txt")
    assert ask(*TRAIN, "--source", digits_npz, "--run", run, "--fresh", "--yes") == 0
    assert (run / "generate/00001.png").exists() and (run / "notes.txt").exists()
    assert os.listdir(run / "previews") == ["epoch_0001.png"]


@pytest.mark.parametrize(
    "wrong",
    [["--source", "typo"], ["--batch-size", "65"], ["--T", "3"], ["--weights", "typo.pt"], ["--weights", "{foreign}"]],
    ids=" ".join,
)
def test_starting_over_leaves_the_old_run_where_the_new_one_cannot_begin(refusal, run, digits_npz, tmp_path, wrong):
    foreign(tmp_path / "foreign.pt")
    before = content(run)
    wrong = [word.format(foreign=tmp_path / "foreign.pt") for word in wrong]
    refusal(*TRAIN, "--source", digits_npz, "--run", run, "--fresh", "--yes", *wrong)
    assert content(run) == before


FENCED = """
import sys
from hwkit.__main__ import main
from hwkit.mnist import sources
sources.PREPARED = sys.argv[1]  # not the kit's own data/
sys.exit(main(sys.argv[2:]))
"""


def test_starting_over_leaves_a_run_that_another_process_is_training(refusal, digits_npz, tmp_path, monkeypatch):
    monkeypatch.setattr(hwkit.files, "WAIT_FOR_LOCK", 0.2)
    run = tmp_path / "run"
    command = [*TRAIN[:-2], "--epochs", "100000", "--source", str(digits_npz), "--run", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", FENCED, tmp_path / "data", *command], cwd=KIT, env=environment
    ) as other:
        try:
            while other.poll() is None and not (run / "ema_latest.pt").exists():
                time.sleep(0.05)
            other.send_signal(signal.SIGSTOP)  # it holds its run, and writes nothing meanwhile
            before = content(run)
            assert str(run) in refusal(*command, "--fresh", "--yes") and before
            assert "another process" in refusal(*command)
            assert content(run) == before
        finally:
            other.send_signal(signal.SIGCONT)
            other.send_signal(signal.SIGTERM)
        assert other.wait(60) == 128 + signal.SIGTERM
    assert load(run / "latest.pt")["epoch"] > 1


# Where nothing can be written


@pytest.fixture
def commands(run, digits_npz, digit_folder):
    """Each command that writes, to be given the place."""
    return {
        "data": lambda place: ["data", "--source", digits_npz, "--out", place],
        "train": lambda place: [*TRAIN, "--source", digits_npz, "--run", place],
        "sample": lambda place: ["sample", "--run", run, "--n", "2", "--steps", "2", "--folder", place],
        "figures": lambda place: ["figures", "--run", run, "--out", place],
        "export": lambda place: ["export", "--run", run, "--out", place],
        "fid": lambda place: ["fid", digit_folder, *QUICK, "--out", place],
        "fid-curve": lambda place: ["fid-curve", "--run", run, "--n", "2", "--out", place],
        "slider": lambda place: ["slider", "--run", run, "--html", place / "slider.html"],
    }


WRITING = ["data", "train", "sample", "figures", "export", "fid", "fid-curve", "slider"]


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below"])
def test_a_place_below_a_file_is_named(refusal, commands, tmp_path, name, place):
    text(tmp_path / "file")
    assert f"{tmp_path}/file" in refusal(*commands[name](tmp_path / place))
    assert (tmp_path / "file").read_text() == "I am a text"


@pytest.mark.parametrize(
    "name, flag", [("figures", "--out"), ("fid", "--out"), ("fid-curve", "--out"), ("slider", "--html")]
)
def test_a_place_that_cannot_be_is_refused_before_it_costs_time(refusal, commands, tmp_path, name, flag):
    text(tmp_path / "file")
    began = time.monotonic()
    assert flag in refusal(*commands[name](tmp_path / "file"))
    assert time.monotonic() - began < 2


def test_a_folder_where_a_page_is_to_be_is_refused_before_it_costs_time(refusal, run, tmp_path, monkeypatch):
    monkeypatch.setattr("hwkit.show.slider.slider_frames", None)  # would be called first
    said = refusal("slider", "--run", run, "--html", tmp_path)
    assert f"--html {tmp_path} is a folder: name a file in it, {tmp_path / 'slider.html'}" in said


@pytest.mark.parametrize("name", ["data", "train", "sample", "export"])
@pytest.mark.parametrize(
    "number, hint",
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "not permitted"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
    ids=["full disk", "read-only", "not permitted", "quota", "broken disk"],
)
def test_a_disk_that_does_not_take_it_is_told(refusal, commands, monkeypatch, tmp_path, name, number, hint):
    def write_bytes(path, data):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    said = refusal(*commands[name](tmp_path / "place"))
    assert str(tmp_path) in said and hint in said and "Errno" not in said
    assert list(tmp_path.rglob("*.partial")) == []


def test_a_disk_that_is_really_full_is_told(run, tmp_path):
    """A disk of 700 kB, in a process that may mount one for itself; elsewhere a limit of 1000 bytes a file."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [sys.executable, "-m", "hwkit", "sample", "--run", run, "--n", "500", "--steps", "1", "--folder"]
    mount = f'mount -t tmpfs -o size=700k none "{disk}" && '
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") and in_a_process([*alone, mount + "true"]).returncode == 0:
        script = mount + f'"$@"; code=$?; ls -A "{disk}" "{disk}/images"; exit $code'
        done = in_a_process([*alone, script, "sh", *command, disk / "images"])
        assert "the disk is full" in done.stderr
        kept = [file_name(k) for k in range(1, 101)]  # the first batch
        listed = [f"{disk}:", ".images.lock", "images", "images.json", f"{disk}/images:", *kept]
        assert done.stdout.split()[-len(listed) :] == listed
    else:
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # noqa: E731
        done = in_a_process([*command, disk / "images"], preexec_fn=limit)
    assert done.returncode == 2
    assert str(disk) in one_sentence(done.stderr)
