"""What a student's function gave, beside what the right one gives: whether they agree, and if not, where and how."""

import inspect
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hwkit.course.tasks import Case, Task
from hwkit.language import clauses, listing, marked, say, sentences

WAYS = ("wrong", "faint", "")  # in which a value `differs` from the right one
ROUNDING = 2e-6  # of a difference, relative to the largest value: what float32 does to a right answer, or little more


def plain(value) -> Tensor | None:
    """A number, a tensor, an array or a list of numbers as a float64 tensor; None for all else."""
    if isinstance(value, Tensor):
        if value.device.type == "meta" or value.layout != torch.strided:
            return None
        value = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
        return value.detach().to("cpu", torch.float64)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # lists of unequal length, of tensors with gradients, …
        return None
    return torch.from_numpy(array.astype(np.float64)) if array.dtype.kind in "iuf" else None


def close(got, want, tolerance: float) -> bool:
    """Whether two values are numbers of one shape, and the same up to `tolerance` of the largest."""
    got, want = plain(got), plain(want)
    if got is None or want is None or got.shape != want.shape:
        return False
    finite = want[want.isfinite()]
    scale = finite.abs().max().item() if finite.numel() else 0.0
    return torch.allclose(got, want, rtol=0, atol=tolerance * scale + 1e-9, equal_nan=True)


def of_another_kind(name: str, got, want, double: bool) -> str | None:
    """A sentence on the type, shape, dtype or device of the value `name`, where one of them is wrong; or None."""
    kind = type(got).__name__
    if got is None:
        return say("{name} is None: the function should end in a line with `return`.", name=name)
    if isinstance(got, np.ndarray | list | tuple) and isinstance(want, Tensor):
        return say("{name} is a {kind}, but a torch tensor is wanted.", name=name, kind=kind)
    if isinstance(want, Tensor) and not isinstance(got, Tensor):
        if isinstance(got, bool | int | float | complex | np.number):
            text = (
                "{name} is a number ({kind}), but a tensor of shape {shape} is wanted. Do .item() or float() make it "
                "one, or is it written as one?"
            )
            return say(text, name=name, kind=kind, shape=tuple(want.shape))
        text = "{name} is of type {kind}, but a tensor of shape {shape} is wanted."
        return say(text, name=name, kind=kind, shape=tuple(want.shape))
    if isinstance(want, Tensor):
        return _of_another_tensor_kind(name, got, want, double)
    value = plain(got)
    if isinstance(got, complex | np.complexfloating) or (isinstance(got, np.ndarray) and np.iscomplexobj(got)):
        text = (
            "{name} is complex, but a real number is wanted: roots of eigenvalues that rounding made negative do that."
        )
        return say(text, name=name)
    if value is None:
        return say("{name} is of type {kind}, but numbers are wanted.", name=name, kind=kind)
    if isinstance(want, list) and value.ndim == 1 and _of_floats(got):
        text = (
            "{name} holds floating-point numbers, such as {first}, but times are whole numbers (int): they are places "
            "in the table ᾱ."
        )
        return say(text, name=name, first=value.tolist()[0])
    if value.shape != np.shape(want):
        return _of_another_shape(name, value.shape, np.shape(want))
    return None


def _of_floats(values) -> bool:
    """Whether a tensor, an array or a list of numbers holds floats, also such as are whole."""
    return values.is_floating_point() if isinstance(values, Tensor) else np.asarray(values).dtype.kind == "f"


def _of_another_tensor_kind(name: str, got: Tensor, want: Tensor, double: bool) -> str | None:
    if got.device != want.device:
        text = "{name} is on the device {device}, but the inputs are on {wanted}: make new tensors where they are."
        return say(text, name=name, device=got.device, wanted=want.device)
    if got.is_complex():
        text = "{name} is complex: the root of a negative number was taken. Look at what stands under your roots."
        return say(text, name=name)
    if got.dtype not in (torch.float32, torch.float64):
        text = "{name} is {dtype}, but floating-point numbers of 32 or 64 bits are wanted."
        return say(text, name=name, dtype=got.dtype)
    if double and got.dtype != torch.float64:
        text = (
            "{name} is {dtype}, but torch.float64 is wanted: it holds 1 − ᾱ_1 = 0.0001 to all digits, float32 to three."
        )
        return say(text, name=name, dtype=got.dtype)
    return _of_another_shape(name, got.shape, want.shape) if got.shape != want.shape else None


def _of_another_shape(name: str, got, want) -> str:
    return say("{name} has the shape {shape}, but {wanted} is wanted.", name=name, shape=tuple(got), wanted=tuple(want))


def differs(got, want, tolerance: float) -> str:
    """'' where two values are the same up to rounding, 'faint' where `close` lets their difference pass, or 'wrong'."""
    if not close(got, want, tolerance):
        return "wrong"
    return "" if close(got, want, ROUNDING) else "faint"


def where(name: str, tries: list[tuple[Case, str]]) -> str:
    """In which cases a value `differs`: 'x_s is wrong with beta, but not at t = 1. With posterior it is right.'"""
    found: dict[tuple, list[str]] = {}
    for option in dict.fromkeys(case.option for case, _ in tries):
        ways = (tuple(case.where for case, way in tries if case.option == option and way == each) for each in WAYS)
        found.setdefault(tuple(ways), []).append(option)
    if len(found) == 1:
        some, faint, others = next(iter(found))
        return sentences(_wrong_at(name, some, others, bool(faint)), _faint_at(faint))
    wrong = [
        sentences(_wrong_with(name, places(options), some, others), _faint_at(faint))
        for (some, faint, others), options in found.items()
        if some
    ]
    right = [option for (some, faint, _), options in found.items() if not some and not faint for option in options]
    rest = (
        say("With {option} it is right.", option=right[0]) if len(right) == 1 else say("With the others it is right.")
    )
    return sentences(*wrong, rest if right else "")


def _wrong_at(name: str, some: tuple, others: tuple, faint: bool) -> str:
    """Names the shorter of two lists of cases; `faint`: there are further ones, which `_faint_at` names."""
    if not others:
        return say("{name} is wrong.", name=name) if faint else say("{name} is wrong in all cases.", name=name)
    if len(some) <= len(others):
        return say("{name} is wrong at {places}.", name=name, places=places(some))
    return say("{name} is wrong, but not at {places}.", name=name, places=places(others))


def _wrong_with(name: str, options: str, some: tuple, others: tuple) -> str:
    if not others:
        return say("{name} is wrong with {options}.", name=name, options=options)
    if len(some) <= len(others):
        return say("{name} is wrong with {options} at {places}.", name=name, options=options, places=places(some))
    text = "{name} is wrong with {options}, but not at {places}."
    return say(text, name=name, options=options, places=places(others))


def _faint_at(faint: tuple) -> str:
    """Where a mistake may be, too."""
    return say("At {places} the difference is too small to count.", places=places(faint)) if faint else ""


def entries(got, want, tolerance: float) -> str:
    """How many of the values are right, where the first wrong one stands, and whether it is too large or too small."""
    got, want = plain(got), plain(want)
    off = (got - want).abs() > tolerance * want.abs().max() + 1e-9
    place = off.nonzero()[0]
    large = got[tuple(place)] > want[tuple(place)]
    if got.numel() == 1:
        return say("It is too large.") if large else say("It is too small.")
    right = say("{right} of {count} values are right.", right=int((~off).sum()), count=off.numel())
    text = "The first wrong one is at {place}, and too small."
    if large:
        text = "The first wrong one is at {place}, and too large."
    return sentences(right, say(text, place=place.tolist()))


def factors(task: Task, name: str, tries: list[tuple[Case, dict, dict]]) -> str:
    """Which factors of a weighted sum are wrong, and how: too large, missing, of the wrong sign; or '' if it is no sum.

    They are found by least squares, in the cases of the first option that is wrong.
    """
    option = next(case.option for case, got, want in tries if not close(got[name], want[name], task.tolerance))
    shares: dict[str, list[tuple[str, float, float, bool]]] = {}
    for case, got, want in tries:
        arguments = inspect.signature(task.answer).bind(*case.args, **case.kwargs).arguments
        parts = {part: arguments[part] for part in task.parts if isinstance(arguments.get(part), Tensor)}
        if (
            case.option != option or not parts or isinstance(arguments["alpha_bar_t"], Tensor)
        ):  # a factor for each image
            continue
        basis = torch.stack([plain(part).flatten() for part in parts.values()], dim=1)
        (mine, rest), (theirs, _) = (_fit(basis, plain(values[name]).flatten()) for values in (got, want))
        if rest > 10 * task.tolerance:
            return say("Something other than {parts}, each times a number, enters it.", parts=both([*parts]))
        off = (mine - theirs).abs() > task.tolerance * theirs.abs().max()
        for part, *share in zip(parts, mine.tolist(), theirs.tolist(), off.tolist(), strict=True):
            shares.setdefault(part, []).append((case.where, *share))
    right = [part for part, found in shares.items() if not any(off for *_, off in found)]
    wrong = [_share(part, found) for part, found in shares.items() if part not in right]
    if not wrong:
        return ""
    rest = say("Those of {parts} are right.", parts=both(right)) if len(right) > 1 else ""
    rest = say("That of {part} is right.", part=right[0]) if len(right) == 1 else rest
    return sentences(say("With {option}:", option=option) if option else "", *wrong, rest)


def places(names: Sequence[str]) -> str:
    """The first four; a name may have a comma in it."""
    return clauses(*names[:4], "…" if len(names) > 4 else "")


def both(names: list[str]) -> str:
    """'a and b'."""
    return say("{some} and {last}", some=listing(names[:-1]), last=names[-1]) if names[1:] else names[0]


def _fit(basis: Tensor, value: Tensor) -> tuple[Tensor, float]:
    """The factors of the columns of `basis` in `value`, and the part of it that is no such sum."""
    found = torch.linalg.lstsq(basis, value[:, None]).solution[:, 0]
    return found, ((basis @ found - value).norm() / (value.norm() + 1e-12)).item()


def _share(part: str, found: list[tuple[str, float, float, bool]]) -> str:
    """What is wrong with the factor of one part; found: (where, its value, the right value, whether they differ)."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for at, got, want, off in found:
        if off:
            kinds.setdefault(_kind(got, want), []).append(at)
    if len(kinds) > 1:
        return sentences(*(say(text, part=part, places=places(at)) for (_, text), at in kinds.items()))
    ratios = [abs(math.log(abs(got / want))) for _, got, want, off in found if off and got and want]
    rising, trend = {x < y for x, y in pairwise(ratios)} if len(ratios) > 2 else set(), ""
    if len(rising) == 1:
        trend = say("The more so the nearer t is to 0.") if True in rising else say("The more so the nearer t is to T.")
    ((everywhere, _),) = kinds
    return sentences(say(everywhere, part=part), trend)


def _kind(got: float, want: float) -> tuple[str, str]:
    """What is wrong with a factor: a sentence to be said, and the same with the places where it is so."""
    if abs(want) < 1e-6:
        return marked("The factor of {part} should be 0."), marked("The factor of {part} should be 0 at {places}.")
    if abs(got) < 1e-6:
        return marked("The factor of {part} is missing."), marked("The factor of {part} is missing at {places}.")
    if got * want < 0:
        text = marked("The factor of {part} has the wrong sign at {places}.")
        return marked("The factor of {part} has the wrong sign."), text
    if abs(got) > abs(want):
        return marked("The factor of {part} is too large."), marked("The factor of {part} is too large at {places}.")
    return marked("The factor of {part} is too small."), marked("The factor of {part} is too small at {places}.")
