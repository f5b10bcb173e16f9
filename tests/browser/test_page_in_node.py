"""The page's JavaScript against the kit's Python, number for number, by node's own test runner on cases made here."""

import json
import os
import shutil
import subprocess
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import KIT, vivid_unet

from hwkit import schedule as schedules
from hwkit.diffusion import ddim_step, ddpm_step, predict_x0_eps, q_sample
from hwkit.measure import features
from hwkit.mnist.sources import SAMPLE, read_source
from hwkit.recipe import ORIGINAL
from hwkit.runs import checkpoint
from hwkit.runs.checkpoint import load_denoiser
from hwkit.runs.onnx_export import unet_inputs, without_weights
from hwkit.sampling import ImageNoise, sample, times
from hwkit.show.page import runtime
from hwkit.solvers import dpm_solver_step
from hwkit.unet import UNetConfig

HERE = Path(__file__).resolve().parent
PAGE = KIT / "hwkit" / "show" / "page"
STEPS = {
    "ddpm": (ddpm_step, {}),
    "ddim": (ddim_step, {"eta": 0.0}),
    "ddim 0.3": (ddim_step, {"eta": 0.3}),
    "ddim 1": (ddim_step, {"eta": 1.0}),
    "dpm++": (dpm_solver_step, {"eta": 0.0}),
    "dpm++sde 0.5": (dpm_solver_step, {"eta": 0.5}),
    "dpm++sde": (dpm_solver_step, {"eta": 1.0}),
}


def node(script: str, cases: dict, folder: Path, **environment) -> None:
    """Runs tests/browser/`script` by node's test runner; what it finds wrong is what pytest shows."""
    assert shutil.which("node"), "these tests need the command node (18 or later): .ci/run installs it"
    path = folder / "cases.json"
    path.write_text(json.dumps(cases))
    command = ["node", "--test", "--test-reporter=spec", str(HERE / script)]
    places = {"HWKIT_CASES": str(path), "HWKIT_PAGE": str(PAGE), **environment}
    done = subprocess.run(command, env={**os.environ, **places}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def values(x) -> list:
    return np.asarray(x, np.float64).ravel().tolist()


def randn(*shape, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Equations


def test_schedules_noise_steps_and_whole_ways_are_pythons(tmp_path):
    cases = {"schedules": schedule_cases(), "times": time_cases(), "noise": noise_cases(), "steps": step_cases()}
    node("steps.test.mjs", cases | {"ways": way_cases(), "forward": forward_cases()}, tmp_path)


def schedule_cases() -> list:
    made = [("linear", [T]) for T in (1, 2, 100, 830, 1000)]
    made += [("linear", [300, 1e-3, 5e-2]), ("cosine", [1]), ("cosine", [830]), ("cosine", [50])]
    return [
        {"name": name, "arguments": arguments, "alpha_bar": values(getattr(schedules, name)(*arguments).alpha_bar)}
        for name, arguments in made
    ]


def time_cases() -> list:
    pairs = [(T, steps) for T in (7, 40, 830, 1000) for steps in range(1, min(T, 110) + 1)] + [(830, 830), (830, 829)]
    return [{"T": T, "steps": steps, "times": times(T, steps)} for T, steps in pairs]


def noise_cases() -> list:
    """Long enough for the rare branches of the ziggurat, large seeds, and more than one draw."""
    made = []
    for seed, numbers in ((0, [1]), (7, [3, 99_999]), (2**40 + 5, [1]), (2**63 - 1024, [12])):
        source = ImageNoise(seed, numbers, shape=(40_000,))
        made.append({"seed": seed, "numbers": numbers, "size": 40_000, "draws": [values(source()) for _ in range(2)]})
    return made


def step_cases() -> list:
    """Every step between several shares of the image, the last one too, with a past and without."""
    made, pairs = [], [(0.02, 0.1), (0.1, 0.5), (0.5, 0.98), (0.9999, 1.0), (0.98, 1.0), (2.4e-4, 3e-4)]
    x_t, x0_hat, noise, before = (randn(1, 3, 4, 4, seed=seed) for seed in range(4))
    for name, (step, more) in STEPS.items():
        for t, s in pairs:
            eps_hat = predict_x0_eps(x0_hat, x_t, t, "x0")[1]
            for past in ([], [(t / 2, before)]) if step is dpm_solver_step else ([],):
                given = {"past": past} if step is dpm_solver_step else {}
                x_s = step(x_t, x0_hat, eps_hat, t, s, noise=noise, **more, **given)
                made.append(
                    {"sampler": name.split()[0], **more, "t": t, "s": s, "x_t": values(x_t), "x0_hat": values(x0_hat)}
                    | {"eps_hat": values(eps_hat), "noise": values(noise), "x_s": values(x_s)}
                    | {"past": [[share, values(x)] for share, x in past]}
                )
    return made


def way_cases() -> list:
    """From noise to an image with a stand-in for the network, so that errors have every chance to grow."""
    made, schedule = [], schedules.linear(830)
    for name, (step, more) in STEPS.items():
        for steps in (4, 20):
            source = ImageNoise(5, [1, 2], shape=(3, 4, 4))

            def denoise(x_t, t):
                return predict_x0_eps(torch.tanh(2 * x_t), x_t, schedule.alpha_bar[t].item(), "x0")

            chosen = partial(step, **more)
            way = sample(denoise, source(), times(830, steps), schedule.alpha_bar, chosen, source)
            frames = [values(frame.x_t) for frame in way]
            made.append({"sampler": name.split()[0], **{"eta": 0.0, **more}, "steps": steps, "frames": frames})
    return made


def forward_cases() -> list:
    made = []
    for prediction in ("epsilon", "x0", "v"):
        for share in (0.999, 0.3, 0.01):
            x, y = randn(1, 3, 4, 4, seed=1), randn(1, 3, 4, 4, seed=2)
            x0_hat, eps_hat = predict_x0_eps(y, x, share, prediction)
            made.append(
                {"prediction": prediction, "alpha_bar": share, "x": values(x), "y": values(y)}
                | {"x_t": values(q_sample(x, share, y)), "x0_hat": values(x0_hat), "eps_hat": values(eps_hat)}
            )
    return made


# Networks


def test_the_network_in_the_page_is_pytorchs(site, tmp_path):
    """x̂_0 of ten inputs within 1e-3, by the kit's weights, and what the classifier says of them."""
    denoise, x_0 = load_denoiser(KIT / "data" / "pretrained" / checkpoint.EXPORTED), some_digits()
    cases = []
    for k, t in enumerate((1, 10, 50, 119, 237, 356, 474, 593, 711, 830)):
        x_t = q_sample(x_0[k : k + 1], denoise.schedule.alpha_bar[t].item(), randn(1, 3, 28, 28, seed=k))
        x0_hat, eps_hat = denoise(x_t, t)
        case = {"t": t, "x_t": values(x_t), "x0_hat": values(x0_hat), "eps_hat": values(eps_hat)}
        cases.append(case | {"class": int(features.classify(features.digit_features(bytes_of(x0_hat)))[0])})
    node("network.test.mjs", {"inputs": cases, "tolerance": 1e-3}, tmp_path, HWKIT_SITE=str(site))


def some_digits() -> torch.Tensor:
    return torch.from_numpy(read_source(SAMPLE, "test").images[:10]).float().expand(-1, 3, -1, -1) / 127.5 - 1


def bytes_of(x: torch.Tensor) -> np.ndarray:
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_half_precision_costs_less_than_a_hundredth(tmp_path, prediction):
    """Weights that were trained in float32 and exported by halves: another shape, other predictions, vivid weights."""
    config = UNetConfig(base=16, multipliers=(1, 2))
    recipe = replace(ORIGINAL, model=config, prediction=prediction, T=100)
    model = vivid_unet(config)
    site = tmp_path / "site"
    checkpoint.save(tmp_path / "a.pt", recipe, model.state_dict())
    checkpoint.export(checkpoint.load(tmp_path / "a.pt"), site / "data" / "weights.safetensors")
    graph, tensors = without_weights(model, unet_inputs(model), "output")
    (site / "data" / "network.onnx").write_bytes(graph)
    facts = {"networks": [{"file": "network.onnx", "model": asdict(config), "tensors": tensors}]}
    denoise, cases = recipe.denoiser(model.eval()), []
    for k, t in enumerate((1, 20, 40, 70, 100)):
        x_t = randn(2, 3, 28, 28, seed=k)
        x0_hat, eps_hat = denoise(x_t, t)
        cases.append({"t": t, "x_t": values(x_t), "x0_hat": values(x0_hat), "eps_hat": values(eps_hat)})
    assert max(np.ptp(case["x0_hat"]) for case in cases) > 0.5, "the network says something"
    names = {"script": "ort.wasm.bundle.min.js", "wasm": "ort-wasm-simd-threaded.wasm.gz"}
    for file, data in runtime()[0].items():
        (site / file).parent.mkdir(exist_ok=True)
        (site / file).write_bytes(data)
    facts |= {"name": "vivid", "weights": "weights.safetensors", "runtime": names}
    (site / "data" / "site.json").write_text(json.dumps(facts))
    node("network.test.mjs", {"inputs": cases, "tolerance": 1e-2}, tmp_path, HWKIT_SITE=str(site))


# Words


def test_every_word_is_there_in_both_languages(tmp_path):
    node("words.test.mjs", {}, tmp_path)


# Types and form


@pytest.mark.parametrize("tool", ["tsc", "prettier"])
def test_the_scripts_are_typed_and_formed(tool):
    """By TypeScript, strictly, which also finds what is not used; by Prettier, as tests/browser/package.json has it."""
    command = HERE / "node_modules" / ".bin" / tool
    assert command.exists(), f"this test needs {tool}: make test-page installs it (npm install in tests/browser)"
    files = [str(path) for folder in (PAGE, HERE) for path in folder.glob("*.*js")] + [str(PAGE / "style.css")]
    config = ["--config", str(HERE / "package.json"), "--check", *files]
    arguments = ["-p", str(HERE)] if tool == "tsc" else config
    done = subprocess.run([str(command), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
