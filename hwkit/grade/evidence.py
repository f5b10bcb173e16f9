"""What deserves a second look: the same images, weights or words in two submissions, or what is not the student's own.

A flag is a sentence with its evidence and never a verdict: it costs no points, and only the instructor sees it.
"""

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from hwkit.files import DAMAGED
from hwkit.grade.examine import (
    TOKENS,
    WORDS,
    InMemory,
    alike,
    beside,
    compared,
    hashes,
    is_moved,
    layout,
    readable,
    shingles,
    strokes,
    thumbnails,
    tokens_of,
    unique,
    words_of,
)
from hwkit.grade.intake import Files, Refused, opened
from hwkit.grade.roster import Entry
from hwkit.grade.submission import Submission, Traces
from hwkit.language import LANGUAGES, catalogue, marked, say, sentences, speaking
from hwkit.measure.check import FLAT
from hwkit.measure.distances import spaced
from hwkit.measure.features import floors
from hwkit.measure.memorisation import grey
from hwkit.mnist.folder import read_png
from hwkit.mnist.sources import KIT, SAMPLE, read_source
from hwkit.runs import checkpoint
from hwkit.show import report

PROBES = 60  # images of each submission that are looked for in the others
SURE = 40  # runs of words of a text, at least, before it is compared
SHOWN = 6  # pairs of pictures
CANDIDATES = 30  # pairs whose pictures are read, at most
MANY = 60  # flags that come with pictures: as many as the page shows


# What flags are called; in grades.csv always by these words
KINDS = (
    marked("name"),
    marked("kit's weights"),
    marked("kit's images"),
    marked("training digits"),
    marked("test digits"),
    marked("weights"),
    marked("images"),
    marked("words"),
    marked("code"),
    marked("not tested"),
)


@dataclass(frozen=True)
class Flag:
    """Something to look at, in one submission (`ids` has one) or two."""

    kind: str  # of KINDS
    ids: tuple[str, ...]
    said: str
    pictures: tuple[str, ...] = ()  # pairs, PNG in base64
    passage: str = ""  # words that stand in both


@dataclass(frozen=True)
class Known:
    """Real digits that might have been handed in as generated ones."""

    name: str
    stack: np.ndarray  # uint8 (N, 28, 28)
    hashes: np.ndarray
    strokes: np.ndarray
    thumbnails: np.ndarray


def known_digits(source: str | None, train: tuple[str, np.ndarray]) -> list[Known]:
    """MNIST's training and test digits, as far as they are at hand."""
    splits = {"training digits": train[1]}
    for place in (source, SAMPLE):
        if "test digits" not in splits and place:
            try:
                splits["test digits"] = grey(read_source(place, "test").images)
            except (ValueError, OSError):
                continue
    return [known(name, stack) for name, stack in splits.items()]


def known(name: str, stack: np.ndarray) -> Known:
    """Grey images uint8 (N, 28, 28), with what they are recognised by."""
    kinds, found = (hashes, strokes, thumbnails), []
    for start in range(0, len(stack), 2_000):
        images = rgb(stack[start : start + 2_000])
        found.append([kind(images) for kind in kinds])
    return Known(name, stack, *(np.concatenate(each) for each in zip(*found, strict=True)))


def rgb(grey_images: np.ndarray) -> np.ndarray:
    """(…, 28, 28) → (…, 3, 28, 28)."""
    return np.repeat(grey_images[..., None, :, :], 3, axis=-3)


def flags(
    entries: Sequence[Entry],
    found: Mapping[str, Submission],
    traces: Mapping[str, Traces],
    digits: Sequence[Known],
    limits: Mapping[str, float],
) -> list[Flag]:
    """All flags of a class, those of one submission first."""
    pictures = Pictures(entries, found)
    result = [Flag("name", (entry.id,), doubt) for entry in entries for doubt in entry.doubts]
    for name, submission in found.items():
        result += [Flag(kind, (name,), said, shown) for said, shown, kind in submission.known]
    result += of_digits(found, traces, digits, limits, pictures)
    result += of_weights(found)
    result += [Flag("not tested", (name,), one.again.trouble) for name, one in found.items() if one.again.elsewhere]
    result += of_images(found, traces, limits, pictures)
    result += of_words(entries, traces, limits)
    return result


class Pictures:
    """Images of submissions, read again where two are compared or shown. The last archive stays open."""

    def __init__(self, entries: Sequence[Entry], found: Mapping[str, Submission]):
        self.paths, self.found = {entry.id: entry.path for entry in entries}, found
        self.last: tuple[str, Files] | None = None
        self.kept: dict[tuple[str, str], np.ndarray | None] = {}

    def keep(self, names: Sequence[str], traces: Mapping[str, Traces]) -> None:
        """Keeps the images by which submissions are looked for in all others: each archive is opened once for them."""
        for name in names:
            files = [traces[name].name(place) for place in spread(traces[name])]
            self.kept |= {(name, file): self(name, file) for file in files}

    def __call__(self, name: str, file: str) -> np.ndarray | None:
        """An image as uint8 (3, 28, 28); None where it cannot be read any more."""
        if (name, file) in self.kept:
            return self.kept[name, file]
        try:
            if self.last is None or self.last[0] != name:
                self.last = (name, opened(self.paths[name]))
            return read_png(InMemory(file, self.last[1].read(self.found[name].folder + file)))
        except (*DAMAGED, Refused, KeyError):
            return None


# Weights


def of_weights(found: Mapping[str, Submission]) -> list[Flag]:
    """The same weights under two names."""
    same: dict[str, list[str]] = {}
    for name, submission in found.items():
        if submission.weights.tensors_sha256:
            same.setdefault(submission.weights.tensors_sha256, []).append(name)
    said = "The weights are the same numbers (their hash begins with {sha})."
    groups = ((sha, names) for sha, names in same.items() if len(names) > 1)
    return [Flag("weights", tuple(names), say(said, sha=sha[:12])) for sha, names in groups]


# Images


def of_digits(found, traces: Mapping[str, Traces], digits: Sequence[Known], limits, pictures: Pictures) -> list[Flag]:
    """Real digits among the images, equal or nearly; those that the examination has shown are not repeated."""
    result = []
    for name, own in traces.items():
        shown_already = {kind for *_, kind in found[name].known}
        for real in (real for real in digits if real.name not in shown_already):
            kinds = [kind(name, own, real, pictures) for kind in (equal_digits, moved_digits)]
            if not any(same for same, *_ in kinds):
                kinds = [near_digits(name, own, real, pictures)]
                if kinds[0][1] < max(3, limits["images"] * min(PROBES, len(own.hashes))):
                    continue
            for same, count, said in (kind for kind in kinds if kind[0]):
                said = say(said, count=count, which=say(real.name))
                shown = ((pictures(name, own.name(i)), real.stack[j]) for i, j in same[:SHOWN])
                result.append(Flag(real.name, (name,), said, tuple(beside(a, b) for a, b in shown if a is not None)))
    return result


def equal_digits(name: str, own: Traces, real: Known, pictures: Pictures) -> tuple[list[tuple[int, int]], int, str]:
    """Some images that are real digits pixel by pixel, as indices of both; how many there are; and a sentence."""
    said = marked("{count:,} of its images are digits of MNIST, pixel by pixel ({which}).")
    return *in_both(own.hashes, real.hashes), said


def moved_digits(name: str, own: Traces, real: Known, pictures: Pictures) -> tuple[list[tuple[int, int]], int, str]:
    """The same of images that are real digits mirrored, turned by quarters or shifted, without equal ones."""
    same, count = in_both(own.strokes * ~np.isin(own.hashes, real.hashes), real.strokes)
    shots = [(pictures(name, own.name(i)), rgb(real.stack[j])) for i, j in same]
    same = [pair for pair, (a, b) in zip(same, shots, strict=True) if a is not None and is_moved(a, b)]
    return same, count, marked("{count:,} of its images are digits of MNIST, mirrored, turned or shifted ({which}).")


def near_digits(name: str, own: Traces, real: Known, pictures: Pictures) -> tuple[list[tuple[int, int]], int, str]:
    """The same of the probes that are nearly a real digit."""
    probes = spread(own)
    index, apart = nearest(own.thumbnails[probes], real.thumbnails)
    pairs = [(int(probes[i]), int(index[i])) for i in np.argsort(apart)[:CANDIDATES] if apart[i] < close_by()]
    shots = [(pictures(name, own.name(i)), real.stack[j]) for i, j in pairs]
    same = [pair for pair, (a, b) in zip(pairs, shots, strict=True) if a is not None and is_near(a, b)]
    return same, len(same), marked("{count:,} of its images are nearly digits of MNIST ({which}).")


def in_both(one: np.ndarray, other: np.ndarray) -> tuple[list[tuple[int, int]], int]:
    """Some places at which two arrays have a hash in common, other than 0; and how many of the first have one."""
    same = np.flatnonzero(np.isin(one, other) & (one > 0))
    return [(int(i), int(np.flatnonzero(other == one[i])[0])) for i in same[:SHOWN]], len(same)


def of_images(found: Mapping[str, Submission], traces: Mapping[str, Traces], limits, pictures: Pictures) -> list[Flag]:
    """The same or nearly the same images in two submissions."""
    names = [name for name, own in traces.items() if len(own.hashes)]
    result = equal_images(names, traces, pictures)
    result += moved_images(names, traces, pictures)
    done = {flag.ids for flag in result}
    pictures.keep(names, traces)
    for a, b, places in near_pairs(names, traces):  # all a for one b, so that its archive stays open
        if (a, b) in done or (b, a) in done:
            continue
        same_seed = found[a].seed and found[a].seed == found[b].seed
        judged = alike if same_seed else is_near
        kept = judged_pairs(a, b, places[:CANDIDATES], traces, pictures, judged)
        probes = min(PROBES, len(traces[a].hashes))
        if len(kept) < max(3, limits["images"] * probes):
            continue
        said = "{count} of {probes} images of {a} that were looked for are nearly images of {b}."
        said = say(said, count=len(kept), probes=probes, a=a, b=b)
        if same_seed:
            why = "Both name {seed}: networks that were trained well make like images from the same noise."
            said = sentences(said, say(why, seed=found[a].seed))
        result.append(Flag("images", (a, b), said, shown_pairs(a, b, kept, traces, pictures)))
        done.add((a, b))
    return result


def equal_images(names: Sequence[str], traces: Mapping[str, Traces], pictures: Pictures) -> list[Flag]:
    """Images of two submissions that are equal pixel by pixel."""
    result = []
    for a, b in equal_pairs({name: traces[name].hashes for name in names}):
        same, count = in_both(traces[a].hashes, traces[b].hashes)
        said = say("{count:,} images of {a} are images of {b}, pixel by pixel.", count=count, a=a, b=b)
        seen = shown_pairs(a, b, same, traces, pictures) if len(result) < MANY else ()
        result.append(Flag("images", (a, b), said, seen))
    return result


def moved_images(names: Sequence[str], traces: Mapping[str, Traces], pictures: Pictures) -> list[Flag]:
    """Images of two submissions that are equal but for mirroring, turning by quarters and shifting."""
    own, result = {name: traces[name].strokes * (traces[name].hashes > 0) for name in names}, []
    for a, b in equal_pairs(own):
        equal = np.intersect1d(traces[a].hashes, traces[b].hashes)  # of which is told already
        one, other = (own[name] * ~np.isin(traces[name].hashes, equal) for name in (a, b))
        same, count = in_both(one, other)
        if same := judged_pairs(a, b, same, traces, pictures, is_moved):
            said = say("{count:,} images of {a} are images of {b}, mirrored, turned or shifted.", count=count, a=a, b=b)
            result.append(Flag("images", (a, b), said, shown_pairs(a, b, same, traces, pictures)))
    return result


def equal_pairs(of_names: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """The pairs of submissions that have a hash in common other than 0, uint64 (N,) of each."""
    names = list(of_names)
    if not names:
        return []
    all_hashes = np.concatenate([of_names[name] for name in names])
    owner = np.repeat(np.arange(len(names)), [len(of_names[name]) for name in names])
    order = np.lexsort((owner, all_hashes))
    all_hashes, owner = all_hashes[order], owner[order]
    found = set()
    for start, end in runs_of(all_hashes):
        if all_hashes[start] and owner[start] != owner[end - 1]:
            found |= set(combinations(dict.fromkeys(owner[start:end].tolist()), 2))
    return sorted((names[a], names[b]) for a, b in found)


def runs_of(values: np.ndarray) -> list[tuple[int, int]]:
    """(start, end) of each run of two or more equal values in a sorted array."""
    edges = np.flatnonzero(np.diff(values, prepend=values[:1] ^ np.uint64(1), append=values[-1:] ^ np.uint64(1)))
    return [(int(a), int(b)) for a, b in pairwise(edges) if b - a > 1]


def near_pairs(names: Sequence[str], traces: Mapping[str, Traces]):
    """(a, b, places): probes of a whose thumbnail has a near one in b, as indices of both, the nearest first."""
    if not names:
        return
    probes = {name: spread(traces[name]) for name in names}
    stacked = np.concatenate([traces[name].thumbnails[probes[name]] for name in names])
    owner = np.repeat(np.arange(len(names)), [len(probes[name]) for name in names])
    starts = np.cumsum([0, *(len(probes[name]) for name in names)])
    for b in names:
        index, apart = nearest(stacked, traces[b].thumbnails)
        for number, a in enumerate(names):
            if a == b:
                continue
            mine = np.flatnonzero((owner == number) & (apart < close_by()))
            places = [(int(probes[a][i - starts[number]]), int(index[i])) for i in mine[np.argsort(apart[mine])]]
            if len(places) >= 3:
                yield a, b, places


def nearest(rows: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each thumbnail of (N, 49) the nearest in (M, 49): its index, and the distance in levels (root of the sum)."""
    if not (len(rows) and len(others)):
        return np.zeros(len(rows), int), np.full(len(rows), np.inf)
    y = others.astype(np.float32)
    half, index, apart = (y**2).sum(axis=1) / 2, [], []
    for start in range(0, len(rows), 250):
        x = rows[start : start + 250].astype(np.float32)
        best = (x @ y.T - half).argmax(axis=1)
        index.append(best)
        apart.append(np.sqrt(((x - y[best]) ** 2).sum(axis=1)))
    return np.concatenate(index), np.concatenate(apart)


def spread(own: Traces) -> np.ndarray:
    """The places of at most PROBES images, evenly spaced, blank ones left out."""
    places = np.flatnonzero(own.hashes)
    return spaced(places, PROBES) if len(places) else places


def close_by() -> float:
    """How near two thumbnails are whose images are near (`is_near`): a mean of 16 pixels moves by a quarter at most."""
    return 255 * near_copy() / 4 + 4  # and as thumbnails are rounded


def near_copy() -> float:
    """The distance to which only 1 of 1,000 unseen real digits comes to one of MNIST's 60,000."""
    return min(values["near_copy"] for values in floors()["nearest"].values())


def is_near(image: np.ndarray, other: np.ndarray) -> bool:
    """Whether two images, uint8 (3, 28, 28) or (28, 28), lie as near as that: Euclid over 784 pixels in [0, 1]."""
    a, b = (np.broadcast_to(x, (3, 28, 28)).mean(axis=0) / 255 for x in (image, other))
    return bool(np.sqrt(((a - b) ** 2).sum()) < near_copy() and np.ptp(image) >= FLAT)


def judged_pairs(a: str, b: str, places, traces, pictures: Pictures, judged: Callable) -> list[tuple[int, int]]:
    """Of pairs of images those that `judged` takes for the same."""
    ones = [pictures(a, traces[a].name(i)) for i, _ in places]  # one archive after the other
    others = [pictures(b, traces[b].name(j)) for _, j in places]
    pairs = zip(places, ones, others, strict=True)
    return [place for place, x, y in pairs if x is not None and y is not None and judged(x, y)]


def shown_pairs(a: str, b: str, places, traces, pictures: Pictures) -> tuple[str, ...]:
    ones = [pictures(a, traces[a].name(i)) for i, _ in places[:SHOWN]]
    others = [pictures(b, traces[b].name(j)) for _, j in places[:SHOWN]]
    pairs = zip(ones, others, strict=True)
    return tuple(beside(one, other) for one, other in pairs if one is not None and other is not None)


# Words


def of_words(entries: Sequence[Entry], traces: Mapping[str, Traces], limits) -> list[Flag]:
    """Reports or code that share runs of words which few others have: what everybody has was given to all."""
    paths, result = {entry.id: entry.path for entry in entries}, []
    said = {
        "words": marked(
            "{share:.0%} of the runs of {size} words in the report, without those that many have, are the same."
        ),
        "code": marked(
            "{share:.0%} of the runs of {size} signs in the code, without those that many have, are the same."
        ),
    }
    for kind, size in (("words", WORDS), ("code", TOKENS)):
        own = rare({name: getattr(trace, kind) for name, trace in traces.items()}, given(kind))
        for a, b in combinations(sorted(name for name, values in own.items() if len(values) >= SURE), 2):
            common = np.intersect1d(own[a], own[b], assume_unique=True)
            share = len(common) / min(len(own[a]), len(own[b]))
            if share >= limits[kind]:
                shown = passage(paths[a], kind, common)
                result.append(Flag(kind, (a, b), say(said[kind], share=share, size=size), passage=shown))
    return result


def rare(sets: Mapping[str, np.ndarray], given: np.ndarray) -> dict[str, np.ndarray]:
    """Of each set what at most a quarter of the class has, or two, and was not given to all."""
    holders = [values for values in sets.values() if len(values)]
    if not holders:
        return dict(sets)
    values, counts = np.unique(np.concatenate(holders), return_counts=True)
    few = np.setdiff1d(values[counts <= max(2, len(holders) // 4)], given, assume_unique=True)
    return {name: np.intersect1d(own, few, assume_unique=True) for name, own in sets.items()}


@cache
def given(kind: str) -> np.ndarray:
    """The hashes of the runs of words, or of signs of code, that the kit itself has: its pages, notebooks and messages.

    Who hands them in has copied from nobody, also where few others do, as in the other language. So read as they are
    of a submission, code in one piece, and of the page that is handed in as a page.
    """
    pages = [*KIT.rglob("*.py"), *KIT.rglob("*.html"), *KIT.parent.glob("*.md")]
    pages += [path for end in ("md", "ipynb") for path in (KIT.parent / "notebooks").rglob(f"*.{end}")]
    if kind == "code":
        texts = [readable(path.name, path.read_bytes()) for path in pages if path.suffix in (".py", ".ipynb")]
        return unique([value for text in texts for value in shingles(tokens_of(text), TOKENS)])
    texts = [text for path in pages for text in words_in(path)]
    said = [text for text in catalogue("zh_TW")._catalog.values() if isinstance(text, str)]  # gettext's table
    texts += [re.sub(r"{[^{}]*}", " ", text) for text in said]
    texts += [readable("report.html", page) for page in report_pages()]
    return unique([value for text in texts for value in shingles(words_of(text), WORDS)])


def words_in(path: Path) -> list[str]:
    """The text of a file of the kit; of a notebook its cells, with and without code."""
    text = path.read_bytes().decode("utf-8", "replace")
    if path.suffix != ".ipynb":
        return [text]
    try:
        return ["".join(cell["source"]) for cell in json.loads(text)["cells"]]
    except (ValueError, KeyError, TypeError):  # somebody's own file, half written
        return []


def report_pages() -> list[bytes]:
    """The page that is handed in, of the kit's weights and with nothing of a student's, in each language."""
    kits, pages = checkpoint.PRETRAINED, []
    for name in LANGUAGES if (kits / checkpoint.EXPORTED).is_file() else ():
        with speaking(name), tempfile.TemporaryDirectory() as folder:
            parts = [
                report.Part("Model description", (), report.model_rows(kits)),
                report.Part("Implementation details", (), report.training_rows(kits), log=report.log_lines(kits)),
                *(report.Part(heading) for heading in ("Result analysis", "Conclusion")),
            ]
            pages.append(report.write_html(Path(folder) / "report.html", report.TITLE, "", parts).read_bytes())
    return pages


def passage(path: Path, kind: str, common: np.ndarray) -> str:
    """The longest passage of a submission all of whose runs of words are among `common`; at most sixty words of it."""
    split, size = (words_of, WORDS) if kind == "words" else (tokens_of, TOKENS)
    wanted, best, longest = set(common.tolist()), [], 0
    try:
        files = opened(path)
        plan = layout(files)
        for text in compared(files, plan.texts if kind == "words" else plan.code)[0]:
            words = split(text)
            first = None  # word of the passage that goes on
            for i, value in enumerate(shingles(words, size)):
                first = None if value not in wanted else i if first is None else first
                if first is not None and i + size - first > longest:
                    longest = i + size - first
                    best = words[first : first + min(longest, 60)]
    except (*DAMAGED, Refused):
        return ""
    return " ".join(best)
