"""Checkpoints: what goes in comes out, nothing is run, and what is broken is called so."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import TINY, vivid_unet

from hwkit.recipe import RECIPES
from hwkit.runs import checkpoint
from hwkit.runs.checkpoint import (
    EXPORTED,
    best_of,
    digest,
    export,
    load,
    load_denoiser,
    newest_run,
    recipe_of,
    save,
    unpack_pretrained,
)
from hwkit.unet import UNetConfig

BEFORE = Path(__file__).parent / "data" / "hwkit-1"
SHIPPED = Path(__file__).parent.parent / "data" / "pretrained" / EXPORTED


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


def test_a_checkpoint_describes_itself_in_plain_values_and_says_each_once(saved):
    content = torch.load(saved, weights_only=True)
    assert content["recipe"] == asdict(TINY) and content["versions"]["torch"] == torch.__version__
    assert set(content) == {"format", "recipe", "versions", "weights", "epoch", "images_seen", "extra"}

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


def test_a_checkpoint_is_loaded_wherever_it_was_saved(saved, tmp_path):
    """Onto the CPU: here is no GPU that its tensors name, and a Mac's has no float64, in which a schedule is."""
    save(saved, TINY, vivid_unet(TINY.model).state_dict(), alpha_bar=TINY.make_schedule().alpha_bar)
    on_gpu = tmp_path / "gpu.pt"
    with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(on_gpu, "w") as changed:
        for name in archive.namelist():
            data = archive.read(name)
            if name.endswith("data.pkl"):  # where the pickle names each storage's device
                assert data.count(b"X\3\0\0\0cpu") == 1
                data = data.replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:0")
            changed.writestr(name, data)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(on_gpu, weights_only=True)
    content = load(on_gpu)
    assert {tensor.device.type for tensor in (*content["weights"].values(), content["alpha_bar"])} == {"cpu"}
    assert content["alpha_bar"].dtype == torch.float64 and load_denoiser(on_gpu).schedule.T == TINY.T


def test_a_runs_folder_is_taken_for_the_weights_to_sample_from(saved):
    save(saved.parent / "ema_latest.pt", replace(TINY, T=33), vivid_unet(TINY.model).state_dict())
    assert recipe_of(load(saved.parent)).T == 33 and load_denoiser(saved.parent).schedule.T == 33


def test_the_digest_is_that_of_sha256sum(saved):
    assert digest(saved) == hashlib.sha256(saved.read_bytes()).hexdigest()


# What cannot be loaded


def test_a_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"There is no checkpoint {tmp_path}/none.pt"):
        load(tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError, match="There is no checkpoint"):
        load(tmp_path)
    (tmp_path / "evening").mkdir()
    with pytest.raises(
        FileNotFoundError, match=rf"none\.pt: did you mean {tmp_path / 'evening'}\? `python -m hwkit train`"
    ):
        load(tmp_path / "evning" / "none.pt")


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(saved, part):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ValueError, match=r"latest\.pt is .*(truncated|damaged|empty)"):
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
    with pytest.raises(ValueError, match=r"foreign\.pt is no checkpoint"):
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


@pytest.mark.parametrize("error", [RuntimeError("no kernel"), PermissionError(13, "Permission denied"), MemoryError()])
def test_other_failures_are_not_called_code(saved, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(ValueError, match=rf"latest\.pt .*{str(error)[-10:]}") as refusal:
        load(saved)
    assert "code" not in str(refusal.value)


def altered(path, **changes) -> Path:
    """The checkpoint with other content."""
    torch.save({**torch.load(path, weights_only=True), **changes}, path)
    return path


NETWORK = asdict(TINY.model)
RECIPE = asdict(TINY)


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": {**RECIPE, "model": asdict(UNetConfig(base=32, patch=2))}},
        {"recipe": {**RECIPE, "model": {**NETWORK, "base": 17}}},
        {"recipe": {**RECIPE, "model": None}},
        {"recipe": {**RECIPE, "T": 0}},
        {"recipe": {**RECIPE, "T": "many"}},
        {"recipe": None},
        {"weights": None},
        {"weights": {}},
        {"weights": {"stem.weight": 3}},
    ],
    ids=lambda change: " ".join(f"{key} {str(value)[-40:]}" for key, value in change.items()),
)
def test_a_checkpoint_that_contradicts_itself_is_refused(saved, change):
    with pytest.raises(ValueError) as refusal:
        load_denoiser(altered(saved, **change))
    assert "latest.pt" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("missing", ["recipe", "weights"])
def test_a_checkpoint_without_a_part_is_refused(saved, missing):
    content = torch.load(saved, weights_only=True)
    del content[missing]
    torch.save(content, saved)
    with pytest.raises(ValueError, match=r"latest\.pt"):
        load_denoiser(saved)


@pytest.mark.parametrize(
    "recipe",
    [
        {**RECIPE, "dropout": 0.1},
        {**{name: value for name, value in RECIPE.items() if name != "lr"}, "learning_rate": 1e-3},
        {**RECIPE, "model": {**NETWORK, "attention": True}},
        {**RECIPE, "base": 16},
    ],
    ids=["a new field", "a renamed field", "a new field of the network", "a field of the network's"],
)
def test_a_recipe_of_another_version_ends_in_a_sentence(saved, recipe):
    unknown = (set(recipe) - set(RECIPE)) | (set(recipe["model"]) - set(NETWORK))
    with pytest.raises(ValueError, match=rf"latest\.pt was written by another version of hwkit.*{unknown.pop()}"):
        load(altered(saved, recipe=recipe))


def test_a_field_that_this_version_has_added_has_its_default(saved):
    older = {name: value for name, value in RECIPE.items() if name not in ("about", "beta2")}
    assert recipe_of(load(altered(saved, recipe=older))) == replace(
        TINY, about=recipe_of({"recipe": older}).about, beta2=0.999
    )


# The format before: what version 0.1.0 wrote


def test_checkpoints_of_the_format_before_are_read():
    for name in ("latest.pt", "ema_latest.pt"):
        content = load(BEFORE / "run" / name)
        recipe = recipe_of(content)
        assert recipe.name == "smoke" and (recipe.T, recipe.batch_size, recipe.model) == (40, 8, TINY.model)
        assert (recipe.prediction, recipe.lr, recipe.muon_lr, recipe.epochs) == ("x0", 1e-3, 0.02, 3)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 28, 28), dtype=np.float32))
    x0_hat, _ = load_denoiser(BEFORE / "run")(noise, 25)
    with np.load(BEFORE / "expected.npz") as expected:
        np.testing.assert_allclose(x0_hat, expected["x0_hat"], atol=1e-4)


def test_weights_of_the_format_before_can_be_exported(tmp_path):
    content = load(BEFORE / "run" / "ema_latest.pt")
    export(content, tmp_path / EXPORTED)
    again = load(tmp_path / EXPORTED)
    assert recipe_of(again) == recipe_of(content) and again["images_seen"] == content["images_seen"] == 48


def test_the_weights_that_come_with_the_kit_are_of_the_recipe_gpu():
    """Under the name of `cpu-long`, whose batch was changed for them."""
    recipe, gpu = recipe_of(load(SHIPPED)), RECIPES["gpu"]
    assert (recipe.name, recipe.minutes, recipe.precision) == ("cpu-long", 11, "bf16")
    assert replace(recipe, name=gpu.name, about=gpu.about, minutes=gpu.minutes, precision="auto") == gpu
    x0_hat, _ = load_denoiser(SHIPPED)(torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0)), 830)
    assert x0_hat.isfinite().all() and x0_hat.min() < -0.5


# Whole or not there


@pytest.mark.parametrize("failing", [(Path, "write_bytes"), (os, "fsync"), (os, "replace")], ids=lambda f: f[1])
def test_a_save_that_fails_leaves_the_last_checkpoint_as_it_was(monkeypatch, saved, failing):
    before = saved.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*failing, full)
    with pytest.raises(OSError, match=r"latest\.pt was not written: the disk is full"):
        save(saved, TINY, {})
    monkeypatch.undo()
    assert saved.read_bytes() == before and os.listdir(saved.parent) == ["latest.pt"]


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


def test_without_a_last_one_the_best_is_sampled(tmp_path):
    save(tmp_path / "ema_best.pt", TINY, {})
    assert best_of(tmp_path) == tmp_path / "ema_best.pt"


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
    assert recipe_of(after) == TINY and (after["epoch"], after["images_seen"]) == (3, 288)
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
    with pytest.raises(ValueError, match=r"is no checkpoint.*another program"):
        load(foreign)


def test_what_is_exported_of_a_run_holds_no_state_to_resume(trained_run, tmp_path):
    export(load(trained_run / "latest.pt"), tmp_path / EXPORTED)
    assert not {"resume", "ema"} & set(load(tmp_path / EXPORTED))


def files_of(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_newest_run_is_that_whose_weights_were_written_last(tmp_path, exported):
    """A question: nothing is written, and the kit's weights are nobody's run."""
    runs = tmp_path / "runs"
    assert newest_run(runs) is None and not runs.exists()
    for age, name in enumerate(("first", "second", "pretrained")):
        save(runs / name / "ema_latest.pt", TINY, {})
        os.utime(runs / name / "ema_latest.pt", (1000 + age, 1000 + age))
    save(runs / "begun" / "latest.pt", TINY, {})
    before = files_of(runs)
    assert newest_run(runs) == runs / "second" and newest_run(runs, ignored=("second",)) == runs / "first"
    assert newest_run(runs, ignored=("first", "second")) is None and files_of(runs) == before
    shutil.copytree(exported.parent, runs / "exported")
    assert newest_run(runs) == runs / "exported"


def test_the_weights_of_the_kit_are_put_into_a_runs_folder(exported, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    assert unpack_pretrained(runs) is None and not runs.exists(), "a kit that came without them"
    monkeypatch.setattr(checkpoint, "PRETRAINED", exported.parent)
    (exported.parent / "history.jsonl").write_text("{}\n")
    (exported.parent / "README.md").write_text("about them")
    folder = unpack_pretrained(runs)
    assert folder == runs / "pretrained" and best_of(folder).read_bytes() == exported.read_bytes()
    assert set(files_of(folder)) == {exported.name, "history.jsonl"}
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    unpack_pretrained(runs)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps, "what is there is not written again"
    exported.write_bytes(exported.read_bytes() + b"\0")  # a newer kit
    assert best_of(unpack_pretrained(runs)).read_bytes() == exported.read_bytes()


def test_the_kits_weights_are_known_under_any_name(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PRETRAINED", tmp_path / "kit")
    (kits := tmp_path / "kit" / EXPORTED).parent.mkdir()
    assert not checkpoint.is_the_kits(exported)
    kits.write_bytes(exported.read_bytes())
    shutil.copy(exported, tmp_path / "mine.safetensors")
    assert checkpoint.is_the_kits(tmp_path / "mine.safetensors")
    kits.write_bytes(exported.read_bytes() + b"\0")
    assert not checkpoint.is_the_kits(tmp_path / "mine.safetensors")
    assert not checkpoint.is_the_kits(tmp_path / "nowhere.safetensors")


def test_what_is_exported_says_its_recipe_in_json(exported):
    with safetensors.safe_open(exported, "pt") as file:
        assert json.loads(file.metadata()["hwkit"])["recipe"]["T"] == TINY.T
