"""A student's functions in the place of the kit's: then what they wrote trains and samples the run that they hand in.

    with own(diffusion_loss, update_weights, ResBlock, UNet.forward):
        for record in train(recipe, images, run):
            ...

The names of those that were called go into the checkpoints and beside the images that are made within it, and into the
report.
"""

import contextlib
import functools
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import Tensor

from hwkit import diffusion, recipe, sampling, training, unet
from hwkit.course.selfcheck import check
from hwkit.diffusion import Denoiser
from hwkit.language import listing, say
from hwkit.runs import checkpoint
from hwkit.unet import TimeEmbedding, UNet


@contextlib.contextmanager
def own(*functions: Callable) -> Iterator[list[str]]:
    """Within it the kit works with these functions, each found by its name; yields the names. Without any: the kit's.

    ValueError for one that is not right yet (the self-check says in which way), that the kit does not call, or two of
    one name. A run or a folder of images that was begun goes on with whatever stands in then.
    """
    found = {name_of(function): function for function in functions}
    if len(found) < len(functions):
        raise ValueError(say("Two of the functions answer the same task: leave one out."))
    for name, function in found.items():
        if name not in PLACES:
            text = "The kit has no place for {name}. It takes {names}."
            known = ("UNet.forward" if each == "unet_forward" else each for each in PLACES)
            raise ValueError(say(text, name=name, names=listing(known)))
        with contextlib.redirect_stdout(io.StringIO()):
            result = check(function, task=name)
        if not result:
            text = "{name} is not right yet: mend it first."
            raise ValueError(f"{say(text, name=name)}\n{result}")
    with contextlib.ExitStack() as after:
        for name, function in found.items():
            place, attribute, form = PLACES[name]
            after.callback(setattr, place, attribute, getattr(place, attribute))
            setattr(place, attribute, form(noting(name, function)))
        after.callback(checkpoint.OWN.clear)
        yield list(found)


def name_of(function: Callable) -> str:
    """The name of the task that it answers: its own, but for the forward of notebook 2's U-Net."""
    name = getattr(function, "__name__", type(function).__name__)
    return "unet_forward" if name == "forward" else name


def noting(name: str, function: Callable) -> Callable:
    """The function, which notes in `checkpoint.OWN` that it was called: a sampler may have no use for it."""

    def noted(*args, **kwargs):
        if name not in checkpoint.OWN:
            checkpoint.OWN.append(name)
        return function(*args, **kwargs)

    return functools.update_wrapper(noted, function, updated=())


# What the kit calls in another form


def forward_by(unet_forward: Callable) -> Callable:
    """`UNet.forward` by the student's way through it."""

    def forward(self: UNet, x: Tensor, t: Tensor) -> Tensor:
        return unet_forward(named(self), x, t)

    return forward


def named(network: UNet) -> SimpleNamespace:
    """The parts of a U-Net of two levels also by the names of notebook 2, where no list of levels is needed."""
    if len(network.down) != 2:
        levels = len(network.down)
        text = "unet_forward of notebook 2 knows two levels, but this network has {levels}: leave it out."
        raise ValueError(say(text, levels=levels))
    (first, second), (last, after) = network.down, network.up
    parts = {name: getattr(network, name) for name in ("time", "stem", "down", "middle", "up", "head", "config")}
    down = {"down1": first.blocks, "shrink": second.downsample, "down2": second.blocks}
    up = {"up2": last.blocks, "grow": last.upsample, "up1": after.blocks}
    return SimpleNamespace(**parts, **down, **up, patch=network.config.patch, channels=network.config.channels)


def embedding_by(time_embedding: Callable) -> Callable:
    """`TimeEmbedding.forward` by the student's sines and cosines."""

    def forward(self: TimeEmbedding, t: Tensor) -> Tensor:
        return self.mlp(time_embedding(t, 2 * len(self.frequencies)).float())

    return forward


def draw_by(draw_t_and_eps: Callable) -> Callable:
    """`training.draw` by the student's draws, which still depend on (seed, step) alone."""

    def draw(recipe, step: int, x_0: Tensor) -> tuple[Tensor, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed * 1_000_003 + step)
            t, eps = draw_t_and_eps(x_0.new_empty(recipe.batch_size, *x_0.shape[1:]), recipe.T)
        return t, eps.to(x_0.dtype)

    return draw


class AllOptimizers:
    """The optimizers of a run as the one that `update_weights` knows, at this step's learning rate."""

    def __init__(self, optimizers: list, lr_factor: float):
        self.optimizers, self.lr_factor = optimizers, lr_factor

    @property
    def param_groups(self) -> list[dict]:
        """All parameters as one group, by which some clip them."""
        return [{"params": [p for each in self.optimizers for group in each.param_groups for p in group["params"]]}]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * self.lr_factor
            optimizer.step()


def step_by(update_weights: Callable) -> Callable:
    """`training.training_step` by the student's update; in fp32 where a GPU would use fp16, whose losses are scaled."""

    def training_step(state, recipe, x_0: Tensor, alpha_bar: Tensor, progress: float) -> Tensor:
        in_fp32 = replace(state, precision="fp32") if state.scaler.is_enabled() else state
        loss = training.step_loss(in_fp32, recipe, x_0, alpha_bar)
        optimizer = AllOptimizers(state.optimizers, recipe.lr_factor(state.step, progress))
        decay = recipe.ema_decay(state.step)
        update_weights(state.model, state.ema, optimizer, loss, clip=recipe.clip, decay=decay)
        state.step += 1
        return loss.detach()

    return training_step


def denoiser_by(denoiser: Callable) -> Callable:
    """`Denoiser` by the student's, which need not keep what it was made of."""

    class Own(Denoiser):
        def __init__(self, model, schedule, prediction, clip=True):
            super().__init__(model, schedule, prediction, clip)
            self.denoise = denoiser(model, schedule, prediction, clip)

        @torch.no_grad()
        def __call__(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
            return self.denoise(x_t, t)

    return Own


def times_by(times: Callable) -> Callable:
    """`sampling.times` by the student's, which are even; where others are wanted, the kit's goes on."""
    kits = sampling.times

    def chosen(T: int, steps: int, through=(), power=1.0) -> list[int]:
        if through or power != 1 or not 1 <= steps <= T:
            return kits(T, steps, through, power)
        return [int(t) for t in times(T, steps)]  # the student's may be a tensor, or an array

    return chosen


def second_order_by(second_order_step: Callable) -> Callable:
    """The step of `dpm++` by the student's, which has no η: with fresh noise the kit's own goes on."""

    def step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=None, past=(), eta=0.0):
        if eta:
            return kits(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=noise, past=past, eta=eta)
        return second_order_step(x_t, x0_hat, eps_hat, alpha_bar_t, alpha_bar_s, noise=noise, past=past)

    kits = sampling.dpm_solver_step
    return step


def as_it_is(function: Callable) -> Callable:
    return function


PLACES = {  # by the name of the task: where the kit calls the function, by which name, and in which form
    "q_sample": (diffusion, "q_sample", as_it_is),
    "target": (diffusion, "target", as_it_is),
    "loss_weight": (diffusion, "loss_weight", as_it_is),
    "diffusion_loss": (training, "diffusion_loss", as_it_is),
    "time_embedding": (TimeEmbedding, "forward", embedding_by),
    "ResBlock": (unet, "ResBlock", as_it_is),
    "unet_forward": (UNet, "forward", forward_by),
    "draw_t_and_eps": (training, "draw", draw_by),
    "update_weights": (training, "training_step", step_by),
    "predict_x0_eps": (diffusion, "predict_x0_eps", as_it_is),
    "Denoiser": (recipe, "Denoiser", denoiser_by),
    "ddpm_step": (sampling, "ddpm_step", as_it_is),
    "ddim_step": (sampling, "ddim_step", as_it_is),
    "times": (sampling, "times", times_by),
    "second_order_step": (sampling, "dpm_solver_step", second_order_by),
}
