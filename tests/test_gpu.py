"""What only a GPU can show: the kit's numbers there are the CPU's, and training, saving and sampling work on it.

Without a CUDA device all of it is skipped: `python -m pytest tests/test_gpu.py` on a machine that has one.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY
from test_features import random_inception

from hwkit.diffusion import diffusion_loss
from hwkit.measure.features import InceptionFeatures
from hwkit.mnist.batches import normalize
from hwkit.mnist.folder import PNGFolder, write_folder
from hwkit.recipe import CPU, ORIGINAL
from hwkit.runs.checkpoint import load, load_denoiser
from hwkit.runs.generate import generate, images
from hwkit.runs.guide import train_guide
from hwkit.runs.run import train
from hwkit.runs.speed import Setting
from hwkit.sampling import Sampler
from hwkit.training import new_state, training_step
from hwkit.unet import UNet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")


def losses(run) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "history.jsonl").read_text().splitlines()]


def run_on(device: str, recipe, digits, run, **options) -> list:
    return list(train(recipe, digits, run, device, quiet=True, **options))


@pytest.mark.parametrize("recipe", [ORIGINAL, CPU], ids=lambda recipe: recipe.name)
def test_loss_and_gradients_are_the_cpus(recipe, digits):
    """In float32 without TF32, whose rounding is 2^-11."""
    x_0 = normalize(digits[:8])
    torch.manual_seed(0)
    t, eps = torch.randint(1, recipe.T + 1, (8,)), torch.randn(8, 3, 28, 28)
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(1)
        model = UNet(recipe.model).to(device)
        with torch.no_grad():
            for p in model.parameters():  # the last layers begin as zeros, which would hide the others
                p.add_(0.02 * torch.randn(p.shape).to(device))
        alpha_bar = recipe.make_schedule().alpha_bar.to(device, torch.float32)
        given = (x_0.to(device), t.to(device), eps.to(device), alpha_bar)
        with torch.backends.cudnn.flags(allow_tf32=False):
            loss = diffusion_loss(model, *given, recipe.prediction, recipe.weighting)
            loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()]).cpu().double()
        found.append((loss.item(), gradient))
    (loss, gradient), (loss_there, gradient_there) = found
    assert loss_there == pytest.approx(loss, rel=1e-4)
    assert (gradient_there - gradient).norm() < 1e-3 * gradient.norm()


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_learns_in_each_precision_and_its_weights_draw_on_a_cpu(digits, tmp_path, monkeypatch, precision, layout):
    monkeypatch.setattr("hwkit.runs.run.candidates", lambda *_: [Setting(precision, layout)])
    recipe = replace(TINY, epochs=6, precision=precision)
    records = run_on("cuda", recipe, digits, tmp_path / "run")
    assert records[-1].loss < 0.7 * records[0].loss
    assert load(tmp_path / "run" / "latest.pt")["resume"]["setting"] == [precision, layout]
    assert generate(tmp_path / "run", tmp_path / "digits", 4, Sampler("ddim", 5), device="cpu", progress=False) == 4


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(digits, tmp_path):
    """To rounding: a GPU adds in an order of its own."""
    recipe = replace(TINY, epochs=4, precision="fp32")
    run_on("cuda", recipe, digits, tmp_path / "whole")
    begun = train(recipe, digits, tmp_path / "parts", "cuda", quiet=True)
    next(begun), next(begun)
    begun.close()
    run_on("cuda", recipe, digits, tmp_path / "parts")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=2e-2)


def test_a_run_may_move_from_a_cpu_to_a_gpu_and_back(digits, tmp_path):
    recipe = replace(TINY, precision="auto")
    for epochs, device in enumerate(("cpu", "cuda", "cpu"), 1):
        run_on(device, replace(recipe, epochs=epochs), digits, tmp_path)
    found = losses(tmp_path)
    assert len(found) == 3 and found[2] < found[0]


def test_a_step_whose_gradient_overflows_is_left_out_in_fp16_and_the_scale_halved(digits):
    recipe = replace(TINY, precision="fp16")
    state = new_state(recipe, "cuda", "fp16")
    state.part = slice(8)
    alpha_bar = recipe.make_schedule().alpha_bar.to("cuda", torch.float32)
    x_0 = normalize(digits[:8]).cuda()
    training_step(state, recipe, x_0, alpha_bar, 0.0)
    before, scale = [p.detach().clone() for p in state.model.parameters()], state.scaler.get_scale()
    training_step(state, recipe, x_0 * float("inf"), alpha_bar, 0.0)
    assert all(torch.equal(p, b) for p, b in zip(state.model.parameters(), before, strict=True))
    assert state.scaler.get_scale() == scale / 2


def test_a_gradient_that_is_not_finite_ends_a_run_in_bf16(digits, tmp_path):
    recipe = replace(TINY, precision="bf16", lr=1e30, clip=1e30, muon_lr=None, warmup=0)
    with pytest.raises(FloatingPointError):
        run_on("cuda", recipe, digits, tmp_path)


def test_a_guide_is_trained_there_too(digits, tmp_path):
    recipe = replace(TINY, precision="auto")
    run_on("cuda", recipe, digits, tmp_path)
    assert train_guide(tmp_path, digits, "cuda", quiet=True)
    denoise = load_denoiser(tmp_path / "ema_latest.pt", "cuda")
    assert next(denoise.guide.model.parameters()).is_cuda
    assert images(denoise, Sampler("dpm++sde", 3), 0, range(1, 5), "cuda").shape == (4, 3, 28, 28)


@pytest.mark.parametrize("sampler", [Sampler("dpm++sde", 8), Sampler("ddim", 8), Sampler("ddpm"), Sampler("unipc", 8)])
def test_image_k_is_the_cpus_but_for_rounding(digits, tmp_path, sampler):
    run_on("cuda", replace(TINY, epochs=8, precision="fp32"), digits, tmp_path)
    found = []
    for device in ("cpu", "cuda"):
        denoise = load_denoiser(tmp_path / "ema_latest.pt", device)
        with torch.backends.cudnn.flags(allow_tf32=False):
            found.append(images(denoise, sampler, 3, range(1, 17), device).int())
    apart = (found[0] - found[1]).abs()
    assert apart.max() <= 3 and (apart > 1).float().mean() < 1e-3


def test_noise_drawn_on_the_device_makes_another_image_that_is_as_good(digits, tmp_path):
    run_on("cuda", replace(TINY, epochs=2), digits, tmp_path)
    denoise = load_denoiser(tmp_path / "ema_latest.pt", "cuda")
    given = (denoise, Sampler("ddpm"), 0, range(1, 65), "cuda")
    own, drawn, again = (images(*given, device_noise=noise).float() for noise in (False, True, True))
    assert torch.equal(drawn, again) and not torch.equal(own, drawn)
    assert drawn.mean() == pytest.approx(own.mean().item(), abs=5)
    assert drawn.std() == pytest.approx(own.std().item(), rel=0.1)


def test_a_compiled_network_learns_as_the_plain_one(digits, tmp_path):
    recipe = replace(TINY, precision="fp32", epochs=3)
    plain, compiled = (run_on("cuda", recipe, digits, tmp_path / str(c), compile=c)[-1].loss for c in (False, True))
    assert compiled == pytest.approx(plain, rel=2e-2)


def test_digits_read_from_their_files_are_those_of_memory(digits, tmp_path):
    """By worker processes, through pinned memory."""
    write_folder(digits.expand(-1, 3, -1, -1).numpy(), tmp_path / "pngs", "the test")
    recipe = replace(TINY, precision="fp32", epochs=2)
    run_on("cuda", recipe, digits, tmp_path / "memory")
    run_on("cuda", recipe, PNGFolder(tmp_path / "pngs"), tmp_path / "files")
    assert losses(tmp_path / "files") == pytest.approx(losses(tmp_path / "memory"), rel=2e-2)


def test_inceptions_features_are_the_cpus(digits, tmp_path):
    random_inception(tmp_path / "weights.pth")
    found = [InceptionFeatures(tmp_path / "weights.pth", device)(digits[:20].numpy()) for device in ("cpu", "cuda")]
    assert np.linalg.norm(found[1] - found[0]) < 1e-4 * np.linalg.norm(found[0])
