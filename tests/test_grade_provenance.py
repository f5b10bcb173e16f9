"""Weights, images made again, histories: whether they belong together, and that no file of a stranger runs anything."""

import copy
import json
import os
import pickle
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import KIT, TINY, vivid_unet

from hwkit.grade import provenance
from hwkit.grade.provenance import (
    Again,
    Origin,
    Weights,
    again,
    contradictions,
    disagreements,
    likeness,
    origin,
    read_weights,
)
from hwkit.mnist.folder import load_folder
from hwkit.runs import checkpoint
from hwkit.runs.checkpoint import best_of, digest, export, load, load_denoiser
from hwkit.runs.generate import generate, read_manifest
from hwkit.runs.run import read_history
from hwkit.sampling import Sampler

RECIPE = replace(TINY, T=30)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "ema_latest.pt"
    checkpoint.save(path, RECIPE, vivid_unet(RECIPE.model).state_dict(), epoch=1, images_seen=96)
    return path


# Weights


def test_weights_of_the_kit_are_read_from_both_kinds_of_file(weights, tmp_path):
    export(load(weights), tmp_path / "w.safetensors")
    for path in (weights, tmp_path / "w.safetensors"):
        found, denoise = read_weights(path, path.name)
        assert found.trouble == "" and denoise is not None
        assert (found.sha256, found.epoch, found.images_seen) == (digest(path), 1, 96)


def test_the_same_numbers_have_the_same_hash_in_any_file_and_others_another(weights, tmp_path):
    export(load(weights), tmp_path / "w.safetensors")
    content = load(weights)
    name = next(iter(content["weights"]))
    content["weights"][name] = content["weights"][name] + 0.01
    checkpoint.save(tmp_path / "other.pt", RECIPE, content["weights"], epoch=1, images_seen=96)
    paths = (weights, tmp_path / "w.safetensors", tmp_path / "other.pt")
    first, second, other = (read_weights(path, "w")[0].tensors_sha256 for path in paths)
    assert first == second != other


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_weights_with_code_are_refused_and_nothing_is_run(weights, tmp_path):
    trap = tmp_path / "ran"
    torch.save({**torch.load(weights, weights_only=True), "extra": Trap(trap)}, tmp_path / "code.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap(trap)))
    for name in ("code.pt", "plain.pt"):
        found, denoise = read_weights(tmp_path / name, name)
        assert denoise is None and found.trouble.startswith(name)
    assert not trap.exists()
    pickle.loads((tmp_path / "plain.pt").read_bytes())
    assert trap.exists(), "the trap would have worked"


def changed(weights: Path, path: Path, **recipe) -> Path:
    content = torch.load(weights, weights_only=True)
    model = {**content["recipe"]["model"], **recipe.pop("model", {})}
    content["recipe"] = {**content["recipe"], **recipe, "model": model}
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"model": {"base": 2**20}}, "larger than any"),
        ({"model": {"blocks": 10**9}}, "larger than any"),
        ({"model": {"multipliers": [1] * 100_000}}, "larger than any"),
        ({"model": {"multipliers": [10**12]}}, "larger than any"),
        ({"T": 10**12}, "larger than any"),
        ({"model": {"base": 32}}, "do not fit the network"),
        ({"model": {"blocks": 2}}, "do not fit the network"),
        ({"model": {"base": 16.0}}, "no whole numbers"),
    ],
)
def test_a_network_that_is_described_too_large_or_otherwise_is_not_built(weights, tmp_path, recipe, said):
    started = time.monotonic()
    found, denoise = read_weights(changed(weights, tmp_path / "w.pt", **recipe), "w.pt")
    assert denoise is None and said in found.trouble, found.trouble
    assert time.monotonic() - started < 5


def test_tensors_that_only_say_that_they_are_large_cost_no_memory(weights, tmp_path):
    content = torch.load(weights, weights_only=True)
    name = next(iter(content["weights"]))
    content["weights"][name] = torch.zeros(1).expand(2**40)
    torch.save(content, tmp_path / "w.pt")
    found, denoise = read_weights(tmp_path / "w.pt", "w.pt")
    assert denoise is None and "do not fit the network" in found.trouble


def test_a_checkpoint_that_bursts_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as file:
        for _ in range(300):
            file.write(bytes(2**20))
    found, denoise = read_weights(tmp_path / "w.pt", "w.pt")
    assert denoise is None and "would unpack to" in found.trouble


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(weights, tmp_path, value):
    content = torch.load(weights, weights_only=True)
    next(iter(content["weights"].values())).view(-1)[0] = value
    torch.save(content, tmp_path / "w.pt")
    found, denoise = read_weights(tmp_path / "w.pt", "w.pt")
    assert denoise is None and "NaN or infinite" in found.trouble


@pytest.mark.parametrize("data", [b"", b"no weights", b"PK\3\4", b"[" * 100_000])
def test_what_is_no_checkpoint_is_named_by_its_own_name(data, tmp_path):
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(data)
        found, denoise = read_weights(tmp_path / name, "theirs")
        assert denoise is None and found.trouble and str(tmp_path) not in found.trouble


def test_deep_json_in_safetensors_is_refused(weights, tmp_path):
    from safetensors.torch import save

    (tmp_path / "w.safetensors").write_bytes(save({"a": torch.zeros(1)}, {"hwkit": "[" * 100_000}))
    found, denoise = read_weights(tmp_path / "w.safetensors", "w.safetensors")
    assert denoise is None and found.trouble


# Images made again


@pytest.fixture(scope="module")
def made(weights, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "generate"
    generate(weights, folder, 12, Sampler("ddim", 3, 1.0), seed=7, progress=False)
    return folder


def handed_in(made: Path) -> dict[int, np.ndarray]:
    images = load_folder(made).expand(-1, 3, -1, -1).numpy()
    return {k: images[k - 1] for k in range(1, len(images) + 1)}


def test_images_are_made_again_by_what_the_manifest_says(weights, made):
    told = origin(None, read_manifest(made))
    assert told == Origin(Sampler("ddim", 3, 1.0, guidance=1.0, power=1.0), 7, "fp32", digest(weights), False)
    found = again(load_denoiser(weights), told, handed_in(made), 5, "ab" * 32)
    assert len(found.numbers) == 5 and (found.equal, found.near, found.other) == (5, 0, 0) and found.share == 1


def test_other_weights_another_seed_or_other_images_are_told(weights, made, tmp_path):
    told, pictures = origin(None, read_manifest(made)), handed_in(made)
    checkpoint.save(tmp_path / "w.pt", RECIPE, vivid_unet(RECIPE.model, seed=5).state_dict(), epoch=1, images_seen=96)
    shifted = {k: pictures[k % 12 + 1] for k in pictures}
    for denoise, how, images in (
        (load_denoiser(tmp_path / "w.pt"), told, pictures),
        (load_denoiser(weights), replace(told, seed=8), pictures),
        (load_denoiser(weights), told, shifted),
    ):
        found = again(denoise, how, images, 4, "ab" * 32)
        assert found.other == 4 and found.share == 0


def test_one_image_of_another_is_told_when_it_is_drawn(weights, made):
    told, pictures = origin(None, read_manifest(made)), handed_in(made)
    pictures[3] = 255 - pictures[3]
    found = again(load_denoiser(weights), told, pictures, 12, "ab" * 32)
    assert (found.equal, found.other) == (11, 1)


def test_which_images_are_drawn_depends_on_the_submission_alone():
    numbers = range(1, 10_001)
    first, second = (provenance.chosen(numbers, 20, mark * 32, 20) for mark in ("ab", "cd"))
    assert first == provenance.chosen(numbers, 20, "ab" * 32, 20) != second
    assert len(set(first)) == 20 and set(first) <= set(numbers)
    assert len(provenance.chosen(numbers, 20, "ab" * 32, 830)) == 4  # no more evaluations than there is time for
    assert provenance.chosen([], 20, "ab", 20) == [] and provenance.chosen([3], 20, "", 20) == [3]


def test_rounding_is_near_and_another_digit_is_not():
    image = np.full((3, 28, 28), 100, np.uint8)
    rounded, other = image.copy(), image.copy()
    rounded[:, ::2] += 3
    other[:, :14] += 60
    assert [likeness(image, x) for x in (image, rounded, other)] == ["equal", "near", "other"]


@pytest.mark.parametrize(
    ("pixels", "levels", "kind"), [(784, 16, "near"), (39, 17, "near"), (40, 17, "other"), (39, 255, "near")]
)
def test_near_is_where_no_more_than_one_pixel_in_twenty_differs_by_more_than_16_levels(pixels, levels, kind):
    image = np.zeros((3, 28, 28), np.uint8)
    other = image.copy()
    other.reshape(3, 784)[1, :pixels] = levels  # one channel is enough
    assert likeness(image, other) == likeness(other, image) == kind


def test_noise_of_another_device_cannot_be_made_again(weights, made):
    told = replace(origin(None, read_manifest(made)), device_noise=True)
    found = again(load_denoiser(weights), told, handed_in(made), 5, "ab" * 32)
    assert found.share is None and "another device" in found.trouble


def test_where_no_noise_is_drawn_the_device_is_no_excuse(weights, tmp_path):
    generate(weights, tmp_path / "made", 4, Sampler("ddim", 3), device_noise=True, progress=False)
    told, pictures = origin(None, read_manifest(tmp_path / "made")), handed_in(tmp_path / "made")
    assert told.device_noise
    assert again(load_denoiser(weights), told, pictures, 4, "ab" * 32).equal == 4
    assert again(load_denoiser(weights), replace(told, seed=1), pictures, 4, "ab" * 32).other == 4


@pytest.mark.parametrize(
    "made_by",
    [
        None,
        [],
        {},
        {"sampler": {"name": "magic"}, "seed": 0, "checkpoint_sha256": ""},
        {"sampler": {"name": "ddim", "steps": 10**12}, "seed": -1, "checkpoint_sha256": ""},
        {"sampler": {"name": "ddim"}, "seed": True, "checkpoint_sha256": ""},
        {"sampler": {"name": "ddim"}, "seed": 10**30, "checkpoint_sha256": ""},
        {"sampler": {"name": "ddim"}, "seed": 0, "checkpoint_sha256": "", "precision": "os.system"},
        {"sampler": [1, 2], "seed": 0, "checkpoint_sha256": ""},
    ],
)
def test_a_manifest_that_says_nonsense_is_said_to(made_by):
    for facts, manifest in (({"images": {"made_by": made_by}}, None), (None, made_by)):
        assert origin(facts, manifest).trouble


def test_steps_that_do_not_fit_the_weights_are_said_to(weights, made):
    for steps in (10**9, -3):
        told = replace(origin(None, read_manifest(made)), sampler=Sampler("ddim", steps))
        assert "does not fit" in again(load_denoiser(weights), told, handed_in(made), 5, "ab" * 32).trouble


def test_the_distance_of_weights(weights):
    own = load(weights)["weights"]
    other = vivid_unet(RECIPE.model, seed=9).state_dict()
    assert provenance.distance(own, own) == 0
    assert provenance.distance({k: 1.1 * v for k, v in own.items()}, own) == pytest.approx(0.1, abs=1e-6)
    assert provenance.distance(other, own) > 0.8
    assert provenance.distance({"a": torch.zeros(1)}, own) is None


# Histories


def facts_of(run: Path) -> dict:
    content = load(best_of(run))
    recipe = {**asdict(checkpoint.recipe_of(content))}
    return {"epoch": content["epoch"], "images_seen": content["images_seen"], "recipe": recipe}


def test_runs_of_the_kit_have_no_contradictions(trained_run):
    lines = read_history(trained_run)
    assert len(lines) == 2 and contradictions(lines, facts_of(trained_run)) == []
    kits = KIT / "data" / "pretrained"
    assert len(read_history(kits)) == 215 and contradictions(read_history(kits), facts_of(kits)) == []


def edit(lines: list[dict], **changes) -> list[dict]:
    lines = copy.deepcopy(lines)
    lines[9] = {**lines[9], **changes}
    return lines


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda line: {"loss": line["loss"] / 2}, "its curve has"),
        (lambda line: {"images_seen": line["images_seen"] + 7}, "no number of batches"),
        (lambda line: {"images_seen": line["images_seen"] + 64_000}, "no number of batches|do not lie|images a second"),
        (lambda line: {"seconds": line["seconds"] - 3000}, "before the one before it|images a second"),
        (lambda line: {"seconds": line["seconds"] - 100}, "images a second"),
        (lambda line: {"images_per_second": 9 * line["images_per_second"]}, "images a second"),
        (lambda line: {"is_best": not line["is_best"]}, "marked as the best"),
        (lambda line: {"epoch": 12}, "follows epoch"),
        (lambda line: {"curve": [[x + 10**6, y] for x, y in line["curve"]]}, "do not lie within"),
        (lambda line: {"curve": [[x, 3 * y] for x, y in line["curve"]]}, "its curve has"),
        (lambda line: {"curve": line["curve"][::-1]}, "do not lie within"),
    ],
)
def test_an_edited_line_contradicts_something(change, said):
    lines = read_history(KIT / "data" / "pretrained")
    found = contradictions(edit(lines, **change(lines[9])), facts_of(KIT / "data" / "pretrained"))
    assert found and any(__import__("re").search(said, sentence) for sentence in found), found


@pytest.mark.parametrize(("factor", "told"), [(0.75, True), (0.85, False), (1.2, False), (1.3, True)])
def test_a_loss_may_lie_a_fifth_beside_the_mean_of_its_curve(factor, told):
    """The last steps of an epoch may be in no point of its curve, so the two means are not quite the same."""
    lines = read_history(KIT / "data" / "pretrained")
    mean = np.mean([loss for _, loss in lines[9]["curve"]])
    found = contradictions(edit(lines, loss=factor * mean), facts_of(KIT / "data" / "pretrained"))
    assert any("but its curve has" in sentence for sentence in found) == told


def test_epochs_that_were_cut_out_and_facts_of_another_epoch_are_told():
    lines, facts = read_history(KIT / "data" / "pretrained"), facts_of(KIT / "data" / "pretrained")
    assert any("follows epoch" in s for s in contradictions(lines[:5] + lines[8:], facts))
    assert any("no epoch does" in s for s in contradictions(lines, {**facts, "images_seen": 64}))


def test_both_histories_are_read_and_compared():
    lines = read_history(KIT / "data" / "pretrained")
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    assert provenance.read_history(text, {"history": lines}) == (lines, [])
    assert provenance.read_history(text, None) == (lines, [])
    assert provenance.read_history(None, {"history": lines}) == (lines, [])
    assert provenance.read_history(None, None) == ([], [])
    assert "differ" in provenance.read_history(text, {"history": lines[:-1]})[1][0]


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b"\xff", b'{"epoch": 1}', b"[" * 100_000, b"null", b'{"epoch":' + b"9" * 5000 + b"}"]
)
def test_a_history_that_is_damaged_is_said_to(text):
    lines, faults = provenance.read_history(text, None)
    assert lines == [] and len(faults) == 1 and len(faults[0]) < 250


def test_a_student_does_not_know_which_images_will_be_drawn():
    """They know the hash of what they hand in, and could pack it again until the drawn ones are good."""
    numbers = range(1, 10_001)
    drawn = [provenance.chosen(numbers, 20, f"{secret} {'ab' * 32}", 20) for secret in ("1 2 3", "1 2 4", "")]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


@pytest.mark.parametrize("value", ["0.1", None, float("nan"), True, [1], 10**400])
def test_values_of_another_kind_are_said_to(value):
    lines = read_history(KIT / "data" / "pretrained")
    found, faults = provenance.read_history(None, {"history": edit(lines, loss=value)})
    assert found == [] and faults


@pytest.mark.parametrize("first", [1, 9, 10, 20])
def test_a_history_that_begins_later_contradicts_nothing(first):
    """As of a run that went on from weights without their history."""
    lines = read_history(KIT / "data" / "pretrained")[first:]
    assert contradictions(lines, facts_of(KIT / "data" / "pretrained")) == []
    wrong = [lines[0], {**lines[1], "seconds": lines[0]["seconds"] - 100}, *lines[2:]]
    assert contradictions(wrong, None)


def test_who_says_nothing_of_weights_or_images_contradicts_nothing():
    """As another program's run.json."""
    weights = Weights("w.pt", "aa", images_seen=64)
    assert disagreements({"weights": {}, "images": {}}, weights, "ii", Origin(), Again()) == []
    assert disagreements({"title": "my run"}, weights, "ii", Origin(), Again()) == []
    assert contradictions(read_history(KIT / "data" / "pretrained"), {"title": "my run"}) == []


def test_weights_that_make_the_very_images_are_theirs_whatever_the_files_hash():
    """`export` writes them with another one."""
    weights, facts = Weights("w.safetensors", "aa"), {"weights": {"sha256": "bb"}}
    for made, told in ((Again((1, 2), equal=1, near=1), 0), (Again((1, 2), equal=1, other=1), 2), (Again(), 2)):
        assert len(disagreements(facts, weights, "", Origin(checkpoint_sha256="bb"), made)) == told


def test_images_without_numbers_are_said_to_have_none(vivid_checkpoint):
    found = provenance.again(load_denoiser(vivid_checkpoint), Origin(Sampler("ddim", 2)), {}, 20, "ab")
    assert found.share is None and "00001.png" in found.trouble


def test_facts_that_name_other_weights_or_images_are_told():
    weights = Weights("w.pt", "aa", images_seen=64)
    facts = {"weights": {"sha256": "aa"}, "images": {"sha256": "ii"}, "images_seen": 64}
    assert disagreements(facts, weights, "ii", Origin(checkpoint_sha256="aa"), Again()) == []
    assert "other images" in disagreements(facts, weights, "jj", Origin(), Again())[0]
    other = {**facts, "weights": {"sha256": "bb"}}
    assert "other weights" in disagreements(other, weights, "ii", Origin(), Again())[0]
    assert "other weights" in disagreements(None, weights, "", Origin(checkpoint_sha256="bb"), Again())[0]
    assert "otherwise" in disagreements({**facts, "images_seen": 128}, weights, "ii", Origin(), Again())[0]
    assert disagreements([], Weights(), "", Origin(), Again()) == []
