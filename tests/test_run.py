"""Training: what it writes, that it learns, that it resumes exactly, and when it stops."""

import copy
import json
import math
import os
import shutil
import signal
import threading
from dataclasses import fields, replace
from functools import partial
from types import SimpleNamespace

import hwkit.train
import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

from hwkit.mnist.batches import PNGFolder
from hwkit.mnist.folder import encode_png, file_name
from hwkit.muon import Muon, orthogonalize
from hwkit.recipe import CPU, ORIGINAL, RECIPES, SMOKE, Recipe
from hwkit.runs.checkpoint import EXPORTED, export, load
from hwkit.runs.run import expectation, stop_requests, train
from hwkit.runs.speed import duration
from hwkit.sampling import nodes
from hwkit.training import draw, new_state

STEPS = 6  # an epoch: 48 digits in batches of 8
TIMES = ("seconds", "images_per_second")  # what two runs of one recipe may differ in


def run_to_end(recipe, images, run, **options) -> list:
    return list(train(recipe, images, run, device="cpu", **{"say": lambda text: None, **options}))


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
    """The content of a run's files, by name, but for times and previews."""
    content = {path.name: timeless(torch.load(path, weights_only=True)) for path in run.glob("*.pt")}
    return content | {"history.jsonl": timeless(history(run)), "files": sorted(os.listdir(run))}


@pytest.fixture(scope="module")
def images(digits):
    return digits[:48]


def make_quick(patch) -> None:
    patch.setattr(hwkit.train, "save_preview", lambda *_: None)
    patch.setattr(hwkit.train, "images_per_second", lambda *_: 100.0)


@pytest.fixture
def quick(monkeypatch):
    """No previews and no measuring of speeds, where they are not the point: they take longer than the training."""
    make_quick(monkeypatch)


@pytest.fixture
def at_step(monkeypatch):
    """`at_step(k, act)`: act() is called right after the k-th training step of all runs from now on (1, 2, …)."""
    real, acts, count = hwkit.train.training_step, {}, []

    def training_step(*arguments):
        loss = real(*arguments)
        count.append(1)
        acts.pop(len(count), lambda: None)()
        return loss

    monkeypatch.setattr(hwkit.train, "training_step", training_step)
    return acts.__setitem__


@pytest.fixture
def losses(monkeypatch, quick):
    """`losses[:] = [...]`: each epoch has this loss, whatever the network does."""
    given = []
    monkeypatch.setattr(hwkit.train, "training_step", lambda state, *_: given[state.epoch - 1])
    return given


# A run, from its beginning to its end


def test_a_run_writes_what_it_promises(trained_run):
    assert sorted(os.listdir(trained_run)) == [
        "best.pt",
        "ema_best.pt",
        "ema_latest.pt",
        "history.jsonl",
        "latest.pt",
        "previews",
    ]
    assert sorted(os.listdir(trained_run / "previews")) == ["epoch_0001.png", "epoch_0002.png"]
    for path in (trained_run / "previews").iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG" and min(image.size) > 300
            assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_the_history_has_a_line_for_each_epoch(trained_run):
    first, second = history(trained_run)
    assert [first["epoch"], second["epoch"]] == [1, 2]
    assert [first["images_seen"], second["images_seen"]] == [96, 192]
    assert first["is_best"] and second["is_best"] == (second["loss"] < first["loss"])
    assert 0 < first["seconds"] < second["seconds"] and first["images_per_second"] > 0
    for line, seen in ((first, 0), (second, 96)):
        points, means = zip(*line["curve"], strict=True)
        assert points == tuple(range(seen + 8, seen + 97, 8))
        assert np.mean(means) == pytest.approx(line["loss"])


def test_what_is_yielded_is_what_is_written(images, tmp_path, quick):
    for record in train(TINY, images, tmp_path, device="cpu", say=lambda text: None):
        assert history(tmp_path)[-1] == json.loads(json.dumps(record._asdict()))
        assert load(tmp_path / "latest.pt")["resume"]["epoch"] == record.epoch + 1


def test_a_run_says_what_it_does(images, tmp_path, quick):
    said = []
    first, _ = run_to_end(TINY, images, tmp_path, say=said.append)
    text = "\n".join(said)
    assert "2 epochs ≈ " in said[0] and "on this device (cpu, fp32, " in said[0]
    assert f"Epoch 1/2 finished, average loss: {first.loss:.4f}" in text
    assert f"New best model saved with loss: {first.loss:.4f}" in text


def test_the_loss_falls(images, tmp_path, quick):
    records = run_to_end(replace(TINY, epochs=12, warmup=0), images, tmp_path)
    assert records[-1].loss < 0.5 * records[0].loss


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_every_prediction_learns(images, tmp_path, quick, prediction):
    recipe = replace(TINY, epochs=8, prediction=prediction, weighting="uniform", schedule="cosine", muon_lr=None)
    records = run_to_end(recipe, images, tmp_path)
    assert records[-1].loss < 0.95 * records[0].loss


def test_only_the_seed_decides(digits, tmp_path, quick, trained_run):
    torch.manual_seed(123)
    run_to_end(TINY, digits, tmp_path / "again")
    run_to_end(replace(TINY, seed=1), digits, tmp_path / "other")
    again, other, first = (weights(run / "latest.pt") for run in (tmp_path / "again", tmp_path / "other", trained_run))
    assert timeless(again) == timeless(first)
    assert not any(torch.equal(other[name], first[name]) for name in first if name.endswith("conv1.weight"))


def test_a_folder_that_is_not_held_in_memory_trains_the_same_network(images, tmp_path, quick):
    recipe = replace(TINY, epochs=1)
    (tmp_path / "pngs").mkdir()
    for k, image in enumerate(images[:, 0].numpy(), 1):
        (tmp_path / "pngs" / file_name(k)).write_bytes(encode_png(image))
    run_to_end(recipe, PNGFolder(tmp_path / "pngs"), tmp_path / "streamed")
    run_to_end(recipe, images, tmp_path / "held")
    assert timeless(weights(tmp_path / "streamed/latest.pt")) == timeless(weights(tmp_path / "held/latest.pt"))


def test_bf16_trains_weights_of_float32(images, tmp_path, quick):
    [record] = run_to_end(replace(TINY, epochs=1, precision="bf16"), images, tmp_path)
    assert math.isfinite(record.loss)
    assert {w.dtype for w in weights(tmp_path / "latest.pt").values()} == {torch.float32}


def test_too_few_images_are_refused(images, tmp_path):
    with pytest.raises(ValueError, match="7 images do not fill one batch of 8: lower batch_size"):
        run_to_end(TINY, images[:7], tmp_path)


def test_previews_show_the_ema_weights_at_the_nodes_from_one_noise(images, tmp_path, monkeypatch):
    seen = []
    real = hwkit.train.sample
    spy = lambda denoise, *a, **k: seen.append((denoise.model, [])) or real(denoise, *a, **k)  # noqa: E731
    monkeypatch.setattr(hwkit.train, "sample", spy)
    grid = hwkit.train.figures.diffusion_grid
    monkeypatch.setattr(
        hwkit.train.figures, "diffusion_grid", lambda frames, title: seen[-1][1].extend(frames) or grid(frames, title)
    )
    for _ in train(TINY, images, tmp_path, device="cpu", say=lambda text: None):
        model, frames = seen[-1]
        ema = weights(tmp_path / "ema_latest.pt")
        assert all(torch.equal(tensor, ema[name]) for name, tensor in model.state_dict().items())
        assert [frame.t for frame in frames] == nodes(TINY.T) and frames[0].x_t.shape == (8, 3, 28, 28)
    (_, first), (_, second) = seen
    assert torch.equal(first[0].x_t, second[0].x_t) and not torch.equal(first[-1].x_t, second[-1].x_t)


# One step


def test_times_from_1_to_T_are_trained_and_no_others():
    x_0 = torch.zeros(1, 1, 1, 1)
    t = torch.cat([draw(replace(TINY, T=7, batch_size=64), step, x_0)[0] for step in range(200)])
    counts = torch.bincount(t, minlength=8)
    assert len(counts) == 8 and counts[0] == 0
    expected = 64 * 200 / 7
    assert ((counts[1:] - expected).abs() < 5 * math.sqrt(expected)).all(), counts
    assert (draw(replace(TINY, T=1), 0, x_0)[0] == 1).all()
    assert torch.cat([draw(ORIGINAL, step, x_0)[0] for step in range(20)]).max() == 830


def test_the_draw_depends_on_seed_and_step_alone():
    x_0 = torch.zeros(16, 3, 4, 4)
    torch.manual_seed(1)
    t, eps = draw(TINY, 5, x_0)
    torch.manual_seed(2)
    again = draw(TINY, 5, x_0 + 1)
    assert torch.equal(again[0], t) and torch.equal(again[1], eps)
    for recipe, step in ((TINY, 6), (replace(TINY, seed=1), 5)):
        other = draw(recipe, step, x_0)
        assert not torch.equal(other[0], t) and not torch.isclose(other[1], eps).any()


def test_the_noise_is_standard_normal():
    eps = torch.cat([draw(TINY, step, torch.zeros(16, 3, 28, 28))[1] for step in range(4)]).double()
    n = eps.numel()
    assert abs(eps.mean()) < 5 / math.sqrt(n) and abs(eps.var() - 1) < 5 * math.sqrt(2 / n)


def test_the_network_is_trained_on_images_in_minus_1_to_1_at_drawn_times(images, tmp_path, monkeypatch, quick):
    calls = []
    real = hwkit.train.diffusion_loss
    monkeypatch.setattr(hwkit.train, "diffusion_loss", lambda *a, **k: calls.append(a) or real(*a, **k))
    run_to_end(replace(TINY, epochs=1), images, tmp_path)
    assert len(calls) == STEPS
    x = torch.cat([x_0 for _, x_0, *_ in calls])
    assert x.shape == (48, 3, 28, 28) and x.min() == -1 and x.max() == 1
    for step, (_, x_0, t, eps, alpha_bar, prediction, weighting) in enumerate(calls):
        expected_t, expected_eps = draw(TINY, step, x_0)
        assert torch.equal(t, expected_t) and torch.equal(eps, expected_eps)
        torch.testing.assert_close(alpha_bar.double(), TINY.make_schedule().alpha_bar)
        assert (prediction, weighting) == ("x0", "min_snr")


def test_the_ema_is_the_average_of_the_weights_with_the_decay_of_the_recipe(images, tmp_path, monkeypatch, quick):
    after = []
    real = hwkit.train.training_step

    def training_step(state, *arguments):
        before = [p.detach().double().clone() for p in state.model.parameters()]
        loss = real(state, *arguments)
        after.append((before, [p.detach().double().clone() for p in state.model.parameters()]))
        return loss

    monkeypatch.setattr(hwkit.train, "training_step", training_step)
    run_to_end(replace(TINY, epochs=1, ema=0.4), images, tmp_path)
    expected = after[0][0]
    for n, (_, current) in enumerate(after):
        decay = min(0.4, (1 + n) / (10 + n))
        expected = [decay * e + (1 - decay) * c for e, c in zip(expected, current, strict=True)]
    found = list(weights(tmp_path / "ema_latest.pt").values())
    for e, f in zip(expected, found, strict=True):
        torch.testing.assert_close(f.double(), e, atol=1e-6, rtol=0)
    assert timeless(weights(tmp_path / "latest.pt")) == timeless(
        dict(zip(weights(tmp_path / "latest.pt"), (c.float() for c in after[-1][1]), strict=True))
    )


def test_the_learning_rate_is_that_of_the_recipe_at_every_step(images, tmp_path, monkeypatch, quick):
    recipe, seen = replace(TINY, warmup=4, decay_from=0.5), []
    real = hwkit.train.training_step

    def training_step(state, *arguments):
        loss = real(state, *arguments)
        seen.append([group["lr"] for optimizer in state.optimizers for group in optimizer.param_groups])
        return loss

    monkeypatch.setattr(hwkit.train, "training_step", training_step)
    run_to_end(recipe, images, tmp_path)
    factors = [1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert seen == [pytest.approx([factor * recipe.lr, factor * recipe.muon_lr]) for factor in factors]


@pytest.mark.parametrize("muon_lr", [None, 0.02])
def test_every_weight_has_one_optimizer(muon_lr):
    state = new_state(replace(CPU, muon_lr=muon_lr), torch.device("cpu"), "fp32")
    held = [id(p) for optimizer in state.optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in state.model.parameters())
    adamw, *others = state.optimizers
    assert isinstance(adamw, torch.optim.AdamW) and adamw.defaults["betas"] == (0.9, CPU.beta2)
    assert [type(optimizer) for optimizer in others] == ([Muon] if muon_lr else [])
    for optimizer in others:
        assert all(p.ndim == 4 for p in optimizer.param_groups[0]["params"])
        outer = [*state.model.stem.parameters(), *state.model.head.parameters(), *state.model.time.parameters()]
        assert not {id(p) for p in outer} & {id(p) for p in optimizer.param_groups[0]["params"]}


@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_the_gradient_is_clipped_to_its_norm(images, clip):
    """AdamW's first average is a tenth of the gradient that it was given."""
    recipe = replace(TINY, clip=clip, muon_lr=None)
    state = new_state(recipe, torch.device("cpu"), "fp32")
    x_0 = images[:8].expand(-1, 3, -1, -1) / 127.5 - 1
    hwkit.train.training_step(state, recipe, x_0, recipe.make_schedule().alpha_bar.float(), STEPS)
    averages = [s["exp_avg"] for s in state.optimizers[0].state.values()]
    norm = 10 * torch.cat([a.flatten() for a in averages]).norm().item()
    assert norm == pytest.approx(clip, rel=1e-3) if clip < 1 else 0.01 < norm < clip


# An interrupted run, gone on with, ends as an undisturbed one


THREE = replace(TINY, epochs=3)


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    run = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
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
def test_a_run_that_is_asked_to_stop_saves_and_resumes_exactly(
    images, tmp_path, quick, at_step, undisturbed, step, number
):
    said = []
    at_step(step, lambda: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt):
        run_to_end(THREE, images, tmp_path, say=said.append)
    assert "The same command goes on" in said[-1]
    content = load(tmp_path / "latest.pt")
    assert content["resume"]["step"] == step and content["images_seen"] == 8 * step
    torch.manual_seed(99)
    run_to_end(THREE, images, tmp_path, say=said.append)
    assert any(f"{8 * step:,} images seen" in text for text in said)
    assert all_of(tmp_path) == undisturbed


class PowerCut(Exception):
    pass


def cut_power(*_):
    raise PowerCut


@pytest.mark.parametrize("save_minutes", [0, 1000], ids=["saved after each step", "saved at the end of epochs"])
@pytest.mark.parametrize("step", [1, STEPS, STEPS + 3])
def test_a_run_that_is_cut_off_resumes_exactly_from_its_last_save(
    images, tmp_path, quick, at_step, undisturbed, step, save_minutes
):
    at_step(step, cut_power)
    with pytest.raises(PowerCut):
        run_to_end(THREE, images, tmp_path, save_minutes=save_minutes)
    saved = load(tmp_path / "latest.pt")["resume"]["step"]
    assert saved == (step - 1 if save_minutes == 0 else (step - 1) // STEPS * STEPS)
    torch.manual_seed(99)
    run_to_end(THREE, images, tmp_path)
    assert all_of(tmp_path) == undisturbed


def test_a_run_that_is_cut_off_while_it_closes_an_epoch_resumes_exactly(
    images, tmp_path, quick, at_step, monkeypatch, undisturbed
):
    at_step(STEPS + 1, cut_power)
    with pytest.raises(PowerCut):
        run_to_end(THREE, images, tmp_path / "one epoch")
    for survives in range(5):  # of the files that the end of epoch 2 writes
        run, written = shutil.copytree(tmp_path / "one epoch", tmp_path / str(survives)), []

        def write(real, path, *arguments, survives=survives, written=written, **facts):
            written.append(path.name)
            if len(written) > survives:
                raise PowerCut
            real(path, *arguments, **facts)

        with monkeypatch.context() as patch:
            for module, name in ((hwkit.train.checkpoint, "save"), (hwkit.train, "write_text")):
                patch.setattr(module, name, partial(write, getattr(module, name)))
            with pytest.raises(PowerCut):
                run_to_end(THREE, images, run)
        run_to_end(THREE, images, run)
        assert all_of(run) == undisturbed
    assert sorted(written) == ["best.pt", "ema_best.pt", "ema_latest.pt", "history.jsonl", "latest.pt"]
    assert written[-1] == "latest.pt", "which says that the epoch is closed, so all else must be there before"


def test_a_run_may_be_given_more_epochs(images, tmp_path, quick):
    constant = replace(TINY, decay_from=1.0)
    run_to_end(replace(constant, epochs=1), images, tmp_path / "one by one")
    run_to_end(replace(constant, epochs=2), images, tmp_path / "one by one")
    run_to_end(constant, images, tmp_path / "at once")
    one, other = (timeless(weights(tmp_path / name / "latest.pt")) for name in ("one by one", "at once"))
    assert one == other


def test_a_finished_run_is_left_alone(images, tmp_path, quick):
    run_to_end(TINY, images, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    said = []
    assert run_to_end(TINY, images, tmp_path, say=said.append) == []
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "finished" in said[-1] and "--fresh" in said[-1]


# Going on from weights alone


@pytest.fixture(scope="module")
def handed_on(trained_run, tmp_path_factory):
    """What `python -m hwkit export` writes of a run of two epochs."""
    folder = tmp_path_factory.mktemp("handed on")
    export(load(trained_run / "ema_latest.pt"), folder / EXPORTED)
    shutil.copy(trained_run / "history.jsonl", folder)
    return folder


def test_a_new_run_goes_on_from_weights(handed_on, trained_run, digits, tmp_path, quick, monkeypatch):
    """Its weights are the exported ones before its first step, which draws what the run would have drawn next."""
    begun = []
    real = hwkit.train.training_step

    def training_step(state, *arguments):
        begun.append((state.step, copy.deepcopy(state.model.state_dict()), copy.deepcopy(state.ema.state_dict())))
        return real(state, *arguments)

    monkeypatch.setattr(hwkit.train, "training_step", training_step)
    said = []
    recipe = replace(TINY, epochs=3)
    [third] = run_to_end(recipe, digits, tmp_path, weights=handed_on, say=said.append)
    step, model, ema = begun[0]
    expected = load(handed_on / EXPORTED)["weights"]
    assert step == len(history(trained_run)) * (len(digits) // TINY.batch_size)
    for network in (model, ema):
        assert all(torch.equal(network[name], expected[name]) for name in expected)
    assert (third.epoch, third.images_seen) == (3, 3 * len(digits) // TINY.batch_size * TINY.batch_size)
    assert timeless(history(tmp_path)[:2]) == timeless(history(trained_run))
    assert third.seconds > history(trained_run)[-1]["seconds"]
    assert any("Going on from" in line and "epoch 3" in line for line in said)
    latest = load(tmp_path / "latest.pt")
    assert run_to_end(recipe, digits, tmp_path, weights=handed_on) == [], "the same command finds its own run"
    assert timeless(load(tmp_path / "latest.pt")) == timeless(latest)


def test_weights_without_a_history_can_be_gone_on_from(handed_on, digits, tmp_path, quick):
    shutil.copy(handed_on / EXPORTED, tmp_path / "weights.safetensors")
    records = run_to_end(replace(TINY, epochs=3), digits, tmp_path / "run", weights=tmp_path / "weights.safetensors")
    assert [record.epoch for record in records] == [3] and len(history(tmp_path / "run")) == 1


@pytest.mark.parametrize(
    "change, name, sentence",
    [
        ({"epochs": 2}, None, "has had .* 2 epochs, already.*--minutes or --epochs"),
        ({"epochs": 3, "prediction": "v"}, None, "of another recipe .prediction .* → v"),
        ({"epochs": 3, "model": replace(TINY.model, blocks=2)}, None, "of another recipe .blocks"),
        ({"epochs": 3}, "latest.pt", "latest.pt is more than weights.*--run"),
        ({"epochs": 3}, "nowhere.pt", "There is no checkpoint .*nowhere.pt"),
    ],
    ids=["nothing left", "prediction", "network", "latest.pt", "missing"],
)
def test_weights_that_cannot_be_gone_on_from_are_refused(
    handed_on, trained_run, digits, tmp_path, quick, change, name, sentence
):
    path = trained_run / name if name else handed_on
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        run_to_end(replace(TINY, **change), digits, tmp_path / "run", weights=path)
    assert not list(tmp_path.glob("run/*.pt"))


def test_a_folder_of_exported_weights_is_not_trained_in(handed_on, digits, quick):
    """They would go on being taken for the run's."""
    before = sorted(os.listdir(handed_on))
    with pytest.raises(ValueError, match=r"exported weights.*--run.*--weights"):
        run_to_end(replace(TINY, epochs=3), digits, handed_on)
    assert sorted(os.listdir(handed_on)) == before


def test_without_resume_a_run_starts_over(images, tmp_path, quick):
    run_to_end(replace(TINY, epochs=1), images, tmp_path)
    assert [record.epoch for record in run_to_end(replace(TINY, seed=3), images, tmp_path, resume=False)] == [1, 2]
    assert len(history(tmp_path)) == 2


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
    assert {field.name for field in fields(Recipe)} == set(CHANGES) | {"epochs", "minutes", "patience", "precision"}


def test_a_run_on_other_data_is_refused(trained_run, digits):
    with pytest.raises(ValueError, match=r"96 images.*80"):
        run_to_end(TINY, digits[:80], trained_run)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 damaged"], ids=["empty", "damaged"])
def test_a_damaged_checkpoint_is_not_overwritten(images, tmp_path, content):
    (tmp_path / "latest.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"latest\.pt"):
        run_to_end(TINY, images, tmp_path)
    assert (tmp_path / "latest.pt").read_bytes() == content


# The best epoch, and when to stop


def test_the_best_epoch_is_kept(images, tmp_path, losses):
    losses[:] = [0.9, 0.5, 0.7, 0.6]
    records = run_to_end(replace(TINY, epochs=4), images, tmp_path)
    assert [record.is_best for record in records] == [True, True, False, False]
    for name in ("best.pt", "ema_best.pt"):
        best = load(tmp_path / name)
        assert (best["epoch"], best["loss"], best["images_seen"]) == (2, pytest.approx(0.5), 96)
    assert load(tmp_path / "ema_latest.pt")["epoch"] == 4


def test_the_best_epoch_survives_a_resume(images, tmp_path, losses):
    losses[:] = [0.5, 0.9, 0.4]
    run_to_end(replace(TINY, epochs=1), images, tmp_path)
    best = (tmp_path / "ema_best.pt").read_bytes()
    [second] = run_to_end(replace(TINY, epochs=2), images, tmp_path)
    assert not second.is_best and (tmp_path / "ema_best.pt").read_bytes() == best
    [third] = run_to_end(replace(TINY, epochs=3), images, tmp_path)
    assert third.is_best and load(tmp_path / "ema_best.pt")["epoch"] == 3


def test_patience_stops_a_run_that_no_longer_gets_better(images, tmp_path, losses):
    losses[:] = [0.9, 0.5, 0.6, 0.5, 0.1]
    recipe = replace(TINY, epochs=5, patience=2)
    assert [record.epoch for record in run_to_end(recipe, images, tmp_path)] == [1, 2, 3, 4]
    assert run_to_end(recipe, images, tmp_path) == [], "and it stays stopped"
    assert [record.epoch for record in run_to_end(replace(recipe, patience=3), images, tmp_path)] == [5]


def test_patience_is_not_lost_in_a_resume(images, tmp_path, losses):
    losses[:] = [0.5, 0.9, 0.9, 0.9]
    recipe = replace(TINY, epochs=4, patience=2)
    run_to_end(replace(recipe, epochs=2), images, tmp_path)
    assert [record.epoch for record in run_to_end(recipe, images, tmp_path)] == [3]


@pytest.fixture
def slow_steps(monkeypatch, at_step, quick):
    """A clock on which each training step takes 2.1 seconds and nothing else takes any."""
    now = [0.0]
    real = hwkit.train.training_step

    def training_step(*arguments):
        now[0] += 2.1
        return real(*arguments)

    monkeypatch.setattr(hwkit.train, "training_step", training_step)
    monkeypatch.setattr(hwkit.train, "images_per_second", lambda *_: 8 / 2.1)
    monkeypatch.setattr(hwkit.train, "time", SimpleNamespace(monotonic=lambda: now[0]))


def test_minutes_bound_a_run_and_its_decay_is_fitted_to_them(images, tmp_path, slow_steps):
    recipe = replace(TINY, minutes=1, epochs=1000)
    said = []
    records = run_to_end(recipe, images, tmp_path, say=said.append)
    assert said[0].startswith("60 s ≈ 4.8 epochs")
    assert records[-1].images_seen == 29 * 8, "28 steps take 58.8 seconds"
    assert [record.epoch for record in records] == [1, 2, 3, 4, 5]
    assert records[-1].seconds == pytest.approx(29 * 2.1, abs=0.1)
    assert records[-1].lr == pytest.approx(recipe.lr * (1 - 28 * 2.1 / 60) / 0.7)
    assert run_to_end(recipe, images, tmp_path) == []
    [more] = run_to_end(replace(recipe, minutes=1.05), images, tmp_path)
    assert more.images_seen == 30 * 8


def test_minutes_go_on_counting_after_an_interruption(images, tmp_path, slow_steps, at_step):
    at_step(10, lambda: os.kill(os.getpid(), signal.SIGINT))
    recipe = replace(TINY, minutes=1, epochs=1000)
    with pytest.raises(KeyboardInterrupt):
        run_to_end(recipe, images, tmp_path)
    assert run_to_end(recipe, images, tmp_path)[-1].images_seen == 29 * 8


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_last_checkpoint(
    images, tmp_path, monkeypatch, quick, at_step, value
):
    real, calls = hwkit.train.diffusion_loss, []

    def diffusion_loss(*arguments):
        calls.append(1)
        return real(*arguments) * (value if len(calls) == STEPS + 3 else 1)

    monkeypatch.setattr(hwkit.train, "diffusion_loss", diffusion_loss)
    saved = []
    at_step(STEPS + 1, lambda: saved.append({path: path.read_bytes() for path in tmp_path.iterdir()}))
    with pytest.raises(FloatingPointError, match=rf"loss is {value} at step {STEPS + 2} \(epoch 2\)"):
        run_to_end(THREE, images, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == saved[0]
    assert [record.epoch for record in run_to_end(THREE, images, tmp_path)] == [2, 3]


def test_a_gradient_that_is_not_finite_does_not_reach_a_checkpoint(images, tmp_path, monkeypatch, quick):
    """The loss of that step is finite still, and the step the last of an epoch, after which all is saved."""
    real, calls = hwkit.train.diffusion_loss, []

    def diffusion_loss(model, *arguments):
        calls.append(1)
        zero = (0 * model.stem.bias).sum().sqrt()  # of infinite slope
        return real(model, *arguments) + (zero if len(calls) == STEPS else 0)

    monkeypatch.setattr(hwkit.train, "diffusion_loss", diffusion_loss)
    with pytest.raises(FloatingPointError, match=rf"at step {STEPS - 1} \(epoch 1\)"):
        run_to_end(THREE, images, tmp_path)
    saved = [weights(path) for path in tmp_path.glob("*.pt")]
    assert all(tensor.isfinite().all() for content in saved for tensor in content.values())
    assert [record.epoch for record in run_to_end(THREE, images, tmp_path)] == [1, 2, 3]


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


def test_a_thread_can_train_too(images, tmp_path, quick):
    """As in a notebook's background job; signals belong to the main thread."""
    thread = threading.Thread(target=run_to_end, args=(replace(TINY, epochs=1), images, tmp_path))
    thread.start()
    thread.join()
    assert len(history(tmp_path)) == 1


# Recipes


@pytest.mark.parametrize(
    "warmup, decay_from, step, progress, expected",
    [
        (0, 1.0, 0, 0.0, 1.0),
        (0, 1.0, 999, 1.0, 1.0),
        (4, 1.0, 0, 0.0, 0.25),
        (4, 1.0, 3, 0.5, 1.0),
        (4, 1.0, 100, 0.5, 1.0),
        (0, 0.3, 0, 0.2, 1.0),
        (0, 0.3, 0, 0.3, 1.0),
        (0, 0.3, 0, 0.65, 0.5),
        (0, 0.3, 0, 1.0, 0.0),
        (0, 0.3, 0, 1.2, 0.0),
        (0, 0.0, 0, 0.25, 0.75),
        (4, 0.3, 1, 0.65, 0.25),
    ],
)
def test_the_learning_rate_rises_stays_and_falls(warmup, decay_from, step, progress, expected):
    recipe = Recipe(warmup=warmup, decay_from=decay_from)
    assert recipe.lr_factor(step, progress) == pytest.approx(expected)


def test_the_ema_decay_rises_to_that_of_the_recipe():
    assert [ORIGINAL.ema_decay(n) for n in (0, 1, 10, 90)] == pytest.approx([1 / 10, 2 / 11, 11 / 20, 91 / 100])
    assert ORIGINAL.ema_decay(8989) == pytest.approx(8990 / 8999) and ORIGINAL.ema_decay(8991) == 0.999
    assert ORIGINAL.ema_decay(10**6) == 0.999


def test_the_report_is_as_it_was_handed_in():
    """Base 64, T = 830, linear, ε, plain MSE, AdamW 2e-4 constant, batch 512, 175 epochs, EMA 0.999, clip 1."""
    assert RECIPES["report"] == ORIGINAL == Recipe()
    assert (ORIGINAL.model.base, ORIGINAL.model.multipliers, ORIGINAL.model.patch) == (64, (1, 2), 1)
    assert (ORIGINAL.T, ORIGINAL.schedule, ORIGINAL.prediction, ORIGINAL.weighting) == (830, "linear", "epsilon", "uniform")
    assert (ORIGINAL.lr, ORIGINAL.batch_size, ORIGINAL.epochs, ORIGINAL.clip) == (2e-4, 512, 175, 1.0)
    assert (ORIGINAL.ema, ORIGINAL.muon_lr, ORIGINAL.minutes, ORIGINAL.patience) == (0.999, None, None, None)
    assert all(ORIGINAL.lr_factor(step, progress) == 1 for step, progress in [(0, 0), (10**4, 0.5), (2 * 10**4, 1)])
    assert RECIPES["report-t1000"] == replace(ORIGINAL, T=1000)
    assert RECIPES["report-cosine"] == replace(ORIGINAL, schedule="cosine")


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"T": 0}, "T is 0, but must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"minutes": 0}, "minutes is 0, but must be more than 0"),
        ({"patience": 0}, "patience is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"muon_lr": -1.0}, "muon_lr is -1.0"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"decay_from": 1.5}, "0 ≤ decay_from ≤ 1"),
        ({"ema": 1.0}, "0 ≤ ema < 1"),
        ({"warmup": -1}, "warmup ≥ 0"),
        ({"seed": -1}, "seed ≥ 0"),
    ],
)
def test_an_impossible_recipe_is_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**wrong)


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0 s"), (50, "50 s"), (90, "2 min"), (600, "10 min"), (3599, "1 h 00 min"), (27600, "7 h 40 min")],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_what_to_expect_is_said_before_a_long_run():
    state = new_state(replace(SMOKE, muon_lr=None), torch.device("cpu"), "fp32")
    cpu = torch.device("cpu")
    long = expectation(ORIGINAL, state, cpu, 175 * 117 * 512 / 27_600, 117)
    assert long.startswith("175 epochs ≈ 7 h 40 min on this device (cpu, fp32, 380 images/s)")
    assert "`cpu` would need 10 min: python -m hwkit train cpu" in long
    state.epoch, state.step = 176 - 7, (175 - 7) * 117
    assert expectation(ORIGINAL, state, cpu, 175 * 117 * 512 / 27_600, 117).startswith("7 epochs ≈ 18 min on this")
    state.seconds = 300
    assert expectation(replace(ORIGINAL, minutes=10), state, cpu, 117 * 512 / 60, 117).startswith("5 min ≈ 5.0 epochs")


# Muon


@pytest.mark.parametrize("shape", [(8, 8), (4, 18), (18, 4)], ids=str)
def test_orthogonalizing_keeps_the_directions_and_levels_the_singular_values(shape):
    generator = torch.Generator().manual_seed(0)
    u, _, vh = torch.linalg.svd(torch.randn(3, *shape, generator=generator), full_matrices=False)
    rank = min(shape)
    matrices = u * torch.linspace(0.3, 1, rank) @ vh
    inner = u.mT @ orthogonalize(7.0 * matrices) @ vh.mT  # diagonal, if the singular vectors are kept
    diagonal = inner.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(inner, torch.diag_embed(diagonal), atol=1e-4, rtol=0)
    assert diagonal.min() > 0.6 and diagonal.max() < 1.25
    torch.testing.assert_close(orthogonalize(matrices[1:2])[0], orthogonalize(matrices)[1], atol=1e-5, rtol=0)


def test_muon_descends_as_jordan_writes_it():
    """https://kellerjordan.github.io/posts/muon in plain numpy, weight by weight, over three steps."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(8, 4, 3, 3, generator=generator), torch.randn(8, 4, 3, 3, generator=generator)]
    start += [torch.randn(16, 4, generator=generator)]
    params = [torch.nn.Parameter(w.clone()) for w in start]
    optimizer = Muon(params, lr=0.1, momentum=0.9, weight_decay=0.5)
    expected, averages = [w.double().numpy() for w in start], [0.0, 0.0, 0.0]
    for _ in range(3):
        gradients = [torch.randn(w.shape, generator=generator) for w in start]
        for p, g in zip(params, gradients, strict=True):
            p.grad = g.clone()
        optimizer.step()
        for i, g in enumerate(gradients):
            g = g.double().numpy()
            averages[i] = 0.9 * averages[i] + 0.1 * g
            x = (0.1 * g + 0.9 * averages[i]).reshape(len(g), -1)
            rows, columns = x.shape
            x = x.T if rows > columns else x
            x = x / np.linalg.norm(x)
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            x = (x.T if rows > columns else x) * math.sqrt(max(1, rows / columns))
            expected[i] = expected[i] * (1 - 0.1 * 0.5) - 0.1 * x.reshape(g.shape)
    for p, e in zip(params, expected, strict=True):
        np.testing.assert_allclose(p.detach(), e, atol=1e-5)


def test_muon_takes_matrices_and_passes_over_what_has_no_gradient():
    with pytest.raises(ValueError, match="two or more dimensions"):
        Muon([torch.nn.Parameter(torch.zeros(3))])
    with_gradient, without = torch.nn.Parameter(torch.eye(3)), torch.nn.Parameter(torch.eye(3))
    with_gradient.grad = torch.ones(3, 3)
    Muon([with_gradient, without]).step()
    assert torch.equal(without, torch.eye(3)) and not torch.equal(with_gradient, torch.eye(3))
