"""A training run: what it writes, that it resumes exactly, when it stops, and what protects it.

Nothing here depends on how the kit's functions are called: steps are watched through the images that they take
(`watched`), files through `os.replace`, time through `time.monotonic`.
"""

import copy
import inspect
import json
import math
import os
import re
import shutil
import signal
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from torch.optim.optimizer import register_optimizer_step_post_hook

import hwkit.files
from hwkit import notebook
from hwkit.mnist.batches import PNGFolder, batches
from hwkit.mnist.folder import encode_png, file_name
from hwkit.recipe import Recipe
from hwkit.runs.checkpoint import EXPORTED, export, load, load_denoiser, recipe_of
from hwkit.runs.processes import Single
from hwkit.runs.run import Position, Run, read, read_history, stop_requests, train
from hwkit.runs.speed import LAYOUTS, Setting, candidates, duration
from hwkit.training import new_state, train_epoch
from hwkit.unet import UNet

STEPS = 4  # an epoch: 32 digits in batches of 8
TIMES = ("seconds", "images_per_second", "epoch_began")  # what two runs of one recipe may differ in
BEFORE = Path(__file__).parent / "data" / "hwkit-1"


def run_to_end(recipe, images, run, **options) -> list:
    return list(train(recipe, images, run, **{"device": "cpu", "quiet": True, **options}))


def history(run) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def weights(path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["weights"]


def timeless(value):
    """The value without what the clock says, and each tensor as its bytes, so that == compares to the last bit."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
    if isinstance(value, list | tuple):
        return [timeless(inner) for inner in value]
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.detach().contiguous().numpy().tobytes()
    return value


def all_of(run) -> dict:
    """The content of a run's files, by name, but for times."""
    content = {path.name: timeless(torch.load(path, weights_only=True)) for path in run.glob("*.pt")}
    return content | {"history.jsonl": timeless(history(run)), "files": sorted(os.listdir(run))}


def files_of(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def watched(images, before):
    """The images; `before(batch)` is called as each training step takes its batch, and may give another one."""

    class Watched(torch.Tensor):
        def __getitem__(self, index):
            batch = self.as_subclass(torch.Tensor)[index]
            given = before(batch)
            return batch if given is None else given

    return images.as_subclass(Watched)


def acting(images, acts: dict, taken: list | None = None):
    """The images; acts[k]() is called at the beginning of the k-th training step (1, 2, …); `taken` counts them."""
    taken = [] if taken is None else taken

    def before(batch):
        taken.append(len(taken) + 1)
        return acts.get(len(taken), lambda: None)()

    return watched(images, before)


class PowerCut(Exception):
    pass


def cut_power():
    raise PowerCut


@pytest.fixture(scope="module")
def images(digits):
    return digits[:32]


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """No measuring of speeds where it is not the point. (It is found by its name, but nothing fails without it.)"""
    if not {"clock", "capability"} & set(request.fixturenames) and "auto" not in request.node.name:
        monkeypatch.setattr("hwkit.runs.speed.images_per_second", lambda *_, **__: 1000.0, raising=False)


@pytest.fixture
def clock(monkeypatch):
    """`clock(seconds)`: a clock on which each training step takes so long, and nothing else takes any time."""
    now, hooks = [1000.0], []

    def start(seconds: float):
        def step_taken(optimizer, *_):
            if isinstance(optimizer, torch.optim.AdamW):
                now[0] += seconds

        hooks.append(register_optimizer_step_post_hook(step_taken))
        monkeypatch.setattr(time, "monotonic", lambda: now[0])

    yield start
    for hook in hooks:
        hook.remove()


# A run, from its beginning to its end


def test_a_run_writes_what_it_promises(trained_run):
    names = ["best.pt", "ema_best.pt", "ema_latest.pt", "history.jsonl", "latest.pt"]
    assert sorted(os.listdir(trained_run)) == names


def test_the_history_has_a_line_for_each_epoch(trained_run):
    first, second = history(trained_run)
    assert [first["epoch"], second["epoch"]] == [1, 2]
    assert [first["images_seen"], second["images_seen"]] == [96, 192]
    assert first["is_best"] and second["is_best"] == (second["loss"] < first["loss"])
    assert 0 < first["seconds"] <= second["seconds"] and first["images_per_second"] > 0
    for line, seen in ((first, 0), (second, 96)):
        points, means = zip(*line["curve"], strict=True)
        assert points == tuple(range(seen + 8, seen + 97, 8))
        assert np.mean(means) == pytest.approx(line["loss"])


def test_what_is_yielded_is_what_is_written(images, tmp_path):
    for record in train(TINY, images, tmp_path, device="cpu", quiet=True):
        assert history(tmp_path)[-1] == json.loads(json.dumps(record._asdict())) == read_history(tmp_path)[-1]
        assert load(tmp_path / "latest.pt")["images_seen"] == record.images_seen == 32 * record.epoch
        assert load(tmp_path / "ema_latest.pt")["epoch"] == record.epoch


def test_a_run_is_the_lessons_own_loop_over_its_batches(images, tmp_path):
    """Network, EMA and losses, step by step; the curve holds the mean of every few steps, the record that of all."""
    recipe = replace(TINY, decay_from=0.5)
    records = run_to_end(recipe, images, tmp_path)
    state, alpha_bar, means = new_state(recipe, "cpu"), recipe.make_schedule().alpha_bar.float(), []
    for epoch in (1, 2):
        data = batches(images, 8, recipe.seed, epoch)
        losses = list(train_epoch(state, recipe, data, alpha_bar, lambda: state.step / (2 * STEPS)))
        means.append(torch.stack(losses).double().mean().item())
        assert [loss for _, loss in records[epoch - 1].curve] == pytest.approx([loss.item() for loss in losses])
    assert [record.loss for record in records] == pytest.approx(means)
    assert timeless(weights(tmp_path / "latest.pt")) == timeless(state.model.state_dict())
    assert timeless(weights(tmp_path / "ema_latest.pt")) == timeless(state.ema.state_dict())


def test_a_long_epoch_leaves_a_curve_of_means_in_which_every_step_counts(digits, tmp_path):
    recipe = replace(TINY, batch_size=1, epochs=1)  # 96 steps, two for each point
    [record] = run_to_end(recipe, digits, tmp_path)
    assert [seen for seen, _ in record.curve] == list(range(2, 97, 2))
    assert np.mean([loss for _, loss in record.curve]) == pytest.approx(record.loss)


def test_a_run_says_what_it_does(images, tmp_path, capsys):
    first, _ = run_to_end(TINY, images, tmp_path, quiet=False)
    said = capsys.readouterr().out
    assert "2 epochs ≈ " in said and "on this device (cpu, fp32, " in said
    assert f"Epoch 1/2 finished, average loss: {first.loss:.4f}" in said
    assert f"New best model saved with loss: {first.loss:.4f}" in said


def test_a_quiet_run_says_nothing(images, tmp_path, capsys):
    run_to_end(replace(TINY, T=20), images, tmp_path)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_the_loss_falls(digits, tmp_path):
    records = run_to_end(replace(TINY, epochs=3, warmup=0), digits, tmp_path)
    assert records[-1].loss < 0.5 * records[0].loss


def test_only_the_seed_decides(digits, tmp_path, trained_run):
    torch.manual_seed(123)
    run_to_end(TINY, digits, tmp_path / "again")
    run_to_end(replace(TINY, seed=1), digits, tmp_path / "other")
    again, other, first = (weights(run / "latest.pt") for run in (tmp_path / "again", tmp_path / "other", trained_run))
    assert timeless(again) == timeless(first)
    assert not any(torch.equal(other[name], first[name]) for name in first if name.endswith("conv1.weight"))


def test_a_folder_that_is_not_held_in_memory_trains_the_same_network(images, tmp_path):
    recipe = replace(TINY, epochs=1)
    (tmp_path / "pngs").mkdir()
    for k, image in enumerate(images.numpy(), 1):
        (tmp_path / "pngs" / file_name(k)).write_bytes(encode_png(image))
    run_to_end(recipe, PNGFolder(tmp_path / "pngs"), tmp_path / "streamed")
    run_to_end(recipe, images, tmp_path / "held")
    assert timeless(weights(tmp_path / "streamed/latest.pt")) == timeless(weights(tmp_path / "held/latest.pt"))


def test_after_each_epoch_the_caller_is_shown_its_record_and_the_ema_weights(images, tmp_path):
    """Before latest.pt says that the epoch is done: what fails there is repeated by the same command."""
    shown = []

    def look(record, ema):
        assert load(tmp_path / "latest.pt")["images_seen"] == record.images_seen - 32
        assert history(tmp_path)[-1]["epoch"] == record.epoch
        ema_file = weights(tmp_path / "ema_latest.pt")
        assert all(torch.equal(tensor, ema_file[name]) for name, tensor in ema.state_dict().items())
        assert not ema.training
        shown.append(record)

    assert run_to_end(TINY, images, tmp_path, after_epoch=look) == shown and len(shown) == 2


def test_an_epoch_is_not_done_before_it_was_shown(images, tmp_path):
    with pytest.raises(PowerCut):
        run_to_end(TINY, images, tmp_path / "run", after_epoch=lambda record, ema: cut_power())
    shown = []
    run_to_end(TINY, images, tmp_path / "run", after_epoch=lambda record, ema: shown.append(record.epoch))
    run_to_end(TINY, images, tmp_path / "whole")
    assert shown == [1, 2] and all_of(tmp_path / "run") == all_of(tmp_path / "whole")


# What cannot work is refused before it costs time


@pytest.mark.parametrize(
    "change, count, named",
    [
        ({}, 7, "7 images do not fill one batch of 8.*--batch-size"),
        ({"T": 6}, 32, "T is 6.*--T 7"),
        ({"T": 1}, 32, "T is 1.*--T 7"),
    ],
    ids=["too few images", "T is 6", "T is 1"],
)
def test_what_cannot_work_is_refused_before_the_first_step(images, tmp_path, change, count, named):
    taken = []
    with pytest.raises(ValueError, match=named):
        run_to_end(replace(TINY, **change), acting(images[:count], {}, taken), tmp_path / "run")
    assert taken == [] and not (tmp_path / "run").exists()


def test_the_smallest_t_that_is_not_refused_trains(images, tmp_path):
    assert len(run_to_end(replace(TINY, T=7, epochs=1), images, tmp_path)) == 1


@pytest.mark.parametrize(
    "change, warned", [({"T": 400}, True), ({"T": 830}, False), ({"T": 40, "schedule": "cosine"}, False)], ids=str
)
def test_a_schedule_that_leaves_much_of_the_image_is_warned_of(images, tmp_path, capsys, change, warned):
    with pytest.raises(PowerCut):
        run_to_end(replace(TINY, **change), acting(images, {1: cut_power}), tmp_path, quiet=False)
    said = capsys.readouterr().out
    assert ("WARNING: √ᾱ_T is 0.13" in said and "raise --T" in said) == warned and ("WARNING" in said) == warned


# An interrupted run, gone on with, ends as an undisturbed one


THREE = replace(TINY, epochs=3)


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    run = tmp_path_factory.mktemp("undisturbed")
    run_to_end(THREE, images, run)
    return all_of(run)


@pytest.mark.parametrize(
    "step, number",
    [
        (1, signal.SIGINT),
        (STEPS, signal.SIGINT),
        (STEPS + 3, signal.SIGINT),
        (STEPS + 3, signal.SIGTERM),
        (3 * STEPS, signal.SIGINT),
    ],
)
def test_a_run_that_is_asked_to_stop_saves_at_that_very_step_and_resumes_exactly(
    images, tmp_path, capsys, undisturbed, step, number
):
    taken, acts = [], {step: lambda: os.kill(os.getpid(), number)}
    with pytest.raises(KeyboardInterrupt) as stopped:
        run_to_end(THREE, acting(images, acts, taken), tmp_path, quiet=False)
    assert stopped.value.args == (number,) and len(taken) == step
    assert "The same command goes on" in capsys.readouterr().out.splitlines()[-1]
    assert load(tmp_path / "latest.pt")["images_seen"] == 8 * step
    torch.manual_seed(99)
    run_to_end(THREE, images, tmp_path, quiet=False)
    assert f"{8 * step:,} images seen" in capsys.readouterr().out
    assert all_of(tmp_path) == undisturbed


@pytest.mark.parametrize("often", [True, False], ids=["saved after each step", "saved at the end of epochs"])
@pytest.mark.parametrize("step", [1, STEPS, STEPS + 3])
def test_a_run_that_is_cut_off_resumes_exactly_from_its_last_save(images, tmp_path, clock, undisturbed, step, often):
    clock(2.1)
    with pytest.raises(PowerCut):
        run_to_end(THREE, acting(images, {step: cut_power}), tmp_path, save_minutes=2 / 60 if often else 1000)
    saved = load(tmp_path / "latest.pt")["images_seen"]
    assert saved == 8 * (step - 1 if often else (step - 1) // STEPS * STEPS)
    torch.manual_seed(99)
    run_to_end(THREE, images, tmp_path)
    assert all_of(tmp_path) == undisturbed


def test_a_run_that_is_cut_off_while_it_closes_an_epoch_resumes_exactly(images, tmp_path, monkeypatch, undisturbed):
    with pytest.raises(PowerCut):
        run_to_end(THREE, acting(images, {STEPS + 1: cut_power}), tmp_path / "one epoch")
    real = os.replace
    for survives in range(5):  # of the files that the end of epoch 2 writes
        run, written = shutil.copytree(tmp_path / "one epoch", tmp_path / str(survives)), []

        def appear(source, path, survives=survives, written=written):
            written.append(Path(path).name)
            if len(written) > survives:
                raise PowerCut
            real(source, path)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", appear)
            with pytest.raises(PowerCut):
                run_to_end(THREE, images, run)
        run_to_end(THREE, images, run)
        assert all_of(run) == undisturbed
    assert sorted(written) == ["best.pt", "ema_best.pt", "ema_latest.pt", "history.jsonl", "latest.pt"]
    assert written[-1] == "latest.pt", "which says that the epoch is closed, so all else must be there before"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_in_half_precision_resumes_exactly(images, tmp_path, precision):
    """In fp16 with the scale, which has adapted to the gradients, and the steps since it last did."""
    recipe = replace(TINY, precision=precision)
    overflow = {2: lambda: torch.full((8, 1, 28, 28), 1e4)}  # so much, of pixels, that a gradient overflows
    run_to_end(recipe, acting(images, overflow), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        stop = {**overflow, STEPS + 2: lambda: os.kill(os.getpid(), signal.SIGINT)}
        run_to_end(recipe, acting(images, stop), tmp_path / "stopped")
    scaler = torch.load(tmp_path / "stopped" / "latest.pt", weights_only=True)["resume"]["scaler"]
    assert precision == "bf16" or (scaler["scale"] < 65536 and scaler["_growth_tracker"] > 0)
    run_to_end(recipe, images, tmp_path / "stopped")
    assert all_of(tmp_path / "stopped") == all_of(tmp_path / "whole")


@pytest.mark.parametrize("before, after", [("bf16", "fp16"), ("fp32", "fp16"), ("fp16", "fp32"), ("fp16", "bf16")])
def test_a_run_may_go_on_in_another_precision(images, tmp_path, before, after):
    """Which the recipe allows to change: on another kind of GPU it has to."""
    run_to_end(replace(TINY, precision=before, epochs=1), images, tmp_path)
    [second] = run_to_end(replace(TINY, precision=after), images, tmp_path)
    assert second.epoch == 2 and math.isfinite(second.loss)
    assert load(tmp_path / "latest.pt")["resume"]["setting"][0] == after


def resumed_in(run, images, setting, **changes):
    """The setting in which a run goes on that was saved in `setting`."""
    content = torch.load(run / "latest.pt", weights_only=True)
    content["resume"]["setting"] = setting
    torch.save(content, run / "latest.pt")
    run_to_end(replace(TINY, **changes), images, run)
    return load(run / "latest.pt")["resume"]["setting"]


@pytest.mark.parametrize(
    "setting", [["fp16", "contiguous"], ["fp16", "channels_last"], ["bf16", "contiguous"]], ids=str
)
def test_auto_chooses_anew_where_the_saved_setting_is_none_of_this_device(images, tmp_path, setting):
    """A run of a T4 that goes on on a CPU: there fp16 is emulated, and channels-last the quicker layout."""
    run_to_end(replace(TINY, precision="fp32", epochs=1), images, tmp_path)
    precision, layout = resumed_in(tmp_path, images, setting, precision="auto")
    assert precision in ("fp32", "bf16") and layout == "channels_last"
    stem = torch.load(tmp_path / "latest.pt", weights_only=True)["weights"]["stem.weight"]
    assert stem.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_auto_keeps_a_saved_setting_of_this_device(images, tmp_path, precision):
    """Else a busy minute would change the precision in the middle of a run."""
    run_to_end(replace(TINY, precision="fp32", epochs=1), images, tmp_path)
    assert resumed_in(tmp_path, images, [precision, "channels_last"], precision="auto") == [precision, "channels_last"]


def test_an_epoch_that_was_stopped_at_its_last_batch_has_its_speed(images, tmp_path, clock):
    clock(2.0)
    with pytest.raises(KeyboardInterrupt):
        run_to_end(TINY, acting(images, {2 * STEPS: lambda: os.kill(os.getpid(), signal.SIGINT)}), tmp_path)
    [second] = run_to_end(TINY, images, tmp_path)
    assert [line["images_per_second"] for line in history(tmp_path)] == [4.0, 4.0] and second.seconds == 16.0


def test_an_epoch_that_was_interrupted_has_the_speed_of_all_its_steps(images, tmp_path, clock):
    clock(2.0)
    with pytest.raises(KeyboardInterrupt):
        run_to_end(TINY, acting(images, {2: lambda: os.kill(os.getpid(), signal.SIGINT)}), tmp_path)
    first, _ = run_to_end(TINY, images, tmp_path)
    assert (first.images_per_second, first.seconds) == (4.0, 8.0)


def test_a_run_may_be_given_more_epochs(images, tmp_path):
    constant = replace(TINY, decay_from=1.0)
    run_to_end(replace(constant, epochs=1), images, tmp_path / "one by one")
    run_to_end(replace(constant, epochs=2), images, tmp_path / "one by one")
    run_to_end(constant, images, tmp_path / "at once")
    one, other = (timeless(weights(tmp_path / name / "latest.pt")) for name in ("one by one", "at once"))
    assert one == other


def test_a_finished_run_is_left_alone(images, tmp_path, capsys):
    run_to_end(TINY, images, tmp_path)
    before = files_of(tmp_path)
    assert run_to_end(TINY, images, tmp_path, quiet=False) == []
    assert files_of(tmp_path) == before
    said = capsys.readouterr().out
    assert "finished" in said and "--minutes" in said and "--fresh" in said


def test_a_run_may_be_renamed(images, tmp_path):
    """Name and description of a recipe are for people."""
    run_to_end(replace(TINY, epochs=1), images, tmp_path)
    assert len(run_to_end(replace(TINY, name="mine", about="another"), images, tmp_path)) == 1


def test_a_run_of_the_format_before_goes_on_as_it_would_have_then(digits, tmp_path):
    """What version 0.1.0 has written (see data/README.md), and what it itself made of it."""
    run = shutil.copytree(BEFORE / "run", tmp_path / "run")
    images, recipe = digits[:48], recipe_of(load(run / "latest.pt"))
    with np.load(BEFORE / "expected.npz") as expected:
        training = train(recipe, images, run, device="cpu", quiet=True)
        second = next(training)
        for name, weight in weights(run / "ema_latest.pt").items():
            np.testing.assert_allclose(weight, expected[f"ema.{name}"], atol=2e-5, err_msg=name)
        np.testing.assert_allclose(second.curve, expected["curve"], rtol=1e-4)
        losses = [second.loss, *(record.loss for record in training)]
        assert losses == pytest.approx(expected["losses"][1:].tolist(), rel=1e-3)
        assert [line["loss"] for line in history(run)] == pytest.approx(expected["losses"].tolist(), rel=1e-3)


# The losses are read now and then


@pytest.mark.parametrize("seconds, most", [(2.1, 1), (0.3, 3), (0.001, 10)])
def test_losses_are_read_about_once_a_second_and_at_least_every_ten_steps(digits, tmp_path, clock, seconds, most):
    """So a loss that is not finite is noticed that soon, and named by its own step."""
    clock(seconds)
    taken, spoiled = [], {3: lambda: torch.full((8, 1, 28, 28), math.nan)}
    with pytest.raises(FloatingPointError, match=r"nan at step 3 \(epoch 1\)"):
        run_to_end(replace(TINY, batch_size=8), acting(digits, spoiled, taken), tmp_path)
    assert len(taken) == max(3, most)


def test_how_often_losses_are_read_changes_nothing_in_what_is_written(images, tmp_path, clock, undisturbed):
    clock(2.1)
    run_to_end(THREE, images, tmp_path)
    assert all_of(tmp_path) == undisturbed


class Two(Single):
    """One of two processes; `others` is what the other one puts into a sum."""

    count = 2

    def __init__(self, rank: int):
        self.rank, self.given, self.others = rank, None, None

    def sum(self, values):
        self.given = list(values)
        return [a + b for a, b in zip(values, self.others or values, strict=True)]


def test_of_several_processes_the_first_ones_clock_counts_and_the_mean_of_their_losses(images, tmp_path):
    state = new_state(TINY, "cpu")
    state.step = 2
    run, worker = (
        Run(TINY, images, tmp_path, torch.device("cpu"), Two(rank), lambda *_: None, print, 2.0, False, True)
        for rank in (0, 1)
    )
    assert read(worker, state, Position(), [torch.tensor(0.5), torch.tensor(0.25)], 90.0, True)
    run.world.others, position = worker.world.given, Position()
    unread = [torch.tensor(1.5), torch.tensor(0.75)]
    assert read(run, state, position, unread, 100.0, False), "one of them was asked to stop"
    assert position.seconds == 100.0 and position.batch == 2 and unread == []
    assert [loss for _, loss in position.curve] == [1.0, 0.5] and position.loss_sum == 1.5


# Going on from weights alone


@pytest.fixture(scope="module")
def handed_on(trained_run, tmp_path_factory):
    """What `python -m hwkit export` writes of a run of two epochs."""
    folder = tmp_path_factory.mktemp("handed on")
    export(load(trained_run / "ema_latest.pt"), folder / EXPORTED)
    shutil.copy(trained_run / "history.jsonl", folder)
    return folder


def test_a_new_run_goes_on_from_weights(handed_on, trained_run, digits, tmp_path, capsys):
    """Its weights are the exported ones before its first step, which draws what the run would have drawn next."""
    recipe, expected = replace(TINY, epochs=3), load(handed_on / EXPORTED)["weights"]
    begun = []
    look = {1: lambda: begun.append(torch.load(tmp_path / "latest.pt", weights_only=True))}
    [third] = run_to_end(recipe, acting(digits, look), tmp_path, weights=handed_on, quiet=False)
    [content] = begun
    assert content["images_seen"] == history(trained_run)[-1]["images_seen"]
    for network in (content["weights"], content["ema"]):
        assert all(torch.equal(network[name], expected[name]) for name in expected)
    state, alpha_bar = new_state(recipe, "cpu"), recipe.make_schedule().alpha_bar.float()
    state.model.load_state_dict(expected)
    state.step = 24
    losses = list(train_epoch(state, recipe, batches(digits, 8, 0, 3), alpha_bar, lambda: state.step / 36))
    assert third.loss == pytest.approx(torch.stack(losses).mean().item())
    assert (third.epoch, third.images_seen) == (3, 3 * 96)
    assert timeless(history(tmp_path)[:2]) == timeless(history(trained_run))
    assert third.seconds >= history(trained_run)[-1]["seconds"]
    said = capsys.readouterr().out
    assert "Going on from" in said and "epoch 3" in said
    latest = load(tmp_path / "latest.pt")
    assert run_to_end(recipe, digits, tmp_path, weights=handed_on) == [], "the same command finds its own run"
    assert timeless(load(tmp_path / "latest.pt")) == timeless(latest)


def test_weights_without_a_history_can_be_gone_on_from(handed_on, digits, tmp_path):
    shutil.copy(handed_on / EXPORTED, tmp_path / "weights.safetensors")
    records = run_to_end(replace(TINY, epochs=3), digits, tmp_path / "run", weights=tmp_path / "weights.safetensors")
    assert [record.epoch for record in records] == [3] and len(history(tmp_path / "run")) == 1


def test_a_run_that_goes_on_from_weights_has_their_history_from_its_first_step_on(
    handed_on, trained_run, digits, tmp_path
):
    """An epoch may take long, and may be killed."""
    recipe = replace(TINY, epochs=3)
    with pytest.raises(PowerCut):
        run_to_end(recipe, acting(digits, {2: cut_power}), tmp_path, weights=handed_on)
    assert timeless(history(tmp_path)) == timeless(history(trained_run))
    run_to_end(recipe, digits, tmp_path)
    assert [line["epoch"] for line in history(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("change", [{"lr": 1e-4}, {"muon_lr": 1e-3}, {"clip": 0.5}, {"warmup": 5}], ids=str)
def test_from_weights_one_may_go_on_with_another_learning_rate(handed_on, digits, tmp_path, change):
    """The way on after a loss that is no number: the optimizers begin anew in any case."""
    [record] = run_to_end(replace(TINY, epochs=3, **change), digits, tmp_path, weights=handed_on)
    assert record.epoch == 3


@pytest.mark.parametrize(
    "change, name, sentence",
    [
        ({"epochs": 2}, None, "has had .* 2 epochs, already.*--minutes or --epochs"),
        ({"epochs": 3, "prediction": "v"}, None, "of another recipe .prediction .* → v"),
        ({"epochs": 3, "model": replace(TINY.model, blocks=2)}, None, "of another recipe .*blocks"),
        ({"epochs": 3}, "latest.pt", "latest.pt is more than weights.*--run"),
        ({"epochs": 3}, "nowhere.pt", "There is no checkpoint .*nowhere.pt"),
    ],
    ids=["nothing left", "prediction", "network", "latest.pt", "missing"],
)
def test_weights_that_cannot_be_gone_on_from_are_refused(
    handed_on, trained_run, digits, tmp_path, change, name, sentence
):
    path = trained_run / name if name else handed_on
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        run_to_end(replace(TINY, **change), digits, tmp_path / "run", weights=path)
    assert not list(tmp_path.glob("run/*.pt"))


def test_a_folder_of_exported_weights_is_not_trained_in(handed_on, digits):
    """They would go on being taken for the run's."""
    before = sorted(os.listdir(handed_on))
    with pytest.raises(ValueError, match=r"exported weights.*--run.*--weights"):
        run_to_end(replace(TINY, epochs=3), digits, handed_on)
    assert sorted(os.listdir(handed_on)) == before


# A run that has lost its latest.pt


FOUR = replace(TINY, epochs=4)


@pytest.fixture
def old_run(trained_run, tmp_path) -> Path:
    """A run of two epochs that one may damage."""
    return shutil.copytree(trained_run, tmp_path / "run")


def test_a_run_without_its_latest_checkpoint_is_not_trained_over(old_run, digits):
    (old_run / "latest.pt").unlink()
    before = files_of(old_run)
    with pytest.raises(ValueError, match=r"without its latest\.pt.*--weights .*run goes on.*--fresh.*--run"):
        run_to_end(FOUR, digits, old_run)
    assert files_of(old_run) == before


@pytest.mark.parametrize("left", ["history.jsonl", "best.pt", "previews"])
def test_any_part_of_a_run_is_taken_for_one(old_run, digits, left):
    """Without EMA weights there is nothing to go on from, and no word of it."""
    (old_run / "previews").mkdir()
    for path in old_run.iterdir():
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match=rf"without its latest\.pt .{left}.*--fresh") as refusal:
        run_to_end(FOUR, digits, old_run)
    assert "--weights" not in str(refusal.value) and os.listdir(old_run) == [left]


@pytest.mark.parametrize("name", [None, "ema_latest.pt"], ids=["of the folder", "by name"])
def test_its_own_weights_go_on(old_run, digits, trained_run, name):
    (old_run / "latest.pt").unlink()
    own = old_run / name if name else old_run
    assert [record.epoch for record in run_to_end(FOUR, digits, old_run, weights=own)] == [3, 4]
    assert timeless(history(old_run)[:2]) == timeless(history(trained_run))


@pytest.mark.parametrize("content", [b"", b"PK\3\4 damaged", None], ids=["empty", "damaged", "half"])
def test_the_advice_for_a_damaged_latest_checkpoint_works(old_run, digits, content):
    whole = (old_run / "latest.pt").read_bytes()
    (old_run / "latest.pt").write_bytes(whole[: len(whole) // 2] if content is None else content)
    before = files_of(old_run)
    with pytest.raises(ValueError, match=rf"latest\.pt.*--weights {old_run} goes on.*--fresh") as refusal:
        run_to_end(FOUR, digits, old_run)
    assert files_of(old_run) == before and "\n" not in str(refusal.value)
    assert [record.epoch for record in run_to_end(FOUR, digits, old_run, weights=old_run)] == [3, 4]


def test_weights_of_its_own_run_do_not_replace_a_latest_checkpoint_that_is_whole(old_run, digits, tmp_path):
    """It knows more than they do."""
    run_to_end(FOUR, digits, shutil.copytree(old_run, tmp_path / "resumed"))
    run_to_end(FOUR, digits, old_run, weights=old_run)
    assert all_of(old_run) == all_of(tmp_path / "resumed")


def test_without_weights_to_go_on_from_a_damaged_latest_checkpoint_leaves_one_way(old_run, digits):
    """Of a run that was killed in its first epoch."""
    for path in old_run.glob("*ema*"):
        path.unlink()
    (old_run / "latest.pt").write_bytes(b"PK damaged")
    with pytest.raises(ValueError, match=r"latest\.pt.*--fresh") as refusal:
        run_to_end(FOUR, digits, old_run)
    assert "--weights" not in str(refusal.value)


def test_a_latest_checkpoint_without_a_state_is_called_so(old_run, digits):
    shutil.copy(old_run / "ema_latest.pt", old_run / "latest.pt")
    with pytest.raises(ValueError, match=r"latest\.pt.*--weights.*--fresh"):
        run_to_end(FOUR, digits, old_run)


@pytest.mark.parametrize("text", ['{"epoch": 1, "los', "\x00\x00\x00", '{"epoch": 1}', "[1, 2]", "3"])
def test_a_damaged_history_is_named(old_run, digits, text):
    (old_run / "history.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"run/history\.jsonl is damaged.*delete it"):
        run_to_end(FOUR, digits, old_run)
    (old_run / "history.jsonl").unlink()
    assert [record.epoch for record in run_to_end(FOUR, digits, old_run)] == [3, 4], "the advice works"


# Starting over


def test_without_resume_a_run_starts_over(images, tmp_path):
    run_to_end(replace(TINY, epochs=3), images, tmp_path)
    (tmp_path / "previews").mkdir()
    (tmp_path / "previews" / "epoch_0003.png").write_bytes(b"old")
    (tmp_path / "essay.txt").write_text("mine")
    records = run_to_end(replace(TINY, seed=3, epochs=1), images, tmp_path, resume=False)
    assert [record.epoch for record in records] == [1] and len(history(tmp_path)) == 1
    assert load(tmp_path / "ema_best.pt")["images_seen"] == 32 and not (tmp_path / "previews").exists()
    assert (tmp_path / "essay.txt").read_text() == "mine", "what training did not write is not deleted"


@pytest.mark.parametrize("content", [b"", None], ids=["damaged", "missing"])
def test_starting_over_needs_nothing_of_the_old_run(old_run, digits, content):
    (old_run / "latest.pt").unlink()
    if content is not None:
        (old_run / "latest.pt").write_bytes(content)
    assert len(run_to_end(replace(TINY, epochs=1), digits, old_run, resume=False)) == 1


def test_the_old_run_is_kept_until_the_new_one_stands(old_run, digits, monkeypatch):
    before, real = files_of(old_run), os.replace
    with pytest.raises(ValueError, match="do not fill"):
        run_to_end(TINY, digits[:3], old_run, resume=False)
    assert files_of(old_run) == before
    appeared = []

    def appear(source, path):
        appeared.append(Path(path).name)
        if len(appeared) == 1:
            assert files_of(old_run) == before or (old_run / "latest.pt").is_file()
            raise OSError(28, "No space left on device")
        real(source, path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", appear)
        with pytest.raises(OSError, match="disk is full"):
            run_to_end(TINY, digits, old_run, resume=False)
    assert files_of(old_run) == before and appeared == ["latest.pt"]
    taken = []

    def stop():
        taken.append(files_of(old_run))
        raise PowerCut

    with pytest.raises(PowerCut):
        run_to_end(replace(TINY, seed=1), acting(digits, {1: stop}), old_run, resume=False)
    assert set(taken[0]) == {"latest.pt"} and load(old_run / "latest.pt")["images_seen"] == 0


# One process at a time


@pytest.fixture
def impatient(monkeypatch):
    """A lock that is held is given up on after a moment instead of six seconds."""
    monkeypatch.setattr(hwkit.files, "WAIT_FOR_LOCK", 0.2)


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_that_is_being_trained_is_left_alone(old_run, digits, impatient, resume):
    """Also where it is this very process that trains it: a generator that a notebook holds in a variable."""
    holding = train(FOUR, digits, old_run, device="cpu", quiet=True)
    next(holding)
    before = files_of(old_run)
    with pytest.raises(ValueError, match=rf"{old_run} is being written to by another process, or by this one"):
        run_to_end(FOUR, digits, old_run, resume=resume)
    assert files_of(old_run) == before
    holding.close()
    assert [record.epoch for record in run_to_end(FOUR, digits, old_run)] == [4]


# The best epoch, and when to stop


def grey(images, losses):
    """Images of one grey in each epoch, of which a network that says 0, and learns nothing, makes these losses."""
    taken = []

    def before(batch):
        taken.append(1)
        return torch.full((len(batch), 1, 28, 28), 127.5 * (1 + losses[(len(taken) - 1) // STEPS] ** 0.5))

    return watched(images, before)


# A new network puts out 0 everywhere, and at this rate for ever, so a loss is the mean square of the images.
DULL = replace(TINY, lr=1e-30, muon_lr=None, weighting="uniform", prediction="x0", decay_from=1.0)


def test_the_best_epoch_is_kept(images, tmp_path):
    records = run_to_end(replace(DULL, epochs=4), grey(images, [0.9, 0.5, 0.7, 0.6]), tmp_path)
    assert [record.loss for record in records] == pytest.approx([0.9, 0.5, 0.7, 0.6], abs=1e-5)
    assert [record.is_best for record in records] == [True, True, False, False]
    for name in ("best.pt", "ema_best.pt"):
        best = load(tmp_path / name)
        assert (best["epoch"], best["loss"], best["images_seen"]) == (2, pytest.approx(0.5, abs=1e-5), 64)
    assert load(tmp_path / "ema_latest.pt")["epoch"] == 4


def test_the_best_epoch_survives_a_resume(images, tmp_path):
    shown = grey(images, [0.5, 0.9, 0.4])
    run_to_end(replace(DULL, epochs=1), shown, tmp_path)
    best = (tmp_path / "ema_best.pt").read_bytes()
    [second] = run_to_end(replace(DULL, epochs=2), shown, tmp_path)
    assert not second.is_best and (tmp_path / "ema_best.pt").read_bytes() == best
    [third] = run_to_end(replace(DULL, epochs=3), shown, tmp_path)
    assert third.is_best and load(tmp_path / "ema_best.pt")["epoch"] == 3


def test_the_best_epoch_is_not_forgotten_with_the_latest_checkpoint(images, tmp_path):
    shown = grey(images, [0.9, 0.5, 0.7, 0.6])
    run_to_end(replace(DULL, epochs=3), shown, tmp_path)
    (tmp_path / "latest.pt").unlink()
    [fourth] = run_to_end(replace(DULL, epochs=4), shown, tmp_path, weights=tmp_path / "ema_latest.pt")
    assert fourth.loss == pytest.approx(0.6, abs=1e-5) and not fourth.is_best


def test_patience_stops_a_run_that_no_longer_gets_better(images, tmp_path):
    shown = grey(images, [0.9, 0.5, 0.6, 0.55, 0.1])
    recipe = replace(DULL, epochs=5, patience=2)
    assert [record.epoch for record in run_to_end(recipe, shown, tmp_path)] == [1, 2, 3, 4]
    assert run_to_end(recipe, shown, tmp_path) == [], "and it stays stopped"
    assert [record.epoch for record in run_to_end(replace(recipe, patience=3), shown, tmp_path)] == [5]


def test_patience_is_not_lost_in_a_resume(images, tmp_path):
    shown = grey(images, [0.5, 0.9, 0.9, 0.9])
    recipe = replace(DULL, epochs=4, patience=2)
    run_to_end(replace(recipe, epochs=2), shown, tmp_path)
    assert [record.epoch for record in run_to_end(recipe, shown, tmp_path)] == [3]


def test_minutes_bound_a_run_and_its_decay_is_fitted_to_them(digits, tmp_path, clock, capsys):
    clock(2.1)
    recipe = replace(TINY, minutes=1, epochs=1000)
    records = run_to_end(recipe, digits, tmp_path, quiet=False)
    said = capsys.readouterr().out
    assert "60 s ≈ 2.4 epochs on this device (cpu, fp32, 4 images/s)" in said
    assert re.findall("(?<=Epoch ).+ finished", said) == ["1/1000 finished", "2/1000 finished"]
    assert f"The time is over after 42% of epoch 3, average loss: {records[-1].loss:.4f}" in said, "5 of its 12 steps"
    assert records[-1].images_seen == 29 * 8, "28 steps take 58.8 seconds"
    assert [record.epoch for record in records] == [1, 2, 3]
    assert records[-1].seconds == pytest.approx(29 * 2.1, abs=0.1)
    assert records[-1].lr == pytest.approx(recipe.lr * (1 - 28 * 2.1 / 60) / 0.7)
    assert run_to_end(recipe, digits, tmp_path) == []
    [more] = run_to_end(replace(recipe, minutes=1.04), digits, tmp_path)
    assert more.images_seen == 30 * 8


def test_minutes_go_on_counting_after_an_interruption(digits, tmp_path, clock):
    clock(2.1)
    recipe = replace(TINY, minutes=1, epochs=1000)
    with pytest.raises(KeyboardInterrupt):
        run_to_end(recipe, acting(digits, {10: lambda: os.kill(os.getpid(), signal.SIGINT)}), tmp_path)
    assert run_to_end(recipe, digits, tmp_path)[-1].images_seen == 29 * 8


def test_an_epoch_whose_time_was_over_when_it_was_stopped_is_closed_by_the_same_command(digits, tmp_path, clock):
    """Else the run would count as finished, and its last epoch, or its only one, would have no weights."""
    clock(20.0)
    recipe = replace(TINY, minutes=1, epochs=1000)
    with pytest.raises(KeyboardInterrupt):
        run_to_end(recipe, acting(digits, {3: lambda: os.kill(os.getpid(), signal.SIGINT)}), tmp_path)
    assert not (tmp_path / "ema_latest.pt").exists()
    [record] = run_to_end(recipe, digits, tmp_path)
    assert (record.epoch, record.images_seen) == (1, 4 * 8) and (tmp_path / "ema_latest.pt").is_file()
    assert run_to_end(recipe, digits, tmp_path) == []


def test_epochs_that_end_before_the_minutes_bound_the_decay_too(images, tmp_path):
    recipe = replace(TINY, minutes=1000, epochs=2, warmup=0)
    assert run_to_end(recipe, images, tmp_path)[-1].lr == pytest.approx(recipe.lr * (1 / 8) / 0.7)


def test_a_save_within_an_epoch_comes_after_so_many_minutes_each_time(digits, tmp_path, clock):
    clock(2.1)
    with pytest.raises(PowerCut):
        run_to_end(TINY, acting(digits, {6: cut_power}), tmp_path, save_minutes=5 / 60)
    assert load(tmp_path / "latest.pt")["images_seen"] == 3 * 8
    minutes = inspect.signature(train).parameters["save_minutes"].default
    assert minutes + notebook.OFTEN <= 5, "so Drive is at most five behind"


def test_what_to_expect_of_a_run_that_goes_on_is_of_its_rest(images, tmp_path, clock, capsys):
    clock(2.0)
    for recipe, said in ((THREE, "2 epochs ≈ 12 s"), (replace(TINY, epochs=1000, minutes=1), "48 s ≈ 6.0 epochs")):
        run = tmp_path / str(recipe.epochs)
        with pytest.raises(KeyboardInterrupt):
            run_to_end(recipe, acting(images, {6: lambda: os.kill(os.getpid(), signal.SIGINT)}), run)
        with pytest.raises(PowerCut):
            run_to_end(recipe, acting(images, {1: cut_power}), run, quiet=False)
        assert said in capsys.readouterr().out


def test_the_learning_rate_follows_the_steps_where_no_minutes_are_set(images, tmp_path):
    """Its factor at the last of two steps in each of six epochs."""
    recipe = replace(TINY, warmup=4, decay_from=0.5, epochs=6)
    records = run_to_end(recipe, images[:16], tmp_path)
    factors = [2 / 4, 1, 1, 5 / 6, 3 / 6, 1 / 6]
    assert [record.lr for record in records] == pytest.approx([factor * recipe.lr for factor in factors])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_last_checkpoint(images, tmp_path, value, undisturbed):
    saved = []
    acts = {
        STEPS + 2: lambda: saved.append(files_of(tmp_path)),
        STEPS + 3: lambda: torch.full((8, 1, 28, 28), value),
    }
    with pytest.raises(FloatingPointError, match=rf"loss is (nan|inf) at step {STEPS + 3} \(epoch 2\).*--lr") as told:
        run_to_end(THREE, acting(images, acts), tmp_path)
    assert f"--weights {tmp_path}" in str(told.value)
    assert files_of(tmp_path) == saved[0]
    assert [record.epoch for record in run_to_end(THREE, images, tmp_path)] == [2, 3]
    assert all_of(tmp_path) == undisturbed


def test_a_gradient_that_is_not_finite_does_not_reach_a_checkpoint(images, tmp_path):
    """The loss of that step is finite still, and the step the last of an epoch, after which all is saved."""
    asked, hooks = [], []

    def spoil(module, inputs):
        if asked and isinstance(module, UNet) and not hooks:
            hooks.append(module.stem.bias.register_hook(lambda gradient: gradient * math.inf))

    watching = torch.nn.modules.module.register_module_forward_pre_hook(spoil)
    try:
        with pytest.raises(FloatingPointError, match=rf"at step {STEPS} \(epoch 1\)"):
            run_to_end(THREE, acting(images, {STEPS: lambda: asked.append(1)}), tmp_path)
    finally:
        watching.remove()
    saved = [weights(path) for path in tmp_path.glob("*.pt")]
    assert saved and all(tensor.isfinite().all() for content in saved for tensor in content.values())
    assert [record.epoch for record in run_to_end(THREE, images, tmp_path)] == [1, 2, 3]


# Another recipe, other data


CHANGES = {
    "model": replace(TINY.model, blocks=2),
    "T": 41,
    "schedule": "cosine",
    "prediction": "v",
    "weighting": "uniform",
    "batch_size": 4,
    "lr": 2e-3,
    "muon_lr": None,
    "beta2": 0.98,
    "warmup": 3,
    "decay_from": 0.5,
    "clip": 2.0,
    "ema": 0.9,
    "seed": 1,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_of_another_recipe_is_refused_and_the_field_named(trained_run, digits, name):
    before = (trained_run / "latest.pt").read_bytes()
    with pytest.raises(ValueError, match=f"\\b{'blocks' if name == 'model' else name} .*--run.*--fresh"):
        run_to_end(replace(TINY, **{name: CHANGES[name]}), digits, trained_run)
    assert (trained_run / "latest.pt").read_bytes() == before


def test_every_field_is_either_checked_or_may_change():
    may_change = {"name", "about", "epochs", "minutes", "patience", "precision"}
    assert {field.name for field in fields(Recipe)} == set(CHANGES) | may_change


def test_a_run_on_other_data_is_refused(trained_run, digits):
    with pytest.raises(ValueError, match=r"96 images.*80"):
        run_to_end(TINY, digits[:80], trained_run)


# Requests to stop


def test_a_second_request_interrupts_at_once():
    with stop_requests() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_the_usual_handlers_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), stop_requests():
        assert signal.getsignal(signal.SIGINT) != before[0]
        raise ZeroDivisionError
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_thread_can_train_too(images, tmp_path):
    """As in a notebook's background job; signals belong to the main thread."""
    thread = threading.Thread(target=run_to_end, args=(replace(TINY, epochs=1), images, tmp_path))
    thread.start()
    thread.join()
    assert len(history(tmp_path)) == 1


# What to expect of the time


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0 s"), (50, "50 s"), (90, "2 min"), (600, "10 min"), (3599, "1 h 00 min"), (27600, "7 h 40 min")],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"epochs": 175}, "175 epochs ≈ 7 h 40 min on this device (cpu, fp32, 6 images/s)"),
        ({"epochs": 7}, "7 epochs ≈ 18 min on this device (cpu, fp32, 6 images/s)"),
        ({"epochs": 1000, "minutes": 5}, "5 min ≈ 1.9 epochs on this device (cpu, fp32, 6 images/s)"),
    ],
    ids=["long", "short", "minutes"],
)
def test_what_to_expect_is_said_before_a_long_run(tmp_path, clock, capsys, change, sentence):
    """117 steps an epoch, as many as the original has, each of as long as it takes on two cores."""
    clock(27_600 / (175 * 117))
    images = acting(torch.zeros(117 * 8, 1, 28, 28, dtype=torch.uint8), {1: cut_power})
    with pytest.raises(PowerCut):
        run_to_end(replace(TINY, **change), images, tmp_path, quiet=False)
    said = capsys.readouterr().out
    assert sentence in said
    assert ("`cpu` would need 10 min: python -m hwkit train cpu" in said) == (change["epochs"] == 175)


# What is tried for speed


@pytest.mark.parametrize(
    "capability, precision", [((6, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((8, 9), "bf16"), ((9, 0), "bf16")]
)
def test_a_gpu_is_given_the_half_precision_that_it_computes_in(monkeypatch, capability, precision):
    """A T4 is 7.5, an A100 8.0, an L4 8.9. Both layouts are tried there."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    found = candidates(torch.device("cuda"))
    assert [tuple(setting) for setting in found] == [(precision, "channels_last"), (precision, "contiguous")]


@pytest.mark.parametrize("device, precisions", [("cpu", ["fp32", "bf16"]), ("mps", ["fp32"])])
def test_elsewhere_what_may_be_quick_is_tried(device, precisions):
    found = [tuple(setting) for setting in candidates(torch.device(device))]
    assert found == [(precision, "channels_last") for precision in precisions]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_a_precision_that_is_asked_for_is_not_discussed(device, precision):
    assert {setting.precision for setting in candidates(torch.device(device), precision)} == {precision}


@pytest.mark.parametrize("before, after", [("contiguous", "channels_last"), ("channels_last", "contiguous")])
def test_a_run_goes_on_in_the_layout_of_another_device(images, tmp_path, monkeypatch, before, after):
    """Fused AdamW refuses averages that are laid out otherwise than the weights, as on the way to a GPU and back."""
    recipe = replace(TINY, precision="fp32", epochs=2)
    for epochs, layout in enumerate((before, after), 1):
        monkeypatch.setattr("hwkit.runs.run.candidates", lambda *_, layout=layout: [Setting("fp32", layout)])
        run_to_end(replace(recipe, epochs=epochs), images, tmp_path)
    for optimizer in load(tmp_path / "latest.pt")["resume"]["optimizers"]:
        for state in optimizer["state"].values():
            for value in (v for v in state.values() if v.ndim == 4 and min(v.shape[1:]) > 1):
                assert value.is_contiguous(memory_format=LAYOUTS[after])


def test_auto_takes_the_quickest_setting(images, tmp_path, monkeypatch):
    """By a clock on which steps of one precision are slow."""
    for slow, quick in ((torch.bfloat16, "fp32"), (torch.float32, "bf16")):
        now, dtypes, slow_steps = [0.0], [], [0]

        def slower(module, inputs, output, slow=slow, now=now, dtypes=dtypes):
            if isinstance(module, torch.nn.Conv2d) and output.shape[1] == 16 and not dtypes:
                dtypes.append(output.dtype)

        def step_taken(optimizer, *_, slow=slow, now=now, dtypes=dtypes, slow_steps=slow_steps):
            slow_steps[0] += dtypes[:1] == [slow]
            now[0] += 0.01 + 0.09 * (dtypes[:1] == [slow])
            dtypes.clear()

        hooks = [
            torch.nn.modules.module.register_module_forward_hook(slower),
            register_optimizer_step_post_hook(step_taken),
        ]
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda now=now: now[0])
            run_to_end(replace(TINY, precision="auto", muon_lr=None, epochs=1), images, tmp_path / quick)
        for hook in hooks:
            hook.remove()
        assert load(tmp_path / quick / "latest.pt")["resume"]["setting"] == [quick, "channels_last"]
        if quick == "fp32":  # it is tried first; of the slow one two steps to warm up and one are enough
            assert slow_steps == [3]


def test_a_compiled_network_trains_the_same_weights(images, tmp_path, monkeypatch, undisturbed):
    """torch.compile itself, stood in for by a wrapper as it makes one, is not what is tested."""
    called = []

    class Compiled(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self._orig_mod = model

        def forward(self, x, t):
            called.append(len(x))
            return self._orig_mod(x, t)

    monkeypatch.setattr(torch, "compile", Compiled)
    run_to_end(THREE, images, tmp_path, compile=True)
    assert called == [8] * 3 * STEPS and all_of(tmp_path) == undisturbed


def test_what_training_sets_for_the_whole_process_is_as_before_in_the_end(images, tmp_path):
    def set_now() -> tuple:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark

    before = set_now()
    within = [set_now() for _ in train(TINY, images, tmp_path, "cpu", quiet=True)]
    assert set(within) == {("high", True)} and set_now() == before == ("highest", False)


def test_a_denoiser_comes_out_of_a_run(trained_run):
    """Of its folder, the weights to sample from."""
    x = torch.zeros(1, 3, 28, 28)
    ours = load_denoiser(trained_run)(x, 20)[0]
    network = copy.deepcopy(load_denoiser(trained_run).model)
    network.load_state_dict(weights(trained_run / "ema_latest.pt"))
    assert torch.equal(ours, TINY.denoiser(network)(x, 20)[0])
