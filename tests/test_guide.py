"""The guide of a run: trained beside it, carried in its weights, and what samples of the run are led away from."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY, vivid_unet

from hwkit.__main__ import main
from hwkit.diffusion import Guided
from hwkit.grade import provenance
from hwkit.measure.curve import curve
from hwkit.measure.score import digit_fid
from hwkit.recipe import CPU, LONG, ORIGINAL
from hwkit.runs import checkpoint
from hwkit.runs.generate import generate, images
from hwkit.runs.guide import guide_recipe, precision_of, train_guide
from hwkit.runs.run import train
from hwkit.sampling import ImageNoise, Sampler, sample, times
from hwkit.unet import UNetConfig

SDE = Sampler("dpm++sde", 6)


@pytest.fixture(scope="module")
def guided(digits, tmp_path_factory):
    """A run of one epoch, with its guide."""
    run = tmp_path_factory.mktemp("guided") / "run"
    list(train(replace(TINY, epochs=1), digits, run, device="cpu", quiet=True))
    train_guide(run, digits, "cpu", quiet=True)
    return run


def put_guide(path, seed=1, **changes):
    """Gives a checkpoint an untrained guide with random weights; changes: of its content."""
    recipe = guide_recipe(checkpoint.recipe_of(checkpoint.load(path)))
    weights = vivid_unet(recipe.model, seed).state_dict()
    other = path.with_name("guide.pt")
    checkpoint.save(other, recipe, weights, images_seen=8)
    checkpoint.add_guide(path, checkpoint.load(other) | changes)
    return weights


@pytest.fixture
def vivid(vivid_checkpoint, tmp_path):
    path = tmp_path / "ema_latest.pt"
    path.write_bytes(vivid_checkpoint.read_bytes())
    return path


def test_a_guide_whose_time_was_too_short_is_left_out_with_a_sentence(digits, tmp_path, capsys):
    """On a busy machine one saw 896 images in two minutes."""
    run = tmp_path / "run"
    list(train(replace(TINY, epochs=1, minutes=50.0, warmup=100), digits, run, device="cpu", quiet=True))
    train_guide(run, digits, "cpu", quiet=True)
    assert checkpoint.load_denoiser(run).guide is None
    said = capsys.readouterr().out
    assert "saw 96 images" in said and f"delete {run / 'guide'} and run `python -m hwkit guide --run {run}`" in said


@pytest.mark.parametrize(("warmup", "kept"), [(12, True), (13, False)])
def test_a_guide_is_kept_from_the_step_on_at_which_its_learning_rate_has_risen(
    digits, tmp_path, monkeypatch, warmup, kept
):
    """An epoch of 96 digits is twelve steps of 8."""
    monkeypatch.setattr("hwkit.runs.speed.images_per_second", lambda *_, **__: 1000.0)  # speeds are not the point
    run = tmp_path / "run"
    list(train(replace(TINY, epochs=1, minutes=50.0, warmup=warmup), digits, run, device="cpu", quiet=True))
    train_guide(run, digits, "cpu", quiet=True)
    assert (checkpoint.load_denoiser(run).guide is not None) == kept


@pytest.mark.parametrize("chosen", ["fp32", "bf16"])
def test_a_guide_is_trained_in_the_precision_of_its_run(digits, tmp_path, monkeypatch, chosen):
    """Else a run that was interrupted could end with another guide: a trial of speeds comes out now so, now so."""
    tried = []

    def quickest(recipe, device, settings, _):
        tried.append([setting.precision for setting in settings])
        return next((setting for setting in settings if setting.precision == chosen), settings[0]), 1000.0

    monkeypatch.setattr("hwkit.runs.run.quickest", quickest)
    run, recipe = tmp_path / "run", replace(TINY, epochs=1, precision="auto")
    list(train(recipe, digits, run, device="cpu", quiet=True))
    train_guide(run, digits, "cpu", quiet=True)
    assert tried == [["fp32", "bf16"], [chosen]]


def test_the_guide_of_weights_alone_or_of_a_gpus_run_tries_what_is_quickest_here(digits, tmp_path):
    run = tmp_path / "run"
    list(train(replace(TINY, epochs=1), digits, run, device="cpu", quiet=True))
    latest = torch.load(run / "latest.pt", weights_only=True)
    for precision, taken in (("fp16", "auto"), ("fp32", "fp32")):
        latest["resume"]["setting"][0] = precision
        torch.save(latest, run / "latest.pt")
        assert precision_of(run, torch.device("cpu")) == taken
    (run / "latest.pt").write_bytes((run / "ema_latest.pt").read_bytes())  # weights alone
    assert precision_of(run, torch.device("cpu")) == "auto"
    (run / "latest.pt").write_bytes(b"PK damaged")  # which is no reason to have no guide
    assert precision_of(run, torch.device("cpu")) == "auto"
    (run / "latest.pt").unlink()
    assert precision_of(run, torch.device("cpu")) == "auto"


@pytest.mark.parametrize("recipe", [CPU, ORIGINAL])
def test_a_guide_is_smaller_and_sees_less(recipe):
    guide = guide_recipe(recipe)
    small, large = (sum(p.numel() for p in vivid_unet(r.model).parameters()) for r in (guide, recipe))
    assert small < 0.5 * large and guide.epochs <= 2 < recipe.epochs
    assert (guide.T, guide.schedule, guide.prediction) == (recipe.T, recipe.schedule, recipe.prediction)
    assert guide.name != recipe.name and guide.minutes == (recipe.minutes and recipe.minutes / 5)


@pytest.mark.parametrize("batch_size, expected", [(32, 32), (64, 64), (512, 64), (1024, 64)])
def test_a_guide_has_batches_of_64_at_most(batch_size, expected):
    """Its two epochs would else be too few steps: 116 of 1,024 images, in 100 of which its learning rate rises."""
    assert guide_recipe(replace(CPU, batch_size=batch_size)).batch_size == expected


@pytest.mark.parametrize(
    "recipe, model",
    [
        (CPU, UNetConfig(base=16, patch=2)),
        (LONG, UNetConfig(base=32, patch=2)),
        (ORIGINAL, UNetConfig(base=32)),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_guides_network_is_half_as_wide_with_a_block_a_level(recipe, model):
    made = guide_recipe(replace(recipe, patience=3))
    assert made.model == replace(model, blocks=1, middle_blocks=1) and made.patience is None


def test_the_runs_weights_hold_the_guide_that_was_trained(guided):
    denoise = checkpoint.load_denoiser(guided)
    trained = checkpoint.load(guided / "guide" / "ema_latest.pt")["weights"]
    assert denoise.guide.model.config == guide_recipe(TINY).model
    assert all(torch.equal(trained[name], tensor) for name, tensor in denoise.guide.model.state_dict().items())
    for name in ("ema_latest.pt", "ema_best.pt"):
        before, after = checkpoint.load(guided / name), checkpoint.load(guided / name)["guide"]["weights"]
        assert before["epoch"] == 1 and before["images_seen"] == 96 and after.keys() == trained.keys()


def test_asked_again_nothing_is_trained_or_written(guided, digits):
    before = {path: path.stat().st_mtime_ns for path in guided.rglob("*.pt")}
    assert train_guide(guided, digits, "cpu", quiet=True) == []
    assert {path: path.stat().st_mtime_ns for path in guided.rglob("*.pt")} == before


def test_weights_that_came_with_a_guide_keep_it(vivid, digits, capsys):
    put_guide(vivid)
    before = vivid.read_bytes()
    assert train_guide(vivid.parent, digits, "cpu") == [] and vivid.read_bytes() == before
    assert "have a guide already" in capsys.readouterr().out and not (vivid.parent / "guide").exists()


def test_the_guide_goes_along_into_an_export_and_back(vivid, tmp_path):
    weights = put_guide(vivid)
    checkpoint.export(checkpoint.load(vivid), tmp_path / "gift" / checkpoint.EXPORTED)
    given = checkpoint.load(tmp_path / "gift")
    assert set(given["weights"]) == set(checkpoint.load(vivid)["weights"])
    assert all(torch.equal(given["guide"]["weights"][name], tensor.half().float()) for name, tensor in weights.items())
    assert checkpoint.recipe_of(given["guide"]) == guide_recipe(checkpoint.recipe_of(checkpoint.load(vivid)))
    other = put_guide(tmp_path / "gift" / checkpoint.EXPORTED, seed=2)  # a new guide in the place of the old one
    given = checkpoint.load(tmp_path / "gift")["guide"]["weights"]
    assert all(torch.equal(given[name], tensor.half().float()) for name, tensor in other.items())


def test_training_goes_on_from_weights_with_a_guide(guided, digits, tmp_path):
    longer = replace(TINY, epochs=2)
    records = list(train(longer, digits, tmp_path / "on", device="cpu", quiet=True, weights=guided / "ema_latest.pt"))
    assert [record.epoch for record in records] == [2]
    assert checkpoint.load_denoiser(tmp_path / "on").guide is None, "the new weights have no guide of their own yet"


# Who is led, and by how much


def test_guidance_is_the_default_of_the_stochastic_solver_where_there_is_a_guide():
    assert SDE.resolve(30, 1.3).guidance == 1.3 and SDE.resolve(30).guidance == 1
    for name in ("ddim", "ddpm", "unipc", "dpm++"):
        assert Sampler(name, 6).resolve(30, 1.3).guidance == 1
    assert Sampler("ddim", 6, guidance=2).resolve(30, 1.3).guidance == 2


def test_weights_say_how_much_they_are_guided_and_whoever_samples_may_say_otherwise(vivid, tmp_path, capsys):
    put_guide(vivid)
    plain = checkpoint.load_denoiser(vivid)
    gift = tmp_path / "gift"
    assert main(["export", "--checkpoint", str(vivid), "--out", str(gift), "--guidance", "1"]) == 0
    given = checkpoint.load_denoiser(gift)
    assert (plain.guidance, given.guidance) == (1.3, 1.0) and given.guide is not None
    assert SDE.resolve(30, given.guidance) == SDE.resolve(30) != SDE.resolve(30, plain.guidance)
    assert replace(SDE, guidance=2).resolve(30, given.guidance).guidance == 2
    for path, weight in ((gift, 2.5), (tmp_path / "again", None)):  # another one, and what the weights say goes along
        asked = [] if weight is None else ["--guidance", str(weight)]
        assert main(["export", "--checkpoint", str(gift), "--out", str(path), *asked]) == 0
        assert checkpoint.load_denoiser(path).guidance == 2.5
    assert main(["export", "--checkpoint", str(gift), "--out", str(gift), "--guidance", "0.5"]) == 2
    assert "guidance is 0.5, but must be between 1 (none) and 10" in capsys.readouterr().err
    assert checkpoint.load_denoiser(gift).guidance == 2.5, "what is there stays"


def test_only_weights_with_a_guide_can_say_how_much(vivid, tmp_path, capsys):
    assert main(["export", "--checkpoint", str(vivid), "--out", str(tmp_path / "gift"), "--guidance", "2"]) == 2
    assert "these weights have no guide: leave it out" in capsys.readouterr().err and not (tmp_path / "gift").exists()


@pytest.mark.parametrize("weight", [0.5, 99, float("nan"), "much", [1.3]])
def test_weights_that_ask_for_an_impossible_guidance_are_refused(vivid, weight):
    put_guide(vivid)
    content = torch.load(vivid, weights_only=True)
    content["guide"]["guidance"] = weight
    torch.save(content, vivid)
    with pytest.raises(ValueError, match="written by another version of hwkit"):
        checkpoint.load(vivid)


@pytest.mark.parametrize("weight", [0.9, -1, 11, float("nan")])
def test_a_weight_outside_1_to_10_is_refused(weight):
    with pytest.raises(ValueError, match=r"guidance is .*, but must be between 1 \(none\) and 10"):
        Sampler("ddim", guidance=weight)


def test_guidance_without_a_guide_is_refused_in_words(vivid):
    with pytest.raises(ValueError, match=r"guidance is 1\.5, but these weights have no guide: leave it out"):
        images(checkpoint.load_denoiser(vivid), replace(SDE, guidance=1.5), 0, [1])


def test_samples_are_those_of_the_guided_denoiser(vivid):
    put_guide(vivid)
    denoise, numbers = checkpoint.load_denoiser(vivid), [3, 8]
    noise, schedule = ImageNoise(5, numbers), denoise.schedule
    led = Guided(denoise, denoise.guide, 1.3)
    *_, last = sample(led, noise(), times(schedule.T, 6, power=1.25), schedule.alpha_bar, SDE.step, noise)
    expected = ((last.x_t.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(images(denoise, SDE, 5, numbers), expected)
    assert not torch.equal(images(denoise, replace(SDE, guidance=1.0), 5, numbers), expected)


def test_with_a_guide_the_curve_measures_guided_samples_too(vivid, tmp_path):
    content = checkpoint.load(vivid)
    checkpoint.save(vivid, replace(checkpoint.recipe_of(content), T=12), content["weights"], images_seen=96)
    put_guide(vivid)
    *_, whole = curve(vivid, tmp_path / "c.json", n=2)
    names = ["dpm++sde-10", "ddim-10", "unipc-10", "dpm++sde-8 guided 1.3", "dpm++sde-12 guided 1.3"]  # that fit T
    assert [point.sampler for point in whole.points] == names
    assert [point.name for point in whole.points if "guided" in point.sampler] == 2 * ["dpm++sde guided"]
    denoise = checkpoint.load_denoiser(vivid)
    for weight, same in ((1.3, True), (1.0, False)):
        made = images(denoise, Sampler("dpm++sde", 8, guidance=weight), 0, (1, 2))
        assert (whole.points[3].value == pytest.approx(digit_fid(made)[0], rel=1e-3)) == same


# Manifests


def test_a_folder_begun_without_guidance_goes_on_without_it_or_says_how(vivid, tmp_path):
    put_guide(vivid)
    folder = tmp_path / "made"
    generate(vivid, folder, 2, replace(SDE, guidance=1.0), progress=False)
    with pytest.raises(ValueError, match=r"were made with guidance 1.0: add --guidance 1.0, or"):
        generate(vivid, folder, 3, SDE, progress=False)
    for began, way in (  # the spacing that comes with the guidance is not asked for, another is
        (SDE, "guidance 1.3: add --guidance 1.3, or"),
        (replace(SDE, power=1.0), "guidance 1.3, power 1.0: add --guidance 1.3 --power 1.0, or"),
        (replace(SDE, guidance=1.0, power=1.5), "power 1.5: add --power 1.5, or"),
    ):
        generate(vivid, tmp_path / way, 1, began, progress=False)
        now = replace(SDE, guidance=1.0) if began.guidance is None else replace(SDE, guidance=1.0, power=1.25)
        with pytest.raises(ValueError, match=f"were made with {way}"):
            generate(vivid, tmp_path / way, 2, now, progress=False)
    manifest = tmp_path / "made.json"
    content = json.loads(manifest.read_text())
    assert content["sampler"].pop("guidance") == 1.0  # as before there were guides
    manifest.write_text(json.dumps(content))
    assert generate(vivid, folder, 3, replace(SDE, guidance=1.0), progress=False) == 1


def test_images_are_made_again_with_the_guidance_that_made_them(vivid, tmp_path):
    put_guide(vivid)
    generate(vivid, tmp_path / "made", 3, SDE, progress=False)
    manifest = json.loads((tmp_path / "made.json").read_text())
    denoise = checkpoint.load_denoiser(vivid)
    pictures = dict(zip((1, 2, 3), images(denoise, SDE, 0, (1, 2, 3)).numpy(), strict=True))
    assert manifest["sampler"]["guidance"] == 1.3
    for told, equal in ((manifest, 3), ({**manifest, "sampler": {**manifest["sampler"], "guidance": 1.0}}, 0)):
        found = provenance.again(denoise, provenance.origin(None, told), pictures, 3, "0" * 16)
        assert found.equal == equal and not found.trouble


# Files that lie


@pytest.mark.parametrize("kind", ["other shapes", "no weights", "no mapping", "huge", "nan"])
def test_a_guide_that_does_not_fit_its_network_is_a_sentence(vivid, tmp_path, kind):
    put_guide(vivid)
    content = torch.load(vivid, weights_only=True)
    if kind == "other shapes":
        content["guide"]["recipe"]["model"]["base"] = 32
    elif kind == "no weights":
        del content["guide"]["weights"]
    elif kind == "no mapping":
        content["guide"] = 7
    elif kind == "huge":
        content["guide"]["recipe"]["model"]["base"] = 16_000
    else:
        next(iter(content["guide"]["weights"].values())).view(-1)[0] = np.nan
    torch.save(content, vivid)
    found, denoise = provenance.read_weights(vivid, "mine.pt")
    assert denoise is None and found.trouble.strip()
    if kind in ("other shapes", "no weights", "no mapping"):
        with pytest.raises(ValueError, match=str(vivid)):
            checkpoint.load_denoiser(vivid)
