"""The benchmarks' own machinery, with contenders that only count; the peers run in `python -m benchmarks --check`."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import measure, quality, rows, table
from benchmarks.measure import Line
from hwkit.runs.checkpoint import EXPORTED, PRETRAINED, load_denoiser
from hwkit.sampling import Sampler

MACHINE = measure.machine()
LINE = Line("1", "training", 3.348, "×", 3, True, 3.1, 3.6)


def contender(name: str, trained: list[str], grey: int) -> quality.Contender:
    """One that notes its training in `trained`, and whose images are of one grey, the darker the nearer to digits."""

    def train(digits, minutes):
        trained.append(name)
        return len(digits), lambda n: torch.full((n, 3, 28, 28), grey, dtype=torch.uint8)

    return quality.Contender(name, f"{name} in words", "none", train)


def test_contenders_take_turns_and_the_warm_up_is_not_counted():
    calls = []
    seconds = measure.interleaved({name: lambda name=name: calls.append(name) for name in "AB"}, rounds=3, warm_up=2)
    assert calls == list("AB" * 5)
    assert {name: values.shape for name, values in seconds.items()} == {"A": (3,), "B": (3,)}


def test_the_spread_is_the_median_with_both_ends():
    assert measure.spread(np.array([9.0, 1.0, 2.0])) == {"value": 2, "low": 1, "high": 9}


@pytest.mark.parametrize(
    "value, at_least, met, share",
    [(4, True, True, 2), (1, True, False, 0.5), (4, False, False, 0.5), (1, False, True, 2)],
)
def test_a_goal_is_reached_from_above_or_from_below(value, at_least, met, share):
    line = Line("6", "x", value, "s", 2, at_least)
    assert line.met is met and line.share == share


def test_without_a_goal_there_is_no_verdict():
    assert Line("3", "x", 1, "%", None, True).met is None


def test_a_process_of_its_own_has_its_own_memory():
    ballast = np.ones(100_000_000)  # 0.8 GB of this process
    peak, total = measure.in_a_process(sum, [1, 2])
    assert total == 3 and peak < measure.peak_memory() - 0.5
    del ballast


def test_the_table_says_what_was_reached_and_where():
    missed = replace(LINE, value=2.0)
    text = table.markdown([LINE, missed], MACHINE)
    assert "| 1 | training | **3.35×** | 3.1 to 3.6 | ≥ 3× | yes |" in text
    assert "| **2×** | 3.1 to 3.6 | ≥ 3× | **no** |" in text
    assert f"{torch.get_num_threads()} threads" in text and f"torch {torch.__version__}".split("+")[0] in text


def test_a_new_line_takes_the_place_of_the_old_and_the_order_is_the_tables():
    old = [replace(LINE, row="10"), replace(LINE, row="2"), LINE]
    new = [replace(LINE, value=9.0), replace(LINE, row="cost")]
    assert [(line.row, line.value) for line in command.joined(old, new)] == [
        ("1", 9.0), ("2", 3.348), ("10", 3.348), ("cost", 3.348),
    ]  # fmt: skip


def test_results_are_kept_on_the_same_machine_only(tmp_path):
    command.write([LINE], MACHINE, tmp_path)
    assert command.kept(tmp_path / "results.json", MACHINE) == [LINE]
    assert command.kept(tmp_path / "results.json", {**MACHINE, "threads": 99}) == []
    assert (tmp_path / "results.png").stat().st_size > 10_000


def test_a_straight_line_has_an_r2_of_1_and_a_parabola_less():
    assert rows.linearity([1, 2, 4], [3, 5, 9]) == pytest.approx(1)
    assert rows.linearity([1, 2, 4, 8], [1, 4, 16, 64]) < 0.97


def test_finished_contenders_are_not_trained_again(tmp_path, monkeypatch, digits_npz):
    monkeypatch.setenv("HWKIT_MNIST", str(digits_npz))
    scale, trained = replace(rows.CHECK, judged=4), []
    entries = [contender("ours", trained, 0), contender("plain", trained, 120), contender("peer", trained, 250)]
    first = quality.quality(scale, tmp_path, entries, first=2)
    again = quality.quality(scale, tmp_path, entries)
    assert trained == ["ours", "plain", "peer"]
    assert again[:2] == first and [line.row for line in again] == ["4", "4", "5"]
    found = json.loads((tmp_path / "quality.json").read_text())["contenders"]
    assert again[0].value == found["ours"]["value"] and again[0].goal == 2.5
    assert again[2].value == pytest.approx(found["peer"]["value"] / found["ours"]["value"])
    quality.quality(replace(scale, minutes=1), tmp_path, entries[:2])  # other minutes: all over again
    assert trained[3:] == ["ours", "plain"]


def test_the_kits_default_is_that_of_its_weights():
    asked = load_denoiser(PRETRAINED / EXPORTED).guidance
    assert Sampler("dpm++sde").resolve(830, asked) == rows.DEFAULT_SAMPLER


def test_an_unknown_row_is_refused():
    with pytest.raises(ValueError, match="There is no row 13: choose among 1, 2"):
        command.bench(only=("13",))
