"""What a student's function gave, beside what the right one gives: whether they agree, and if not, where and how."""

import inspect
import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hwkit.course.tasks import Case, Task


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


def of_another_kind(got, want, double: bool) -> str | None:
    """What is wrong with the type, shape, dtype or device of a value, as the end of a sentence on it; or None."""
    if got is None:
        return "is None: the function should end in a line with `return`"
    if isinstance(got, np.ndarray | list | tuple) and isinstance(want, Tensor):
        return f"is a {type(got).__name__}, but a torch tensor is wanted"
    if isinstance(want, Tensor) and not isinstance(got, Tensor):
        if isinstance(got, bool | int | float | complex | np.number):
            return (
                f"is a number ({type(got).__name__}), but a tensor is wanted: leave out .item(), float() and the like"
            )
        return f"is of type {type(got).__name__}, but a tensor of shape {tuple(want.shape)} is wanted"
    if isinstance(want, Tensor):
        return _of_another_tensor_kind(got, want, double)
    value = plain(got)
    if isinstance(got, complex | np.complexfloating) or (isinstance(got, np.ndarray) and np.iscomplexobj(got)):
        return "is complex, but a real number is wanted: roots of eigenvalues that are negative by rounding give that"
    if value is None:
        return f"is of type {type(got).__name__}, but numbers are wanted"
    if isinstance(want, list) and value.ndim == 1 and not torch.equal(value, value.round()):
        return "holds fractions, but times are whole numbers: they are places in the table ᾱ"
    if value.shape != np.shape(want):
        return f"has the shape {tuple(value.shape)}, but {np.shape(want)} is wanted"
    return None


def _of_another_tensor_kind(got: Tensor, want: Tensor, double: bool) -> str | None:
    if got.device != want.device:
        return f"is on the device {got.device}, but the inputs are on {want.device}: make new tensors where they are"
    if got.dtype not in (torch.float32, torch.float64):
        return f"is {got.dtype}, but floating-point numbers of 32 or 64 bits are wanted"
    if double and got.dtype != torch.float64:
        return f"is {got.dtype}, but torch.float64 is wanted: it holds 1 − ᾱ_1 = 0.0001 to all digits, float32 to three"
    if got.shape != want.shape:
        return f"has the shape {tuple(got.shape)}, but {tuple(want.shape)} is wanted"
    return None


def where(tries: list[tuple[Case, bool]]) -> str:
    """In which of the cases an answer is wrong: 'is wrong with beta, but not at t = 1, and right with posterior'."""
    found: dict[tuple, list[str]] = {}
    for option in dict.fromkeys(case.option for case, _ in tries):
        sides = [tuple(case.where for case, good in tries if case.option == option and good == side) for side in (0, 1)]
        found.setdefault(tuple(sides), []).append(option)
    if len(found) == 1:
        return f"is wrong{_among(*next(iter(found))) or ' everywhere'}"
    wrong = [f"is wrong with {listed(options)}{_among(*sides)}" for sides, options in found.items() if sides[0]]
    right = [option for sides, options in found.items() if not sides[0] for option in options]
    rest = f", and right with {right[0] if len(right) == 1 else 'the others'}" if right else ""
    return "; it ".join(wrong) + rest


def _among(some: tuple, others: tuple) -> str:
    """Names the shorter of two lists of cases."""
    if not others:
        return ""
    return f" at {listed(some)}" if len(some) <= len(others) else f", but not at {listed(others)}"


def entries(got, want, tolerance: float) -> str:
    """How many of the values are right, where the first wrong one stands, and whether it is too large or too small."""
    got, want = plain(got), plain(want)
    off = (got - want).abs() > tolerance * want.abs().max() + 1e-9
    place = off.nonzero()[0]
    size = f"too {'large' if got[tuple(place)] > want[tuple(place)] else 'small'}"
    if got.numel() == 1:
        return f"It is {size}."
    right = f"{int((~off).sum())} of {off.numel()} values are right."
    return f"{right} The first wrong one is at [{', '.join(map(str, place.tolist()))}], and {size}."


def listed(names, most: int = 4) -> str:
    return "; ".join(names[:most]) + "; …" * (len(names) > most)


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
            return f"Something other than {' and '.join(parts)}, each times a number, enters it."
        off = (mine - theirs).abs() > task.tolerance * theirs.abs().max()
        for part, *share in zip(parts, mine.tolist(), theirs.tolist(), off.tolist(), strict=True):
            shares.setdefault(part, []).append((case.where, *share))
    right = [part for part, found in shares.items() if not any(off for *_, off in found)]
    wrong = [_share(part, found) for part, found in shares.items() if part not in right]
    if not wrong:
        return ""
    rest = (
        f"; {'those' if len(right) > 1 else 'that'} of {' and '.join(right)} {'are' if len(right) > 1 else 'is'} right"
    )
    return (f"With {option} the" if option else "The") + f" {'; the '.join(wrong)}{rest if right else ''}."


def _fit(basis: Tensor, value: Tensor) -> tuple[Tensor, float]:
    """The factors of the columns of `basis` in `value`, and the part of it that is no such sum."""
    found = torch.linalg.lstsq(basis, value[:, None]).solution[:, 0]
    return found, ((basis @ found - value).norm() / (value.norm() + 1e-12)).item()


def _share(part: str, found: list[tuple[str, float, float, bool]]) -> str:
    """What is wrong with the factor of one part; found: (where, its value, the right value, whether they differ)."""
    kinds: dict[str, list[str]] = {}
    for at, got, want, off in found:
        kinds.setdefault(_kind(got, want) if off else "", []).append(at)
    kinds.pop("", None)
    if len(kinds) > 1:
        return f"factor of {part} " + ", and ".join(f"{kind} at {listed(at)}" for kind, at in kinds.items())
    ratios = [abs(math.log(abs(got / want))) for _, got, want, off in found if off and got and want]
    rising = {x < y for x, y in pairwise(ratios)} if len(ratios) > 2 else {}
    trend = f", the more so the nearer t is to {'0' if True in rising else 'T'}" if len(rising) == 1 else ""
    return f"factor of {part} {next(iter(kinds))}{trend}"


def _kind(got: float, want: float) -> str:
    if abs(want) < 1e-6:
        return "should be 0"
    if abs(got) < 1e-6:
        return "is missing"
    if got * want < 0:
        return "has the wrong sign"
    return "is too large" if abs(got) > abs(want) else "is too small"
