"""A training run in a folder: begun or gone on with, saved, stopped, and yielding a record an epoch.

    for record in train(RECIPES["cpu"], images, Path("runs/cpu")):
        print(record.epoch, record.loss)

Everything random is a function of (seed, epoch) or (seed, step), and all else that changes is in `latest.pt`, so a
resumed run draws what an uninterrupted one does.
"""

import contextlib
import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from hwkit.files import only_process, write_text
from hwkit.language import say
from hwkit.mnist.batches import PNGFolder, batches
from hwkit.recipe import CPU, Recipe
from hwkit.runs import checkpoint
from hwkit.runs.processes import Single, processes
from hwkit.runs.speed import Setting, best_device, candidates, duration, prepared_state, quickest
from hwkit.sampling import nodes
from hwkit.training import State, train_epoch
from hwkit.unet import UNet

MAY_CHANGE = ("name", "about", "epochs", "minutes", "patience", "precision")  # in the recipe of a resumed run
FREE = ("lr", "muon_lr", "warmup", "clip")  # may change, too, where a run goes on from weights with new optimizers
LARGEST_SEED = 10**13  # of a run: torch's generators take 64 bits, and a step's is a million times the run's
WRITTEN = ("ema_latest.pt", "best.pt", "ema_best.pt", "history.jsonl", "previews", "guide")  # beside latest.pt
CURVE_POINTS = 40  # losses kept for each epoch's part of the loss curve
READ_STEPS = 10  # steps at most between two readings of the losses, for which a GPU has to wait


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


@dataclass(frozen=True)
class Run:
    """What stays the same from the beginning to the end (see `train`)."""

    recipe: Recipe
    images: Tensor | PNGFolder
    folder: Path
    device: torch.device
    world: Single
    after_epoch: Callable[[Record, UNet], None]
    after_save: Callable[[Path], None]
    save_minutes: float
    compile: bool
    quiet: bool
    read_every: int = 1  # steps between two readings of the losses

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the images."""
        return len(self.images) // self.recipe.batch_size

    def log(self, text: str) -> None:
        """Says it once, beside the progress bars."""
        if self.world.rank == 0 and not self.quiet:
            tqdm.write(text)


@dataclass
class Position:
    """How far the run has come, and its losses."""

    epoch: int = 1  # the one under way
    batch: int = 0  # batches of it that are done
    loss_sum: float = 0.0  # of these
    best_loss: float = math.inf
    best_epoch: int = 0
    seconds: float = 0.0  # of training
    epoch_began: float = 0.0  # what `seconds` was then
    curve: list[list[float]] = field(default_factory=list)
    window: list[float] = field(default_factory=list)  # losses since the last point of the curve
    history: list[dict] = field(default_factory=list)  # the records so far, as in history.jsonl


def train(
    recipe: Recipe,
    images: Tensor | PNGFolder,
    folder: Path | str,
    device: torch.device | str | None = None,
    resume: bool = True,
    weights: Path | str | None = None,
    after_epoch: Callable[[Record, UNet], None] = lambda record, ema: None,
    save_minutes: float = 2.0,
    compile: bool = False,
    quiet: bool = False,
    after_save: Callable[[Path], None] = lambda folder: None,
) -> Iterator[Record]:
    """Trains in `folder` and yields a `Record` an epoch, after its files are written.

    images: uint8 (N, 1 or 3, 28, 28), or a `PNGFolder`. Files: `latest.pt` (all that an exact resume needs, also every
    `save_minutes` within an epoch), `ema_latest.pt`, on a better loss `best.pt` and `ema_best.pt`, `history.jsonl`.
    SIGINT and SIGTERM save first. With `resume`, a run that stands in the folder goes on where it stopped; without, it
    is discarded once the new one stands. after_epoch(record, EMA network) is called before `latest.pt` is written, and
    after_save(folder) after that.
    compile: let torch.compile work on the network. quiet: without messages and progress bars.

    weights: a checkpoint (or a run's folder) of this recipe, from which a run without a `latest.pt` goes on: epochs,
    minutes, draws and history, too, but not exactly, as the optimizers' averages begin anew.

    Raises ValueError for too few images, for a run or weights of another recipe or other data, for a run that has lost
    its `latest.pt`, and for weights that leave nothing to do; FloatingPointError when the loss is no longer finite (the
    last good checkpoint stays).

    Under `accelerate launch` each process calls this with the same arguments. The recipe's batch is shared among them,
    so their number changes nothing but the speed; the first one writes, all yield.
    """
    device = torch.device(device or best_device())
    images = images.to(device) if isinstance(images, Tensor) else images  # 47 MB: a GPU has the room
    world = processes(device.type)
    run = Run(recipe, images, Path(folder), device, world, after_epoch, after_save, save_minutes, compile, quiet)
    check(run)
    with contextlib.ExitStack() as after:
        after.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
        torch.backends.cudnn.benchmark = True  # all batches have one shape
        after.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("high")  # TF32 on the GPUs that have it
        world.on_first(lambda: after.enter_context(only_process(run.folder)))
        goes_on = world.on_first(lambda: resume and stands(run.folder, weights))
        if goes_on:
            content, position = saved(run)
            if not unfinished(recipe, position):
                text = (
                    "The run in {folder} is finished: {seen:,} images seen. With more --minutes or --epochs than it "
                    "has had it goes on; `train --fresh` starts over."
                )
                run.log(say(text, folder=run.folder, seen=content["images_seen"]))
                return
            state, speed = resumed(run, content, position)
        else:
            state, position, speed = begun(run, weights, discard=not resume)
        run.log(expectation(run, state, position, speed))
        run = replace(run, read_every=max(1, min(READ_STEPS, int(speed / recipe.batch_size))))  # about a second
        while unfinished(recipe, position):
            with stop_requests() as stopping, world.guarded():
                run_epoch(run, state, position, stopping)
                record = close_epoch(run, state, position)
                save_epoch(run, state, position, record)
            stop_if_asked(run, stopping, record.epoch, whole=True)
            yield record


# The beginning


def check(run: Run) -> None:
    """ValueError for what cannot work, before it costs time; a warning for a schedule that leaves much of the image."""
    recipe = run.recipe
    if not run.steps_per_epoch:
        text = "{count} images do not fill one batch of {size}: lower --batch-size."
        raise ValueError(say(text, count=len(run.images), size=recipe.batch_size))
    if recipe.seed > LARGEST_SEED:
        text = "The seed is {seed}, but must be at most {most:,}."
        raise ValueError(say(text, seed=recipe.seed, most=LARGEST_SEED))
    if recipe.model.channels != 3:
        text = "The network has {channels} channels, but the images have 3: leave --channels out."
        raise ValueError(say(text, channels=recipe.model.channels))
    if len(set(nodes(recipe.T))) < 8:
        text = "T is {T}, but a figure with eight different times needs --T 7 or more."
        raise ValueError(say(text, T=recipe.T))
    if (run.folder / checkpoint.EXPORTED).is_file():  # which would be taken for the new run's
        text = "{folder} holds exported weights: choose another --run, and go on from them by --weights {folder}."
        raise ValueError(say(text, folder=run.folder))
    left = recipe.make_schedule().alpha_bar[-1].sqrt().item()
    if left > 0.1:
        text = (
            "WARNING: √ᾱ_T is {left:.2f}: that share of the image is left in x_T. Samples begin in pure noise, which "
            "this network never sees: raise --T (it is {T}), or take --schedule cosine."
        )
        run.log(say(text, left=left, T=recipe.T))


def stands(folder: Path, weights: Path | str | None) -> bool:
    """Whether the folder holds a run to go on with. ValueError where only parts of one are left."""
    its_own = weights is not None and folder.resolve() in (Path(weights).resolve(), Path(weights).resolve().parent)
    if (folder / "latest.pt").is_file():
        return not (its_own and checkpoint.is_damaged(folder / "latest.pt"))
    left = [name for name in WRITTEN if (folder / name).exists()]
    if left and not its_own:
        text = (
            "{folder} holds a run without its latest.pt ({left}): `train` with --fresh starts over; --run names "
            "another folder."
        )
        if checkpoint.best_of(folder).is_file():
            text = (
                "{folder} holds a run without its latest.pt ({left}): `train` with --weights {folder} goes on from its "
                "weights, with --fresh starts over; --run names another folder."
            )
        raise ValueError(say(text, folder=folder, left=", ".join(left)))
    return False


def has_weights(folder: Path) -> bool:
    """Whether there are EMA weights to go on from; they are not looked into."""
    return any((folder / name).is_file() for name in ("ema_latest.pt", "ema_best.pt"))


def begun(run: Run, weights: Path | str | None, discard: bool) -> tuple[State, Position, float]:
    """A new run, which stands in its folder from now on, and its speed; what stood there before is discarded then."""
    state, speed = new_state(run, candidates(run.device, run.recipe.precision))
    position = go_on_from(Path(weights), run, state) if weights else Position()

    def stand() -> None:
        # A folder that cannot be written to shows now, not after an epoch. What copies the run sees it without the old.
        save_latest(replace(run, after_save=lambda folder: None), state, position)
        for path in (run.folder / name for name in WRITTEN if discard):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if position.history:
            write_history(run, position)
        run.after_save(run.folder)

    run.world.on_first(stand)
    return state, position, speed


def saved(run: Run) -> tuple[dict, Position]:
    """What `latest.pt` holds, and how far that run has come. ValueError where it is damaged, or of another run."""
    path = run.folder / "latest.pt"
    try:
        content = checkpoint.load(path)
        position = Position(**content["resume"]["position"])
    except (ValueError, KeyError, TypeError) as error:
        nothing = say("{path} holds no state to go on with", path=path)
        reason = str(error).rstrip(".。") if isinstance(error, ValueError) else nothing
        text = "{reason}; `train` with --fresh starts over."
        if has_weights(run.folder):
            text = "{reason}; `train` with --weights {folder} goes on from its last weights, with --fresh starts over."
        raise ValueError(say(text, reason=reason, folder=run.folder)) from error
    if changed := differences(content, run.recipe, len(run.images)):
        text = "{folder} holds another run ({changed}): choose another --run, or start over by `train --fresh`."
        raise ValueError(say(text, folder=run.folder, changed=changed))
    position.history = [line for line in read_history(run.folder) if line["epoch"] < position.epoch]
    return content, position


def resumed(run: Run, content: dict, position: Position) -> tuple[State, float]:
    """The state of a run exactly as it was saved, and its speed."""
    values, settings = content["resume"], candidates(run.device, run.recipe.precision)
    setting = Setting(*values["setting"])  # another kind of device needs another one
    state, speed = new_state(run, [setting] if setting in settings else settings)
    state.model.load_state_dict(content["weights"])
    state.ema.load_state_dict(content["ema"])
    for optimizer, its_own in zip(state.optimizers, values["optimizers"], strict=True):
        optimizer.load_state_dict(its_own)
        for p, kept in optimizer.state.items():  # laid out as the weights are here: fused AdamW takes nothing else
            kept |= {k: torch.empty_like(p).copy_(v) for k, v in kept.items() if v.shape == p.shape}
    if values["scaler"]:  # empty where the run was not in fp16 then
        state.scaler.load_state_dict(values["scaler"])
    state.step = values["step"]
    seen = {"epoch": position.epoch, "seen": content["images_seen"]}
    run.log(say("Going on with {folder}: epoch {epoch}, {seen:,} images seen.", folder=run.folder, **seen))
    return state, speed


def new_state(run: Run, settings: list[Setting]) -> tuple[State, float]:
    """A new state, in the setting that the first process finds quickest, and the images a second of all processes."""
    setting, speed = run.world.on_first(lambda: quickest(run.recipe, run.device, settings, run.compile))
    state = prepared_state(run.recipe, run.device, setting, run.compile)
    state.forward = run.world.data_parallel(state.forward)
    state.part, state.processes = run.world.part(run.recipe.batch_size), run.world.count
    return state, run.world.count * speed


def differences(content: dict, recipe: Recipe, count: int | None = None, free: tuple[str, ...] = ()) -> str:
    """What differs between a checkpoint's recipe and data and these, for a person to read; "" where nothing does.

    free: what of the recipe may differ beside MAY_CHANGE.
    """

    def flat(recipe: Recipe) -> dict:
        return {**asdict(recipe), **{f"model.{name}": value for name, value in asdict(recipe.model).items()}}

    before, now = flat(checkpoint.recipe_of(content)), flat(recipe)
    names = [name for name in now if before[name] != now[name] and name not in (*MAY_CHANGE, *free, "model")]
    changed = [f"{name} {before[name]} → {now[name]}" for name in names]
    if count is not None and content["image_count"] != count:
        changed.append(say("{before:,} images → {now:,}", before=content["image_count"], now=count))
    return "; ".join(changed)


def go_on_from(weights: Path, run: Run, state: State) -> Position:
    """Puts a new state where the weights' run ended, but for its optimizers, which are unknown; returns where."""
    path = checkpoint.best_of(weights) if weights.is_dir() else weights
    content = checkpoint.load(path)
    if "resume" in content:
        text = "{path} is more than weights: go on with its own run, --run {folder}."
        raise ValueError(say(text, path=path, folder=path.parent))
    if changed := differences(content, run.recipe, free=FREE):
        text = "{path} is of another recipe ({changed}): give the same one, or leave --weights out."
        raise ValueError(say(text, path=path, changed=changed))
    for network in (state.model, state.ema):
        network.load_state_dict(content["weights"])
    state.step = content["images_seen"] // run.recipe.batch_size
    position = Position(content["epoch"] + 1)
    position.history = [line for line in read_history(path.parent) if line["epoch"] < position.epoch]
    if position.history:
        best = min(position.history, key=lambda line: line["loss"])
        position.best_loss, position.best_epoch = best["loss"], best["epoch"]
        position.seconds = position.epoch_began = position.history[-1]["seconds"]
    if not unfinished(run.recipe, position):
        text = (
            "{path} has had {time}, {epochs} epochs, already, and these count: raise --minutes or --epochs (or "
            "--patience) beyond them."
        )
        raise ValueError(say(text, path=path, time=duration(position.seconds), epochs=position.epoch - 1))
    seen = {"epoch": position.epoch, "seen": content["images_seen"]}
    run.log(say("Going on from {path}: epoch {epoch}, {seen:,} images seen.", path=path, **seen))
    return position


def expectation(run: Run, state: State, position: Position, speed: float) -> str:
    """How long the rest of the run will take at `speed` images a second, and a quicker way where that is long."""
    recipe, an_epoch = run.recipe, run.steps_per_epoch * run.recipe.batch_size
    seconds = max(0, recipe.epochs * an_epoch - state.step * recipe.batch_size) / speed
    left = max(0.0, time_limit(recipe) - position.seconds)
    here = {"device": run.device.type, "precision": state.precision, "speed": speed}
    if left < seconds:
        text = "{time} ≈ {epochs:.1f} epochs on this device ({device}, {precision}, {speed:.0f} images/s)"
        return say(text, time=duration(left), epochs=left * speed / an_epoch, **here)
    text = "{epochs} epochs ≈ {time} on this device ({device}, {precision}, {speed:.0f} images/s)"
    lines = [say(text, epochs=recipe.epochs - position.epoch + 1, time=duration(seconds), **here)]
    if seconds > 120 * CPU.minutes:
        quicker = "The recipe `cpu` would need {time}: python -m hwkit train cpu"
        lines.append(say(quicker, time=duration(60 * CPU.minutes)))
    return "\n".join(lines)


# Epoch by epoch


def unfinished(recipe: Recipe, position: Position) -> bool:
    """Whether epochs, minutes and patience are left."""
    patient = position.epoch - 1 - position.best_epoch < (recipe.patience or math.inf)
    in_time = position.batch > 0 or position.seconds < time_limit(recipe)  # an epoch that was begun is closed
    return position.epoch <= recipe.epochs and in_time and patient


def time_limit(recipe: Recipe) -> float:
    """The seconds of training after which a run ends."""
    return 60 * recipe.minutes if recipe.minutes else math.inf


def run_epoch(run: Run, state: State, position: Position, stopping: list[int]) -> None:
    """Trains to the end of the epoch, or of the time. Saves now and then, and where a signal asks for the end."""
    recipe, steps, world = run.recipe, run.steps_per_epoch, run.world
    alpha_bar = recipe.make_schedule().alpha_bar.to(run.device, torch.float32)
    data = batches(run.images, recipe.batch_size, recipe.seed, position.epoch, position.batch, run.device, state.part)
    title = say("Epoch {epoch}/{epochs}", epoch=position.epoch, epochs=recipe.epochs)
    silent = run.quiet or world.rank > 0
    last_save = time.monotonic()
    began = last_save - position.seconds
    unread: list[Tensor] = []

    def progress() -> float:  # by steps or by the clock, whichever is further
        return max(state.step / (recipe.epochs * steps), position.seconds / time_limit(recipe))

    with tqdm(data, title, steps, initial=position.batch, leave=False, disable=silent) as bar:
        for loss in train_epoch(state, recipe, bar, alpha_bar, progress):
            unread.append(loss)
            stop_now = bool(stopping) and world.count == 1  # several processes agree on it when they read
            if len(unread) < run.read_every and position.batch + len(unread) < steps and not stop_now:
                continue
            stop = read(run, state, position, unread, time.monotonic() - began, bool(stopping))
            bar.set_postfix(loss=f"{position.loss_sum / position.batch:.4f}", refresh=False)
            if stop or time.monotonic() - last_save > 60 * run.save_minutes:
                save_latest(run, state, position)
                last_save = time.monotonic()
            if stop:
                stop_if_asked(run, stopping or [signal.SIGTERM], position.epoch, whole=False)
            if position.seconds >= time_limit(recipe):
                break


def read(run: Run, state: State, position: Position, unread: list[Tensor], seconds: float, stop: bool) -> bool:
    """Takes the losses of the last steps from the device, and notes them; whether any process was asked to stop.

    The first process's clock counts for all. FloatingPointError where a loss is not finite.
    """
    clock = seconds if run.world.rank == 0 else 0.0
    *losses, position.seconds, stops = run.world.sum([*torch.stack(unread).tolist(), clock, float(stop)])
    for step, loss in enumerate((loss / run.world.count for loss in losses), state.step - len(unread) + 1):
        if not math.isfinite(loss):
            raise FloatingPointError(not_finite(run, position.epoch, step, loss))
        position.batch, position.loss_sum = position.batch + 1, position.loss_sum + loss
        position.window.append(loss)
        if position.batch % max(1, run.steps_per_epoch // CURVE_POINTS) == 0:
            position.curve.append([step * run.recipe.batch_size, sum(position.window) / len(position.window)])
            position.window = []
    unread.clear()
    return stops > 0


def not_finite(run: Run, epoch: int, step: int, loss: float) -> str:
    """What to do about a loss that is no number."""
    text = (
        "The loss is {loss} at step {step} (epoch {epoch}), or its gradient. The last checkpoint is untouched: the "
        "same command with --precision fp32 goes on from it, or start over with a lower --lr and --fresh."
    )
    if has_weights(run.folder):
        text = (
            "The loss is {loss} at step {step} (epoch {epoch}), or its gradient. The last checkpoint is untouched: the "
            "same command with --precision fp32 goes on from it, or one with a lower --lr, --weights {folder} and "
            "another --run."
        )
    return say(text, loss=loss, step=step, epoch=epoch, folder=run.folder)


def close_epoch(run: Run, state: State, position: Position) -> Record:
    """The record of the epoch that is done; the position becomes that of the next one."""
    loss, seen = position.loss_sum / position.batch, state.step * run.recipe.batch_size
    took = max(1e-9, position.seconds - position.epoch_began)
    share = position.batch / run.steps_per_epoch
    record = Record(
        epoch=position.epoch,
        loss=loss,
        is_best=loss < position.best_loss,
        images_seen=seen,
        seconds=round(position.seconds, 1),
        lr=state.optimizers[0].param_groups[0]["lr"],
        images_per_second=round(position.batch * run.recipe.batch_size / took, 1),
        curve=position.curve or [[seen, loss]],
    )
    position.history.append(record._asdict())
    position.epoch, position.batch, position.epoch_began = record.epoch + 1, 0, position.seconds
    position.loss_sum, position.curve, position.window = 0.0, [], []
    if record.is_best:
        position.best_loss, position.best_epoch = loss, record.epoch
    text = "Epoch {epoch}/{epochs} finished, average loss: {loss:.4f}"
    if share < 1:
        text = "The time is over after {share:.0%} of epoch {epoch}, average loss: {loss:.4f}"
    run.log(say(text, epoch=record.epoch, epochs=run.recipe.epochs, loss=loss, share=share))
    return record


# What is saved


def save_epoch(run: Run, state: State, position: Position, record: Record) -> None:
    """Writes what an epoch leaves. `latest.pt` comes last: an interruption before it repeats the epoch's end."""
    if run.world.rank > 0:
        return
    facts = {"epoch": record.epoch, "loss": record.loss, "images_seen": record.images_seen}
    if record.is_best:
        checkpoint.save(run.folder / "best.pt", run.recipe, state.model.state_dict(), **facts)
        checkpoint.save(run.folder / "ema_best.pt", run.recipe, state.ema.state_dict(), **facts)
        run.log(say("New best model saved with loss: {loss:.4f}", loss=record.loss))
    checkpoint.save(run.folder / "ema_latest.pt", run.recipe, state.ema.state_dict(), **facts)
    write_history(run, position)
    run.after_epoch(record, state.ema)
    save_latest(run, state, position)


def save_latest(run: Run, state: State, position: Position) -> None:
    """Writes `latest.pt`, from which `resumed` goes on exactly; the history has a file of its own."""
    if run.world.rank > 0:
        return
    resume = {
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "scaler": state.scaler.state_dict(),
        "setting": [state.precision, state.layout],
        "step": state.step,
        "position": {name: value for name, value in asdict(position).items() if name != "history"},
    }
    path, weights, ema = run.folder / "latest.pt", state.model.state_dict(), state.ema.state_dict()
    facts = {"epoch": position.epoch, "images_seen": state.step * run.recipe.batch_size, "image_count": len(run.images)}
    checkpoint.save(path, run.recipe, weights, ema=ema, resume=resume, **facts)
    run.after_save(run.folder)


def write_history(run: Run, position: Position) -> None:
    """Writes the epochs so far, a line each."""
    write_text(run.folder / "history.jsonl", "".join(json.dumps(line) + "\n" for line in position.history))


def read_history(folder: Path) -> list[dict]:
    """The epochs of a run, from `history.jsonl`; none where there is no such file. ValueError where it is damaged."""
    path = folder / "history.jsonl"
    if not path.is_file():
        return []
    try:
        return [Record(**json.loads(line))._asdict() for line in path.read_text("utf-8").splitlines()]
    except (ValueError, TypeError) as error:
        text = "{path} is damaged ({error}): delete it; only the loss curve is lost."
        raise ValueError(say(text, path=path, error=error)) from error


# Signals


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Within it, SIGINT and SIGTERM do not interrupt but fill the list; a second one interrupts as usual."""
    asked: list[int] = []

    def note(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    in_main = threading.current_thread() is threading.main_thread()  # which alone may handle signals
    with contextlib.ExitStack() as after:
        for number in (signal.SIGINT, signal.SIGTERM) if in_main else ():
            after.callback(signal.signal, number, signal.signal(number, note))
        yield asked


def stop_if_asked(run: Run, stopping: list[int], epoch: int, whole: bool) -> None:
    """After all is saved: KeyboardInterrupt, with the signal's number, where a signal asked for the end."""
    if stopping:
        text = "Stopped in epoch {epoch}, all is saved. The same command goes on from here."
        if whole:
            text = "Stopped after epoch {epoch}, all is saved. The same command goes on from here."
        run.log(say(text, epoch=epoch))
        raise KeyboardInterrupt(stopping[0])
