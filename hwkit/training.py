"""Training, to be read beside algorithm 1 of Ho et al. 2020 (arXiv:2006.11239): the state, one step, an epoch.

    state = new_state(recipe, device)
    for loss in train_epoch(state, recipe, batches(images, …), alpha_bar, progress=lambda: 0.0):
        print(loss.item())

Everything random is a function of (seed, step). Files, resume, clock and several processes are in `hwkit.runs`.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hwkit.diffusion import diffusion_loss
from hwkit.muon import Muon
from hwkit.recipe import Recipe
from hwkit.unet import UNet


@dataclass
class State:
    """What a step of training changes, and what it works with."""

    model: UNet
    ema: UNet  # the moving average of the model's weights: for inference
    optimizers: list[torch.optim.Optimizer]
    scaler: torch.amp.GradScaler  # of fp16; does nothing in other precisions
    precision: str  # of the convolutions: fp32, bf16 or fp16
    forward: nn.Module  # the model, or a wrapper that compiles it or averages its gradients over processes
    part: slice = field(default_factory=lambda: slice(None))  # this process's share of each batch
    processes: int = 1
    layout: str = "channels_last"  # of pictures in memory, or contiguous (channels first)
    step: int = 0  # steps done


def new_state(recipe: Recipe, device: torch.device | str, precision: str = "fp32") -> State:
    """A network whose weights are drawn from the recipe's seed, its EMA copy, optimizers and scaler."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = UNet(recipe.model).to(device)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    return State(model, ema, make_optimizers(recipe, model, precision), scaler, precision, forward=model)


def make_optimizers(recipe: Recipe, model: UNet, precision: str) -> list[torch.optim.Optimizer]:
    """AdamW for all weights; or Muon for the convolutions between stem and head, and AdamW for the rest."""
    hidden = [p for part in (model.down, model.middle, model.up) for p in part.parameters() if p.ndim == 4]
    chosen = {id(p) for p in hidden} if recipe.muon_lr else set()
    rest = [p for p in model.parameters() if id(p) not in chosen]
    fused = rest[0].device.type != "mps"
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, recipe.lr, (0.9, recipe.beta2), fused=fused)]
    if recipe.muon_lr:
        optimizers.append(Muon(hidden, recipe.muon_lr, dtype=torch.bfloat16 if precision == "bf16" else torch.float32))
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["initial_lr"] = group["lr"]
    return optimizers


def train_epoch(state: State, recipe: Recipe, batches: Iterable[Tensor], alpha_bar: Tensor, progress: Callable):
    """A step for each of `batches`, (B, 3, 28, 28) in [−1, 1]; yields the loss of each (see `training_step`).

    progress() is the part of the run that is done, 0 to 1, on which the learning rate depends.
    """
    for x_0 in batches:
        yield training_step(state, recipe, x_0, alpha_bar, progress())


def training_step(state: State, recipe: Recipe, x_0: Tensor, alpha_bar: Tensor, progress: float) -> Tensor:
    """One step of algorithm 1 of Ho et al. 2020: draw t and ε, descend, average the weights.

    x_0 (B, 3, 28, 28) is this process's part of the batch, alpha_bar (T+1,) float32 on its device. Returns `step_loss`,
    which a GPU need not wait for, or NaN for a gradient that is not finite. (In fp16 such a step is left out instead.)
    """
    loss = step_loss(state, recipe, x_0, alpha_bar)
    state.scaler.scale(loss).backward()
    for optimizer in state.optimizers:
        state.scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
    # One decision for all optimizers: the clip has spread what is not finite over all of the gradients.
    fp16 = state.scaler.is_enabled()
    if not fp16 or norm.isfinite():
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * recipe.lr_factor(state.step, progress)
            optimizer.step()
    state.scaler.update()
    state.model.zero_grad(set_to_none=True)
    with torch.no_grad():
        torch._foreach_lerp_([*state.ema.parameters()], [*state.model.parameters()], 1 - recipe.ema_decay(state.step))
    state.step += 1
    return loss.detach() if fp16 else torch.where(norm.isfinite(), loss.detach(), torch.nan)


def step_loss(state: State, recipe: Recipe, x_0: Tensor, alpha_bar: Tensor) -> Tensor:
    """This step's loss of x_0, a scalar, weighed so that its mean over the processes is that over the batch."""
    t, eps = (drawn[state.part] for drawn in draw(recipe, state.step, x_0))
    with autocast(x_0.device, state.precision):
        loss = diffusion_loss(state.forward, x_0, t, eps, alpha_bar, recipe.prediction, recipe.weighting)
    return loss * (len(x_0) * state.processes / recipe.batch_size)  # parts may differ by an image


def draw(recipe: Recipe, step: int, x_0: Tensor) -> tuple[Tensor, Tensor]:
    """The times t (N,), uniform in {1, …, T}, and the noise ε (N, 3, 28, 28) of a step's whole batch of N images.

    They depend on (seed, step) alone, and on the kind of device that x_0 is on.
    """
    generator = torch.Generator(x_0.device).manual_seed(recipe.seed * 1_000_003 + step)
    t = torch.randint(1, recipe.T + 1, (recipe.batch_size,), generator=generator, device=x_0.device)
    return t, torch.randn(recipe.batch_size, *x_0.shape[1:], generator=generator, device=x_0.device)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Convolutions and matrix products in the named precision, all else in float32."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")
