"""`check(q_sample)`: is what a student wrote right? If not, what is wrong, in words that teach and do not give it away.

    from hwkit.course.selfcheck import check, progress

An answer is tried on the inputs of its task (`tasks.py`). One that gives the same numbers as a known wrong answer
(`mistakes.py`) gets that one's hint; another, where it is wrong, and which factor. A check that fails again in the same
way says more, in three levels. Nothing is raised at a student, no network is asked, and it takes less than a second.
"""

import ast
import contextlib
import copy
import inspect
import os
import re
import sysconfig
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import hwkit
from hwkit.course.compare import close, differs, entries, factors, of_another_kind, plain, where
from hwkit.course.mistakes import MISTAKES, Mistake
from hwkit.course.tasks import BY_NAME, TASKS, Case, Task, Unfit
from hwkit.files import read_json, runs, write_json
from hwkit.language import filled, say, sentences

BLANKS = ("Task ", "題目 ")  # so begins what a blank of the student edition says
BLANK = re.compile(rf"^\s*raise NotImplementedError\(['\"]({'|'.join(BLANKS)})", re.M)  # its line, in code
KEPT = "selfcheck.json"  # in the folder of the runs
FOREIGN = (  # whose lines are no student's
    f"{Path(hwkit.__file__).parent}{os.sep}",
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
)

also_kept: list[Path] = []  # folders that keep the ticks too: on Colab MyDrive/hwkit
ticks: dict[str, bool] = {}  # by the name of the task: whether its last check passed
failures: dict[str, "Failure"] = {}  # by the name of the task: how it failed last


@dataclass(frozen=True)
class Stop:
    """Why a function gave nothing to compare: a sentence, and what kind of stop it is."""

    kind: str  # blank, unfit, error, in place
    text: str = field(compare=False)
    cause: str = ""  # the exception without line and numbers: the same in all that stop for this reason


@dataclass(frozen=True)
class Failure:
    """How a task failed: the kind of its `Result`, the wrong values of a mistake without a name, how often in a row."""

    kind: str
    seen: list = field(default_factory=list)
    count: int = 0


@dataclass(frozen=True)
class Result:
    """What a check found; true where it passed. `kind`: passed, or in which way it failed (a mistake by its name)."""

    passed: bool
    kind: str
    text: str

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return self.text

    def _ipython_display_(self) -> None:
        """Nothing: `check` has printed it already."""


def check(function: Callable, task: str | None = None, seed: int = 0) -> Result:
    """Tries a student's function or class, prints what was found, and returns it; never raises for what they wrote.

    The task is found by the function's name, or named by its number or name (`task="3.2"`). `seed` draws the inputs.
    """
    chosen = find(function, task)
    if isinstance(chosen, str):
        result = Result(False, "unknown", f"✗ {chosen}")
    else:
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                result = judge(chosen, function, seed)
            except Exception as error:  # a value that cannot even be compared must not stop a student's notebook
                result = failed(chosen, "unfit", say("What it gives cannot be compared ({error}).", error=said(error)))
        remember(chosen, result)
    print(result)
    return result


def find(function: Callable, task: str | None) -> Task | str:
    """The task that a function is an answer to, or a sentence that says why there is none."""
    if not callable(function):
        text = "check wants a function, as in check(q_sample), but was given an object of type {kind}."
        return say(text, kind=type(function).__name__)
    name = task if task is not None else getattr(function, "__name__", type(function).__name__)
    for found in TASKS:
        if str(name) in (found.name, found.number):
            return found
    text = "There is no task {name!r}. progress() lists them; check(function, task='1.2') names one."
    return say(text, name=name)


def judge(task: Task, function: Callable, seed: int) -> Result:
    """Tries a function on all cases of a task."""
    if text := other_signature(task, function):
        return failed(task, "signature", text)
    torch.default_generator.manual_seed(seed)  # of the CPU alone: a GPU's is not put back afterwards
    cases = list(task.cases(torch.Generator().manual_seed(seed)))
    seen = [attempt_on_copy(task, function, case) for case in cases]
    right = [attempt(task, task.answer, case) for case in cases]
    wrong = [i for i, (got, want) in enumerate(zip(seen, right, strict=True)) if not agree(task, got, want)]
    stop = next((got for got in seen if isinstance(got, Stop)), None)
    if stop and stop.kind in ("blank", "in place"):
        return failed(task, stop.kind, stop.text)
    order = sorted(range(len(cases)), key=lambda i: i not in wrong)  # where another mistake is soon told apart
    for mistake in MISTAKES[task.name] if wrong else ():
        if is_known_by(mistake, stop) or any(
            all(agree(task, seen[i], attempt(task, form, cases[i])) for i in order) for form in mistake.forms
        ):
            stopped_with = stop.text if stop and stop.kind == "error" else ""
            return failed(task, mistake.name, tuple(sentences(stopped_with, say(hint)) for hint in mistake.hints))
    if stop:
        tried = say("(Tried with {case}.)", case=cases[seen.index(stop)]) if stop.kind == "error" else ""
        return failed(task, stop.kind, sentences(stop.text, tried))
    for got, want in zip(seen, right, strict=True):
        if text := wrong_kind(task, got, want):
            return failed(task, "kind", text)
    cut = [name for got, want in zip(seen, right, strict=True) for name in want if is_cut_off(got[name], want[name])]
    if not wrong and cut:
        text = (
            "The values are right, but {name} has lost its gradients, by .detach(), .item(), torch.tensor(…) or "
            "no_grad, so that nothing could be learned from it."
        )
        return failed(task, "kind", say(text, name=cut[0]))
    if not wrong:
        text = say("✓ {task}: {verified}.", task=task, verified=say(task.verified))
        return Result(True, "passed", sentences(text, too_wide(task, seen, right), elsewhere(task, function)))
    if not agree(task, attempt(task, function, cases[wrong[0]], seed + 1), seen[wrong[0]]):
        text = "Two calls with the same inputs gave two results: draw nothing at random, all noise is an argument."
        return failed(task, "random", say(text))
    return failed(task, "wrong", faults(task, list(zip(cases, seen, right, strict=True))), seen)


def too_wide(task: Task, seen: list[dict], right: list[dict]) -> str:
    """A sentence where what is right is float64 and goes into the layers of a network, which do not take it."""
    if task.name in ("loss_weight", "diffusion_loss", "update_weights"):
        return ""
    pairs = [(got[name], value) for got, want in zip(seen, right, strict=True) for name, value in want.items()]
    tensors = [(got.dtype, want.dtype) for got, want in pairs if isinstance(got, Tensor) and isinstance(want, Tensor)]
    text = "It is float64, and the layers of the network are float32: a later cell would stop. End with .float()."
    return say(text) if (torch.float64, torch.float32) in tensors else ""


def elsewhere(task: Task, function: Callable) -> str:
    """A sentence where what is right here would stop on a GPU: it makes a tensor on the CPU, wherever its inputs are.

    The device "meta", on which tensors hold no numbers, stands for the GPU.
    """
    if not task.far:
        return ""
    try:
        made = task.far(function)
    except Exception as error:  # whatever else cannot be done without numbers is no fault
        apart = re.search("same device|expected device", str(error)) and "cpu" in str(error)
        mixed = bool(apart) or "to numpy" in str(error)
    else:
        values = made if isinstance(made, tuple | list) else (made,)
        mixed = any(isinstance(value, Tensor) and value.device.type == "cpu" for value in values)
    text = (
        "If your network is on a GPU, a later cell stops: a tensor in it is made on the CPU, wherever the inputs are. "
        "Name their device where you make it (device=…)."
    )
    return say(text) if mixed else ""


def is_known_by(mistake: Mistake, stop: Stop | None) -> bool:
    """Whether an exception alone tells the mistake."""
    return bool(stop and stop.kind == "error" and mistake.stop and re.search(mistake.stop, stop.cause))


def attempt(task: Task, function: Callable, case: Case, seed: int = 0) -> dict | Stop:
    """What a function gives for a case, by name; or what stopped it."""
    torch.default_generator.manual_seed(seed)
    try:
        return task.play(task, function, case)
    except Unfit as error:
        return Stop("unfit", str(error), str(error))
    except (Exception, SystemExit) as error:
        return stopped(task, error)


def attempt_on_copy(task: Task, function: Callable, case: Case) -> dict | Stop:
    """`attempt` of a function that might change its inputs, which it must not."""
    own = copy.deepcopy(case)
    seen = attempt(task, function, own)
    pairs = zip([*case.args, *case.kwargs.values()], [*own.args, *own.kwargs.values()], strict=True)
    if not all(close(now, before, 0.0) for before, now in pairs if isinstance(before, Tensor | np.ndarray)):
        text = (
            "It changes a tensor or array that was given to it, by an operation in place, such as += or one whose name "
            "ends in an underscore: make a new one."
        )
        return Stop("in place", say(text))
    return seen


def stopped(task: Task, error: BaseException) -> Stop:
    """An exception as a sentence, with the student's line that raised it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(FOREIGN)]
    line = frames[-1].line if frames else ""
    # PyTorch raises NotImplementedError too, and so may an answer, in words of its own: neither is a blank. A bare one
    # that the student's line raises is.
    own = not line or "raise NotImplementedError" in line
    if isinstance(error, NotImplementedError) and own and (not str(error) or str(error).startswith(BLANKS)):
        text = "The blank is still empty. You write {signature}: {title} ({equation})."
        about = {"signature": task.signature, "title": say(task.title), "equation": say(task.equation)}
        return Stop("blank", say(text, **about))
    text = "It stopped with {error}."
    if line:
        text = "It stopped with {error}, in line {number}: `{line}`."
    told = say(text, error=said(error), number=frames[-1].lineno if frames else "", line=line)
    return Stop("error", told, re.sub(r"\d+", "#", said(error)))


def said(error: BaseException) -> str:
    """'TypeError: what was wrong': of a message the first line, and not all of it where it is very long."""
    return traceback.format_exception_only(error)[-1].strip().split("\n")[0][:200]


def other_signature(task: Task, function: Callable) -> str | None:
    """A sentence where the function does not take the task's arguments, or takes them in another order."""
    try:
        own = inspect.signature(function)
    except (TypeError, ValueError):  # of what is built in
        return None
    (wanted,) = (node.args for node in ast.parse(f"def {task.signature}: ...").body)
    names = [argument.arg for argument in wanted.args]
    first = names[: len(names) - len(wanted.defaults)]  # are given by place, the others by name
    if set(own.parameters) == set(names) and list(own.parameters) != names:
        return say("Its arguments stand in another order: it is called as {signature}.", signature=task.signature)
    try:
        own.bind(*first, **dict.fromkeys(names[len(first) :]))
    except TypeError as error:
        text = "It is called as {signature}, which yours, with {own}, does not take ({error})."
        return say(text, signature=task.signature, own=own, error=error)
    return None


# Hints


def failed(task: Task, kind: str, text: str | tuple[str, ...], seen: list = ()) -> Result:
    """A failure as a result. Of several hints each is told when the task has failed in this way once more.

    `seen`: the wrong values of a mistake that has no name, as other wrong values are another mistake.
    """
    last = failures.get(task.name, Failure(""))
    pairs = zip(last.seen, seen, strict=False)  # of unequal length only where the kinds differ
    again = last.kind == kind and all(old.keys() == new.keys() and agree(task, new, old) for old, new in pairs)
    count = last.count + 1 if again else 1
    failures[task.name] = Failure(kind, list(seen), count)
    if isinstance(text, str):
        return Result(False, kind, say("✗ {task}: {text}", task=task, text=text))
    level = min(count, len(text))
    hint = say("✗ {task}: {text}", task=task, text=text[level - 1])
    number = say("Hint {level} of {count}.", level=level, count=len(text))
    more = say("Check again for the next.")
    if level == len(text):
        about = {"number": task.number, "notebook": task.notebook, "equation": say(task.equation)}
        more = say("Read again task {number} in notebook {notebook} (after {equation}).", **about)
    return Result(False, kind, f"{hint}\n  {sentences(number, more)}")


def wrong_kind(task: Task, got: dict, want: dict) -> str | None:
    """A sentence on the first value that is of another type, shape, dtype or device than the right one."""
    for name, value in want.items():
        if text := of_another_kind(name, got[name], value, task.double):
            return text
    return None


def is_cut_off(got, want) -> bool:
    """Whether a tensor has lost the gradients that the right one has."""
    return isinstance(want, Tensor) and want.requires_grad and not got.requires_grad


def agree(task: Task, got: dict | Stop, want: dict | Stop) -> bool:
    """Whether two attempts gave the same numbers, or were stopped by the same; a known mistake may leave some out."""
    if isinstance(got, Stop) or isinstance(want, Stop):
        return got == want
    return all(value is None or close(got[name], value, task.tolerance) for name, value in want.items())


def faults(task: Task, tries: list[tuple[Case, dict, dict]]) -> tuple[str, ...]:
    """Three hints on an answer that is wrong in a way that the kit does not know; see `compare.py`."""
    case, got, want = next(each for each in tries if not agree(task, *each[1:]))
    name = next(name for name, value in want.items() if not close(got[name], value, task.tolerance))
    first = where(name, [(c, differs(g[name], w[name], task.tolerance)) for c, g, w in tries])
    if not all(plain(g[name]).isfinite().all() for _, g, _ in tries):
        second = say("It holds NaN or infinite values: is there a division by 0, or the root of less than 0?")
    else:
        second = factors(task, name, tries) if task.parts else ""
        looked = entries(got[name], want[name], task.tolerance)
        second = second or sentences(say("Take {case}:", case=case), looked)
    way = say("Call it with all pictures 0 but one: what comes out is that one's factor.") if task.parts else ""
    by_hand = say("Go through your lines one by one, beside the text above the task, for {case}.", case=case)
    if "eq. " in task.equation:
        by_hand = say("Compare with {equation}, by hand, for {case}.", equation=say(task.equation), case=case)
    return first, sentences(first, second), sentences(first, second, way, by_hand)


# Progress


def remember(task: Task, result: Result) -> None:
    """Keeps the tick in memory, and with the runs where that can be written."""
    ticks[task.name] = result.passed
    if result:
        failures.pop(task.name, None)
    known = kept() | ticks
    for folder in folders():
        with contextlib.suppress(OSError, ValueError):
            write_json(folder / KEPT, known)


def kept() -> dict[str, bool]:
    """The ticks of other notebooks, as far as they can be read; those of this machine count before those of Drive."""
    known: dict[str, bool] = {}
    for folder in folders():
        with contextlib.suppress(OSError, ValueError):
            found = read_json(folder / KEPT)
            known |= {name: found[name] is True for name in BY_NAME if name in found} if isinstance(found, dict) else {}
    return known


def folders() -> list[Path]:
    """Where ticks are kept: on Drive, unless it is gone, and with the runs, where HWKIT_RUNS names a place."""
    found = [folder for folder in also_kept if folder.parent.is_dir()]
    with contextlib.suppress(ValueError):
        found.append(runs())
    return found


def progress() -> None:
    """Prints the tasks as a table, with a tick at each whose last check passed."""
    done = kept() | ticks
    for task in TASKS:
        tick = "✓" if done.get(task.name) else "·"
        print(f"{tick} {task.number}  {task.name:<18} {filled(say(task.title), 50)} {task.notebook}")
    print(say("{done} of {count} tasks", done=sum(done.values()), count=len(TASKS)))
