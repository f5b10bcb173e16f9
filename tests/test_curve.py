"""Digit-FID against steps: which samplers, what is kept, and what of it goes on."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import vivid_unet

from hwkit.files import read_json, write_json
from hwkit.measure.curve import Curve, Point, curve
from hwkit.measure.score import digit_fid, floor_at
from hwkit.runs.checkpoint import digest, load, load_denoiser, recipe_of, save
from hwkit.runs.generate import images
from hwkit.sampling import Sampler

NAMES = [f"dpm++sde-{n}" for n in (10, 15, 20, 30)] + ["ddim-10", "ddim-20"]  # no ddim-50, as T = 30
NAMES += [f"unipc-{n}" for n in (10, 15, 20)]


@pytest.fixture(scope="module")
def drawn(vivid_checkpoint, tmp_path_factory):
    """A curve of six images a point, and the file where it is kept."""
    path = tmp_path_factory.mktemp("curve") / "figures" / "fid_curve.json"
    *_, whole = curve(vivid_checkpoint, path, n=6, batch=4)
    return whole, path


def falsify(path, sampler: str) -> None:
    """Marks a point that is kept: it is still there if that sampler is not measured again."""
    record = read_json(path)
    for point in record["points"]:
        point["value"] = 99.0 if point["sampler"] == sampler else point["value"]
    write_json(path, record)


def values(found: Curve) -> dict:
    return {point.sampler: point.value for point in found.points}


def test_each_point_is_the_digit_fid_of_its_own_images(drawn, vivid_checkpoint):
    whole, _ = drawn
    assert [point.sampler for point in whole.points] == NAMES
    point = whole.points[5]
    made = images(load_denoiser(vivid_checkpoint), Sampler("ddim", 20), 0, range(1, 7))
    assert (point.value, point.error) == pytest.approx(digit_fid(made), rel=1e-3)
    assert (point.name, point.evaluations) == ("ddim", 20) and point.seconds >= 0
    assert (whole.images, whole.seed, whole.checkpoint_sha256) == (6, 0, digest(vivid_checkpoint))
    assert whole.floor == floor_at(6)
    assert whole.versions["torch"] == str(torch.__version__)


def test_another_seed_measures_its_own_images(vivid_checkpoint, tmp_path):
    point = next(curve(vivid_checkpoint, tmp_path / "c.json", n=4, seed=3)).points[-1]
    denoise = load_denoiser(vivid_checkpoint)
    its_own, of_seed_0 = (digit_fid(images(denoise, Sampler("dpm++sde", 10), seed, range(1, 5))) for seed in (3, 0))
    assert (point.value, point.error) == pytest.approx(its_own, rel=1e-3)
    assert point.value != pytest.approx(of_seed_0[0], rel=1e-2), "else the seed could be any"


def test_it_is_kept_and_read_again(drawn):
    whole, path = drawn
    assert Curve.from_json(read_json(path)) == whole
    assert Curve.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    assert all(isinstance(point, Point) for point in Curve.from_json(whole.to_json()).points)


def test_it_goes_on_where_it_stopped(drawn, vivid_checkpoint, tmp_path):
    """After the third sampler; what was measured is not measured again, and the newest point is always the last."""
    path = tmp_path / "fid_curve.json"
    begun = curve(vivid_checkpoint, path, n=6)
    assert [next(begun).points[-1].sampler for _ in range(3)] == NAMES[:3]
    begun.close()
    falsify(path, "dpm++sde-15")
    *so_far, whole = curve(vivid_checkpoint, path, n=6, ddpm=True)
    assert [found.points[-1].sampler for found in (*so_far, whole)] == [*NAMES, "ddpm-30"]
    assert values(whole).pop("dpm++sde-15") == 99
    for name in set(NAMES) - {"dpm++sde-15"}:
        assert values(whole)[name] == pytest.approx(values(drawn[0])[name], rel=1e-3)
    *_, without = curve(vivid_checkpoint, path, n=6)
    assert set(values(without)) == {*NAMES, "ddpm-30"}  # what was measured stays


@pytest.mark.parametrize("other", ["checkpoint", "n", "seed"])
def test_another_curve_is_begun_anew(drawn, vivid_checkpoint, tmp_path, other):
    path = tmp_path / "fid_curve.json"
    path.write_bytes(drawn[1].read_bytes())
    for sampler in NAMES:
        falsify(path, sampler)
    arguments = {"n": 4 if other == "n" else 6, "seed": 1 if other == "seed" else 0}
    checkpoint = vivid_checkpoint
    if other == "checkpoint":
        recipe, checkpoint = recipe_of(load(vivid_checkpoint)), tmp_path / "other.pt"
        save(checkpoint, recipe, vivid_unet(recipe.model, seed=1).state_dict(), epoch=1, images_seen=96)
    *_, found = curve(checkpoint, path, **arguments)
    assert 99 not in values(found).values()
    assert (found.checkpoint_sha256, found.images, found.seed) == (digest(checkpoint), *arguments.values())
    assert read_json(path) == json.loads(json.dumps(found.to_json()))


@pytest.mark.parametrize("content", ['{"checkpoint_sha256": ', "[]", "{}", '{"points": [{"sampler": "ddim-10"}]}'])
def test_a_file_that_is_no_curve_is_named_and_kept(vivid_checkpoint, tmp_path, content):
    path = tmp_path / "fid_curve.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"fid_curve\.json"):
        next(curve(vivid_checkpoint, path, n=6))
    assert path.read_text() == content


@pytest.mark.parametrize(("flag", "value"), [("n", 1), ("n", 0), ("batch", 0), ("seed", -1)])
def test_a_number_that_does_not_fit_is_named(vivid_checkpoint, tmp_path, flag, value):
    with pytest.raises(ValueError, match=f"--{flag} is {value}, "):
        next(curve(vivid_checkpoint, tmp_path / "c.json", **{flag: value}))
    assert not (tmp_path / "c.json").exists()


def test_a_runs_folder_stands_for_its_weights(drawn, vivid_checkpoint, tmp_path):
    found = next(curve(vivid_checkpoint.parent, tmp_path / "c.json", n=6))
    assert found.checkpoint_sha256 == digest(vivid_checkpoint)


def test_few_noise_levels_leave_out_what_does_not_fit(vivid_checkpoint, tmp_path):
    content = load(vivid_checkpoint)
    save(tmp_path / "short.pt", replace(recipe_of(content), T=12), content["weights"], epoch=1, images_seen=96)
    *_, found = curve(tmp_path / "short.pt", tmp_path / "c.json", n=3, ddpm=True)
    assert list(values(found)) == ["dpm++sde-10", "ddim-10", "unipc-10", "ddpm-12"]
