"""The command line: what works, and that whatever the user gets wrong ends in exit code 2 and one sentence."""

import errno
import gzip
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import hwkit.train
import hwkit.workspace
import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

from hwkit.__main__ import default_run, last_run, main
from hwkit.recipe import RECIPES
from hwkit.runs.checkpoint import EXPORTED, export, load, recipe_of
from hwkit.unet import UNetConfig

KIT = Path(__file__).resolve().parent.parent


@pytest.fixture
def refusal(capsys):
    """`refusal("sample", …)`: the one sentence with which the command line refuses."""

    def refusal(*arguments) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        return one_sentence(capsys.readouterr().err)

    return refusal


def one_sentence(stderr: str) -> str:
    assert "Traceback" not in stderr
    before, _, said = stderr.partition("hwkit: ")
    assert before == "" or before[-1] in "\r\n", "a progress bar may stand before the sentence, on a line of its own"
    assert said.endswith("\n") and "\n" not in said[:-1] and "\r" not in said, stderr
    assert len(said.split()) >= 4 and len(said) < 600, stderr
    return said.strip()


@pytest.fixture
def tiny(monkeypatch):
    """The recipe `smoke`, smaller still where it is looked up by name."""
    monkeypatch.setitem(RECIPES, "smoke", TINY)


@pytest.fixture
def run(trained_run, tmp_path) -> Path:
    """A copy of the trained run, to do damage to."""
    return shutil.copytree(trained_run, tmp_path / "run")


TRAIN = ["train", "smoke", "--batch-size", "8", "--T", "20", "--epochs", "1"]


# What works


def test_the_main_job_makes_images_and_figures_and_says_where(tiny, digits_npz, tmp_path, capsys):
    command = ["report", "--recipe", "smoke", "--n", "3", "--steps", "4", "--source", str(digits_npz)]
    assert main(command) == 0
    run = tmp_path / "runs/smoke"
    assert sorted(os.listdir(run / "generate")) == ["00001.png", "00002.png", "00003.png"]
    assert {"diffusion_grid_ddpm.png", "diffusion_grid_ddim.png", "loss_curve.png", "samples.png"} <= set(
        os.listdir(run / "figures")
    )
    assert str(run) in capsys.readouterr().out
    before = {path: path.read_bytes() for path in [*run.glob("*.pt"), *run.glob("generate/*")]}
    assert main(command) == 0
    assert {path: path.read_bytes() for path in before} == before, "called again, it has nothing to do"
    assert "(0 new)" in capsys.readouterr().out


def test_data_prepares_both_splits(digits_npz, tmp_path, capsys):
    assert main(["data", "--source", str(digits_npz), "--out", str(tmp_path / "out")]) == 0
    assert [len(os.listdir(tmp_path / "out/mnist" / split)) for split in ("train", "test")] == [64, 32]
    assert main(["data", "--source", str(digits_npz), "--split", "test"]) == 0
    assert os.listdir(tmp_path / "data/mnist") != [] and not (tmp_path / "data/mnist/train").exists()


def test_fields_of_a_recipe_can_be_changed(digits_npz, tmp_path):
    changed = ["--lr", "0.002", "--prediction", "v", "--base", "32", "--multipliers", "1", "--muon-lr", "None"]
    assert main([*TRAIN, *changed, "--source", str(digits_npz), "--run", str(tmp_path / "run")]) == 0
    recipe = recipe_of(load(tmp_path / "run/latest.pt"))
    assert recipe == replace(
        RECIPES["smoke"],
        batch_size=8,
        T=20,
        epochs=1,
        lr=0.002,
        prediction="v",
        muon_lr=None,
        model=UNetConfig(base=32, multipliers=(1,), patch=2),
    )


def test_a_stream_of_pngs_trains_as_well(digits_npz, tmp_path):
    assert main([*TRAIN, "--stream", "--source", str(digits_npz), "--run", str(tmp_path / "run")]) == 0
    assert main([*TRAIN, "--source", str(digits_npz), "--run", str(tmp_path / "held")]) == 0
    one, other = (torch.load(tmp_path / name / "best.pt", weights_only=True)["weights"] for name in ("run", "held"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_interruption_saves_and_ends_without_a_traceback(monkeypatch, digits_npz, tmp_path, capsys):
    real, calls = hwkit.train.training_step, []

    def training_step(*arguments):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(hwkit.train, "training_step", training_step)
    command = [*TRAIN, "--source", str(digits_npz), "--run", str(tmp_path / "run")]
    try:
        assert main(command) == 130
    except KeyboardInterrupt:
        pytest.fail("it reached Python, which prints a traceback")
    said = capsys.readouterr()
    assert "The same command goes on from here" in said.out + said.err
    assert main(command) == 0
    assert len(calls) == 64 // 8


def test_sample_takes_the_run_trained_last(trained_run, tmp_path, capsys):
    for name, age in (("old", 100), ("new", 10), ("older", 200)):
        run = shutil.copytree(trained_run, tmp_path / "runs" / name)
        time = (run / "ema_latest.pt").stat().st_mtime - age
        os.utime(run / "ema_latest.pt", (time, time))
    assert last_run() == tmp_path / "runs/new"
    assert main(["sample", "--n", "2", "--steps", "2"]) == 0
    assert len(os.listdir(tmp_path / "runs/new/generate")) == 2
    assert "2 in" in capsys.readouterr().out


@pytest.fixture
def kit_weights(trained_run, tmp_path, monkeypatch) -> Path:
    """A kit that comes with weights."""
    folder = tmp_path / "shipped"
    export(load(trained_run / "ema_latest.pt"), folder / EXPORTED)
    shutil.copy(trained_run / "history.jsonl", folder)
    monkeypatch.setattr(checkpoint, "PRETRAINED", folder)
    return folder


def test_report_takes_the_weights_of_the_kit_unless_training_is_asked_for(
    kit_weights, tiny, digits_npz, tmp_path, capsys
):
    short = ["report", "--n", "3", "--steps", "2", "--dpi", "30"]
    assert main(short) == 0
    run = tmp_path / "runs" / "pretrained"
    assert "kit's own weights" in capsys.readouterr().out and len(os.listdir(run / "generate")) == 3
    assert {path.name for path in (run / "figures").iterdir()} >= {"diffusion_grid_ddpm.png", "loss_curve.png"}
    assert main([*short, "--recipe", "smoke", "--source", str(digits_npz)]) == 0
    assert (tmp_path / "runs" / "smoke" / "latest.pt").is_file()
    assert last_run() == tmp_path / "runs" / "smoke"


def test_weights_are_exported_for_handing_on(run, tmp_path, capsys):
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "gift")]) == 0
    assert "Weights: " in capsys.readouterr().out
    assert (tmp_path / "gift" / "history.jsonl").read_bytes() == (run / "history.jsonl").read_bytes()
    assert main(["sample", "--run", str(tmp_path / "gift"), "--n", "2", "--steps", "2"]) == 0


def test_training_goes_on_from_exported_weights(digits_npz, refusal, tmp_path):
    first, gift, second = (str(tmp_path / name) for name in ("first", "gift", "second"))
    command = [*TRAIN, "--source", str(digits_npz)]
    assert main([*command, "--run", first]) == main(["export", "--run", first, "--out", gift]) == 0
    further = [*command, "--run", second, "--weights", gift]
    assert "has had" in refusal(*further)
    assert main([*further, "--epochs", "2"]) == 0
    assert len((tmp_path / "second/history.jsonl").read_text().splitlines()) == 2


def test_sample_options_reach_the_sampler(run, tmp_path):
    options = ["--sampler", "ddpm", "--steps", "3", "--variance", "beta", "--seed", "7", "--batch", "2", "--n", "3"]
    assert main(["sample", "--checkpoint", str(run / "best.pt"), "--folder", str(tmp_path / "g"), *options]) == 0
    manifest = (tmp_path / "g.json").read_text()
    for part in ('"ddpm"', '"steps": 3', '"beta"', '"seed": 7', '"batch": 2', '"best.pt"'):
        assert part in manifest


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_is_named_after_the_recipe_that_it_is_closest_to(name, tmp_path):
    assert default_run(RECIPES[name]) == tmp_path / "runs" / name
    assert default_run(replace(RECIPES[name], minutes=3, seed=5)) == tmp_path / "runs" / name


# What is wrong with the data


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


BAD_SOURCES = {
    "missing folder": (lambda d: None, "There is no folder {d}"),
    "empty folder": (lambda d: d.mkdir(), "{d} holds no .png"),
    "truncated PNG": (lambda d: truncated(png(d / "3.png")), "{d}/3.png does not decode"),
    "32×32 PNG": (lambda d: png(d / "3.png", (32, 32)), "{d}/3.png is 32×32 pixels, not 28×28"),
    "text named .png": (lambda d: text(d / "3.png"), "{d}/3.png does not decode"),
    "RGBA PNG": (lambda d: Image.new("RGBA", (28, 28)).save(png(d / "3.png")), "{d}/3.png is in mode RGBA"),
    "a file": (text, "{d} is a file, but not an .npz"),
    "truncated gz": (
        lambda d: truncated_gz(d / "train-images-idx3-ubyte.gz"),
        "{d}/train-images-idx3-ubyte.gz is not a whole gzip file",
    ),
    "text named .npz": (lambda d: text(d.parent / "digits.npz"), "digits.npz is not a whole .npz file"),
}


def truncated_gz(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(gzip.compress(bytes(10_000))[:-10])


@pytest.mark.parametrize("command", [["data"], TRAIN], ids=["data", "train"])
@pytest.mark.parametrize("name", BAD_SOURCES)
def test_a_bad_source_is_named(refusal, tmp_path, command, name):
    spoil, expected = BAD_SOURCES[name]
    source = tmp_path / "source"
    spoil(source)
    source = tmp_path / "digits.npz" if "npz" in name else source
    assert expected.format(d=source) in refusal(*command, "--source", source)


def test_prepared_data_of_another_source_is_not_overwritten(refusal, digits_npz, tmp_path):
    assert main(["data", "--source", str(digits_npz)]) == 0
    said = refusal("data", "--source", png(tmp_path / "pngs/3.png").parent)
    assert "holds the images of another source" in said


# What is wrong with the command


@pytest.mark.parametrize(
    "arguments, hints",
    [
        (["train", "nosuch"], ["nosuch", "report-cosine", "smoke"]),
        (["paint"], ["paint", "sample"]),
        (["sample", "--sampler", "euler"], ["euler", "dpm++", "unipc"]),
        (["sample", "--steps", "many"], ["many", "--steps"]),
        (["train", "smoke", "--T", "0"], ["T is 0, but must be at least 1"]),
        (["train", "smoke", "--base", "12"], ["base is 12"]),
        (["train", "smoke", "--minutes", "-1"], ["minutes is -1.0"]),
        (["train", "smoke", "--nosuch", "1"], ["nosuch"]),
    ],
    ids=" ".join,
)
def test_an_argument_that_does_not_parse_is_named_with_what_would(capsys, arguments, hints):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert end.value.code == 2
    assert all(hint in said for hint in hints) and "Traceback" not in said, said


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--steps", "41"], "41 sampling steps do not fit a schedule of T = 40: choose 1 to 40."),
        (["--steps", "0"], "0 sampling steps do not fit"),
        (["--n", "0"], "n is 0, but must be between 1 and 99,999"),
        (["--n", "100000"], "n is 100000, but must be between 1 and 99,999"),
        (["--batch", "0"], "batch is 0, but must be at least 1"),
        (["--eta", "2"], "eta is 2.0, but must be between 0 and 1"),
        (["--sampler", "ddpm", "--eta", "0.5"], "only the sampler ddim has an eta"),
        (["--seed", "-1"], "seed is -1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_impossible_wish_for_images_is_refused(refusal, run, tmp_path, options, expected):
    options = options if "--n" in options else [*options, "--n", "2"]
    assert expected in refusal("sample", "--run", run, "--folder", tmp_path / "images", *options)
    assert not (tmp_path / "images").exists() and not (tmp_path / "images.json").exists()


@pytest.mark.parametrize("command", [["sample", "--n", "1", "--steps", "2"], TRAIN, ["figures"]], ids=lambda c: c[0])
def test_a_device_that_is_not_there_is_named(refusal, run, digits_npz, tmp_path, command):
    missing = "mps" if torch.cuda.is_available() else "cuda"
    more = ["--source", digits_npz, "--run", tmp_path / "new"] if command is TRAIN else ["--run", run]
    assert missing in refusal(*command, *more, "--device", missing)


def test_too_few_images_for_a_batch_are_named(refusal, digits_npz, tmp_path):
    said = refusal("train", "smoke", "--batch-size", "65", "--source", digits_npz, "--run", tmp_path / "run")
    assert "64 images do not fill one batch of 65: lower batch_size" in said


def test_a_loss_that_is_not_finite_is_told(refusal, monkeypatch, digits_npz, tmp_path):
    monkeypatch.setattr(hwkit.train, "training_step", lambda *_: float("nan"))
    assert "The loss is nan at step 0" in refusal(*TRAIN, "--source", digits_npz, "--run", tmp_path / "run")


# What is wrong with the run or the checkpoint


@pytest.mark.parametrize("command", ["sample", "figures"])
def test_without_a_run_there_is_nothing_to_draw(refusal, tmp_path, command):
    assert f"There is no run in {tmp_path}/runs: `python -m hwkit train cpu` makes one" in refusal(command)
    assert f"There is no checkpoint {tmp_path}/none/" in refusal(command, "--run", tmp_path / "none")
    assert f"There is no checkpoint {tmp_path}/none.pt" in refusal(command, "--checkpoint", tmp_path / "none.pt")


def other_architecture(path):
    """The weights of one network under the description of another."""
    content = torch.load(path, weights_only=True)
    torch.save({**content, "model": asdict(UNetConfig(base=32, patch=2))}, path)


def foreign(path):
    torch.save({"state_dict": {"conv1.weight": torch.zeros(3)}}, path)


@pytest.mark.parametrize(
    "spoil, expected",
    [
        (truncated, r"truncated"),
        (lambda path: path.write_bytes(b""), r"truncated"),
        (text, r"no checkpoint|code"),
        (other_architecture, r"weights do not fit"),
        (foreign, r"not an hwkit checkpoint"),
    ],
    ids=["truncated", "empty", "text", "another architecture", "foreign"],
)
@pytest.mark.parametrize("command", [["sample", "--n", "1", "--steps", "2"], ["figures"]], ids=lambda c: c[0])
def test_a_checkpoint_that_cannot_be_used_is_named(refusal, run, command, spoil, expected):
    spoil(run / "ema_latest.pt")
    said = refusal(*command, "--run", run)
    assert f"{run}/ema_latest.pt" in said and any(part in said for part in expected.split("|"))


def test_a_run_whose_last_checkpoint_is_truncated_is_not_trained_over(refusal, run, digits_npz):
    before = truncated(run / "latest.pt").read_bytes()
    assert f"{run}/latest.pt is truncated" in refusal(*TRAIN, "--source", digits_npz, "--run", run)
    assert (run / "latest.pt").read_bytes() == before


def test_a_checkpoint_for_inference_is_not_taken_for_one_to_resume(refusal, run, digits_npz):
    shutil.copy(run / "ema_best.pt", run / "latest.pt")
    assert f"{run}/latest.pt" in refusal(*TRAIN, "--source", digits_npz, "--run", run)


def test_a_run_of_another_recipe_is_not_gone_on_with(refusal, run, digits_npz):
    said = refusal(*TRAIN, "--source", digits_npz, "--run", run)
    assert "T 40 → 20" in said and "--fresh" in said


def test_images_of_another_run_are_not_mixed_in(refusal, run, tmp_path):
    command = ["sample", "--run", run, "--n", "2", "--steps", "2"]
    assert main([str(argument) for argument in command]) == 0
    assert "another run (other seed)" in refusal(*command, "--seed", "1")
    text(run / "generate/notes.txt")
    assert "also holds notes.txt" in refusal(*command)


# Starting over


def test_starting_over_asks_first(refusal, run, digits_npz, monkeypatch):
    command = [*TRAIN, "--source", digits_npz, "--run", run, "--fresh"]
    before = {path: path.read_bytes() for path in run.glob("*.pt")}
    assert "nobody is there to ask: add --yes" in refusal(*command)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "n")
    assert "was left as it is" in refusal(*command)
    assert str(run) in asked[0] and {path: path.read_bytes() for path in run.glob("*.pt")} == before
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert main([str(argument) for argument in command]) == 0
    assert recipe_of(load(run / "latest.pt")).T == 20


def test_starting_over_keeps_what_training_did_not_make(run, digits_npz):
    png(run / "generate/00001.png")
    text(run / "notes.txt")
    assert main([*TRAIN, "--source", str(digits_npz), "--run", str(run), "--fresh", "--yes"]) == 0
    assert (run / "generate/00001.png").exists() and (run / "notes.txt").exists()
    assert os.listdir(run / "previews") == ["epoch_0001.png"]


# Where nothing can be written


@pytest.fixture
def commands(run, digits_npz):
    """Each command that writes, to be given the place."""
    return {
        "data": lambda place: ["data", "--source", digits_npz, "--out", place],
        "train": lambda place: [*TRAIN, "--source", digits_npz, "--run", place],
        "sample": lambda place: ["sample", "--run", run, "--n", "2", "--steps", "2", "--folder", place],
        "figures": lambda place: ["figures", "--run", run, "--out", place],
    }


@pytest.mark.parametrize("name", ["data", "train", "sample", "figures"])
@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below"])
def test_a_place_below_a_file_is_named(refusal, commands, tmp_path, name, place):
    text(tmp_path / "file")
    said = refusal(*commands[name](tmp_path / place))
    assert f"{tmp_path}/file" in said
    assert (tmp_path / "file").read_text() == "I am a text"


@pytest.mark.parametrize("name", ["data", "train", "sample", "figures"])
@pytest.mark.parametrize(
    "number, hint",
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "not permitted"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
    ids=["full disk", "read-only", "not permitted", "broken disk"],
)
def test_a_disk_that_does_not_take_it_is_told(refusal, commands, monkeypatch, tmp_path, name, number, hint):
    def write_bytes(path, data):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(hwkit.workspace.Path, "write_bytes", write_bytes)
    said = refusal(*commands[name](tmp_path / "place"))
    assert str(tmp_path) in said and hint in said
    assert list(tmp_path.rglob("*.partial")) == []


def in_a_process(command, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(part) for part in command],
        cwd=KIT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


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
        kept = [f"{k:05d}.png" for k in range(1, 101)]  # the first batch
        listed = [f"{disk}:", ".images.lock", "images", "images.json", f"{disk}/images:", *kept]
        assert done.stdout.split()[-len(listed) :] == listed
    else:
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # noqa: E731
        done = in_a_process([*command, disk / "images"], preexec_fn=limit)
    assert done.returncode == 2
    assert str(disk) in one_sentence(done.stderr)


def test_a_file_that_may_not_grow_is_told(digits_npz, tmp_path):
    """As on a disk with a quota."""
    command = [sys.executable, "-m", "hwkit", "data", "--source", digits_npz, "--out", tmp_path / "out"]
    done = in_a_process(command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)))
    assert done.returncode == 2
    assert f"{tmp_path}/out/" in one_sentence(done.stderr)
    assert [path for path in tmp_path.glob("out/**/*") if path.is_file()] == []
