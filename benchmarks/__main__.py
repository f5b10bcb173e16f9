"""The command `python -m benchmarks`: measures, and writes the table, the pictures and the JSON."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path

import torch
import tyro

from benchmarks import rows, table
from benchmarks.grading import grading
from benchmarks.measure import Line, machine
from benchmarks.quality import quality
from hwkit.files import write_json, write_text
from hwkit.show.figures import save

RESULTS = Path(__file__).parent / "results"
ORDER = [*map(str, range(1, 13)), "cost"]
QUICK: dict[tuple[str, ...], Callable] = {  # the rows that are measured together
    ("1", "2", "3"): rows.training_speed,
    ("6",): rows.ten_thousand,
    ("7",): rows.loading,
    ("8",): rows.digit_score,
    ("9",): rows.inception_score,
    ("10",): rows.memory,
    ("11",): rows.start,
    ("12",): grading,
    ("cost",): rows.cost,
}


def bench(
    long: bool = False,
    only: tuple[str, ...] = (),
    minutes: float | None = None,
    images: int | None = None,
    threads: int | None = None,
    check: bool = False,
    out: Path = RESULTS,
) -> None:
    """Measures the kit beside its peers, in turns, and prints each figure beside its goal.

    Other lines that stand in the folder from before, of the same machine and versions, are kept.

    Args:
        long: rows 4 and 5 (quality after equal time) and 6 with all 10,000 images, which take hours; not the others.
        only: these rows (1 to 12, or cost), such as --only 1 2 3.
        minutes: of training for each contender of rows 4 and 5; by default 10.
        images: that each contender of rows 4 and 5 is judged by; by default 2,000.
        threads: of PyTorch; by default its own choice.
        check: every row on a tiny scale, in some minutes, to see that it works; the figures mean nothing.
        out: the folder of the results.
    """
    unknown = [row for row in only if row not in ORDER]
    if unknown:
        raise ValueError(f"There is no row {', '.join(unknown)}: choose among {', '.join(ORDER)}.")
    if threads:
        torch.set_num_threads(threads)
    scale = rows.CHECK if check else rows.LONG if long else rows.QUICK
    scale = replace(scale, minutes=minutes or scale.minutes, judged=images or scale.judged)
    place = {**machine(), "scale": "check" if check else "full"}
    lines = kept(out / "results.json", place)
    for names, measure in chosen(long, check, only, out).items():
        print(f"Measuring row {', '.join(names)} …", flush=True)
        started = time.monotonic()
        lines = joined(lines, measure(scale))
        write(lines, place, out)
        print(f"… {time.monotonic() - started:.0f} s", flush=True)
    print(table.markdown(lines, place))
    print(f"Written: results.md, results.json, results.png in {out}")


def chosen(long: bool, check: bool, only: tuple[str, ...], out: Path) -> dict[tuple[str, ...], Callable]:
    """What is to be measured: the rows of the form, or those of `only`."""
    slow = {
        ("4",): partial(quality, out=out, first=2),  # the kit's recipe and the original's
        ("5",): partial(quality, out=out),
        ("6",): rows.ten_thousand,
    }
    known = {**QUICK, **slow} if check or only else slow if long else QUICK
    return {names: measure for names, measure in known.items() if not only or set(names) & set(only)}


def joined(lines: list[Line], new: list[Line]) -> list[Line]:
    """The lines in the table's order, a new one in the place of the old one that measured the same."""
    measured = {(line.row, line.what) for line in new}
    return sorted(
        [line for line in lines if (line.row, line.what) not in measured] + new, key=lambda line: ORDER.index(line.row)
    )


def kept(path: Path, place: dict) -> list[Line]:
    """The lines that were measured before on the same machine with the same versions."""
    if not path.is_file():
        return []
    content = json.loads(path.read_text())
    names = {field.name for field in fields(Line)}
    before = content["lines"] if content["machine"] == place else []
    return [Line(**{name: value for name, value in line.items() if name in names}) for line in before]


def write(lines: list[Line], place: dict, out: Path) -> None:
    """The results as JSON, as a table and as pictures."""
    write_json(out / "results.json", {"machine": place, "lines": [asdict(line) | {"met": line.met} for line in lines]})
    write_text(out / "results.md", table.markdown(lines, place))
    save(table.bars(lines, place), out / "results.png")
    if any(line.raw.get("amounts") for line in lines):
        save(table.cost_plots(lines), out / "cost.png")


def main() -> None:
    """Errors that the caller can mend end in one sentence."""
    try:
        tyro.cli(bench)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
