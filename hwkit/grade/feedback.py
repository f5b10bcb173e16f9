"""What comes out: the marks as CSV, a page for each student, one for the instructor, and Gradescope's results.json.

A student's page has nothing about any other student but what the class has on the whole, and no flags.
"""

import csv
import html
import io
import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from hwkit.files import write_json, write_text
from hwkit.grade.evidence import MANY, Flag
from hwkit.grade.roster import Entry
from hwkit.grade.rubric import LABELS, PARTS, Grade, Mark, Rubric
from hwkit.grade.submission import Submission
from hwkit.language import html_language, say

BINS = 10  # of the distribution
MEASURES = ("value", "error", "kid", "kid_error", "precision", "recall")


@dataclass(frozen=True)
class Result:
    """A student's line: who, what was found, what it is worth."""

    entry: Entry
    found: Submission
    grade: Grade

    @property
    def id(self) -> str:
        return self.entry.id


@dataclass(frozen=True)
class Pages:
    """Where things were written."""

    csv: Path
    overview: Path
    folder: Path


@dataclass(frozen=True)
class Place:
    """A line of the leaderboard."""

    rank: int
    result: Result
    value: float
    error: float


def write(results: Sequence[Result], flags: Sequence[Flag], protocol: str, rules: Rubric, out: Path) -> Pages:
    """Writes everything of a class into `out`."""
    folder = out / "feedback"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(out / "grades.csv", table(results, flags, protocol))
    facts = the_class(results, protocol)
    places = leaderboard(results, protocol)
    remove_others(folder, {result.id for result in results})  # first: some disks take `Amy` and `amy` for one name
    for result in results:
        page = render("feedback.html", result=result, facts=facts, protocol=protocol, rules=rules)
        write_text(folder / f"{result.id}.html", page)
        write_json(folder / f"{result.id}.results.json", gradescope(result, protocol))
    shown = {"results": results, "flags": flags[:MANY], "more": max(0, len(flags) - MANY), "places": places}
    shown["parts"] = [part for part in PARTS if any(result.grade[part] for result in results)]
    shown["untried"] = Counter(result.found.untried for result in results if result.found.untried)
    shown["names"] = {result.id: result.entry.name for result in results}
    shown["flagged"] = {name for flag in flags for name in flag.ids}
    shown |= {"facts": facts, "protocol": protocol, "chart": distribution(results), "scale": scale(places)}
    write_text(out / "class.html", render("class.html", **shown))
    return Pages(out / "grades.csv", out / "class.html", folder)


def remove_others(folder: Path, ids: set[str]) -> None:
    """Pages of an earlier grading whose submission has another id now, or is gone: nobody should send them."""
    for old in folder.glob("*.results.json"):
        name = old.name.removesuffix(".results.json")
        if name not in ids:
            (folder / f"{name}.html").unlink(missing_ok=True)
            old.unlink()


# The marks


def table(results: Sequence[Result], flags: Sequence[Flag], protocol: str) -> str:
    """grades.csv: a line for each student; every cell is safe to be opened in a spreadsheet."""
    asked = [part for part in PARTS if any(result.grade[part] for result in results)]
    names = ["id", "student", "name", "submission", "late", "status", "total", "most", *asked, "penalty", "image_count"]
    protocols = sorted({name for result in results for name in result.found.numbers} | {protocol})
    names += [f"{name}_{what}" for name in protocols for what in MEASURES]
    names += ["near_copies", "again_equal", "again_near", "again_other", "weights_sha256", "made_by", "epochs"]
    names += ["flags", "problems", "seconds"]
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(names)
    for result in results:
        found, grade, entry = result.found, result.grade, result.entry
        row = [entry.id, entry.student or entry.id, entry.name, entry.file, "late" if entry.late else ""]
        row += [f"failed: {found.failed}" if found.failed else "graded", number(grade.total), number(grade.most)]
        row += [points(grade[part]) for part in asked]
        row += [number(sum(cost.points for cost in grade.penalties)), found.images]
        for name in protocols:
            row += [number(found.numbers.get(name, {}).get(what), 5) for what in MEASURES]
        again = found.again
        row += [number(found.near_copies, 4)]
        row += [again.equal, again.near, again.other] if again.numbers else ["", "", ""]
        row += [found.weights.sha256[:16], found.seed, found.history.epochs]
        row += ["; ".join(dict.fromkeys(flag_words(flag, entry.id) for flag in flags if entry.id in flag.ids))]
        row += [" ".join(found.problems), number(found.seconds)]
        rows.writerow(map(safe_cell, row))
    return "\ufeff" + buffer.getvalue()  # with the mark by which Excel knows UTF-8


def points(mark: Mark | None) -> str:
    """A part's points in a cell: empty where the part was not asked for."""
    if mark is None:
        return ""
    return number(mark.points) if mark.measured else say("not measured")


def flag_words(flag: Flag, name: str) -> str:
    """A flag in a few words, for one of those that it is about."""
    others = [other for other in flag.ids if other != name]
    return f"{flag.kind} like {', '.join(others[:5])}" if others else flag.kind


def number(value: float | None, digits: int = 2) -> str:
    """Without zeros at the end; nothing for None."""
    return "" if value is None else f"{round(value, digits) + 0.0:.{digits}f}".rstrip("0").rstrip(".")  # no -0


def safe_cell(value) -> str:
    """One line, and none that a spreadsheet takes for a formula."""
    text = " ".join(str(value).split())
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not is_number(text) else text


def is_number(text: str) -> bool:
    try:
        return text.isascii() and float(text) is not None
    except ValueError:
        return False


def gradescope(result: Result, protocol: str) -> dict:
    """The results.json of Gradescope's autograder, as its documentation has it; all text is plain."""
    found, grade = result.found, result.grade
    tests = []
    for mark in grade.marks:
        lines = [f"−{number(c.points)}: {c.why}" + (f"\n  → {c.mend}" if c.mend else "") for c in mark.costs]
        test = {"name": title(mark.part), "score": mark.points, "max_score": mark.most, "output_format": "text"}
        tests.append(test | {"output": "\n".join([*lines, *mark.notes]) or say("Everything is as it should be.")})
    said = [found.failed] * bool(found.failed) + [c.why for c in grade.penalties] + list(found.problems)
    content = {"score": grade.total, "tests": tests, "output": "\n".join(said), "output_format": "text"}
    content |= {"visibility": "visible", "execution_time": round(found.seconds)}
    if protocol in found.numbers:
        value = round(found.numbers[protocol]["value"], 3)
        content["leaderboard"] = [{"name": LABELS[protocol], "value": value, "order": "asc"}]
    return content


# The class


@dataclass(frozen=True)
class Class:
    """The class on the whole: of each measure the quartiles, and of the points."""

    count: int
    graded: int
    points: tuple[float, float, float] | None  # lower quartile, median, upper quartile
    measures: Mapping[str, tuple[float, float, float]]


def the_class(results: Sequence[Result], protocol: str) -> Class:
    """Of whoever handed in something that could be examined."""
    good = [result for result in results if not result.found.failed]
    numbers = [r.found.numbers[protocol] for r in good if protocol in r.found.numbers]
    measures = {name: quartiles([n[name] for n in numbers if name in n]) for name in MEASURES}
    measures = {name: values for name, values in measures.items() if values}
    return Class(len(results), len(good), quartiles([r.grade.total for r in good]), measures)


def quartiles(values: Sequence[float]) -> tuple[float, float, float] | None:
    """None of fewer than three: one could be read off the others."""
    return tuple(statistics.quantiles(values, n=4, method="inclusive")) if len(values) >= 3 else None


def leaderboard(results: Sequence[Result], protocol: str) -> list[Place]:
    """By FID, the lowest first. Who lies within one error of the first of a rank shares it.

    The error is that of the difference of two independent values, √(e² + e²).
    """
    numbered = [(r.found.numbers[protocol], r) for r in results if protocol in r.found.numbers]
    ordered = sorted(numbered, key=lambda pair: (pair[0]["value"], pair[1].id))
    places: list[Place] = []
    head = 0
    for place, (numbers, result) in enumerate(ordered):
        first = places[head] if places else None
        if first and numbers["value"] - first.value > (numbers["error"] ** 2 + first.error**2) ** 0.5:
            head = place
        rank = places[head].rank if first and head < place else place + 1
        places.append(Place(rank, result, numbers["value"], numbers["error"]))
    return places


def distribution(results: Sequence[Result]) -> str:
    """How many have how many points, as an SVG."""
    most = max((result.grade.most for result in results), default=0) or 1
    totals = [result.grade.total for result in results]
    counts = [0] * BINS
    for total in totals:
        counts[min(BINS - 1, int(BINS * total / most))] += 1
    high, parts = max(counts) or 1, []
    for i, count in enumerate(counts):
        tall = 110 * count / high
        parts.append(f'<rect x="{32 * i + 4}" y="{130 - tall:.1f}" width="26" height="{tall:.1f}" rx="2"/>')
        parts.append(f'<text x="{32 * i + 17}" y="{124 - tall:.1f}" text-anchor="middle">{count or ""}</text>')
    for i in range(0, BINS + 1, 2):
        parts.append(f'<text class="axis" x="{32 * i + 1}" y="148" text-anchor="middle">{most * i / BINS:g}</text>')
    label = say("How many submissions have how many points: {counts}", counts=", ".join(map(str, counts)))
    view = 'viewBox="-14 0 348 154"'
    return f'<svg class="bars" role="img" aria-label="{label}" {view}>{"".join(parts)}</svg>'


@dataclass(frozen=True)
class Scale:
    """Where a value stands on the axis of the leaderboard, which is logarithmic."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """0 to 100."""
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def bar(self, place: Place) -> str:
        """A point with its error."""
        low, middle, high = (self.at(place.value + shift * place.error) for shift in (-1, 0, 1))
        line = f'<line x1="{low}" x2="{high}" y1="6" y2="6"/>'
        return (
            f'<svg class="error" viewBox="-4 0 108 12" preserveAspectRatio="none" aria-hidden="true">{line}'
            f'<rect x="{middle - 0.8:.2f}" y="2" width="1.6" height="8"/></svg>'
        )


def scale(places: Sequence[Place]) -> Scale:
    values = [place.value + shift * place.error for place in places for shift in (-1, 1)]
    low = max(0.01, min(values, default=0.1))
    return Scale(low / 1.1, max(low * 2, max(values, default=1.0)) * 1.1)


# Pages


def title(part: str, short: bool = False) -> str:
    """What a part is called on the pages, and short at the head of a column."""
    heads = {"quality": say("Quality"), "grids": say("Figures"), "weights": say("Weights"), "history": say("Log")}
    if short and part in heads:
        return heads[part]
    return {
        "images": say("Images"),
        "quality": say("Quality of the images"),
        "grids": say("Both figures of the diffusion"),
        "report": say("Report"),
        "weights": say("Weights, and images made again from them"),
        "history": say("Log of the training"),
        "functions": say("Functions"),
    }[part]


def measure_rows(result: Result, facts: Class, protocol: str) -> list[tuple[str, str, str, str]]:
    """(what, yours, the class's, what real digits have) for the page of a student."""
    rows = []
    for name, numbers in sorted(result.found.numbers.items()):
        known = facts.measures if name == protocol else {}
        floor = f"{numbers['floor']:.2f}" if "floor" in numbers else "–"
        rows.append((LABELS[name], f"{numbers['value']:.2f} ± {numbers['error']:.2f}", middle(known, "value"), floor))
        if "kid" in numbers:
            kid = f"{1000 * numbers['kid']:.2f} ± {1000 * numbers['kid_error']:.2f}".replace("-", "−")
            rows.append((f"{LABELS[name]}: KID × 1000", kid, middle(known, "kid", 1000), "0"))
            for what, label in (("precision", say("Precision")), ("recall", say("Recall"))):
                real = f"{numbers[f'floor_{what}']:.2f}" if f"floor_{what}" in numbers else "–"
                label = f"{LABELS[name]}: {label}" if len(result.found.numbers) > 1 else label
                rows.append((label, f"{numbers[what]:.2f}", middle(known, what), real))
    if result.found.near_copies is not None:
        share = f"{100 * result.found.near_copies:.2f} %"
        rows.append((say("Near-copies of training images"), share, "–", "0.1 %"))
    return rows


def middle(measures: Mapping, name: str, factor: float = 1) -> str:
    """Median and quartiles in words."""
    if name not in measures:
        return "–"
    low, median, high = (factor * value for value in measures[name])
    return f"{median:.2f} ({low:.2f} – {high:.2f})".replace("-", "−")


def code(text: str) -> str:
    """Escaped, and what stands between two backticks as code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(text))


def language(text: str) -> str:
    """What `lang` is to say of a text: Chinese letters need other fonts."""
    return "zh-Hant" if any("\u3400" <= letter <= "\u9fff" for letter in text) else "en"


def render(name: str, **content) -> str:
    """A page from its template beside this module. All text is escaped."""
    return templates().get_template(name).render(**content)


@cache
def templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, loader=loader, trim_blocks=True)
    pages.globals |= {
        "html_language": html_language,
        "say": say,
        "title": title,
        "number": number,
        "points": points,
        "measure_rows": measure_rows,
        "LABELS": LABELS,
    }
    pages.filters |= {"lang": language, "code": code}
    return pages
