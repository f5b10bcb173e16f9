"""The rubric: what each part is worth, and a submission's points, with what cost some and how to mend it.

Every sentence that a student reads is whole and is said by `say(…)`, so that it can be translated.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from hwkit.grade.intake import shown
from hwkit.grade.submission import Submission
from hwkit.language import say, sentences

DEFAULT = Path(__file__).with_suffix(".toml")
PARTS = ("images", "quality", "grids", "report", "weights", "history", "functions")
LABELS = {"digits": "digit-FID", "inception": "FID"}


@dataclass(frozen=True)
class Cost:
    """Points that were lost, why, and what would mend it."""

    points: float
    why: str
    mend: str = ""


@dataclass(frozen=True)
class Mark:
    """One part's points."""

    part: str
    points: float
    most: float
    costs: tuple[Cost, ...] = ()
    notes: tuple[str, ...] = ()  # what cost nothing, but should be known

    @property
    def measured(self) -> bool:
        """False of a part that this machine could not find out: it is left out of the points, so the most is 0."""
        return self.most > 0


@dataclass(frozen=True)
class Grade:
    """All points of a submission."""

    marks: tuple[Mark, ...]
    penalties: tuple[Cost, ...] = ()

    @property
    def total(self) -> float:
        return round(max(0.0, sum(mark.points for mark in self.marks) - sum(cost.points for cost in self.penalties)), 2)

    @property
    def most(self) -> float:
        return sum(mark.most for mark in self.marks)

    def __getitem__(self, part: str) -> Mark | None:
        return next((mark for mark in self.marks if mark.part == part), None)


@dataclass(frozen=True)
class Rubric:
    """The tables of rubric.toml, all of whose numbers may be changed."""

    measure: Mapping[str, int]
    points: Mapping[str, float]
    check: Mapping[str, float]
    bands: Mapping[str, list]
    history: Mapping[str, float]
    unknown: Mapping[str, float]
    penalties: Mapping[str, float]
    flags: Mapping[str, float]

    def grade(self, found: Submission, late: bool = False, protocol: str = "digits") -> Grade:
        """The points for what was found."""
        judges = {
            "images": self._images,
            "quality": lambda f: self._quality(f, protocol),
            "grids": self._grids,
            "report": self._report,
            "weights": self._weights,
            "history": self._history,
            "functions": self._functions,
        }
        asked = [p for p in PARTS if self.points[p] > 0 and (p != "functions" or found.tasks is not None)]
        marks = tuple(self._mark(part, *judges[part](found)) for part in asked)
        if found.untried and self.points["functions"] > 0:
            marks += (Mark("functions", 0, 0, notes=(found.untried, say("This part is left out of the points."))),)
        penalties = ()
        if late and self.penalties["late"] and not found.failed:
            penalties = (Cost(self.penalties["late"], say("It was handed in late.")),)
        return Grade(marks, penalties)

    def _mark(self, part: str, costs: list[Cost], notes: tuple[str, ...] = ()) -> Mark:
        most = self.points[part]
        return Mark(part, round(max(0.0, most - sum(cost.points for cost in costs)), 2), most, tuple(costs), notes)

    def _images(self, found: Submission):
        if not found.rows:
            return [Cost(self.points["images"], found.failed or say("The images could not be looked at."))], ()
        costs = []
        for row in found.rows:
            if row.passed is None:
                said = say("“{row}” could not be looked at before the rest is mended.", row=row.what)
                costs.append(Cost(self.check["not looked at"], said))
            elif not row.passed:
                costs.append(Cost(self.check.get(row.key, self.points["images"]), f"{row.what}: {row.found}", row.mend))
        return costs, ()

    def _quality(self, found: Submission, protocol: str):
        most, label = self.points["quality"], LABELS[protocol]
        if protocol not in found.numbers:
            few = "{label} could not be measured: there are too few images that can be read and are not blank."
            return [Cost(most, say(few, label=label))], ()
        value, error = (found.numbers[protocol][key] for key in ("value", "error"))
        share = next((share for limit, share in self.bands[protocol] if value <= limit), 0.0)
        better = [limit for limit, more in self.bands[protocol] if more > share]
        if share >= 1:
            return [], ()
        why = say("{label} is {value:.2f} ± {error:.2f}.", label=label, value=value, error=error)
        way = "The next band begins at {limit:g}: train for longer, or sample with more steps or fresh noise."
        return [Cost(most * (1 - share), why, say(way, limit=max(better)) if better else "")], ()

    def _grids(self, found: Submission):
        mend = say("Draw it by `python -m hwkit figures`, and hand it in as a PNG.")
        faults = [part.fault for part in found.grids.values() if part.fault] if found.grids else [found.failed] * 2
        return [Cost(self.points["grids"] / 2, why or say("There is no such figure."), mend) for why in faults], ()

    def _report(self, found: Submission):
        why = found.report.fault or ("" if found.report.name else found.failed or say("There is no report."))
        return [Cost(self.points["report"], why, say("Notebook 6 writes it."))] * bool(why), ()

    def _weights(self, found: Submission):
        half, costs, notes = self.points["weights"] / 2, [], ()
        if found.weights.trouble or not found.weights.file:
            why = found.weights.trouble or say("No weights were handed in.")
            mend = say("Hand in ema_latest.pt, or what `python -m hwkit export` writes.")
            return [Cost(2 * half, why, mend)], ()
        share = found.again.share
        if share is None:
            share = self.unknown["again"] if found.again.elsewhere else 0.0
            notes = (found.again.trouble,) if share == 1 else ()
        if share < 1:
            why = found.again.trouble
            if found.again.numbers:
                said = "{other} of {all} images that were made again from the weights are not those handed in."
                why = say(said, other=found.again.other, all=len(found.again.numbers))
            mend = say("Hand in the weights that made the images, and run.json or generate.json, which names the seed.")
            costs.append(Cost(half * (1 - share), why, mend))
        return costs, notes

    def _history(self, found: Submission):
        most = self.points["history"]
        if not found.history.epochs:
            mend = say("Hand in history.jsonl, or run.json, in which it stands.")
            why = sentences(say("There is no log of the training."), *found.history.faults)
            return [Cost(most, why, mend)], ()
        return [Cost(self.history["fault"], fault) for fault in found.history.faults], ()

    def _functions(self, found: Submission):
        tasks = found.tasks or ()
        if not tasks:
            why = found.failed or say("No function of a task was found in the notebooks.")
            return [Cost(self.points["functions"], why)], ()
        each = self.points["functions"] / len(tasks)
        failed = [task for task in tasks if not task.passed]
        return [Cost(each, say("Task {number}: {text}", number=t.number, text=t.text)) for t in failed], ()


def read_rubric(path: Path | None = None) -> Rubric:
    """The rubric of a file, in which what is missing is as in the kit's own. ValueError where a value cannot work."""
    with open(DEFAULT, "rb") as file:
        tables = tomllib.load(file)
    if path is None:
        return Rubric(**tables)
    try:
        own = tomllib.loads(path.read_bytes().decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML ({error}): mend that line, or begin with a copy of {DEFAULT}.") from error
    for table, values in own.items():
        if table not in tables or not isinstance(values, dict):
            raise ValueError(f"{path}: there is no [{shown(table)}], but {', '.join(f'[{t}]' for t in tables)}.")
        for name, value in values.items():
            if name not in tables[table]:
                raise ValueError(f"{path}, [{table}]: there is no {shown(name)!r}, but {', '.join(tables[table])}.")
            check_value(f"{path}, [{table}] {name}", table, value)
            tables[table][name] = value
    least = {"images": 1, "again": 0, "kit_seeds": 0}
    for name, value in tables["measure"].items():
        if type(value) is not int or not least[name] <= value <= 99_999:
            raise ValueError(f"{path}, [measure] {name} is {value}, but must be a whole number up to 99,999.")
    return Rubric(**tables)


def check_value(where: str, table: str, value) -> None:
    """ValueError for what is no number ≥ 0, or no list of bands."""
    numbers = [value]
    if table == "bands":
        pairs = isinstance(value, list) and all(isinstance(band, list) and len(band) == 2 for band in value)
        if not pairs:
            raise ValueError(f"{where} is {value}, but must be pairs such as [[5.0, 1.0], [30.0, 0.8]].")
        numbers = [number for band in value for number in band]
    if not all(type(number) in (int, float) and 0 <= number < 1e9 for number in numbers):
        raise ValueError(f"{where} is {value}, but must be a number, 0 or more.")
    if table == "bands" and [band[0] for band in value] != sorted(band[0] for band in value):
        raise ValueError(f"{where}: the bands must rise, the best first.")
    if (table == "unknown" or table == "bands") and not all(
        n <= 1 for n in (numbers if table == "unknown" else numbers[1::2])
    ):
        raise ValueError(f"{where}: shares of the points lie between 0 and 1.")
