"""What students are told: each known mistake its own hint, a right answer in any form a tick; nothing is raised."""

import ast
import copy
import inspect
import itertools
import json
import math
import random
import re
import socket
import sys
import textwrap
import time
from collections import Counter
from itertools import zip_longest

import numpy as np
import pytest
import torch
from right_forms import RIGHT
from torch import nn

from hwkit.course import selfcheck
from hwkit.course.mistakes import MISTAKES
from hwkit.course.selfcheck import agree, attempt, check, judge, progress
from hwkit.course.tasks import BY_NAME, TASKS, Case, Task, Tilted, normal, vivid
from hwkit.diffusion import predict_x0_eps, q_sample
from hwkit.schedule import cosine, linear
from hwkit.solvers import dpm_solver_step
from hwkit.unet import ResBlock, UNet, UNetConfig

EVERY_MISTAKE = [(task, mistake) for task in TASKS for mistake in MISTAKES[task.name]]
SECONDS = 1.0  # of one core, for a check


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No network."""
    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("a check asked the network"))


@pytest.fixture(autouse=True, scope="module")
def loaded():
    """At the first power of a tensor without numbers PyTorch loads 900 modules, for a second: not a check's own."""
    return 10_000 ** torch.arange(1, device="meta")


def timed(function, task: str, seed: int = 0):
    started = time.process_time()
    result = check(function, task, seed)
    assert time.process_time() - started < SECONDS, result
    return result


# The tasks


def test_there_are_fourteen_tasks_or_more_in_the_order_of_the_notebooks():
    assert len(TASKS) >= 14 and [task.number for task in TASKS] == sorted({task.number for task in TASKS})
    assert all(task.notebook.startswith(f"0{task.number[0]}_") for task in TASKS)


def test_a_students_function_can_stand_where_the_librarys_does():
    """The task asks for the library's arguments, in its order, with its defaults; further ones the library may have."""
    for task in TASKS:
        (asked,) = (node.args for node in ast.parse(f"def {task.signature}: ...").body)
        names = [argument.arg for argument in asked.args]
        theirs = inspect.signature(task.answer).parameters
        assert [{"unet": "self"}.get(name, name) for name in names] == list(theirs)[: len(names)]
        defaults = [theirs[name].default for name in names[len(names) - len(asked.defaults) :]]
        assert defaults == [ast.literal_eval(value) for value in asked.defaults]
        assert all(p.default is not p.empty for p in list(theirs.values())[len(names) :])


# Right answers


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, form) for name, forms in RIGHT.items() for form in forms],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_a_right_answer_passes_in_other_forms(name, form):
    assert timed(form, name), selfcheck.failures


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_kits_own_answer_passes_with_any_seed(task):
    assert len(RIGHT[task.name]) >= 3
    results = [timed(task.answer, task.number, seed) for seed in range(5)]
    assert all(results) and {r.text for r in results} == {f"✓ {task}: {task.verified}."}


def test_what_is_right_in_float64_passes_with_a_word():
    """The layers of a network do not take it, a cell or two later."""
    result = check(lambda x_0, a, eps: q_sample(x_0.double(), a, eps.double()), "1.2")
    assert result and "End with .float()" in result.text
    assert "float()" not in check(q_sample, "1.2").text


@pytest.mark.parametrize(
    ("function", "task"),
    [
        (lambda x_0, T: (torch.randint(1, T + 1, (len(x_0),)), torch.randn(x_0.shape)), "2.7"),
        (lambda x_0, T: (torch.randint(1, T + 1, (len(x_0),)), torch.randn_like(x_0)), "2.7"),
        (lambda t, dim: embedding_on(t, dim, "cpu"), "2.4"),
        (lambda *given, clip=True: closure_on(*given, clip, device="cpu"), "3.2"),
    ],
    ids=["both drawn on the CPU", "t drawn on the CPU", "frequencies on the CPU", "times on the CPU"],
)
def test_what_is_right_here_and_would_stop_on_a_gpu_passes_with_a_word(function, task):
    """In the notebook the cell that uses it would stop there, far from the cause."""
    result = check(function, task)
    assert result and "If your network is on a GPU, a later cell stops" in result.text


@pytest.mark.parametrize(
    ("function", "task"),
    [
        (lambda x_0, T: (torch.randint(1, T + 1, (len(x_0),), device=x_0.device), torch.randn_like(x_0)), "2.7"),
        (lambda x_0, T: (x_0.new_empty(len(x_0)).uniform_(1, T + 1).long(), torch.randn_like(x_0)), "2.7"),
        (lambda t, dim: embedding_on(t, dim, t.device), "2.4"),
        (lambda *given, clip=True: closure_on(*given, clip, device=None), "3.2"),
    ],
)
def test_what_names_its_device_passes_without_one(function, task):
    result = check(function, task)
    assert result and "GPU" not in result.text


def embedding_on(t, dim, device):
    angles = t[:, None] * torch.exp(-np.log(1e4) * torch.arange(dim // 2, device=device) / (dim // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def closure_on(model, schedule, prediction, clip, device):
    def denoise(x_t, t):
        with torch.no_grad():
            output = model(x_t, torch.full((len(x_t),), t, device=device or x_t.device))
        x0_hat, eps_hat = predict_x0_eps(output, x_t, schedule.alpha_bar[t].item(), prediction)
        if clip:
            a = schedule.alpha_bar[t].item()
            x0_hat = x0_hat.clamp(-1, 1)
            eps_hat = (x_t - a**0.5 * x0_hat) / (1 - a) ** 0.5
        return x0_hat, eps_hat

    return denoise


def test_a_solver_must_end_at_the_image():
    """With a last step that returns what it was given, all images would keep their last noise."""

    def stays(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=()):
        return x_t if alpha_bar_s == 1 else dpm_solver_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, past)

    result = check(stays, "3.7")
    assert not result and "s = 0" in result.text


# Known mistakes

# Known mistakes


@pytest.mark.parametrize(("task", "mistake"), EVERY_MISTAKE, ids=lambda x: getattr(x, "name", x))
def test_a_mistake_of_the_bank_gets_its_own_hint(task, mistake):
    seed = MISTAKES[task.name].index(mistake)
    for form, hint in zip_longest(mistake.forms, mistake.hints, fillvalue=mistake.hints[-1]):
        function = form if callable(form) else mistake.function
        result = timed(function, task.number, seed)
        assert not result and result.kind == mistake.name
        assert hint in result.text
    others = [hint for other in MISTAKES[task.name] if other is not mistake for hint in other.hints]
    assert not [hint for hint in others if hint in result.text and hint not in mistake.hints]


def test_every_task_has_five_mistakes_or_more_with_three_hints_each():
    for task in TASKS:
        names = [mistake.name for mistake in MISTAKES[task.name]]
        assert len(names) == len(set(names)) >= 5, task
        hints = [hint for mistake in MISTAKES[task.name] for hint in mistake.hints]
        assert not [hint for hint, count in Counter(hints).items() if count > 1], task
    assert all(len(m.hints) == 3 and all(hint[-1] in ".?" for hint in m.hints) for _, m in EVERY_MISTAKE)
    assert set(MISTAKES) == set(BY_NAME)


def test_mistakes_as_students_write_them_are_known_too():
    """Written apart from the bank; the names of its entries stand beside them."""

    def variances(x_0, alpha_bar_t, eps):
        noise = eps * (1 - alpha_bar_t)
        return noise + x_0 * alpha_bar_t

    def sigma_as_direction(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0):
        sigma = eta * np.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t)) * np.sqrt(1 - alpha_bar_t / alpha_bar_s)
        x_s = np.sqrt(alpha_bar_s) * x0_hat + sigma * eps_hat
        return x_s + sigma * noise if noise is not None else x_s

    def noise_to_the_end(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, variance="posterior"):
        alpha = alpha_bar_t / alpha_bar_s
        tilde = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha)
        mean = (x_t - (1 - alpha) / (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha**0.5
        return mean + (tilde if variance == "posterior" else 1 - alpha) ** 0.5 * noise

    def strides(T, steps):
        return np.arange(0, T, T // steps)[::-1]

    def backwards(model, ema, optimizer, loss, clip=1.0, decay=0.999):
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        for a, w in zip(ema.parameters(), model.parameters(), strict=True):
            a.data = (1 - decay) * a.data + decay * w.data

    def counted_from_zero(x_0, T):
        return torch.randint(T, (len(x_0),)), torch.randn(x_0.shape)

    def roots_of_entries(mu1, sigma1, mu2, sigma2):
        return np.sum((mu1 - mu2) ** 2) + np.trace(sigma1 + sigma2 - 2 * np.sqrt(sigma1 @ sigma2))

    def alpha_without_its_quotient(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, variance="posterior"):
        beta = 1 - alpha_bar_t
        mean = (alpha_bar_s**0.5 * beta * x0_hat + alpha_bar_t**0.5 * (1 - alpha_bar_s) * x_t) / (1 - alpha_bar_t)
        if alpha_bar_s == 1:
            return mean
        return mean + (beta * ((1 - alpha_bar_s) / (1 - alpha_bar_t) if variance == "posterior" else 1)) ** 0.5 * noise

    def divided_by_zero(x_t, eps_hat, alpha_bar_t, alpha_bar_s):
        alpha = alpha_bar_t / alpha_bar_s
        return 1 / alpha**0.5 * (x_t - (1 - alpha) / (1 - alpha_bar_s) ** 0.5 * eps_hat)

    def too_much_noise(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0):
        variance = eta**2 * (1 - alpha_bar_s) * (1 - alpha_bar_t / alpha_bar_s) / (1 - alpha_bar_t)
        x_s = alpha_bar_s**0.5 * x0_hat + (1 - alpha_bar_s) ** 0.5 * eps_hat
        return x_s if noise is None else x_s + variance**0.5 * noise

    def snr_for_v(alpha_bar_t, prediction, weighting, gamma=5.0):
        snr = alpha_bar_t / (1 - alpha_bar_t)
        if weighting == "uniform":
            return snr**0
        return snr.clamp(max=gamma) if prediction == "x0" else (gamma / snr).clamp(max=1)

    def earlier(model, x_0, t, eps, alpha_bar, prediction="epsilon", weighting="uniform"):
        return BY_NAME["diffusion_loss"].answer(
            lambda x, t: model(x, t + 1), x_0, t - 1, eps, alpha_bar, prediction, weighting
        )

    def without_axes(model, x_0, t, eps, alpha_bar, prediction="epsilon", weighting="uniform"):
        a = alpha_bar[t]
        return ((model(x_0 * a**0.5 + eps * (1 - a) ** 0.5, t) - eps) ** 2).mean()

    def first_order(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=()):
        return BY_NAME["ddim_step"].answer(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s)

    class OnlyClipped:
        def __init__(self, model, schedule, prediction, clip=True):
            self.denoise, self.clip = BY_NAME["Denoiser"].answer(model, schedule, prediction, clip=False), clip

        def __call__(self, x_t, t):
            x0_hat, eps_hat = self.denoise(x_t, t)
            return (x0_hat.clip(-1, 1) if self.clip else x0_hat), eps_hat

    class NewBlock(ResBlock):
        def __init__(self, c_in, c_out, time_dim):
            super().__init__(c_in, c_out, time_dim)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)

    def parts_of_count(T, count=8):
        return [int(x) for x in np.linspace(T, 0, count + 1).round()][:-1]

    def as_in_diffusers(t, dim):
        half = dim // 2
        angles = t[:, None].float() * torch.exp(-np.log(10_000) * torch.arange(half) / (half - 1))[None]
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    written = {
        ("q_sample", "variances for roots"): variances,
        ("ddim_step", "σ as the direction"): sigma_as_direction,
        ("ddpm_step", "noise in the last step"): noise_to_the_end,
        ("ddpm_step", "ᾱ_t for α"): alpha_without_its_quotient,
        ("ddpm_mean_eps", "noise level of s"): divided_by_zero,
        ("ddim_step", "no room for the noise"): too_much_noise,
        ("loss_weight", "v as ε"): snr_for_v,
        ("diffusion_loss", "ᾱ of the time before"): earlier,
        ("second_order_step", "first order"): first_order,
        ("diffusion_loss", "ᾱ_t without axes"): without_axes,
        ("Denoiser", "ε̂ not derived again"): OnlyClipped,
        ("ResBlock", "last convolution not at zero"): NewBlock,
        ("nodes", "without 0"): parts_of_count,
        ("time_embedding", "h − 1 for h"): as_in_diffusers,
        ("statistics", "covariance of the images"): lambda features: (features.mean(0), np.cov(features)),
        ("times", "whole strides from 0"): strides,
        ("update_weights", "average the wrong way round"): backwards,
        ("draw_t_and_eps", "t from 0 to T − 1"): counted_from_zero,
        ("frechet_distance", "roots entry by entry"): roots_of_entries,
    }
    assert {(task, check(function, task).kind) for (task, _), function in written.items()} == set(written)


def expressions(task: Task) -> set[str]:
    """Every line of an answer, and every part of it with two operations or calls, without spaces."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(task.answer)))
    docs = {ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    parts = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp | ast.Call | ast.stmt)]
    kinds = (ast.BinOp, ast.Call)
    rich = [node for node in parts if sum(isinstance(inner, kinds) for inner in ast.walk(node)) >= 2]
    return {"".join(ast.unparse(node).split()) for node in rich} - {repr(doc) for doc in docs}


def test_no_hint_contains_a_line_of_the_solution():
    for task, mistake in EVERY_MISTAKE:
        said = "".join(" ".join(mistake.hints).split())
        assert not [part for part in expressions(task) if part in said], (task, mistake.name)
    assert "alpha_bar_t**0.5*x_0" in expressions(BY_NAME["q_sample"])  # the test can fail


def test_a_check_that_fails_again_says_more_and_starts_anew_with_another_mistake():
    by_name = {mistake.name: mistake for mistake in MISTAKES["q_sample"]}
    one, other = by_name["variances for roots"], by_name["minus for plus"]
    for level in (0, 1, 2, 2):
        assert one.hints[level] in check(one.function, "q_sample").text
    assert other.hints[0] in check(other.function, "q_sample").text
    assert one.hints[0] in check(one.function, "q_sample").text
    assert check(q_sample) and one.hints[0] in check(one.function, "q_sample").text


def test_a_wrong_answer_without_a_name_is_the_same_only_where_its_values_are():
    def louder(factor):
        return lambda x_0, alpha_bar_t, eps: q_sample(x_0, alpha_bar_t, factor * eps)

    levels = []
    for factor in (3, 3, 3, 2, 3):
        said = check(louder(factor), "q_sample").text
        levels.append(re.search(r"Hint (\d) of 3", said)[1])
    assert levels == ["1", "2", "3", "1", "1"]


def test_the_last_hint_names_the_task_to_read_again():
    (mistake,) = (m for m in MISTAKES["nodes"] if m.name == "rising")
    said = [check(mistake.function, "nodes").text for _ in range(3)][-1]
    assert "Read again task 4.1 in notebook 04_visualization (after the homework's formula for t_k)." in said


@pytest.mark.parametrize(
    ("function", "task", "kind"),
    [
        (lambda x_0, a, eps: a.sqrt() * x_0 + eps, "q_sample", "torch.sqrt of a number"),
        (lambda x_0, a, eps: torch.sqrt(1 - a) * x_0, "q_sample", "torch.sqrt of a number"),
        (lambda x, x0, e, a, s, z, variance="beta": x + torch.sqrt(1 - a / s) * z, "3.3", "torch.sqrt of a number"),
        (lambda x, x0, e, a, s, z, variance="beta": x + math.sqrt(1 - s / a) * z, "3.3", "β turned round"),
        (lambda x, x0, e, a, s, noise=None, eta=0.0: s * x0 + noise * eta, "3.5", "noise that is not there"),
        (lambda x, x0, e, a, s, noise=None, eta=0.0: torch.add(x0, noise), "3.5", "noise that is not there"),
    ],
)
def test_some_mistakes_are_known_by_what_stops_them_whatever_else_is_wrong(function, task, kind):
    assert check(function, task).kind == kind


def test_with_a_hint_on_what_stopped_it_stands_the_line():
    def rooted(x_0, alpha_bar_t, eps):
        return torch.sqrt(alpha_bar_t) * x_0 + torch.sqrt(1 - alpha_bar_t) * eps

    for hint in {m.name: m for m in MISTAKES["q_sample"]}["torch.sqrt of a number"].hints:
        said = check(rooted, "q_sample").text
        assert "TypeError" in said and "`return torch.sqrt(alpha_bar_t) * x_0" in said and hint in said


# Unknown mistakes: what is wrong, and where


def hints(function, task: str, count: int = 3) -> str:
    return "\n".join(check(function, task).text for _ in range(count))


def test_another_wrong_answer_is_told_where_it_fails_and_which_factor_is_off():
    def flat(x_0, alpha_bar_t, eps):
        return alpha_bar_t**0.5 * x_0 + (1 - alpha_bar_t**2) ** 0.5 * eps

    said = hints(flat, "q_sample", 2)
    assert "but not at t = 0" in said and "the factor of eps is too large" in said.lower()
    assert "the nearer t is to 0" in said and "That of x_0 is right." in said

    def loud(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, variance="posterior"):
        return BY_NAME["ddpm_step"].answer(
            x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise * (1 + (variance == "beta")), variance
        )

    said = hints(loud, "ddpm_step", 2)
    assert ". With posterior it is right." in said and "With beta: The factor of noise is too large." in said
    assert "Those of x0_hat and eps_hat are right." in said

    def clamped(x_0, alpha_bar_t, eps):
        return q_sample(x_0, alpha_bar_t, eps).clamp(-1, 1)

    assert "Something other than x_0 and eps" in hints(clamped, "q_sample", 2)


def test_what_is_wrong_but_too_small_to_count_is_not_called_right():
    def nearly(x_t, eps_hat, alpha_bar_t, alpha_bar_s):  # another power of α
        return BY_NAME["ddpm_mean_eps"].answer(x_t, eps_hat, alpha_bar_t, alpha_bar_s) * (alpha_bar_t / alpha_bar_s)

    said = hints(nearly, "3.4", 1)
    assert "but not at" not in said
    assert "t = 2 → s = 1; t = 1 → s = 0 (the last step) the difference is too small to count." in said


def test_a_value_that_is_wrong_in_each_case_may_have_right_entries():
    def first_column(t, dim):
        right = BY_NAME["time_embedding"].answer(t, dim)
        return torch.cat([right[:, :1], 0 * right[:, 1:]], dim=1)

    said = hints(first_column, "2.4", 2)
    assert "is wrong in all cases." in said and "everywhere" not in said and "values are right." in said


@pytest.mark.parametrize(
    ("factor", "said"), [(0, "is missing"), (-1, "has the wrong sign"), (0.5, "is too small"), (3, "is too large")]
)
def test_a_wrong_factor_is_named_by_its_kind(factor, said):
    assert f"factor of x_0 {said}" in hints(lambda x_0, a, eps: q_sample(factor * x_0, a, eps), "1.2", 2)


def test_a_number_that_is_wrong_is_too_large_or_too_small_or_not_finite():
    distance = BY_NAME["frechet_distance"].answer
    assert "It is too small" in hints(lambda *statistics: distance(*statistics) * 0.7, "5.2")
    assert "NaN" in hints(lambda *statistics: float("nan"), "5.2")


def test_a_list_or_table_that_is_wrong_is_told_where_first():
    right = BY_NAME["times"].answer
    said = hints(lambda T, steps: [t + (i == 2) for i, t in enumerate(right(T, steps))], "3.6")
    assert "50 of 51 values are right. The first wrong one is at [2], and too large." in said
    assert "but not at T = 830, 1 steps" in said


def test_an_answer_that_draws_its_own_noise_is_told_so():
    result = check(lambda x_0, a, eps: q_sample(x_0, a, torch.randn_like(eps)), "1.2")
    assert result.kind == "random" and "argument" in result.text


# Bad returns, and functions that stop

BAD_RETURNS = {
    "None": (lambda x: None, "return"),
    "a number": (lambda x: 1.5, "number"),
    "a Python int": (lambda x: 3, "number"),
    "a bool": (lambda x: True, "number"),
    "a string": (lambda x: "x_t", "type str"),
    "an array": (lambda x: x.numpy(), "ndarray"),
    "a list": (lambda x: x.tolist(), "list"),
    "a ragged list": (lambda x: [[1], [1, 2]], "list"),
    "a tuple": (lambda x: (x, x), "tuple"),
    "a dict": (lambda x: {"x": x}, "dict"),
    "an Ellipsis": (lambda x: ..., "ellipsis"),
    "a function": (lambda x: print, "type"),
    "a generator": (lambda x: (i for i in x), "generator"),
    "another shape": (lambda x: x[:, :1], "shape"),
    "a flat tensor": (lambda x: x.flatten(), "shape"),
    "a scalar tensor": (lambda x: x.mean(), "shape"),
    "an empty tensor": (lambda x: x[:0], "shape"),
    "one more axis": (lambda x: x[None], "shape"),
    "half precision": (lambda x: x.half(), "float16"),
    "bfloat16": (lambda x: x.bfloat16(), "bfloat16"),
    "whole numbers": (lambda x: (x * 10).long(), "int64"),
    "booleans": (lambda x: x > 0, "bool"),
    "complex numbers": (lambda x: x + 0j, "complex"),
    "another device": (lambda x: x.to("meta"), "device"),
    "a sparse tensor": (lambda x: x.to_sparse(), ""),
    "a nested tensor": (lambda x: torch.nested.nested_tensor(list(x)), ""),
    "NaN": (lambda x: x * float("nan"), "NaN"),
    "infinity": (lambda x: x / 0, "infinite"),
    "a module": (lambda x: nn.Linear(1, 1), "Linear"),
    "a parameter": (lambda x: nn.Parameter(x * 0.1), ""),
}


@pytest.mark.parametrize("name", BAD_RETURNS)
def test_every_kind_of_bad_return_gets_a_sentence(name):
    make, said = BAD_RETURNS[name]
    result = timed(lambda x_0, alpha_bar_t, eps: make(q_sample(x_0, alpha_bar_t, eps)), "1.2")
    text = result.text + check(lambda x_0, a, eps: make(q_sample(x_0, a, eps)), "1.2").text
    assert not result and said in text and "Traceback" not in text


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_no_bad_return_raises_or_passes_in_any_task(task):
    """A third of them in each task."""
    signature = task.signature.split("(", 1)[1]
    for name in list(BAD_RETURNS)[TASKS.index(task) % 3 :: 3]:
        make, _ = BAD_RETURNS[name]
        function = eval(f"lambda {signature[:-1]}: make(x)", {"make": make, "x": torch.ones(5, 3, 4, 6)})
        assert not check(function, task.number), name


@pytest.mark.parametrize(
    ("bad", "task", "said"),
    [
        (lambda *a, **k: BY_NAME["diffusion_loss"].answer(*a, **k).item(), "2.3", ".item()"),
        (lambda *a, **k: BY_NAME["diffusion_loss"].answer(*a, **k).detach(), "2.3", "gradients"),
        (lambda beta: BY_NAME["alpha_bar_table"].answer(beta).float(), "1.1", "float64"),
        (lambda *a: BY_NAME["predict_x0_eps"].answer(*a)[0], "3.1", "x̂_0, ε̂"),
        (lambda *a: None, "3.1", "None"),
        (lambda T, steps: [T / steps] * (steps + 1), "3.6", "whole numbers"),
        (lambda T, steps: torch.linspace(T, 0, steps + 1).round(), "3.6", "such as 830.0, but times are whole numbers"),
        (lambda T, steps: np.linspace(T, 0, steps + 1).round().tolist(), "3.6", "whole numbers (int)"),
        (lambda T, count=8: np.linspace(T, 0, count).round(), "4.1", "whole numbers (int)"),
        (lambda a, prediction, weighting, gamma=5.0: 1.0, "2.2", "is a number (float), but a tensor of shape"),
        (lambda x, x0, e, a, s, noise=None, eta=0.0: x0 * (a - s) ** 0.5, "3.5", "the root of a negative number"),
        (lambda T, steps: [T, 0], "3.6", "shape"),
        (lambda a, b, c, d: complex(BY_NAME["frechet_distance"].answer(a, b, c, d)), "5.2", "complex"),
        (lambda x_0, T: (torch.rand(len(x_0)) * T, torch.randn_like(x_0)), "2.7", "whole numbers"),
        (lambda *a, **k: BY_NAME["update_weights"].answer(*a, **k) and None, "2.8", "update 1 returns is None"),
        (lambda *a, **k: BY_NAME["update_weights"].answer(*a, **k).item(), "2.8", ".item()"),
        (lambda *a, **k: BY_NAME["update_weights"].answer(*a, **k).clamp(max=0.5), "2.8", "returns is wrong"),
        (lambda c_in, c_out, time_dim: lambda x, emb: x, "2.5", "nn.Module"),
        (lambda c_in, c_out, time_dim: nn.Linear(1, 1), "2.5", ""),
        (lambda m, s, p, clip=True: lambda x, t: m(x, t), "3.2", "(5,)"),
        (lambda m, s, p, clip=True: lambda x, t: m(x, torch.tensor(t)), "3.2", "(5,)"),
    ],
)
def test_bad_returns_that_only_some_tasks_have(bad, task, said):
    result = timed(bad, task)
    assert not result and said in result.text


def test_a_block_with_other_layers_is_told_which():
    class Block(ResBlock):
        def __init__(self, c_in, c_out, time_dim):
            super().__init__(c_in, c_out, time_dim)
            self.extra = nn.Linear(2, 2)

    assert "extra" in check(Block, "2.5").text


def blank(x_0, alpha_bar_t, eps):
    raise NotImplementedError("Task 1.2: write it")


def in_place(x_0, alpha_bar_t, eps):
    x_0 *= alpha_bar_t**0.5
    return x_0 + (1 - alpha_bar_t) ** 0.5 * eps


def in_the_end_in_place(x_0, alpha_bar_t, eps):
    x_t = q_sample(x_0, alpha_bar_t, eps)
    eps.zero_()
    return x_t


def helper(x):
    return torch.cat([x, 3])  # the line that a student wants to see


def with_an_error(x_0, alpha_bar_t, eps):
    return helper(x_0) * alpha_bar_t


def with_an_endless_call(x_0, alpha_bar_t, eps):
    return with_an_endless_call(x_0, alpha_bar_t, eps)


def that_leaves(x_0, alpha_bar_t, eps):
    sys.exit("done")


class Odd(Exception):
    def __str__(self):
        return ""


class Broken(Exception):
    def __str__(self):
        raise self


def with_an_odd_error(x_0, alpha_bar_t, eps):
    raise Odd


def with_a_broken_error(x_0, alpha_bar_t, eps):
    raise Broken


def with_another_not_implemented(x_0, alpha_bar_t, eps):
    return nn.Module()(x_0)  # a NotImplementedError too, but of torch: it has no forward


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("raise NotImplementedError", "blank"),
        ('raise NotImplementedError("Task 1.2: …")', "blank"),
        ("m(x_0)", "error"),
        ("raise NotImplementedError('of this I know nothing')", "error"),
    ],
)
def test_without_its_source_a_blank_is_told_from_what_torch_has_not_implemented(body, kind):
    scope = {"m": nn.Module()}
    exec(f"def q_sample(x_0, alpha_bar_t, eps):\n    {body}", scope)
    assert check(scope["q_sample"]).kind == kind


@pytest.mark.parametrize(
    ("function", "kind", "said"),
    [
        (blank, "blank", "still empty"),
        (in_place, "in place", "changes"),
        (in_the_end_in_place, "in place", "changes"),
        (with_an_error, "error", "return torch.cat([x, 3])"),
        (with_an_endless_call, "error", "RecursionError"),
        (that_leaves, "error", "SystemExit: done"),
        (with_an_odd_error, "error", "Odd, in line"),
        (with_a_broken_error, "error", "`raise Broken`"),
        (with_another_not_implemented, "error", "return nn.Module()(x_0)"),
        (lambda x_0, eps, alpha_bar_t: x_0, "signature", "another order"),
        (lambda x_0, eps: x_0, "signature", "q_sample(x_0, alpha_bar_t, eps)"),
        (lambda: None, "signature", "q_sample(x_0, alpha_bar_t, eps)"),
        (lambda a, b, c, d: a, "signature", "'d'"),
        (q_sample, "passed", "✓ 1.2 q_sample"),
        (lambda *args: q_sample(*args), "passed", "✓"),
        (lambda a, b, c, d=None: q_sample(a, b, c), "passed", "✓"),
        (print, "kind", "None"),
        (torch.add, "error", "stopped with"),
        (dict, "error", "stopped with"),
    ],
)
def test_a_function_that_does_not_return_gets_a_sentence(function, kind, said):
    result = timed(function, "1.2")
    assert result.kind == kind and said in result.text and bool(result) == (kind == "passed")


def test_inputs_in_arrays_and_networks_are_left_as_they_are_too():
    def centred(features):
        features -= features.mean(axis=0)
        return features.mean(axis=0), np.cov(features.T)

    assert check(centred, "5.1").kind == "in place"
    assert check(lambda unet, x, t: UNet.forward(unet, x.mul_(1), t), "unet_forward")  # nothing has changed


@pytest.mark.parametrize("wrong", [3, None, "q_sample", torch.ones(2), np.ones(2), [q_sample]])
def test_what_is_no_function_gets_a_sentence(wrong):
    result = check(wrong)
    assert not result and "check(q_sample)" in result.text


def test_a_function_of_another_name_is_checked_where_the_task_is_named(capsys):
    assert not check(lambda x_0, a, e: x_0) and "'<lambda>'" in capsys.readouterr().out
    assert not check(q_sample, task="9.9") and check(q_sample, task="1.2") and check(q_sample, task="q_sample")
    assert check(q_sample).text in capsys.readouterr().out


def test_a_check_leaves_the_random_numbers_the_gradients_and_the_networks_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with torch.no_grad():  # as in a notebook's cell: gradients are needed nevertheless
        for task in TASKS:
            assert check(task.answer, task.number)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.rand(3), expected)


# Mutants: the right answers with one thing changed

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
COMPARISONS = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.In: ast.NotIn}


def changes(node: ast.AST, names: list[str]):
    """Functions that change a node in place, one for each change that there is."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield lambda n: setattr(n, "op", OPERATORS[type(n.op)]())
        yield lambda n: (lambda left, right: (setattr(n, "left", right), setattr(n, "right", left)))(n.left, n.right)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda n: setattr(n, "op", ast.UAdd())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield lambda n: n.ops.__setitem__(0, COMPARISONS[type(n.ops[0])]())
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield lambda n: setattr(n, "value", n.value + 1)
        yield lambda n: setattr(n, "value", n.value * 2 if n.value else -1)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
        for other in names:
            if other != node.id:
                yield lambda n, other=other: setattr(n, "id", other)
    elif isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Tuple | ast.Slice):
        yield lambda n: setattr(n, "slice", ast.BinOp(n.slice, ast.Sub(), ast.Constant(1)))


def mutants(task: Task) -> list:
    """Every such function, compiled; the source of the change beside it."""
    source = textwrap.dedent(inspect.getsource(task.answer))
    tree = ast.parse(source)
    places = []
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        names = [argument.arg for argument in function.args.args if argument.arg != "self"]
        inside = [inner for statement in function.body for inner in ast.walk(statement)]
        raised = [x for n in inside if isinstance(n, ast.Raise | ast.AnnAssign) for x in ast.walk(n)]
        places += [(node, names) for node in inside if node not in raised]
    index = {id(node): k for k, node in enumerate(ast.walk(tree))}
    made = []
    for node, names in places:
        for change in changes(node, names):
            changed = copy.deepcopy(tree)
            change(next(itertools.islice(ast.walk(changed), index[id(node)], None)))
            made.append(ast.unparse(ast.fix_missing_locations(changed)))
    return sorted(set(made) - {ast.unparse(tree)})


def compiled(task: Task, source: str):
    space = dict(vars(inspect.getmodule(task.answer)))
    exec(compile(source, "<mutant>", "exec"), space)
    return space[task.answer.__name__]


def dense(task: Task):
    """A private grid of cases, denser than those of the check and drawn apart from them."""
    g = torch.Generator().manual_seed(99)
    table, pictures = linear(830).alpha_bar, lambda n: [normal(g, 4, 2, 3, 5, dtype=torch.float64) for _ in range(n)]
    levels = [table[t].item() for t in (1, 2, 3, 5, 17, 60, 90, 240, 356, 500, 711, 830)]
    levels.append(table[[9, 700, 80, 300]].view(-1, 1, 1, 1))
    pairs = [(t, s) for t in (1, 2, 3, 9, 70, 356, 600, 830) for s in {0, t // 2, t - 1}]
    predictions = ("epsilon", "x0", "v")
    name = task.name
    if name == "alpha_bar_table":
        return [Case("", (torch.rand(T, generator=g, dtype=torch.float64) * 0.5,)) for T in (1, 2, 5, 50)]
    if name == "q_sample":
        return [Case("", (x, a, e)) for a in [*levels, 1.0] for x, e in [pictures(2)]]
    if name in ("target", "predict_x0_eps"):
        order = (lambda x, a, e, p: (x, a, e, p)) if name == "target" else (lambda x, a, e, p: (x, e, a, p))
        return [Case("", order(x, a, e, p)) for a in levels for p in predictions for x, e in [pictures(2)]]
    if name == "loss_weight":
        weightings = (("uniform", 5.0), ("min_snr", 5.0), ("min_snr", 1.3))
        return [Case("", (table[1:], p, w), {"gamma": c}) for p in predictions for w, c in weightings]
    if name == "diffusion_loss":
        model = lambda x, t: 0.3 * x.sin() + t.to(x.dtype)[:, None, None, None] / 200  # noqa: E731
        t = torch.randint(1, 831, (3, 4), generator=g)
        kwargs = [{"prediction": p, "weighting": w} for p in predictions for w in ("uniform", "min_snr")]
        return [
            Case("", (model, *x, t[i], *e, table), k) for k in kwargs for i in range(3) for x, e in [(pictures(1),) * 2]
        ]
    if name == "time_embedding":
        return [Case("", (torch.arange(1, 830, 7), dim)) for dim in (8, 12, 64)]
    if name == "ResBlock":
        sizes = ((16, 16), (16, 48), (32, 16))
        return [
            Case("", (a, b, 20, vivid(ResBlock(a, b, 20), g).state_dict(), normal(g, 2, a, 3, 3), normal(g, 2, 20)))
            for a, b in sizes
        ]
    if name == "unet_forward":
        configs = (UNetConfig(base=16), UNetConfig(base=16, patch=2), UNetConfig(base=16, multipliers=(1, 1, 2)))
        return [Case("", (vivid(UNet(c), g), normal(g, 2, 3, 8, 8), torch.tensor([9, 800]))) for c in configs]
    if name == "draw_t_and_eps":
        return [Case("", (normal(g, 8000, 2, 3, 1), T)) for T in (2, 9, 30)]
    if name == "update_weights":
        return [Case("", (normal(g, 4, 3), normal(g, 6, 3) * size)) for size in (0.05, 0.4, 1.0, 4.0)]
    if name == "Denoiser":
        return [
            Case("", (Tilted(), cosine(300), p, clip, 2 * x, t))
            for p, clip, t in itertools.product(predictions, (True, False), (1, 20, 150, 300))
            for (x,) in [pictures(1)]
        ]
    steps = [(q_sample(x, table[t].item(), e), x, e, table[t].item(), table[s].item(), z)
             for t, s in pairs for x, e, z in [pictures(3)]]  # fmt: skip
    if name == "ddpm_step":
        return [Case("", step, {"variance": v}) for step in steps for v in ("posterior", "beta")]
    if name == "ddim_step":
        return [Case("", step[:5], {"noise": step[5], "eta": eta}) for step in steps for eta in (0.0, 0.2, 0.7, 1.0)]
    if name == "ddpm_mean_eps":
        return [Case("", (step[5], *step[2:5])) for step in steps]
    if name == "times":
        return [Case("", (T, n)) for T in (10, 97, 830, 1000) for n in (1, 2, 3, 7, 10)]
    if name == "nodes":
        return [Case("", (T,), {"count": n}) for T in (97, 830, 1000) for n in (2, 3, 8)]
    if name == "second_order_step":
        return [Case("", (normal(g, 1, 1, 3, 3, dtype=torch.float64), width)) for width in (0.2, 0.5, 0.9)]
    clouds = [
        normal(g, n, 4, dtype=torch.float64).numpy() @ np.diag([1, 2, 3, k]) for n, k in ((3, 1), (30, 4), (9, 0))
    ]
    if name == "statistics":
        return [Case("", (cloud,)) for cloud in clouds]
    both = [(c.mean(0) + i, np.cov(c.T)) for i, c in enumerate(clouds)]
    return [Case("", (*one, *other)) for one in both for other in both]


def test_two_hundred_mutants_of_the_right_answers_never_pass_and_never_raise():
    """Those that give the right numbers on the dense grid too are left out: they are right."""
    grids = {task.name: dense(task) for task in TASKS}
    right = {task.name: [attempt(task, task.answer, case) for case in grids[task.name]] for task in TASKS}
    assert all(isinstance(seen, dict) for values in right.values() for seen in values)
    sources = {task.name: mutants(task) for task in TASKS}
    for found in sources.values():
        random.Random(0).shuffle(found)
    tried, passed, equal = Counter(), [], Counter()
    turns = zip_longest(*([(task, source) for source in sources[task.name]] for task in TASKS))
    for task, source in (pair for turn in turns for pair in turn if pair):
        function = compiled(task, source)
        seen = (attempt(task, function, case) for case in grids[task.name])
        if all(agree(task, got, want) for got, want in zip(seen, right[task.name], strict=True)):
            equal[task.name] += 1
            continue
        tried[task.name] += 1
        if judge(task, function, 0):
            passed.append((task.name, source))
        if tried.total() == 200:
            break
    assert not passed
    assert tried.total() == 200 and min(tried.values()) >= 4, (tried, equal)


# Progress


def test_progress_shows_every_task_with_a_tick_where_its_last_check_passed(capsys):
    check(q_sample)
    check(lambda *a: None, "1.1")
    capsys.readouterr()
    progress()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(TASKS) + 1 and lines[-1] == f"1 of {len(TASKS)} tasks"
    assert [line for line in lines if line.startswith("✓")] == [line for line in lines if " q_sample " in line]
    assert all(line[2:5] == task.number and task.title in line for line, task in zip(lines, TASKS, strict=False))
    check(lambda *a: None, "1.2")
    capsys.readouterr()
    progress()
    assert f"0 of {len(TASKS)} tasks" in capsys.readouterr().out


def test_ticks_are_kept_with_the_runs_for_the_next_notebook(monkeypatch, capsys, tmp_path):
    check(q_sample)
    assert json.loads((tmp_path / "runs" / "selfcheck.json").read_text()) == {"q_sample": True}
    monkeypatch.setattr(selfcheck, "ticks", {})  # another notebook
    check(BY_NAME["times"].answer, "times")
    progress()
    assert f"2 of {len(TASKS)} tasks" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "3", '{"q_sample": "yes", "other": true}', "\x00"])
def test_a_damaged_file_of_ticks_stops_nobody(content, capsys, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "selfcheck.json").write_text(content)
    progress()
    assert f"0 of {len(TASKS)} tasks" in capsys.readouterr().out
    assert check(q_sample)
    assert json.loads((tmp_path / "runs" / "selfcheck.json").read_text()) == {"q_sample": True}


@pytest.mark.parametrize("runs", ["file", "~nobody-of-this-name/runs"])
def test_ticks_that_cannot_be_kept_stay_in_memory(runs, monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HWKIT_RUNS", str(tmp_path / runs) if runs == "file" else runs)
    assert check(q_sample)
    progress()
    assert f"1 of {len(TASKS)} tasks" in capsys.readouterr().out
