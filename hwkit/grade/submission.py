"""What was found out about one submission: facts only, as JSON and arrays. Points and flags are made from them."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from hwkit.files import load_npz, write_npz
from hwkit.grade.provenance import Again, History, Weights
from hwkit.measure.check import Row
from hwkit.measure.score import Record


@dataclass(frozen=True)
class Part:
    """A file that is asked for: a figure or the report."""

    name: str = ""  # of the file; "" where there is none
    fault: str = ""  # what is wrong with it; "" where nothing is


@dataclass(frozen=True)
class Task:
    """Whether one of the student's functions passed, and what was said of it."""

    number: str
    passed: bool
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Submission(Record):
    """One submission, examined."""

    id: str
    key: str = ""  # a hash of the submission and of how it was examined: while it stays, so do these facts
    fingerprint: str = ""  # of the submission alone
    failed: str = ""  # why nothing could be examined; "" where something was
    problems: tuple[str, ...] = ()  # of single files and of single measurements
    seconds: float = 0.0
    rows: tuple[Row, ...] = ()  # the check of the images
    images: int = 0  # that decode, 28×28
    folder: str = ""  # where in the submission the images are
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)  # by protocol: value, error, kid, … , floor
    near_copies: float | None = None  # the share that comes as near to training images as 0.1 % of real digits do
    classes: tuple[int, ...] = ()
    grids: dict[str, Part] = field(default_factory=dict)  # ddpm, ddim
    report: Part = Part()
    weights: Weights = Weights()
    again: Again = Again()
    seed: str = ""  # sampler and seed, as the submission says
    history: History = History()
    tasks: tuple[Task, ...] | None = None  # None where the functions were not asked for, or not tried
    untried: str = ""  # why this machine could not try the functions, which were asked for; "" where it could
    known: tuple[tuple[str, tuple[str, ...], str], ...] = ()  # (what was found, pictures as PNG in base64, kind)
    sheet: str = ""  # some of the images, a PNG in base64

    @classmethod
    def from_json(cls, content: dict) -> "Submission":
        """The facts that `to_json` gave. Other content raises what `read` puts in words."""
        made = {f.name: content[f.name] for f in fields(cls) if f.name in content}
        made["rows"] = tuple(Row(*row) for row in made["rows"])
        made["grids"] = {name: Part(**part) for name, part in made["grids"].items()}
        made |= {"report": Part(**made["report"]), "weights": Weights(**made["weights"])}
        made["again"] = Again(**{**made["again"], "numbers": tuple(made["again"]["numbers"])})
        history = made["history"]
        made["history"] = History(history["epochs"], tuple(history["faults"]))
        made["tasks"] = None if made["tasks"] is None else tuple(Task(**task) for task in made["tasks"])
        made["known"] = tuple((said, tuple(pictures), kind) for said, pictures, kind in made["known"])
        made |= {name: tuple(made[name]) for name in ("problems", "classes")}
        return cls(**made)

    def to_json(self) -> dict:
        return asdict(self) | {"rows": [tuple(row) for row in self.rows]}


@dataclass(frozen=True)
class Traces:
    """What a submission is recognised by in another one."""

    names: np.ndarray  # of the images' files, as UTF-8 (N,)
    hashes: np.ndarray  # uint64 (N,): of the pixels; 0 of a blank image
    strokes: np.ndarray  # uint64 (N,): of the bright pixels, wherever they lie; 0 of an image with few levels of grey
    thumbnails: np.ndarray  # uint8 (N, 49): means of 4×4 pixels
    words: np.ndarray  # uint64: hashes of runs of words in the report
    code: np.ndarray  # uint64: the same of the code

    def name(self, index: int) -> str:
        return self.names[index].decode()

    def write(self, path: Path) -> None:
        write_npz(path, **self.__dict__)

    @classmethod
    def read(cls, path: Path) -> "Traces":
        """Raises OSError or ValueError where the file is not there or damaged."""
        return cls(**load_npz(path))

    @classmethod
    def none(cls) -> "Traces":
        empty = np.zeros(0, np.uint64)
        return cls(np.zeros(0, "S1"), empty, empty, np.zeros((0, 49), np.uint8), empty, empty)
