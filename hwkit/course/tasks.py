"""The tasks: what a student writes, the right answer to each, and the inputs on which both are tried.

A task is found by the name of the function. Its `play` hands a case's arguments to the function and collects what is
compared, by name: what was returned or, where the answer is a class or changes a network, what that does then.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hwkit import diffusion, sampling, unet
from hwkit.course import answers
from hwkit.diffusion import Denoiser, q_sample
from hwkit.language import say, sentences
from hwkit.measure import distances
from hwkit.schedule import cosine, linear
from hwkit.unet import ResBlock, UNet, UNetConfig

PREDICTIONS = ("epsilon", "x0", "v")
TABLE = linear(830).alpha_bar
TIMES = (830, 593, 119, 8, 1)


class Unfit(ValueError):
    """What a student wrote cannot be tried further; the message is a sentence for them."""


@dataclass(frozen=True)
class Case:
    """Inputs to try an answer on. A hint names them by `where` ('t = T') and by the chosen `option` ('beta')."""

    where: str
    args: tuple
    kwargs: dict[str, Any] = field(default_factory=dict)
    option: str = ""

    def __str__(self) -> str:
        return say("{option}, {where}", option=self.option, where=self.where) if self.option else self.where


def returned(task: "Task", function: Callable, case: Case) -> dict[str, Any]:
    """What the function returns for a case, by the names in `task.returns`."""
    result, names = function(*case.args, **case.kwargs), [say(name) for name in task.returns]
    if len(names) == 1:
        return {names[0]: result}
    wanted = ", ".join(names)
    if result is None:
        raise Unfit(
            say("It returns nothing (None), but these are wanted, with a comma between: {names}.", names=wanted)
        )
    if not isinstance(result, tuple | list):
        text = "It returns one value ({kind}), but these are wanted, with a comma between: {names}."
        raise Unfit(say(text, kind=type(result).__name__, names=wanted))
    if len(result) != len(names):
        text = "It returns {count} values, but these are wanted, with a comma between: {names}."
        raise Unfit(say(text, count=len(result), names=wanted))
    return dict(zip(names, result, strict=True))


@dataclass(frozen=True)
class Task:
    """A function or class that a student writes; `notebook` and `number` say where, `equation` after which formula."""

    number: str
    signature: str
    notebook: str
    title: str
    equation: str
    answer: Callable
    cases: Callable[[torch.Generator], Iterator[Case]]
    verified: str  # said after a pass
    returns: tuple[str, ...] = ("x_s",)
    parts: tuple[
        str, ...
    ] = ()  # arguments of which the result is a sum, with a factor each: a hint can name the factor
    play: Callable[["Task", Callable, Case], dict[str, Any]] = returned
    tolerance: float = 1e-4  # of a difference, relative to the largest value; float32 holds 1 − ᾱ_1 to 6e-4
    double: bool = False  # whether float64 is asked for
    far: Callable[[Callable], Any] | None = None  # calls the function with inputs on the device "meta"

    @property
    def name(self) -> str:
        """Of the function or class that is written."""
        return self.signature.split("(")[0]

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


# Inputs


def normal(generator: torch.Generator, *shape: int, dtype=torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=dtype)


def pictures(generator: torch.Generator, count: int, dtype=torch.float32) -> list[Tensor]:
    """`count` tensors (5, 3, 4, 6): all sides differ, so that no axis passes for another."""
    return [normal(generator, 5, 3, 4, 6, dtype=dtype) for _ in range(count)]


def levels() -> Iterator[tuple[str, Any, torch.dtype]]:
    """Where, ᾱ_t and the pictures' dtype: ᾱ_t as a number, then as (B, 1, 1, 1), then in float64."""
    for t in TIMES:
        yield "t = T" if t == 830 else f"t = {t}", TABLE[t].item(), torch.float32
    mixed = TABLE[list(TIMES)].view(-1, 1, 1, 1)
    yield say("ᾱ_t of shape (B, 1, 1, 1)"), mixed.float(), torch.float32
    yield "float64", mixed, torch.float64


def steps(pairs) -> Iterator[tuple[str, float, float]]:
    """Where, ᾱ_t and ᾱ_s of steps from t to s."""
    for t, s in pairs:
        name = {830: "T", 0: say("0 (the last step)")}
        yield f"t = {name.get(t, t)} → s = {name.get(s, s)}", TABLE[t].item(), TABLE[s].item()


STEPS = ((830, 829), (830, 712), (356, 355), (119, 8), (8, 7), (2, 1), (1, 0))


def alpha_bar_cases(g):
    yield Case("T = 830", (torch.linspace(1e-4, 2e-2, 830, dtype=torch.float64),))
    yield Case("T = 7", (torch.rand(7, generator=g, dtype=torch.float64) * 0.8 + 0.1,))
    yield Case("T = 1", (torch.tensor([0.3], dtype=torch.float64),))


def q_sample_cases(g):
    for where, alpha_bar_t, dtype in [*levels(), ("t = 0 (ᾱ_t = 1)", 1.0, torch.float32)]:
        x_0, eps = pictures(g, 2, dtype)
        yield Case(where, (x_0, alpha_bar_t, eps))


def target_cases(g):
    for prediction, (where, alpha_bar_t, dtype) in product(PREDICTIONS, levels()):
        x_0, eps = pictures(g, 2, dtype)
        yield Case(where, (x_0, alpha_bar_t, eps, prediction), option=prediction)


def loss_weight_cases(g):
    for prediction, gamma in product(PREDICTIONS, (5.0, 2.0)):
        for t in TIMES:
            yield Case(
                f"t = {t}", (TABLE[[t]], prediction, "min_snr"), {"gamma": gamma}, f"{prediction}, γ = {gamma:g}"
            )
        table = TABLE[list(TIMES)].view(-1, 1, 1, 1)
        yield Case(say("ᾱ_t of shape (B, 1, 1, 1)"), (table, prediction, "uniform"), option=f"{prediction}, uniform")


class Tilted(nn.Module):
    """A stand-in for a network: a fixed function of x (B, C, H, W) and t (B,) that is quick and easy to tell apart."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.6))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if not isinstance(t, Tensor) or t.shape != x.shape[:1]:
            given = tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__
            text = "The network wants a time for each image, t of shape {shape}, but was given {given}."
            raise Unfit(say(text, shape=tuple(x.shape[:1]), given=given))
        return self.weight * x + (t.to(x.dtype) / 150).cos()[:, None, None, None] * x.flip(-1)


def loss_cases(g):
    for prediction, weighting in product(PREDICTIONS, ("uniform", "min_snr")):
        x_0, eps = pictures(g, 2)
        t = torch.tensor(TIMES)[torch.randperm(5, generator=g)]
        kwargs, args = {"prediction": prediction, "weighting": weighting}, (Tilted(), x_0, t, eps, TABLE.float())
        yield Case(say("a batch with t from 1 to T"), args, kwargs, f"{prediction}, {weighting}")


def time_embedding_cases(g):
    for dim in (64, 16):
        yield Case(f"dim = {dim}", (torch.tensor([*TIMES, 2, 415]), dim))
    yield Case(say("t in float32"), (torch.tensor([1.0, 300.0]), 32))


def vivid(network: nn.Module, g) -> nn.Module:
    """The network with random weights in every layer, also those that start at zero."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(normal(g, *weight.shape) * (0.5 if weight.ndim == 1 else 2 / weight[0].numel() ** 0.5))
    return network


def block_cases(g):
    for c_in, c_out in ((16, 16), (16, 32)):
        weights = vivid(ResBlock(c_in, c_out, 24), g).state_dict()
        arguments = (c_in, c_out, 24, weights, normal(g, 3, c_in, 4, 6), normal(g, 3, 24))
        yield Case(f"c_in = {c_in}, c_out = {c_out}", arguments)


def play_block(task, function, case):
    c_in, c_out, time_dim, weights, x, emb = case.args
    block = function(c_in, c_out, time_dim)
    if not isinstance(block, nn.Module):
        text = "ResBlock must be a class that inherits from nn.Module, but calling it gave {kind}."
        raise Unfit(say(text, kind=type(block)))
    changed = int(not torch.allclose(block(x, emb), block(x, -emb)))  # no: the convolution after it starts at 0
    names = {name: tuple(weight.shape) for name, weight in block.state_dict().items()}
    wanted = {name: tuple(weight.shape) for name, weight in weights.items()}
    if other := sorted(names.items() ^ wanted.items()):
        name, shape = other[0]
        text = "The block has no {name} of shape {shape}."
        if name in names and names[name] == shape:
            text = "The block has {name} of shape {shape}."
        layers = say(
            "Its layers are called norm1, conv1, time, norm2, conv2, skip, and must fit the kit's own weights."
        )
        raise Unfit(sentences(say(text, name=name, shape=shape), layers))
    block.load_state_dict(weights)
    outputs = say("the block's output")
    return {say("whether the time changes what a new block puts out"): changed, outputs: block(x, emb)}


def unet_cases(g):
    for where, config in (("patch = 1", UNetConfig(base=16)), ("patch = 2", UNetConfig(base=16, patch=2))):
        network = with_names_of_notebook(vivid(UNet(config), g))
        yield Case(where, (network, normal(g, 2, 3, 4, 8), torch.tensor([3, 700])))


def with_names_of_notebook(network: UNet) -> UNet:
    """A U-Net of two levels whose parts also have the names of notebook 2, where no list of levels is needed."""
    (first, second), (last, after) = network.down, network.up
    network.patch, network.shrink, network.grow = network.config.patch, second.downsample, last.upsample
    network.down1, network.down2 = first.blocks, second.blocks
    network.up2, network.up1 = last.blocks, after.blocks
    return network


def draw_cases(g):
    for T in (5, 40):
        yield Case(f"T = {T}", (normal(g, 4000, 3, 2, 2), T))


def play_draw(task, function, case):
    """What can be said of random draws. The figures are rounded, to six of their standard errors or more."""
    x_0, T = case.args
    (t, eps), (_, later) = (returned(task, function, case).values() for _ in range(2))
    for name, value, shape in (("t", t, x_0.shape[:1]), ("ε", eps, x_0.shape)):
        if not isinstance(value, Tensor) or value.shape != shape or value.is_floating_point() != (name == "ε"):
            what = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            text = "{name} is {what}, but must be a tensor of float32, {shape}."
            if name == "t":
                text = "{name} is {what}, but must be a tensor of whole numbers, {shape}."
            raise Unfit(say(text, name=name, what=what, shape=tuple(shape)))
    drawn = t.unique()
    different = len(drawn)
    if different == 1:  # one t for all says nothing of the range
        t = drawn = torch.arange(1, T + 1)
    early = (t <= T // 2).double().mean().item() - (T // 2) / T
    return {
        say("the smallest t of 4,000"): drawn[0].item(),
        say("the largest t of 4,000"): drawn[-1].item(),
        say("the number of different t in 4,000"): different,
        say("the share of small t"): round(early, 1),
        say("the mean of ε"): round(eps.mean().item(), 1),
        say("the variance of ε"): round(eps.var().item(), 1),
        say("the share of values of ε that differ"): round(len(eps.unique()) / eps.numel(), 1),
        say("whether a second call draws the same ε"): int(torch.equal(eps, torch.as_tensor(later))),
    }


class Descent:
    """SGD with what a step needs of it: torch's own takes seconds to import what is not used here."""

    def __init__(self, parameters, lr: float):
        self.param_groups = [{"params": list(parameters), "lr": lr}]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight in self.param_groups[0]["params"]:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for weight in self.param_groups[0]["params"]:
            if weight.grad is not None:
                weight.sub_(weight.grad, alpha=self.param_groups[0]["lr"])


def update_cases(g):
    for where, size in ((say("a large gradient"), 3.0), (say("a small gradient"), 0.2)):
        yield Case(where, (normal(g, 4, 3), normal(g, 8, 3) * size))


def play_update(task, function, case):
    """The weights and their average after two updates, from losses whose gradients are known, and what is returned."""
    start, data = case.args
    model, ema = nn.Linear(3, 4), nn.Linear(3, 4).requires_grad_(False)  # two tensors each: they are clipped as one
    with torch.no_grad():
        for network, sign in ((model, 1), (ema, -1)):
            network.weight.copy_(sign * start)
            network.bias.copy_(sign * start[:, 0] / 10)
    optimizer, seen = Descent(model.parameters(), lr=0.5), {}
    for count in (1, 2):
        length = function(model, ema, optimizer, (model(data) ** 2).mean(), clip=0.5, decay=0.8)
        seen |= {say("the model after update {count}", count=count): joined(model)}
        seen |= {say("the average after update {count}", count=count): joined(ema)}
        seen |= {say("the gradient's length that update {count} returns", count=count): length}
    return seen | {say("whether the average keeps gradients"): int(ema.weight.requires_grad)}


def joined(network: nn.Linear) -> Tensor:
    """Weight (4, 3) and bias (4,) as one tensor (4, 4)."""
    return torch.cat([network.weight, network.bias[:, None]], dim=1).detach()


def predict_cases(g):
    for prediction, (where, alpha_bar_t, dtype) in product(PREDICTIONS, levels()):
        output, x_t = pictures(g, 2, dtype)
        yield Case(where, (output, x_t, alpha_bar_t, prediction), option=prediction)


def denoiser_cases(g):
    for prediction, clip in product(PREDICTIONS, (True, False)):
        for t in (830, 119, 2):
            (x_t,) = pictures(g, 1)
            args = (Tilted(), cosine(830), prediction, clip, x_t * 2, t)
            yield Case(f"t = {t}", args, option=f"{prediction}, clip={clip}")


def play_denoiser(task, function, case):
    model, schedule, prediction, clip, x_t, t = case.args
    seen = returned(task, lambda: function(model, schedule, prediction, clip=clip)(x_t, t), Case(case.where, ()))
    held = any(isinstance(value, Tensor) and value.requires_grad for value in seen.values())
    return seen | {say("whether gradients are kept"): int(held)}


def step_cases(g, pairs=STEPS):
    """x_t agrees with x̂_0 and ε̂, as it does in a sampler: a step may use any two of the three."""
    for where, alpha_bar_t, alpha_bar_s in steps(pairs):
        x0_hat, eps_hat, noise = pictures(g, 3)
        x_t = q_sample(x0_hat, alpha_bar_t, eps_hat)
        yield where, (x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s), noise


def ddpm_cases(g):
    for variance in ("posterior", "beta"):
        for where, args, noise in step_cases(g):
            yield Case(where, (*args, noise), {"variance": variance}, variance)


def ddim_cases(g):
    for eta in (0.0, 0.5, 1.0):
        for where, args, noise in step_cases(g):
            yield Case(where, args, {"noise": noise if eta else None, "eta": eta}, f"η = {eta:g}")


def mean_cases(g):
    for where, alpha_bar_t, alpha_bar_s in steps(STEPS):
        yield Case(where, (*pictures(g, 2), alpha_bar_t, alpha_bar_s))


def times_cases(g):
    for T, count in ((830, 50), (1000, 15), (1000, 100), (830, 830), (7, 3), (830, 1)):
        yield Case(say("T = {T}, {count} steps", T=T, count=count), (T, count))


def nodes_cases(g):
    for T, count in ((830, 8), (1000, 8), (400, 5), (830, 2)):
        yield Case(say("T = {T}, {count} nodes", T=T, count=count), (T,), {"count": count})


def second_order_cases(g):
    for width in (0.8, 0.3):
        yield Case(say("data of deviation {width}", width=width), (normal(g, 1, 1, 4, 4, dtype=torch.float64), width))


def play_second_order(task, function, case):
    """Any step of second order passes: halving the steps must divide the error by four, on data with a known solution.

    Where each pixel is N(0, width²), x̂_0 is a multiple of x_t, and the exact x_s too. The steps are long and short by
    turns, so that a method that takes them for equal is of first order. Where the order is too low, it is given.
    """
    x_T, width = case.args
    x_t = q_sample(x_T / 2, 0.5, x_T)  # with two equal guesses, of which the last step makes no third
    last = returned(task, function, Case("", (x_t, x_T / 2, x_T, 0.5, 1.0), {"noise": None, "past": [(0.4, x_T / 2)]}))

    def error(count: int) -> float:
        grid = torch.linspace(-2.5, 2.5, count + 1, dtype=torch.float64)  # of λ = ½ log(ᾱ/(1 − ᾱ))
        grid[1::2] += 1.5 / count
        table, x_t, past = (2 * grid).sigmoid().tolist(), x_T, []
        for a, b in pairwise(table):
            x0_hat = a**0.5 * width**2 / (a * width**2 + 1 - a) * x_t
            eps_hat = (x_t - a**0.5 * x0_hat) / (1 - a) ** 0.5
            x_t, past = function(x_t, x0_hat, eps_hat, a, b, noise=None, past=past), [*past[-1:], (a, x0_hat)]
            if not isinstance(x_t, Tensor) or x_t.shape != x_T.shape:
                text = "The step must return x_s, a tensor of x_t's shape, but returned {kind}."
                raise Unfit(say(text, kind=type(x_t).__name__))
        exact = ((b * width**2 + 1 - b) / (table[0] * width**2 + 1 - table[0])) ** 0.5 * x_T
        return ((x_t - exact).norm() / exact.norm()).item()

    errors = [error(count) for count in (64, 128)]
    order = float(np.log2(errors[0] / errors[1])) if min(errors) > 0 else np.inf
    good = order > 1.5 and errors[1] < 0.01
    measured = {say("the order of convergence"): 2.0, say("the error of 128 steps"): 0.0}
    if not good:
        measured = dict(zip(measured, (order, errors[1]), strict=True))
    return measured | {say("the last step, to s = 0"): last["x_s"]}


def clouds(g, count: int) -> list[np.ndarray]:
    mixture = torch.randn(5, 5, generator=g, dtype=torch.float64)
    return [(normal(g, 40, 5, dtype=torch.float64) * (k + 1) @ mixture + k).numpy() for k in range(count)]


def statistics_cases(g):
    (cloud,) = clouds(g, 1)
    yield Case(say("40 images, 5 features"), (cloud,))
    yield Case(say("2 images, 5 features"), (cloud[:2],))


def frechet_cases(g):
    one, other = (distances.statistics(cloud) for cloud in clouds(g, 2))
    few = distances.statistics(clouds(g, 1)[0][:3])
    eye = (np.zeros(5), np.eye(5))
    yield Case(say("two clouds"), (*one, *other))
    yield Case(say("a cloud and itself"), (*one, *one))
    yield Case(say("equal covariances"), (eye[0], eye[1], eye[0] + np.arange(5), eye[1]))
    yield Case(say("equal means"), (*eye, eye[0], 4 * eye[1]))
    yield Case(say("a first cloud of 3 images, whose covariance is singular"), (*few, *one))
    yield Case(say("a second cloud of 3 images, whose covariance is singular"), (*one, *few))


# fmt: off
TASKS = [
    Task("1.1", "alpha_bar_table(beta)", "01_data",
         "the schedule's table, from β to ᾱ", "Ho et al. 2020, above eq. 4",
         answers.alpha_bar_table, alpha_bar_cases, returns=("ᾱ",), double=True,
         verified="T + 1 values in float64, from ᾱ_0 = 1 on, for T = 830, 7 and 1"),
    Task("1.2", "q_sample(x_0, alpha_bar_t, eps)", "01_data",
         "the jump from x_0 to x_t", "Ho et al. 2020, eq. 4",
         diffusion.q_sample, q_sample_cases, returns=("x_t",), parts=("x_0", "eps"),
         verified="the shares of x_0 and ε from t = 0 to T, with ᾱ_t as a number and as (B, 1, 1, 1)"),
    Task("2.1", "target(x_0, alpha_bar_t, eps, prediction)", "02_training",
         "what the network should put out", "Salimans & Ho 2022, §4",
         diffusion.target, target_cases, returns=("the target",), parts=("x_0", "eps"),
         verified="ε, x_0 and v, from t = 1 to T"),
    Task("2.2", "loss_weight(alpha_bar_t, prediction, weighting, gamma=5.0)", "02_training",
         "the weight of each image's error", "Hang et al. 2023, eq. 5",
         diffusion.loss_weight, loss_weight_cases, returns=("the weight",),
         verified="uniform and min-SNR for ε, x_0 and v, below the cap and above it, for two values of γ"),
    Task("2.3", "diffusion_loss(model, x_0, t, eps, alpha_bar, prediction='epsilon', weighting='uniform')",
         "02_training", "the training loss", "Ho et al. 2020, algorithm 1",
         diffusion.diffusion_loss, loss_cases, returns=("the loss",),
         verified="a scalar with gradients, for three predictions and two weightings"),
    Task("2.4", "time_embedding(t, dim)", "02_training",
         "the time, as sines and cosines", "Vaswani et al. 2017, §3.5",
         answers.time_embedding, time_embedding_cases, returns=("the embedding",), tolerance=1e-3,
         far=lambda embed: embed(torch.empty(2, dtype=torch.long, device="meta"), 16),
         verified="sines, then cosines, from the highest frequency to the lowest, for three sizes"),
    Task("2.5", "ResBlock(c_in, c_out, time_dim)", "02_training",
         "the residual block, called as block(x, emb)", "Ho et al. 2020, appendix B",
         unet.ResBlock, block_cases, play=play_block,
         verified="a new block passes its input on; with given weights it computes what the kit's does"),
    Task("2.6", "unet_forward(unet, x, t)", "02_training",
         "the way through the U-Net", "Ho et al. 2020, appendix B",
         unet.UNet.forward, unet_cases, returns=("the output",),
         verified="stem, levels, skips, middle and head, with the pixels as they are and folded"),
    Task("2.7", "draw_t_and_eps(x_0, T)", "02_training",
         "the times and the noise of a batch", "Ho et al. 2020, algorithm 1",
         answers.draw_t_and_eps, draw_cases, returns=("t", "ε"), play=play_draw,
         far=lambda draw: draw(torch.empty(2, 3, 4, 4, device="meta"), 10),
         verified="t from 1 to T, each image its own; ε standard normal, each value its own"),
    Task("2.8", "update_weights(model, ema, optimizer, loss, clip=1.0, decay=0.999)", "02_training",
         "a step of descent, with clipping and EMA", "Ho et al. 2020, algorithm 1 and appendix B",
         answers.update_weights, update_cases, play=play_update,
         verified="two updates, gradients above and below the clip; the average follows the weights"),
    Task("3.1", "predict_x0_eps(output, x_t, alpha_bar_t, prediction)", "03_sampling",
         "x̂_0 and ε̂, whatever the network predicts", "Ho et al. 2020, eq. 15; Salimans & Ho 2022, §4",
         diffusion.predict_x0_eps, predict_cases, returns=("x̂_0", "ε̂"), parts=("output", "x_t"), tolerance=1e-3,
         verified="x̂_0 and ε̂ agree on x_t, for three predictions, from t = 1 to T"),
    Task("3.2", "Denoiser(model, schedule, prediction, clip=True)", "03_sampling",
         "the network as a sampler sees it: denoise(x_t, t)", "Ho et al. 2020, eq. 15",
         Denoiser, denoiser_cases, returns=("x̂_0", "ε̂"), play=play_denoiser, tolerance=1e-3,
         far=lambda make: make(Tilted().to("meta"), cosine(830), "x0")(torch.empty(2, 3, 4, 4, device="meta"), 119),
         verified="x̂_0 in [−1, 1], ε̂ that agrees with it, and the time given to the network"),
    Task("3.3", "ddpm_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise, variance='posterior')", "03_sampling",
         "a step of DDPM", "Ho et al. 2020, eq. 7 and §3.2",
         diffusion.ddpm_step, ddpm_cases, parts=("x0_hat", "eps_hat", "noise"), tolerance=1e-3,
         verified="mean and variance from t = T to the last step, which adds no noise; also with times left out"),
    Task("3.4", "ddpm_mean_eps(x_t, eps_hat, alpha_bar_t, alpha_bar_s)", "03_sampling",
         "the mean of that step, from ε̂", "Ho et al. 2020, eq. 11",
         answers.ddpm_mean_eps, mean_cases, returns=("the mean",), parts=("x_t", "eps_hat"), tolerance=1e-3,
         verified="the shares of x_t and ε̂ from t = T to the last step; also with times left out"),
    Task("3.5", "ddim_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, eta=0.0)", "03_sampling",
         "a step of DDIM", "Song et al. 2021, eq. 12 and 16",
         diffusion.ddim_step, ddim_cases, parts=("x0_hat", "eps_hat", "noise"), tolerance=1e-3,
         verified="x̂_0, the direction and the noise, for η = 0, 0.5 and 1, from t = T to the last step"),
    Task("3.6", "times(T, steps)", "03_sampling",
         "the times of a sampler that leaves some out", "Song et al. 2021, §4.2",
         sampling.times, times_cases, returns=("the list of times",),
         verified="T first, 0 last, even steps between, also where the number of steps does not divide T"),
    Task("3.7", "second_order_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=())", "03_sampling",
         "a step of second order, of your choice", "Lu et al. 2022, algorithm 2",
         answers.second_order_step, second_order_cases, play=play_second_order,
         verified="half the step, a quarter of the error, also with steps of unequal length; the last step gives x̂_0"),
    Task("4.1", "nodes(T, count=8)", "04_visualization",
         "the times of the figure's columns", "the homework's formula for t_k",
         sampling.nodes, nodes_cases, returns=("the list of nodes",),
         verified="T first, 0 last, `count` of them, evenly spaced"),
    Task("5.1", "statistics(features)", "05_fid",
         "mean and covariance of a cloud of features", "Heusel et al. 2017, §3",
         distances.statistics, statistics_cases, returns=("μ", "Σ"),
         verified="a mean of each feature, and the covariance of each two"),
    Task("5.2", "frechet_distance(mu1, sigma1, mu2, sigma2)", "05_fid",
         "the Fréchet distance", "Heusel et al. 2017, eq. 6",
         distances.frechet_distance, frechet_cases, returns=("d²",), tolerance=1e-3,
         verified="two clouds, equal ones, moved ones, stretched ones, and one of too few images"),
]
# fmt: on
BY_NAME = {task.name: task for task in TASKS}
