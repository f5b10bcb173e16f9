"""Checkpoints: what goes in comes out, nothing is run, and what is broken is called so."""

import errno
import hashlib
import io
import os
import pickle
from dataclasses import asdict, replace

import hwkit.workspace
import pytest
import safetensors.torch
import torch
from conftest import TINY, vivid_unet

from hwkit.recipe import RECIPES
from hwkit.runs.checkpoint import EXPORTED, best_of, digest, export, load, load_denoiser, newest_run, recipe_of, save
from hwkit.schedule import cosine
from hwkit.unet import UNetConfig


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run" / "latest.pt"
    save(path, TINY, vivid_unet(TINY.model).state_dict(), epoch=3, images_seen=288, extra=torch.arange(3))
    return path


def test_what_is_saved_is_loaded(saved):
    content = load(saved)
    weights = vivid_unet(TINY.model).state_dict()
    assert content["weights"].keys() == weights.keys()
    assert all(torch.equal(content["weights"][name], weights[name]) for name in weights)
    assert (content["epoch"], content["images_seen"]) == (3, 288) and torch.equal(content["extra"], torch.arange(3))
    assert os.listdir(saved.parent) == ["latest.pt"]


def test_a_checkpoint_describes_itself_in_plain_values(saved):
    content = torch.load(saved, weights_only=True)
    assert content["model"] == asdict(TINY.model)
    assert content["prediction"] == "x0" and content["schedule"] == "linear"
    assert torch.equal(content["alpha_bar"], TINY.make_schedule().alpha_bar)
    assert content["versions"]["torch"] == torch.__version__

    def types(value):
        yield type(value)
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
            yield from types(inner)

    del content["weights"]
    assert set(types(content)) <= {dict, list, tuple, str, int, float, bool, type(None), torch.Tensor}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_comes_back_as_it_was(name, tmp_path):
    recipe = replace(RECIPES[name], minutes=1.5, patience=4)
    save(tmp_path / "c.pt", recipe, {})
    assert recipe_of(load(tmp_path / "c.pt")) == recipe


def test_a_denoiser_comes_back_as_it_was(saved):
    denoise, before = load_denoiser(saved), TINY.denoiser(vivid_unet(TINY.model))
    assert not denoise.model.training
    assert denoise.schedule.T == TINY.T and denoise.prediction == TINY.prediction and denoise.clip
    x = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    for one, other in zip(denoise(x, 20), before(x, 20), strict=True):
        assert torch.equal(one, other)


def test_the_noise_levels_are_those_of_the_file(tmp_path):
    """Not those that the code of today would make of the schedule's name."""
    save(tmp_path / "c.pt", TINY, vivid_unet(TINY.model).state_dict())
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    torch.save({**content, "alpha_bar": cosine(25).alpha_bar}, tmp_path / "c.pt")
    assert torch.equal(load_denoiser(tmp_path / "c.pt").schedule.alpha_bar, cosine(25).alpha_bar)


def test_the_digest_is_that_of_sha256sum(saved):
    assert digest(saved) == hashlib.sha256(saved.read_bytes()).hexdigest()


# What cannot be loaded


def test_a_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"There is no checkpoint {tmp_path}/none.pt"):
        load(tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError, match="There is no checkpoint"):
        load(tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(saved, part):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ValueError, match=r"latest\.pt is .*(truncated|damaged)"):
        load(saved)


@pytest.mark.parametrize("where", ["head", "directory", "weights", "description"])
def test_a_flipped_bit_is_noticed(saved, where):
    content = bytearray(saved.read_bytes())
    weight = vivid_unet(TINY.model).stem.weight.contiguous(memory_format=torch.channels_last)
    found = {
        "head": 0,
        "directory": len(content) - 300,
        "weights": content.index(weight.permute(0, 2, 3, 1).flatten()[:4].detach().numpy().tobytes()),
        "description": content.index(b"prediction"),
    }
    content[found[where]] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ValueError, match=r"latest\.pt"):
        load_denoiser(saved)


@pytest.mark.parametrize(
    "content", [{"weights": {}}, {"format": "hwkit-0", "weights": {}}, [1, 2], torch.zeros(3), None], ids=str
)
def test_a_foreign_file_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(ValueError, match=r"foreign\.pt is not an hwkit checkpoint"):
        load(tmp_path / "foreign.pt")


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("form", ["torch zip", "torch legacy", "bare pickle"])
def test_code_in_a_checkpoint_does_not_run(tmp_path, form):
    victim, path = tmp_path / "victim", tmp_path / "evil.pt"
    content = {"format": checkpoint.FORMAT, "weights": Payload(victim)}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch zip")
    with pytest.raises(ValueError, match=r"evil\.pt (is|holds) .*(code|damaged)"):
        load(path)
    assert not victim.exists()
    pickle.loads(pickle.dumps(Payload(victim))).close()
    assert victim.exists(), "the payload would have run"


@pytest.mark.parametrize(
    "change",
    [
        {"model": asdict(UNetConfig(base=32, patch=2))},
        {"model": {"base": 16}},
        {"model": {"width": 16, "multipliers": (1,)}},
        {"model": asdict(UNetConfig(base=16, patch=2)) | {"base": 17}},
        {"model": None},
        {"weights": None},
        {"weights": {}},
        {"alpha_bar": None},
        {"alpha_bar": torch.ones(3)},
        {"alpha_bar": torch.ones(3, dtype=torch.float64)},
    ],
    ids=lambda change: " ".join(f"{key} {str(value)[:30]}" for key, value in change.items()),
)
def test_a_checkpoint_that_contradicts_itself_is_refused(saved, change):
    torch.save({**torch.load(saved, weights_only=True), **change}, saved)
    with pytest.raises(ValueError) as refusal:
        load_denoiser(saved)
    assert "latest.pt" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("missing", ["model", "weights", "schedule", "alpha_bar", "prediction"])
def test_a_checkpoint_without_a_part_is_refused(saved, missing):
    content = torch.load(saved, weights_only=True)
    del content[missing]
    torch.save(content, saved)
    with pytest.raises(ValueError, match=r"latest\.pt"):
        load_denoiser(saved)


# Whole or not there


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_a_save_that_fails_leaves_the_last_checkpoint_as_it_was(monkeypatch, saved, failing):
    before = saved.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if failing == "write":
        monkeypatch.setattr(hwkit.workspace.Path, "write_bytes", full)
    else:
        monkeypatch.setattr(hwkit.workspace.os, failing, full)
    with pytest.raises(OSError, match=r"latest\.pt was not written: the disk is full"):
        save(saved, TINY, {})
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["latest.pt"]


def test_a_save_that_is_interrupted_leaves_the_last_checkpoint_as_it_was(monkeypatch, saved):
    before = saved.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(hwkit.workspace.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(saved, TINY, {})
    assert saved.read_bytes() == before and os.listdir(saved.parent) == ["latest.pt"]


def test_a_checkpoint_appears_by_a_rename_after_a_sync(monkeypatch, tmp_path):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(hwkit.workspace.os, name, lambda *a, name=name, real=real: (done.append(name), real(*a))[1])
    save(tmp_path / "c.pt", TINY, {})
    assert done[:2] == ["fsync", "replace"]


# Which checkpoint to sample from


@pytest.mark.parametrize("decay_from, expected", [(1.0, "ema_best.pt"), (0.3, "ema_latest.pt")])
def test_the_best_epoch_is_sampled_unless_the_learning_rate_decayed(tmp_path, decay_from, expected):
    recipe = replace(TINY, decay_from=decay_from)
    for name in ("latest.pt", "best.pt", "ema_latest.pt", "ema_best.pt"):
        save(tmp_path / name, recipe, {})
    assert best_of(tmp_path) == tmp_path / expected


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no checkpoint"):
        load(best_of(tmp_path))


def test_a_checkpoint_is_read_from_bytes_alone(saved):
    """That is: nothing beside the file is needed, and the file may be moved."""
    content = saved.read_bytes()
    assert torch.load(io.BytesIO(content), weights_only=True)["format"] == checkpoint.FORMAT
    moved = saved.rename(saved.with_name("elsewhere.pt"))
    assert load_denoiser(moved).schedule.T == TINY.T


# Weights that are handed on: half precision, safetensors


@pytest.fixture
def exported(saved, tmp_path):
    content = load(saved)
    del content["extra"]  # a tensor: what is exported beside the weights is plain
    path = tmp_path / "exported" / EXPORTED
    export(content, path)
    return path


def test_exported_weights_are_the_same_to_half_precision_at_half_the_size(saved, exported):
    before, after = load(saved), load(exported)
    for name, weight in before["weights"].items():
        assert after["weights"][name].dtype == torch.float32
        assert torch.equal(after["weights"][name], weight.half().float())
    assert torch.equal(after["alpha_bar"], before["alpha_bar"]) and recipe_of(after) == TINY
    assert (after["epoch"], after["images_seen"], after["prediction"]) == (3, 288, "x0")
    assert exported.stat().st_size < 0.55 * sum(4 * weight.numel() for weight in before["weights"].values())
    denoiser = load_denoiser(exported)
    assert denoiser(torch.zeros(1, 3, 28, 28), 5)[0].isfinite().all()


def test_an_exported_file_that_is_damaged_or_foreign_is_refused(exported, tmp_path):
    whole = exported.read_bytes()
    for content in (whole[:100], whole[:-10], b"", b"\0" * 100):
        exported.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or no checkpoint"):
            load(exported)
    foreign = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2)}, foreign)
    with pytest.raises(ValueError, match="written by another program"):
        load(foreign)


def test_the_weights_of_the_kit_are_taken_where_there_is_no_run(exported, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    assert newest_run(runs) is None
    monkeypatch.setattr(checkpoint, "PRETRAINED", exported.parent)
    (exported.parent / "history.jsonl").write_text("{}\n")
    (exported.parent / "README.md").write_text("about them")
    assert newest_run(runs) == runs / "pretrained"
    assert best_of(runs / "pretrained").read_bytes() == exported.read_bytes()
    assert {path.name for path in (runs / "pretrained").iterdir()} == {exported.name, "history.jsonl"}

    exported.write_bytes(exported.read_bytes() + b"\0")  # a newer kit
    assert best_of(newest_run(runs)).read_bytes() == exported.read_bytes()

    save(runs / "mine" / "ema_latest.pt", TINY, {})
    os.utime(runs / "mine" / "ema_latest.pt", (1, 1))
    assert newest_run(runs) == runs / "mine"
    assert newest_run(runs, ignored=("mine",)) == runs / "pretrained"
