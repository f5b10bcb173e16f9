"""A student's functions in the place of the kit's: the same run and the same images, by their own code."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import right_forms as forms
import torch
from conftest import TINY, vivid_unet
from PIL import Image

from hwkit import diffusion, recipe, sampling, training, unet
from hwkit.course.own import PLACES, own, step_by
from hwkit.mnist.batches import normalize
from hwkit.runs import checkpoint
from hwkit.runs.checkpoint import OWN, load
from hwkit.runs.generate import generate, read_manifest
from hwkit.runs.run import train
from hwkit.sampling import Sampler
from hwkit.show.report import result_rows, training_rows
from hwkit.unet import UNetConfig

RECIPE = replace(TINY, model=UNetConfig(base=16, multipliers=(1, 2)), precision="fp32")


class Block(unet.ResBlock):  # whose layers are made in the kit's order, so that they begin with the same weights
    forward = forms.BlockByFunctions.forward


FORMS = {
    "q_sample": forms.q_by_tensor_roots,
    "target": forms.target_by_factors,
    "loss_weight": forms.weight_by_minimum,
    "diffusion_loss": forms.loss_by_mse_loss,
    "time_embedding": forms.embedding_by_power,
    "ResBlock": Block,
    "unet_forward": forms.way_by_zip,
    "draw_t_and_eps": forms.draw_by_shape,
    "update_weights": forms.update_with_zero_grad_last,
    "predict_x0_eps": forms.predict_by_cases,
    "Denoiser": forms.denoiser_as_a_closure,
    "ddpm_step": forms.ddpm_from_eps,
    "ddim_step": forms.ddim_from_x_t,
    "times": forms.times_by_numpy,
    "second_order_step": forms.second_order_of_the_kit,
}
TRAINING = ["q_sample", "target", "loss_weight", "diffusion_loss", "time_embedding", "ResBlock", "unet_forward"]


def written(name: str):
    """A right answer under the name that a student's has; it counts its calls."""
    function = FORMS[name]
    if isinstance(function, type):
        return type(name, (function,), {})

    def student(*args, **kwargs):
        student.calls += 1
        return function(*args, **kwargs)

    student.__name__, student.__wrapped__, student.calls = name, function, 0
    return student


def run_of(functions, digits, folder):
    with own(*functions):
        for _ in train(RECIPE, digits, folder, device="cpu", quiet=True):
            pass
    return load(folder / "ema_latest.pt")


@pytest.fixture(scope="module")
def kits_run(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit") / "run"
    return folder, run_of([], digits, folder)


def test_there_is_a_place_for_all_that_trains_or_samples():
    assert set(PLACES) == set(FORMS)


@pytest.mark.parametrize(
    "names", [TRAINING[:3], TRAINING[3:4], TRAINING[4:], ["update_weights"], [*TRAINING, "update_weights"]]
)
def test_a_right_answer_trains_the_same_network(digits, tmp_path, kits_run, names):
    functions = [written(name) for name in names]
    content = run_of(functions, digits, tmp_path / "run")
    called = sorted(set(names) - set(TRAINING[:3]) if "diffusion_loss" in names else names)  # it calls its own of these
    assert content["own"] == called and "own" not in kits_run[1]
    assert all(function.calls for function in functions if hasattr(function, "calls"))
    for key, tensor in kits_run[1]["weights"].items():
        assert torch.allclose(content["weights"][key], tensor, atol=2e-3), key
    assert dict(training_rows(tmp_path / "run"))["trained with the student's own"] == ", ".join(called)
    assert "trained with the student's own" not in dict(training_rows(kits_run[0]))


def test_who_clips_what_the_optimizer_holds_clips_all_of_it(digits, tmp_path, kits_run, monkeypatch):
    """A run has two optimizers, and the check has vouched for this form with one."""
    monkeypatch.setitem(FORMS, "update_weights", forms.update_clipped_by_the_optimizers_group)
    content = run_of([written("update_weights")], digits, tmp_path / "run")
    for key, tensor in kits_run[1]["weights"].items():
        assert torch.allclose(content["weights"][key], tensor, atol=2e-3), key


def test_noise_in_float64_trains_too(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMS, "draw_t_and_eps", forms.draw_by_numpy)
    assert run_of([written("draw_t_and_eps")], digits, tmp_path / "run")["own"] == ["draw_t_and_eps"]


def test_ones_own_draws_train_too_and_depend_on_seed_and_step_alone(digits, tmp_path):
    first = run_of([written("draw_t_and_eps")], digits, tmp_path / "a")
    torch.manual_seed(5)
    again = run_of([written("draw_t_and_eps")], digits, tmp_path / "b")
    assert all(torch.equal(tensor, again["weights"][key]) for key, tensor in first["weights"].items())


@pytest.fixture(scope="module")
def vivid(tmp_path_factory):
    """A checkpoint of two levels, with random weights in every layer."""
    path, recipe = tmp_path_factory.mktemp("vivid") / "ema_latest.pt", replace(RECIPE, T=30)
    checkpoint.save(path, recipe, vivid_unet(recipe.model).state_dict(), epoch=1, images_seen=0)
    return path


SAMPLED = [
    (["predict_x0_eps"], Sampler("ddim", 5)),
    (["Denoiser"], Sampler("ddim", 5)),
    (["ddpm_step"], Sampler("ddpm")),
    (["ddim_step", "times"], Sampler("ddim", 5)),
    (["second_order_step"], Sampler("dpm++", 5)),
    (["unet_forward", "time_embedding", "ResBlock", "Denoiser"], Sampler("dpm++sde", 5)),
]


@pytest.mark.parametrize(("names", "sampler"), SAMPLED, ids=[" ".join(names) for names, _ in SAMPLED])
def test_a_right_answer_samples_the_same_images(vivid, tmp_path, names, sampler):
    functions = [written(name) for name in names]
    generate(vivid, tmp_path / "kit", 4, sampler, progress=False)
    with own(*functions) as found:
        generate(vivid, tmp_path / "own", 4, sampler, progress=False)
    assert found == names and read_manifest(tmp_path / "own")["own"] == sorted(names)
    assert not read_manifest(tmp_path / "kit").get("own")
    assert all(function.calls for function in functions if hasattr(function, "calls"))
    for k in range(1, 5):
        kit, mine = (np.asarray(Image.open(tmp_path / who / f"{k:05d}.png"), int) for who in ("kit", "own"))
        assert np.abs(kit - mine).max() <= 2, "levels of 255: rounding"
    assert f"with the student's own {', '.join(sorted(names))}" in json.dumps(result_rows(tmp_path / "own"))


def test_what_was_not_called_or_made_only_a_part_is_not_named(vivid, tmp_path):
    with own(written("ddim_step")):
        generate(vivid, tmp_path / "other", 2, Sampler("dpm++", 5), progress=False)
    assert not read_manifest(tmp_path / "other").get("own"), "this sampler has no use for it"
    generate(vivid, tmp_path / "part", 2, Sampler("ddim", 5), progress=False)
    with own(written("ddim_step")):
        generate(vivid, tmp_path / "part", 4, Sampler("ddim", 5), progress=False)
    assert not read_manifest(tmp_path / "part").get("own"), "the first two were made by the kit's"
    with own(written("ddim_step")):
        generate(vivid, tmp_path / "whole", 2, Sampler("ddim", 5), progress=False)
        generate(vivid, tmp_path / "whole", 4, Sampler("ddim", 5), progress=False)
    assert read_manifest(tmp_path / "whole")["own"] == ["ddim_step"]
    generate(vivid, tmp_path / "whole", 6, Sampler("ddim", 5), progress=False)
    assert not read_manifest(tmp_path / "whole")["own"]


@pytest.mark.parametrize("form", [forms.times_by_round, forms.times_by_numpy, forms.times_from_below])
def test_ones_own_times_are_whole_numbers_of_python_whatever_holds_them(form):
    """The samplers and the manifest beside the images take plain numbers: no entries of a tensor or an array."""

    def times(T, steps):
        return form(T, steps)

    kits = sampling.times(830, 50)
    with own(times):
        mine = sampling.times(830, 50)
    assert mine == kits and all(type(t) is int for t in mine)


def test_ones_own_times_are_even_so_uneven_ones_are_the_kits():
    def times(T, steps):
        return forms.times_by_round(T, steps)

    guided = Sampler("dpm++sde").resolve(830, 1.3)
    with own(times):
        assert Sampler("dpm++sde").resolve(830, 1.3) == guided and OWN == []
        for name in ("ddim", "dpm++sde"):
            OWN.clear()
            Sampler(name).resolve(830)
            assert OWN == ["times"]


def test_afterwards_the_kit_is_itself_again_even_after_an_error():
    places = [(place, attribute) for place, attribute, _ in PLACES.values()]
    before = [getattr(*each) for each in places]
    with pytest.raises(RuntimeError), own(*map(written, FORMS)):
        assert OWN == []  # none was called yet
        sampling.times(830, 50)
        assert OWN == ["times"]
        assert not any(getattr(*each) is kits for each, kits in zip(places, before, strict=True))
        raise RuntimeError
    assert [getattr(*each) for each in places] == before and OWN == []
    assert {diffusion, recipe, sampling, training} <= {place for place, _ in places}


def wrong_ddim(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0):
    return alpha_bar_s**0.5 * x0_hat + (1 - alpha_bar_s) * eps_hat


def test_a_wrong_answer_is_refused_with_its_hint(capsys):
    wrong_ddim.__name__ = "ddim_step"
    with pytest.raises(ValueError, match=re.escape("ddim_step is not right yet")) as refused, own(wrong_ddim):
        pass
    assert "✗ 3.5 ddim_step" in str(refused.value) and capsys.readouterr().out == ""
    assert sampling.ddim_step is diffusion.ddim_step


def test_what_the_kit_does_not_call_is_refused():
    def statistics(features):
        return features.mean(0), np.cov(features.T)

    with pytest.raises(ValueError, match=r"The kit has no place for statistics\. It takes q_sample, "), own(statistics):
        pass
    with pytest.raises(ValueError, match="Two of the functions answer the same task"), own(*[written("target")] * 2):
        pass


def test_the_way_through_two_levels_does_not_fit_three(digits, tmp_path):
    three = replace(RECIPE, model=UNetConfig(base=16, multipliers=(1, 2, 2)))
    with pytest.raises(ValueError, match="knows two levels, but this network has 3"), own(written("unet_forward")):
        next(train(three, digits, tmp_path / "run", device="cpu", quiet=True))


def test_ones_own_update_is_given_losses_in_fp32_where_those_of_fp16_would_be_scaled(digits):
    losses, alpha_bar = {}, RECIPE.make_schedule().alpha_bar.float()
    for step in (step_by(forms.update_with_zero_grad_last), training.training_step):
        for precision in ("fp32", "fp16"):
            state = training.new_state(RECIPE, "cpu", precision)
            state.model.load_state_dict(vivid_unet(RECIPE.model).state_dict())
            x_0 = normalize(digits[: RECIPE.batch_size].expand(-1, 3, -1, -1))
            losses[step, precision] = step(state, RECIPE, x_0, alpha_bar, 0.0).item()
    own_fp32, own_fp16, fp32, fp16 = losses.values()
    assert own_fp32 == own_fp16 == fp32 != fp16
