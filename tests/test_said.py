"""What the library says in Chinese is found from its English alone: compared with what it says in Chinese itself."""

import contextlib
import importlib
import io
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwkit.course import selfcheck
from hwkit.course.tasks import TASKS
from hwkit.language import filled, labelled, places, speaking, wrapped
from hwkit.measure import check
from hwkit.measure.features import DigitFeatures
from hwkit.measure.memorisation import Copies
from hwkit.measure.score import results_of, score
from hwkit.mnist.folder import load_folder
from hwkit.mnist.sources import SAMPLE, prepare
from hwkit.notebook import FORGETFUL, NOT_YOURS, find_run, say
from hwkit.runs.checkpoint import best_of
from hwkit.runs.generate import generate
from hwkit.sampling import Sampler
from hwkit.schedule import linear
from hwkit.show import report

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
said, translations = map(importlib.import_module, ("said", "translations"))
sys.path.remove(str(NOTEBOOKS))


@pytest.fixture(scope="module")
def sayings():
    return said.Sayings(translations.library_words())


@pytest.mark.parametrize("word", ["q17", "runs/cpu", "0.5"])
def test_no_message_becomes_another_and_nearly_all_are_found(word, sayings):
    numbers = {",": 4321, "d": 7, "f": 3.25, "g": 0.5, "%": 0.25}
    found = 0
    for (english, _), chinese in translations.library_words().items():
        fields = {name: numbers.get(form[-1:], word) for _, name, form in said.pieces(english) if name}
        told, wanted = (text.format(**fields) if fields else text for text in (english, chinese))
        assert sayings.output(told) in (wanted, told)
        found += sayings.output(told) == wanted
    assert found > 0.95 * len(translations.library_words())


# The same said in both languages


@pytest.fixture
def both(sayings, capsys):
    """Compares what a function prints in Chinese with what its English becomes."""

    def compare(prints) -> str:
        told = {}
        for language in ("en", "zh-TW"):
            with speaking(language), contextlib.redirect_stdout(io.StringIO()) as out:
                prints()
            told[language] = out.getvalue()
        assert sayings.output(told["en"]) == told["zh-TW"] != told["en"]
        return told["zh-TW"]

    return compare


@pytest.fixture
def measured_run(trained_run, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(trained_run, tmp_path / "runs" / "mine")
    generate(best_of(run), run / "generate", 12, Sampler("ddim", 2), progress=False)
    copies = Copies("MNIST", 60_000, 5.0, {"0.5": 4.0}, 0.446, 0.004, 0.0006)
    measured = score(DigitFeatures(), [run / "generate"], [load_folder(run / "generate")])
    replace(measured, memorisation=copies).write(results_of(run / "generate"))
    return run


@pytest.mark.parametrize("what", ["model_rows", "training_rows", "result_rows", "run_rows"])
def test_rows_of_the_report(what, both, measured_run):
    place = {"result_rows": measured_run / "generate", "run_rows": measured_run.parent}.get(what, measured_run)
    rows = getattr(report, what)
    assert "：" in both(lambda: print(*(labelled(*row) for row in rows(place)), sep="\n"))


def test_what_a_score_says_and_the_log(both, measured_run):
    (measured,) = report.scores_of(measured_run / "generate")
    assert "精確率" in both(lambda: print(*(wrapped(line, indent=4) for line in measured.words()), sep="\n"))
    assert "近" in both(lambda: print(wrapped(measured.memorisation.words(), indent=4)))
    both(lambda: print(*report.log_lines(measured_run), sep="\n"))
    both(lambda: find_run("mine"))


def test_rows_of_the_checks_table(both, tmp_path):
    with np.load(SAMPLE) as arrays:
        for k, digit in enumerate(arrays["images"][:20], start=1):
            Image.fromarray(digit).convert("RGB").save(tmp_path / f"{k:05d}.png")

    def table():
        for row in check.rows(tmp_path, 20):
            sign = {True: "✓", False: "✗", None: "–"}[row.passed]
            print(wrapped(f"{sign} {filled(row.what, 16)} {row.found}", indent=19))

    assert "✓ 十種數字都有" in both(table) or "✗ 十種數字都有" in both(table)


def test_checks_progress_data_and_warnings(both, digits_npz, tmp_path):
    for task in TASKS:
        both(lambda task=task: print(selfcheck.check(task.answer, task.number).text))
    both(selfcheck.progress)
    both(lambda: print("!" * 72, say(NOT_YOURS), "!" * 72, say(FORGETFUL), sep="\n"))
    both(lambda: print(linear(830)))
    prepare(digits_npz, out=tmp_path / "out")  # the second time says less
    both(lambda: prepare(digits_npz, out=tmp_path / "out"))


def test_what_a_cell_says_in_words_of_its_own_stays(sayings):
    own = "t = 50: noise 0.184, seen in one picture 0.184\n10 of 20 at 3\nno digit: 4 of 10,000\n\n  a, b: {c}\n"
    assert sayings.output(own) == own


# Lines


@pytest.mark.parametrize("width, indent", [(20, 0), (30, 5), (88, 19)])
def test_a_line_is_not_too_wide_and_no_character_is_lost(width, indent):
    text = "✓ 沒有照抄  10,000 張裡有 2 張離 60,000 張訓練影像（MNIST）太近；真實數字，1,000 張只有 1 張：07860.png、…"
    lines = wrapped(text, width, indent).split("\n")
    assert all(places(line) <= width for line in lines) and len(lines) > 1
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(line.startswith(" " * indent) for line in lines[1:])
    assert not any(line.lstrip()[0] in "，。；：）、" for line in lines) and not any(line[-1] == "（" for line in lines)


def test_english_is_wrapped_as_by_textwrap():
    import textwrap

    text = "of 60,000 (MNIST): 44.6% closer than half of unseen real digits (real 50 %); 0.4% closer. " * 3
    for width, indent in ((20, 0), (30, 5), (88, 19)):
        assert wrapped(text, width, indent) == textwrap.fill(text, width, subsequent_indent=" " * indent)
