"""The training loop: a generator of records, one an epoch.

    for record in train(RECIPES["cpu"], images, Path("runs/cpu")):
        print(record.epoch, record.loss)

Everything random is a function of (seed, epoch) or (seed, step), so a resumed run draws what an uninterrupted one does.
"""

import contextlib
import copy
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from hwkit import checkpoint, figures
from hwkit.data import PNGFolder, batches
from hwkit.diffusion import diffusion_loss
from hwkit.model import UNet
from hwkit.muon import Muon
from hwkit.processes import ALONE, Single, processes
from hwkit.recipes import CPU, Recipe
from hwkit.samplers import Frame, ImageNoise, nodes, sample, times
from hwkit.workspace import only_process, write_text

NOT_IN_STATE = ("ema", "parallel")  # saved beside it, or made anew
MAY_CHANGE = ("epochs", "minutes", "patience", "precision")  # recipe fields that a resumed run may change
CURVE_POINTS = 40  # losses kept for each epoch's part of the loss curve


class Record(NamedTuple):
    """One epoch, as it stands in a line of `history.jsonl`."""

    epoch: int
    loss: float  # mean over the epoch
    is_best: bool
    images_seen: int  # since the start of the run
    seconds: float  # of training since the start of the run, interruptions left out
    lr: float
    images_per_second: float
    curve: list[list[float]]  # [images seen, mean loss of the steps since the last point]


@dataclass
class State:
    """All that changes while training, and so all that an exact resume needs."""

    model: UNet
    parallel: torch.nn.Module  # the model, or what averages its gradients over several processes
    ema: UNet
    optimizers: list[torch.optim.Optimizer]
    scaler: torch.amp.GradScaler
    precision: str  # of the convolutions: fp32, bf16 or fp16
    epoch: int = 1  # the one under way
    batch: int = 0  # batches of it that are done
    step: int = 0  # batches done since the start
    loss_sum: float = 0.0  # of this epoch's batches
    best_loss: float = math.inf
    best_epoch: int = 0
    seconds: float = 0.0
    curve: list[list[float]] = field(default_factory=list)
    window: list[float] = field(default_factory=list)  # losses since the last point of the curve
    history: list[dict] = field(default_factory=list)

    def state_dict(self) -> dict:
        """Everything but the EMA weights, as tensors and plain types."""
        content = {name: value for name, value in vars(self).items() if name not in NOT_IN_STATE}
        content["optimizers"] = [optimizer.state_dict() for optimizer in self.optimizers]
        return content | {name: getattr(self, name).state_dict() for name in ("model", "scaler")}

    def load_state_dict(self, content: Mapping, ema: Mapping) -> None:
        """Takes over what `state_dict` gave, and the EMA weights."""
        self.ema.load_state_dict(ema)
        for optimizer, saved in zip(self.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, value in content.items():
            if name in ("model", "scaler"):
                getattr(self, name).load_state_dict(value)
            elif name != "optimizers":
                setattr(self, name, value)


def train(
    recipe: Recipe,
    images: Tensor | PNGFolder,
    run: Path | str,
    device: torch.device | str | None = None,
    resume: bool = True,
    save_minutes: float = 2.0,
    weights: Path | str | None = None,
    say: Callable = tqdm.write,
) -> Iterator[Record]:
    """Trains in the folder `run` and yields a `Record` an epoch, after its files are written.

    images: uint8 (N, 1 or 3, 28, 28), or a `PNGFolder`. Files: `latest.pt` (all that an exact resume needs, also every
    `save_minutes` within an epoch), `ema_latest.pt`, on a better loss `best.pt` and `ema_best.pt`, `history.jsonl`,
    `previews/`. With `resume`, a run that stands in the folder goes on where it stopped. SIGINT and SIGTERM save first.

    weights: a checkpoint (or a run's folder) of this recipe, from which a run that does not stand in its folder yet
    goes on: epochs, minutes, draws and history, too, but not exactly, as the optimizers' averages begin anew.

    Raises ValueError for too few images, for a run or weights of another recipe or other data, and for weights that
    leave nothing to do; FloatingPointError when the loss is no longer finite (the last good checkpoint stays).

    Under `accelerate launch` each process calls this with the same arguments. The recipe's batch is shared among them,
    so their number changes nothing but the speed; the first one writes, all yield.
    """
    run, device = Path(run), torch.device(device or best_device())
    world = processes(device.type)
    with only_process(run) if world.rank == 0 else contextlib.nullcontext():
        state = start(recipe, images, run, device, world, resume, weights, say)
        save = partial(save_latest, run, recipe, state, len(images)) if world.rank == 0 else lambda: None
        while more_to_do(recipe, vars(state)):
            with stop_requests() as stopping, world.together():
                speed = run_epoch(state, recipe, images, device, world, save, save_minutes, stopping, say)
                record = close_epoch(state, recipe, speed)
                say(f"Epoch {record.epoch}/{recipe.epochs} finished, average loss: {record.loss:.4f}")
                if world.rank == 0:
                    save_epoch(record, state, recipe, run, device, say)
                save()  # last, so that an interruption before it repeats the epoch's end rather than loses a part of it
            stop_if_asked(stopping, f"after epoch {record.epoch}", say)
            yield record


# The parts of the loop, in the order of their use


def best_device() -> str:
    """cuda, mps or cpu: the first that this machine has."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def start(
    recipe: Recipe,
    images: Tensor | PNGFolder,
    run: Path,
    device: torch.device,
    world: Single,
    resume: bool,
    weights: Path | str | None,
    say: Callable,
) -> State:
    """The state to begin or to go on with, after saying how long the run will take."""
    steps_per_epoch = len(images) // recipe.batch_size
    if not steps_per_epoch:
        raise ValueError(f"{len(images)} images do not fill one batch of {recipe.batch_size}: lower batch_size.")
    if (run / checkpoint.EXPORTED).is_file():  # which would be taken for the new run's
        raise ValueError(f"{run} holds exported weights: choose another --run, and go on from them by --weights {run}.")
    torch.set_float32_matmul_precision("high")  # TF32 on the GPUs that have it
    if not world.first(lambda: resume and (run / "latest.pt").is_file()):
        speeds = world.first(lambda: measure_speeds(recipe, device))
        state = new_state(recipe, device, max(speeds, key=speeds.get), world)
        if weights:
            say(go_on_from(Path(weights), state, recipe, device))
        say(expectation(recipe, state, device, world.count * speeds[state.precision], steps_per_epoch))
        # A folder that cannot be written to shows now, not after an epoch.
        world.first(lambda: save_latest(run, recipe, state, len(images)))
        return state
    content = checkpoint.load(run / "latest.pt", device)
    if "resume" not in content:
        raise ValueError(f"{run}/latest.pt holds weights only, not what a resume needs: start over with --fresh.")
    changed = differences(content, recipe, len(images))
    if changed:
        raise ValueError(f"{run} holds another run ({changed}): choose another --run, or start over with --fresh.")
    precision = content["resume"]["precision"] if recipe.precision == "auto" else recipe.precision
    state = new_state(recipe, device, precision, world)
    state.load_state_dict({**content["resume"], "precision": state.precision}, ema=content["ema"])
    if more_to_do(recipe, vars(state)):
        say(f"Going on with {run}: epoch {state.epoch}, {state.step * recipe.batch_size:,} images seen.")
        speed = world.first(lambda: images_per_second(recipe, device, state.precision))
        say(expectation(recipe, state, device, world.count * speed, steps_per_epoch))
    else:
        say(f"The run in {run} is finished: {state.step * recipe.batch_size:,} images seen. --fresh starts over.")
    return state


def new_state(recipe: Recipe, device: torch.device, precision: str, world: Single = ALONE) -> State:
    """A network with weights seeded by the recipe, its EMA copy, optimizers and scaler."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = UNet(recipe.model).to(device)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16" and device.type == "cuda")
    return State(model, world.data_parallel(model), ema, make_optimizers(recipe, model, precision), scaler, precision)


def make_optimizers(recipe: Recipe, model: UNet, precision: str) -> list[torch.optim.Optimizer]:
    """AdamW for all weights; or Muon for the convolutions between stem and head, and AdamW for the rest."""
    hidden = [p for part in (model.down, model.middle, model.up) for p in part.parameters() if p.ndim == 4]
    chosen = {id(p) for p in hidden} if recipe.muon_lr else set()
    rest = [p for p in model.parameters() if id(p) not in chosen]
    fused = rest[0].device.type != "mps"
    optimizers = [torch.optim.AdamW(rest, recipe.lr, (0.9, recipe.beta2), fused=fused)]
    if recipe.muon_lr:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        optimizers.append(Muon(hidden, recipe.muon_lr, dtype=dtype))
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["initial_lr"] = group["lr"]
    return optimizers


def differences(content: dict, recipe: Recipe, count: int | None = None) -> str:
    """What differs between a checkpoint's recipe and data and these, for a person to read; "" where nothing does."""
    before, now = ({**r.pop("model"), **r} for r in (asdict(checkpoint.recipe_of(content)), asdict(recipe)))
    names = [name for name in now if before[name] != now[name] and name not in MAY_CHANGE]
    changed = [f"{name} {before[name]} → {now[name]}" for name in names]
    if count is not None and content["image_count"] != count:
        changed.append(f"{content['image_count']:,} images → {count:,}")
    return "; ".join(changed)


def go_on_from(weights: Path, state: State, recipe: Recipe, device: torch.device) -> str:
    """Puts a new state where the weights' run ended, but for its optimizers, which are unknown; returns what it did."""
    path = checkpoint.best_of(weights) if weights.is_dir() else weights
    content = checkpoint.load(path, device)
    if "resume" in content:
        raise ValueError(f"{path} is more than weights: go on with its own run, --run {path.parent}.")
    changed = differences(content, recipe)
    if changed:
        raise ValueError(f"{path} is of another recipe ({changed}): give the same one, or leave --weights out.")
    for network in (state.model, state.ema):
        network.load_state_dict(content["weights"])
    state.epoch, state.step = content["epoch"] + 1, content["images_seen"] // recipe.batch_size
    state.history = [line for line in read_history(path.parent) if line["epoch"] < state.epoch]
    if state.history:
        best = min(state.history, key=lambda line: line["loss"])
        state.best_loss, state.best_epoch, state.seconds = best["loss"], best["epoch"], state.history[-1]["seconds"]
    if not more_to_do(recipe, vars(state)):
        raise ValueError(
            f"{path} has had {duration(state.seconds)}, {state.epoch - 1} epochs, already, and these count: "
            "raise --minutes or --epochs (or --patience) beyond them."
        )
    return f"Going on from {path}: epoch {state.epoch}, {content['images_seen']:,} images seen."


def more_to_do(recipe: Recipe, state: Mapping) -> bool:
    """Whether epochs, minutes and patience are left, judged by the fields of a `State`."""
    in_time = recipe.minutes is None or state["seconds"] < 60 * recipe.minutes
    patient = recipe.patience is None or state["epoch"] - 1 - state["best_epoch"] < recipe.patience
    return state["epoch"] <= recipe.epochs and in_time and patient


def run_epoch(
    state: State,
    recipe: Recipe,
    images: Tensor | PNGFolder,
    device: torch.device,
    world: Single,
    save: Callable,
    save_minutes: float,
    stopping: list[int],
    say: Callable,
) -> float:
    """Trains to the end of the epoch, or of the time, and returns the images a second. Saves now and then."""
    steps_per_epoch = len(images) // recipe.batch_size
    alpha_bar = recipe.make_schedule().alpha_bar.to(device, torch.float32)
    part = world.part(recipe.batch_size)
    data = batches(images, recipe.batch_size, recipe.seed, state.epoch, state.batch, device, part)
    title = f"Epoch {state.epoch}/{recipe.epochs}"
    bar = tqdm(data, title, steps_per_epoch, initial=state.batch, leave=False, disable=world.rank > 0)
    started = last_save = time.monotonic()
    step_before, seconds_before = state.step, state.seconds
    with bar:
        for x_0 in bar:
            loss = training_step(state, recipe, x_0, alpha_bar, steps_per_epoch, world)
            note_loss(state, recipe, loss, steps_per_epoch)
            bar.set_postfix(loss=f"{state.loss_sum / state.batch:.4f}", refresh=False)
            seconds = seconds_before + time.monotonic() - started
            # The first process's clock counts for all, and a signal to any of them.
            state.seconds, stop = world.sum(seconds if world.rank == 0 else 0.0, len(stopping))
            if stop:
                save()
                stop_if_asked(stopping or [signal.SIGTERM], f"in epoch {state.epoch}", say)
            if recipe.minutes and state.seconds >= 60 * recipe.minutes:
                break
            if time.monotonic() - last_save > 60 * save_minutes:
                save()
                last_save = time.monotonic()
    return (state.step - step_before) * recipe.batch_size / (time.monotonic() - started)


def training_step(
    state: State, recipe: Recipe, x_0: Tensor, alpha_bar: Tensor, steps_per_epoch: int, world: Single = ALONE
) -> float:
    """One step of algorithm 1 of Ho et al. 2020: draw t and ε, descend, average.

    x_0: this process's part of the batch. Returns the loss of the whole batch; where it is not finite, or NaN where
    the gradient is not, the weights are left alone.
    """
    part = world.part(recipe.batch_size)
    t, eps = (drawn[part] for drawn in draw(recipe, state.step, x_0))
    with autocast(x_0.device, state.precision):
        loss = diffusion_loss(state.parallel, x_0, t, eps, alpha_bar, recipe.prediction, recipe.weighting)
    loss = loss * (len(x_0) * world.count / recipe.batch_size)  # so that the mean over the processes is the batch's
    value = world.sum(loss.item())[0] / world.count
    if not math.isfinite(value):
        return value
    state.scaler.scale(loss).backward()
    for optimizer in state.optimizers:
        state.scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
    if not (norm.isfinite() or state.scaler.is_enabled()):  # the scaler of fp16 skips such a step by itself
        return math.nan
    lr_factor = recipe.lr_factor(state.step, progress(state, recipe, steps_per_epoch))
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * lr_factor
        state.scaler.step(optimizer)
        optimizer.zero_grad(set_to_none=True)
    state.scaler.update()
    decay = recipe.ema_decay(state.step)
    with torch.no_grad():
        torch._foreach_lerp_(list(state.ema.parameters()), list(state.model.parameters()), 1 - decay)
    return value


def draw(recipe: Recipe, step: int, x_0: Tensor) -> tuple[Tensor, Tensor]:
    """The times t, uniform in {1, …, T}, and the noise ε of a step's whole batch; they depend on (seed, step) alone."""
    generator = torch.Generator(x_0.device).manual_seed(recipe.seed * 1_000_003 + step)
    t = torch.randint(1, recipe.T + 1, (recipe.batch_size,), generator=generator, device=x_0.device)
    return t, torch.randn(recipe.batch_size, *x_0.shape[1:], generator=generator, device=x_0.device)


def progress(state: State, recipe: Recipe, steps_per_epoch: int) -> float:
    """The part of the run that is done, 0 to 1, by steps or by the clock, whichever is further."""
    by_steps = state.step / (recipe.epochs * steps_per_epoch)
    return max(by_steps, state.seconds / (60 * recipe.minutes)) if recipe.minutes else by_steps


def note_loss(state: State, recipe: Recipe, loss: float, steps_per_epoch: int) -> None:
    """Counts the step and keeps its loss. FloatingPointError if it is not finite."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"The loss is {loss} at step {state.step} (epoch {state.epoch}), or its gradient. The last checkpoint "
            "is untouched; a lower --lr, or --precision fp32, usually mends it."
        )
    state.batch, state.step, state.loss_sum = state.batch + 1, state.step + 1, state.loss_sum + loss
    state.window.append(loss)
    if state.batch % max(1, steps_per_epoch // CURVE_POINTS) == 0:
        state.curve.append([state.step * recipe.batch_size, sum(state.window) / len(state.window)])
        state.window = []


def close_epoch(state: State, recipe: Recipe, speed: float) -> Record:
    """The record of the epoch that is done; the state becomes that of the next one."""
    loss, images_seen = state.loss_sum / state.batch, state.step * recipe.batch_size
    record = Record(
        epoch=state.epoch,
        loss=loss,
        is_best=loss < state.best_loss,
        images_seen=images_seen,
        seconds=round(state.seconds, 1),
        lr=state.optimizers[0].param_groups[0]["lr"],
        images_per_second=round(speed, 1),
        curve=state.curve or [[images_seen, loss]],
    )
    state.history.append(record._asdict())
    state.epoch, state.batch, state.loss_sum, state.curve, state.window = state.epoch + 1, 0, 0.0, [], []
    if record.is_best:
        state.best_loss, state.best_epoch = loss, record.epoch
    return record


def save_epoch(record: Record, state: State, recipe: Recipe, run: Path, device: torch.device, say: Callable) -> None:
    """Writes what an epoch leaves, but for `latest.pt`: weights, history and preview."""
    facts = {"epoch": record.epoch, "loss": record.loss, "images_seen": record.images_seen}
    if record.is_best:
        checkpoint.save(run / "best.pt", recipe, state.model.state_dict(), **facts)
        checkpoint.save(run / "ema_best.pt", recipe, state.ema.state_dict(), **facts)
        say(f"New best model saved with loss: {record.loss:.4f}")
    checkpoint.save(run / "ema_latest.pt", recipe, state.ema.state_dict(), **facts)
    write_text(run / "history.jsonl", "".join(json.dumps(line) + "\n" for line in state.history))
    save_preview(record, state, recipe, run, device)


def read_history(run: Path) -> list[dict]:
    """The epochs of a run, from `history.jsonl`; none where there is no such file."""
    path = run / "history.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def save_preview(record: Record, state: State, recipe: Recipe, run: Path, device: torch.device) -> None:
    """Eight samples × eight times from the EMA weights and always the same noise, so that epochs compare."""
    columns = nodes(recipe.T)
    noise = ImageNoise(recipe.seed, range(1, 9), device=device)
    steps = times(recipe.T, min(50, recipe.T), through=columns)
    frames = sample(recipe.denoiser(state.ema), noise(), steps, recipe.make_schedule().alpha_bar)
    shown: list[Frame] = [frame for frame in frames if frame.t in columns]
    figure = figures.diffusion_grid(shown, f"epoch {record.epoch}, {record.images_seen:,} images seen")
    figures.save(figure, run / "previews" / f"epoch_{record.epoch:04d}.png", dpi=100)


def save_latest(run: Path, recipe: Recipe, state: State, image_count: int) -> None:
    """Writes `latest.pt`, from which `start` goes on exactly."""
    checkpoint.save(
        run / "latest.pt",
        recipe,
        state.model.state_dict(),
        ema=state.ema.state_dict(),
        resume=state.state_dict(),
        image_count=image_count,
        epoch=state.epoch,
        images_seen=state.step * recipe.batch_size,
    )


@contextlib.contextmanager
def stop_requests() -> Iterator[list]:
    """Within it, SIGINT and SIGTERM do not interrupt but fill the list; a second one interrupts as usual."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield asked
        return

    def note(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_if_asked(stopping: list[int], where: str, say: Callable) -> None:
    """After all is saved: KeyboardInterrupt, with the signal's number, where a signal asked for the end."""
    if stopping:
        say(f"Stopped {where}, all is saved. The same command goes on from here.")
        raise KeyboardInterrupt(stopping[0])


# Before a long run: what can be expected


def measure_speeds(recipe: Recipe, device: torch.device) -> dict[str, float]:
    """Training images a second in the recipe's precision, or in each that is worth a try."""
    names = candidates(device) if recipe.precision == "auto" else (recipe.precision,)
    return {name: images_per_second(recipe, device, name) for name in names}


def expectation(recipe: Recipe, state: State, device: torch.device, speed: float, steps_per_epoch: int) -> str:
    """How long the rest of the run will take, and a quicker way where that is long."""
    left = max(0, recipe.epochs * steps_per_epoch - state.step) * recipe.batch_size / speed
    here = f"on this device ({device.type}, {state.precision}, {speed:.0f} images/s)"
    if recipe.minutes and 60 * recipe.minutes - state.seconds < left:
        left = max(0.0, 60 * recipe.minutes - state.seconds)
        return f"{duration(left)} ≈ {left * speed / (steps_per_epoch * recipe.batch_size):.1f} epochs {here}"
    text = f"{recipe.epochs - state.epoch + 1} epochs ≈ {duration(left)} {here}"
    if left > 120 * CPU.minutes:
        text += f"\nThe recipe `cpu` would need {duration(60 * CPU.minutes)}: python -m hwkit train cpu"
    return text


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Convolutions and matrix products in the named precision, all else in float32."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


def candidates(device: torch.device) -> tuple[str, ...]:
    """The precisions worth a try: a GPU before Ampere (Colab's T4) only emulates bf16; a CPU may be slow or quick."""
    if device.type == "cuda":
        return ("bf16",) if torch.cuda.get_device_capability(device)[0] >= 8 else ("fp16",)
    return ("fp32", "bf16") if device.type == "cpu" else ("fp32",)


def images_per_second(recipe: Recipe, device: torch.device, precision: str, steps: int = 10) -> float:
    """Training speed, measured over `steps` steps of a network of its own, after two to warm up."""
    model = UNet(recipe.model).to(device)
    optimizers = make_optimizers(recipe, model, precision)
    alpha_bar = recipe.make_schedule().alpha_bar.to(device, torch.float32)
    x_0 = torch.zeros(
        min(recipe.batch_size, 64) if device.type == "cpu" else recipe.batch_size, 3, 28, 28, device=device
    )
    t = torch.full((len(x_0),), recipe.T, device=device)
    for step in range(2 + steps):
        if step == 2:
            started = time.monotonic()
        with autocast(device, precision):
            loss = diffusion_loss(model, x_0, t, torch.ones_like(x_0), alpha_bar, recipe.prediction, recipe.weighting)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        loss.item()  # waits for a GPU
    return steps * len(x_0) / (time.monotonic() - started)


def duration(seconds: float) -> str:
    """50 → `50 s`, 600 → `10 min`, 27600 → `7 h 40 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
