"""Weights that are distilled to a few steps: they sample with these and no others, and are known as the kit's."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY, vivid_unet

from hwkit.__main__ import main
from hwkit.diffusion import ddpm_step
from hwkit.grade.examine import Bench, Settings
from hwkit.grade.provenance import Origin, again
from hwkit.runs import checkpoint
from hwkit.runs.generate import generate, images
from hwkit.sampling import ImageNoise, Sampler, trajectory
from hwkit.show.page import write_page
from hwkit.show.slider import slider_frames

STEPS = 3
RECIPE = replace(TINY, T=40)
FITTING = Sampler("ddpm", STEPS)
OTHERS = (
    Sampler(),
    Sampler("ddpm"),
    Sampler("ddpm", 4),
    Sampler("ddpm", STEPS, power=2.0),
    Sampler("dpm++sde", 5),
    Sampler("unipc"),
)


@pytest.fixture
def distilled(tmp_path):
    path = tmp_path / "fast" / checkpoint.EXPORTED
    weights = vivid_unet(RECIPE.model, 1).state_dict()
    checkpoint.save(path.with_name("ema_latest.pt"), RECIPE, weights, steps=STEPS, epoch=1, images_seen=8)
    checkpoint.export(checkpoint.load(path.with_name("ema_latest.pt")), path)
    path.with_name("ema_latest.pt").unlink()
    return path


def test_their_images_are_those_of_ancestral_steps_at_their_times(distilled):
    denoise, noise = checkpoint.load_denoiser(distilled), ImageNoise(5, [1, 2])
    assert denoise.steps == STEPS
    x, alpha_bar = noise(), denoise.schedule.alpha_bar.tolist()
    for t, s in ((40, 27), (27, 13), (13, 0)):
        x = ddpm_step(x, *denoise(x, t), alpha_bar[t], alpha_bar[s], noise=noise())
    *_, last = trajectory(denoise, FITTING, 5, [1, 2])
    assert last.x_t.std() > 0.1
    torch.testing.assert_close(last.x_t, x)


@pytest.mark.parametrize("sampler", OTHERS, ids=str)
def test_other_steps_are_refused_with_those_to_take(distilled, sampler, tmp_path):
    denoise = checkpoint.load_denoiser(distilled)
    for use in (lambda: images(denoise, sampler, 0, [1]), lambda: generate(distilled, tmp_path / "x", 2, sampler)):
        with pytest.raises(ValueError, match="distilled: they draw by --sampler ddpm --steps 3"):
            use()
    assert not (tmp_path / "x").exists()
    denoise.times = range(RECIPE.T + 1)
    assert images(denoise, sampler, 0, [1]).shape == (1, 3, 28, 28), "it is for their times that they are refused"


def test_what_samples_in_other_ways_refuses_them(distilled, tmp_path):
    with pytest.raises(ValueError, match="they draw by --sampler ddpm --steps 3"):
        slider_frames(checkpoint.load_denoiser(distilled))
    with pytest.raises(ValueError, match="know 3 steps only, the page asks for others"):
        write_page(checkpoint.load(distilled), tmp_path / "page", "fast")
    assert not (tmp_path / "page").exists()


def kit_with(distilled, folder):
    """A kit whose own weights are others, with these as its fast ones."""
    checkpoint.save(folder / "own.pt", RECIPE, vivid_unet(RECIPE.model, 9).state_dict(), epoch=1, images_seen=8)
    checkpoint.export(checkpoint.load(folder / "own.pt"), folder / "kit" / checkpoint.EXPORTED)
    (folder / "kit" / "fast").mkdir()
    return shutil.copy(distilled, folder / "kit" / "fast" / checkpoint.EXPORTED).parent.parent


def test_the_kits_are_unpacked_known_and_nobodys_run(distilled, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    monkeypatch.setattr(checkpoint, "PRETRAINED", tmp_path / "kit")
    assert checkpoint.unpack_pretrained(runs, "pretrained-fast") is None and not runs.exists()
    assert not checkpoint.is_the_kits(distilled)
    kit_with(distilled, tmp_path)
    folder = checkpoint.unpack_pretrained(runs, "pretrained-fast")
    assert folder == runs / "pretrained-fast" and os.listdir(folder) == [checkpoint.EXPORTED]
    assert checkpoint.is_the_kits(distilled) and checkpoint.is_the_kits(tmp_path / "kit" / checkpoint.EXPORTED)
    assert checkpoint.newest_run(runs) is None
    assert not isinstance(checkpoint.load_denoiser(checkpoint.unpack_pretrained(runs)), checkpoint.Distilled)


def test_on_the_command_line_they_come_by_their_name(distilled, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "PRETRAINED", kit_with(distilled, tmp_path))
    run = str(tmp_path / "runs" / "pretrained-fast")
    assert main(["sample", "--run", run, "--n", "2"]) == 2
    assert "by --sampler ddpm --steps 3." in capsys.readouterr().err
    assert main(["sample", "--run", run, "--n", "2", "--sampler", "ddpm", "--steps", "3"]) == 0
    assert len(os.listdir(tmp_path / "runs" / "pretrained-fast" / "generate")) == 2


def test_grading_compares_with_their_images(distilled, tmp_path):
    kit = kit_with(distilled, tmp_path) / checkpoint.EXPORTED
    settings = Settings(kit=str(kit), cache=str(tmp_path / "cache"), images=10)
    bench = Bench(settings, train=("", np.zeros((0, 28, 28), np.uint8)))
    for path, sampler in ((distilled, FITTING), (kit, Sampler("ddpm", 4)), (kit, Sampler("ddim", 3))):
        expected = images(checkpoint.load_denoiser(path), sampler, 7, [1, 10])
        assert np.array_equal(bench.kits_images(sampler, 7, 2), expected)
    (kit.parent / "fast" / checkpoint.EXPORTED).unlink()
    assert Bench(settings, train=bench.train).fast is None


def test_graded_images_that_such_weights_cannot_have_made_are_told(distilled):
    pictures = {k: np.zeros((3, 28, 28), np.uint8) for k in (1, 2)}
    denoise = checkpoint.load_denoiser(distilled)
    found = again(denoise, Origin(Sampler("ddim", 20), 0), pictures, 2, "ab" * 32)
    assert found.share is None and "does not fit the weights" in found.trouble and "--steps 3" in found.trouble
    assert again(denoise, Origin(FITTING, 0), pictures, 2, "ab" * 32).other == 2
