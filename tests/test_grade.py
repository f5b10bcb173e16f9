"""A class is graded: the marks of twelve students are as a person would give them, and nothing they do stops it."""

import base64
import csv
import html.parser
import io
import json
import os
import re
import shutil
import signal
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import make_class
import numpy as np
import pytest
import torch
from conftest import KIT, TINY, vivid_unet
from hypothesis import given, settings
from hypothesis import strategies as st
from make_class import KITS, RUBRIC, papers, put, synthetic

from hwkit.__main__ import main
from hwkit.grade import evidence, feedback, grading
from hwkit.grade.examine import (
    Bench,
    Settings,
    examine,
    hashes,
    is_moved,
    layout,
    likely_seeds,
    strokes,
    thumbnails,
    words_of,
)
from hwkit.grade.grading import Worker, grade, keep
from hwkit.grade.intake import Folder
from hwkit.grade.provenance import Again, History, Weights
from hwkit.grade.roster import Entry
from hwkit.grade.rubric import read_rubric
from hwkit.grade.submission import Part, Submission, Task, Traces
from hwkit.measure.check import Row
from hwkit.mnist.folder import encode_png, file_name
from hwkit.runs import checkpoint
from hwkit.runs.generate import generate, images
from hwkit.sampling import Sampler

# Points as a person gives them by the rubric. B01 has all. B02 lacks 5 images: 10 for their number, 4 for the names; it
# has no weights and no log (20) either. B03: 4 for the names. B04: 5 for the mode. B07: 20 for the copies. B10: half of
# the weights, which load, but made none of the images. B11: two contradictions at 5. B12: 10 for being late.
EXPECTED = """
id  total images quality grids report weights history penalty flags
B01 100   30     25      10    15     10      10      0       weights like B05; images like B05; words like B05
B02 66    16     25      10    15     0       0       0
B03 76    26     25      10    15     0       0       0
B04 75    25     25      10    15     0       0       0
B05 100   30     25      10    15     10      10      0       weights like B01; images like B01; words like B01
B06 100   30     25      10    15     10      10      0       kit's weights; kit's images
B07 60    10     25      10    15     0       0       0       training digits
B08 0     0      0       0     0      0       0       0
B09 0     0      0       0     0      0       0       0
B10 95    30     25      10    15     5       10      0
B11 80    30     25      10    15     0       0       0
B12 90    30     25      10    15     10      10      10
B13 0     0      0       0     0      0       0       0
"""


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    text = (out / "grades.csv").read_bytes().decode("utf-8-sig")
    return {row["id"]: row for row in csv.DictReader(io.StringIO(text))}


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Path:
    """The class of twelve, made and graded by the command; `submissions-graded` stands beside `submissions`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "PRETRAINED", KITS.parent)  # as they are for who grades
        place = make_class.make(tmp_path_factory.mktemp("class"))
        before = snapshot(place)
        files = [place / "submissions", "--roster", place / "students.csv", "--rubric", place / "rubric.toml"]
        assert main(["grade", *map(str, files), "--jobs", "1"]) == 0
        after = snapshot(place)
        ours = {name for name in after if not name.startswith(("submissions-graded/", ".submissions-graded"))}
        assert {name: after[name] for name in ours} == before, (
            "what was handed in is as it was, and nothing is beside it"
        )
    return place


@pytest.fixture
def kits(monkeypatch):
    """The kit's own weights are there, as they are for who grades."""
    monkeypatch.setattr(checkpoint, "PRETRAINED", KITS.parent)


@pytest.fixture
def in_process(monkeypatch) -> list[str]:
    """Submissions are examined in this process, which starts none; the list is of those that were."""
    done: list[str] = []

    def examined(todo, settings, state, *_):
        bench = Bench(settings)
        for job in todo:
            keep(state, *examine(job.entry, bench, job.fingerprint, job.key))
            done.append(job.entry.id)
            yield job

    monkeypatch.setattr(grading, "examined", examined)
    return done


@pytest.fixture
def few(tmp_path) -> Path:
    """Three small submissions, and a rubric that asks for ten images."""
    for number, name in enumerate(("ann", "bob", "cid"), 1):
        put(synthetic(number, 10), tmp_path / "few" / name / "generate")
        papers(tmp_path / "few" / name, number)
    (tmp_path / "rubric.toml").write_text("[measure]\nimages = 10\n")
    return tmp_path / "few"


def again(folder: Path, out: Path, rubric: str | None = None, **how) -> dict[str, dict[str, str]]:
    rules = folder.parent / "rubric.toml"
    if rubric is not None:
        rules.write_text(rubric, encoding="utf-8")
    assert len(list(grade(folder, out, rubric=rules, **how))) == 4
    return rows_of(out)


# The class of twelve


def test_each_has_the_points_and_flags_that_a_person_would_give(graded):
    found = rows_of(graded / "submissions-graded")
    names, *lines = (line.split(None, 9) for line in EXPECTED.strip().splitlines())
    for line in lines:
        expected = dict(zip(names, [*line, ""][:10], strict=True))
        got = {name: found[line[0]][name] for name in names}
        assert got == expected
    assert set(found) == {line[0] for line in lines}


def test_the_numbers_behind_the_points(graded):
    found = rows_of(graded / "submissions-graded")
    assert all(row["most"] == "100" for row in found.values())
    for good in ("B01", "B05", "B12"):
        assert int(found[good]["again_equal"]) + int(found[good]["again_near"]) == 6
    assert found["B10"]["again_other"] == "6" and found["B02"]["again_other"] == ""
    assert found["B07"]["near_copies"] == "1" and found["B02"]["image_count"] == "25"
    assert [name for name, row in found.items() if row["late"]] == ["B12"] and found["B12"]["name"] == "王小明"
    failed = {name: row["status"] for name, row in found.items() if row["status"] != "graded"}
    assert set(failed) == {"B08", "B09", "B13"}
    assert "no .zip" in failed["B08"] and "zip bomb" in failed["B09"] and "Nothing was handed in" in failed["B13"]
    for name, row in found.items():
        assert (row["digits_value"] != "") == (name not in failed)


def test_a_second_run_examines_nothing_and_writes_the_same(graded, kits, in_process, capsys):
    out = graded / "submissions-graded"
    before = (out / "grades.csv").read_bytes()
    files = [graded / "submissions", "--roster", graded / "students.csv", "--rubric", graded / "rubric.toml"]
    assert main(["grade", *map(str, files)]) == 0
    assert in_process == [] and (out / "grades.csv").read_bytes() == before
    assert "0 submissions to examine, 12 are done" in capsys.readouterr().out


class Page(html.parser.HTMLParser):
    """What a page would do in a browser: its tags, and whatever it names elsewhere."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.links, self.said, self.labels = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "action", "data")]
        self.labels += [value for name, value in attributes if name in ("alt", "title", "aria-label")]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.said.append(data)


def test_the_pages_need_nothing_else_and_only_the_overview_names_others(graded):
    out = graded / "submissions-graded"
    overview = Page((out / "class.html").read_text("utf-8"))
    assert {link.split(",")[0] for link in overview.links if link.startswith("data:")} == {"data:image/png;base64"}
    pages = [link for link in overview.links if not link.startswith("data:")]
    assert pages and all((out / link).is_file() for link in pages)
    students = make_class.STUDENTS
    for number, name in students.items():
        text = (out / "feedback" / f"{number}.html").read_text("utf-8")
        page = Page(text)
        assert all(link.startswith("data:image/png;base64,") for link in page.links)
        assert name in "".join(page.said)
        others = [other for key, other in students.items() if key != number]
        words = "".join(page.said) + (out / "feedback" / f"{number}.results.json").read_text("utf-8")
        assert not [other for other in others if other in words] and "flag" not in words
    said = "".join(overview.said)
    assert "no verdict" in said and all(name in said for name in students.values())


ENGLISH = re.compile(r"\b[A-Za-z][a-z']* [a-z']+ [a-z']+")  # three words in a row
TWICE = re.compile(r"(?<!\.)\.\.(?!\.)|…\.|\.…|。[。.]|…。|[!?！？][.。]")


def test_in_chinese_no_english_sentence_is_left(graded, kits, tmp_path, in_process, monkeypatch):
    monkeypatch.setenv("HWKIT_LANG", "zh-TW")
    shutil.copytree(graded / "submissions-graded" / "state" / "cache", tmp_path / "state" / "cache")
    files = {"roster": tmp_path / "students.csv", "rubric": graded / "rubric.toml"}
    roster = (graded / "students.csv").read_text("utf-8").replace("Eddie Edit", "Zoe Zed")
    files["roster"].write_text(roster.replace("B11", "B99"), encoding="utf-8")  # whose submission is now nobody's
    list(grade(graded / "submissions", tmp_path, **files))
    names = sorted([*make_class.STUDENTS.values(), *(p.stem for p in (graded / "submissions").iterdir())], key=len)
    for path in [tmp_path / "class.html", *(tmp_path / "feedback").glob("*.html")]:
        others = (
            r'<style>.*?</style>|<code>.*?</code>|`[^`]*`|<p class="passage">.*?</p>'  # these are no sentences of ours
        )
        text = re.sub(others, "", path.read_text("utf-8"), flags=re.S)
        page = Page(text)
        for said in page.said + page.labels:
            for name in reversed(names):
                said = said.replace(name, "")
            assert not ENGLISH.search(said), (path.name, said)
            assert not TWICE.search(said), (path.name, said)
    said = (tmp_path / "class.html").read_text("utf-8")
    assert "名單上沒有學生叫這個姓名或學號" in said and "訓練集的數字" in said  # there is something to read
    for path in (tmp_path / "feedback").glob("*.json"):
        said = " ".join(test["output"] for test in json.loads(path.read_text("utf-8"))["tests"])
        said = re.sub("`[^`]*`", "", said)
        assert not ENGLISH.search(said) and not TWICE.search(said), (path.name, said)
    assert rows_of(tmp_path)["B07"]["flags"] == "training digits"  # in the CSV as always


def test_no_sentence_ends_twice(graded):
    for path in (graded / "submissions-graded").rglob("*.html"):
        page = Page(path.read_text("utf-8"))
        assert [said for said in page.said + page.labels if TWICE.search(said)] == []


def test_a_reason_that_is_a_sentence_does_not_end_twice(tmp_path, bench, monkeypatch):
    from hwkit.grade import examine as examination

    monkeypatch.setattr(examination, "LARGEST_TEXT", 40)
    folder = good(tmp_path / "x")
    (folder / "run.json").write_text(json.dumps(["x" * 50]))
    (folder / "history.jsonl").write_text("x" * 50)
    (folder / "generate" / "00003.png").write_bytes(bytes(2 * 2**20))
    found = look(folder, bench)
    said = [*found.problems, found.report.fault, *(part.fault for part in found.grids.values())]
    assert len(found.problems) >= 3 and all(said) and not [text for text in said if TWICE.search(text)]


def test_flags_come_with_pairs_of_pictures(graded):
    text = (graded / "submissions-graded" / "class.html").read_text("utf-8")
    page = Page(text)
    assert page.tags.count("img") == 4 * 6 - 6  # kit's images, training digits, images of B01 and B05
    for link in page.links:
        if link.startswith("data:"):
            assert base64.b64decode(link.split(",")[1])[:4] == b"\x89PNG"


def test_gradescope_gets_its_form(graded):
    content = json.loads((graded / "submissions-graded" / "feedback" / "B02.results.json").read_text("utf-8"))
    assert content["score"] == 66 and content["leaderboard"][0]["order"] == "asc"
    assert {test["name"]: (test["score"], test["max_score"]) for test in content["tests"]}["Images"] == (16, 30)
    assert {test["output_format"] for test in content["tests"]} == {"text"}
    assert sum(test["score"] for test in content["tests"]) == content["score"]


# Going on


def test_a_changed_rubric_computes_points_only(few, tmp_path, in_process):
    out = tmp_path / "out"
    before = again(few, out)
    assert len(in_process) == 3 and before["ann"]["report"] == "15"
    after = again(few, out, "[measure]\nimages = 10\n[points]\nreport = 40\nhistory = 0\n")
    assert len(in_process) == 3 and after["ann"]["report"] == "40" and "history" not in after["ann"]
    assert float(after["ann"]["total"]) == float(before["ann"]["total"]) + 25


def test_what_is_measured_otherwise_is_examined_anew(few, tmp_path, in_process):
    again(few, tmp_path / "out")
    after = again(few, tmp_path / "out", "[measure]\nimages = 9\n")
    assert len(in_process) == 6 and after["ann"]["images"] != "30"


def test_a_changed_submission_is_examined_anew_and_no_other(few, tmp_path, in_process):
    before = again(few, tmp_path / "out")
    (few / "bob" / "generate" / "00010.png").unlink()
    after = again(few, tmp_path / "out")
    assert in_process == ["ann", "bob", "cid", "bob"]
    assert float(after["bob"]["images"]) == float(before["bob"]["images"]) - 14
    assert {name: after[name] for name in ("ann", "cid")} == {name: before[name] for name in ("ann", "cid")}


@pytest.mark.parametrize("what", ["the kit's weights", "the seeds", "the training images", "the reference", "nothing"])
def test_who_was_examined_beside_something_else_is_examined_anew(what, few, tmp_path, bench):
    """By the content of the files: a path says nothing of it."""
    kit, seeds = tmp_path / "kit.pt", tmp_path / "seeds.txt"
    kit.write_bytes(b"old")
    seeds.write_text("1 2 3")
    own, state = replace(bench.settings, kit=str(kit), seeds=str(seeds)), tmp_path / "state"
    found = [Entry(name, name, few / name) for name in ("ann", "bob", "cid")]
    todo = grading.pending(found, own, bench, state)
    assert [job.entry.id for job in todo] == ["ann", "bob", "cid"]
    for job in todo:
        keep(state, Submission(id=job.entry.id, key=job.key), Traces.none())
    name, train = bench.train
    if what == "the kit's weights":
        kit.write_bytes(b"new")
    elif what == "the seeds":
        seeds.write_text("1 2 4")
    beside = Bench(own, (name, 255 - train)) if what == "the training images" else bench
    todo = grading.pending(found, own, beside, state, "aa" if what == "the reference" else "")
    assert len(todo) == (0 if what == "nothing" else 3)


def test_an_interrupted_grading_goes_on_where_it_was(few, tmp_path, in_process, monkeypatch):
    lines = grade(few, tmp_path / "out", rubric=few.parent / "rubric.toml")
    examined = grading.examined

    def stopped(*arguments):
        for number, job in enumerate(examined(*arguments)):
            if number == 1:
                raise KeyboardInterrupt
            yield job

    with monkeypatch.context() as patch:
        patch.setattr(grading, "examined", stopped)
        with pytest.raises(KeyboardInterrupt):
            list(lines)
    whole = again(few, tmp_path / "out")
    assert in_process == ["ann", "bob", "cid"]  # two before, one after
    other = again(few, tmp_path / "other")
    drop = lambda rows: {name: {k: v for k, v in row.items() if k != "seconds"} for name, row in rows.items()}  # noqa: E731
    assert drop(whole) == drop(other)


def test_a_damaged_state_is_made_anew(few, tmp_path, in_process):
    again(few, tmp_path / "out")
    (tmp_path / "out" / "state" / "ann.json").write_text('{"id": "ann"')
    (tmp_path / "out" / "state" / "bob.npz").write_bytes(b"damaged")
    again(few, tmp_path / "out")
    assert in_process == ["ann", "bob", "cid", "ann", "bob"]


# By Inception


class Tiny(torch.nn.Module):
    """In Inception's place: eight sums over the pixels, and how many images it has seen."""

    seen = 0

    def forward(self, x):
        Tiny.seen += len(x)
        assert x.shape[1:] == (3, 28, 28) and x.min() >= 0 and x.max() <= 1
        return [(x.flatten(1) @ self.weights(x)).view(-1, 8, 1, 1)]

    @staticmethod
    def weights(x) -> torch.Tensor:
        return torch.randn((3 * 28 * 28, 8), generator=torch.Generator().manual_seed(0)) / 28


def oracle(images: np.ndarray, real: np.ndarray) -> float:
    """FID of two sets of images by these sums, with SciPy's root of a matrix."""
    import scipy.linalg

    x, y = ((stack.reshape(len(stack), -1) / 255) @ Tiny.weights(None).double().numpy() for stack in (images, real))
    one, other = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    apart = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    return apart + np.trace(one + other - 2 * scipy.linalg.sqrtm(one @ other).real)


@pytest.fixture
def inception(tmp_path, monkeypatch, in_process) -> dict[str, Path]:
    """The options of grading by Inception, with a tiny network in its place; all in this process."""
    from hwkit.measure import features

    monkeypatch.setattr(features, "_inception", lambda path: Tiny())
    monkeypatch.setattr(features.InceptionFeatures, "dims", 8)
    monkeypatch.setattr(grading, "aside", lambda work, settings: work(settings))
    monkeypatch.setattr(Tiny, "seen", 0)
    (tmp_path / "weights.pth").write_bytes(b"of Inception")
    put(synthetic(9, 50), tmp_path / "real")
    return {"reference": tmp_path / "real", "inception": tmp_path / "weights.pth"}


def by_inception(few: Path, out: Path, rubric: str, options: dict[str, Path]) -> dict[str, dict[str, str]]:
    settings = replace(Settings(), protocol="inception", **{name: str(path) for name, path in options.items()})
    return again(few, out, "[measure]\nimages = 10\n" + rubric, settings=settings)


def test_points_are_given_by_inceptions_bands(few, tmp_path, inception):
    expected = {name: oracle(synthetic(k, 10), synthetic(9, 50)) for k, name in enumerate(("ann", "bob", "cid"), 1)}
    first, second, third = sorted(expected, key=expected.get)
    limits = (expected[first] + expected[second]) / 2, (expected[second] + expected[third]) / 2
    rubric = f"[bands]\ndigits = [[0, 0]]\ninception = [[{limits[0]}, 1.0], [{limits[1]}, 0.6]]\n"
    found = by_inception(few, tmp_path / "out", rubric, inception)
    for name, row in found.items():
        assert float(row["inception_value"]) == pytest.approx(expected[name], rel=1e-4)
        assert float(row["digits_value"]) > 0 and row["inception_precision"] and row["inception_kid"]
    assert [found[name]["quality"] for name in (first, second, third)] == ["25", "15", "0"]
    page = "".join(Page((tmp_path / "out" / "feedback" / f"{second}.html").read_text("utf-8")).said)
    assert f"FID is {expected[second]:.2f} ±" in page and f"The next band begins at {limits[0]:g}" in page
    assert all(f"{label}: {what}" in page for label in ("FID", "digit-FID") for what in ("KID × 1000", "Precision"))
    overview = Page((tmp_path / "out" / "class.html").read_text("utf-8"))
    said = "".join(overview.said)
    assert "By FID" in said and said.index(f"{expected[first]:.2f} ±") < said.index(f"{expected[third]:.2f} ±")
    board = json.loads((tmp_path / "out" / "feedback" / f"{first}.results.json").read_text("utf-8"))["leaderboard"]
    assert board == [{"name": "FID", "value": round(float(found[first]["inception_value"]), 3), "order": "asc"}]


def test_the_reference_is_measured_once_and_a_changed_one_measures_all_anew(few, tmp_path, inception, in_process):
    before = by_inception(few, tmp_path / "out", "", inception)
    assert Tiny.seen == 50 + 3 * 10 and len(in_process) == 3
    moved = inception["inception"].rename(tmp_path / "another.pth")
    assert by_inception(few, tmp_path / "out", "", inception | {"inception": moved}) == before
    (few / "bob" / "generate" / "00010.png").write_bytes(encode_png(synthetic(7, 1)[0]))
    by_inception(few, tmp_path / "out", "", inception | {"inception": moved})
    assert Tiny.seen == 80 + 10 and in_process[3:] == ["bob"]  # of the others nothing, of the reference nothing
    put(synthetic(8, 50), tmp_path / "real")
    after = by_inception(few, tmp_path / "out", "", inception | {"inception": moved})
    assert Tiny.seen == 90 + 80 and after["ann"]["inception_value"] != before["ann"]["inception_value"]
    moved.write_bytes(b"other weights")
    by_inception(few, tmp_path / "out", "", inception | {"inception": moved})
    assert Tiny.seen == 170 + 80


def test_statistics_alone_are_enough_of_a_reference(few, tmp_path, inception):
    sums = (synthetic(9, 50).reshape(50, -1) / 255) @ Tiny.weights(None).double().numpy()
    np.savez(tmp_path / "real.npz", mu=sums.mean(axis=0), sigma=np.cov(sums, rowvar=False))
    row = by_inception(few, tmp_path / "out", "", inception | {"reference": tmp_path / "real.npz"})["ann"]
    assert float(row["inception_value"]) == pytest.approx(oracle(synthetic(1, 10), synthetic(9, 50)), rel=1e-4)
    assert row["inception_kid"] == "" and row["digits_kid"] and Tiny.seen == 30


@pytest.mark.parametrize("what", ["reference", "inception"])
def test_without_weights_or_reference_nothing_is_begun(what, few, tmp_path, inception):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        by_inception(few, tmp_path / "out", "", inception | {what: tmp_path / "nowhere"})
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif("HWKIT_SLOW" not in os.environ, reason="a minute: Inception itself; set HWKIT_SLOW=1")
def test_the_command_grades_by_inception_itself_in_processes(few, tmp_path, capsys):
    """The network itself, with random weights: it says nothing about images, but that all of the way is gone."""
    from test_features import random_inception

    put(synthetic(9, 20), tmp_path / "real")
    random_inception(tmp_path / "weights.pth")
    files = {"rubric": tmp_path / "rubric.toml", "reference": tmp_path / "real", "weights": tmp_path / "weights.pth"}
    words = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    assert main(["grade", str(few), "--protocol", "inception", "--jobs", "2", *words]) == 0
    found = rows_of(tmp_path / "few-graded")
    assert all(row["status"] == "graded" and float(row["inception_value"]) > 0 for row in found.values())
    assert main(["grade", str(few), "--protocol", "inception", *words]) == 0
    assert "0 submissions to examine, 3 are done" in capsys.readouterr().out


# It never stops: processes


@pytest.fixture
def quick(tmp_path, few):
    settings = replace(Settings(images=10, again=2), cache=str(tmp_path / "cache"))
    state = tmp_path / "state"
    state.mkdir()
    (tmp_path / "cache").mkdir()
    np.save(tmp_path / "cache" / grading.TRAIN, synthetic(50, 100)[:, 0])
    jobs = [grading.Job(Entry(name, name, few / name), "ab" * 32, name) for name in ("ann", "bob", "cid")]
    return jobs, settings, state


def test_a_process_that_dies_or_hangs_is_one_line_and_the_others_go_on(quick, monkeypatch):
    jobs, settings, state = quick
    give = Worker.give

    def harmful(self, job, seconds):
        if job.entry.id == "bob":
            os.kill(self.process.pid, signal.SIGSTOP)  # before it has anything to do
            seconds = 0.5
        give(self, job, seconds)
        if job.entry.id == "cid":
            os.kill(self.process.pid, signal.SIGKILL)

    monkeypatch.setattr(Worker, "give", harmful)
    done = [job.entry.id for job in grading.examined(jobs, settings, state, 1, 300, "a hundred digits")]
    assert done == ["ann", "bob", "cid"]
    found = {name: grading.known(state, name)[0] for name in done}
    assert found["ann"].failed == "" and found["ann"].images == 10 and found["ann"].key == "ann"
    assert "took too long" in found["bob"].failed and "signal 9" in found["cid"].failed
    assert found["bob"].key == found["cid"].key == ""  # tried again the next time


def test_an_error_of_ours_is_that_submissions_line(few, tmp_path, monkeypatch):
    def examined(todo, settings, state, *_):
        for job in todo:
            if job.entry.id != "bob":
                keep(state, *examine(job.entry, Bench(settings), job.fingerprint, job.key))
            yield job

    monkeypatch.setattr(grading, "examined", examined)
    assert again(few, tmp_path / "out")["bob"]["status"] == "failed: It was not examined."


# It never stops: submissions


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HWKIT_MNIST", raising=False)
        return Bench(Settings(images=10, again=2, cache=str(tmp_path_factory.mktemp("cache"))))


def look(path: Path, bench: Bench) -> Submission:
    found, _ = examine(Entry("x", "x", path), bench, "ab" * 32)
    assert Submission.from_json(json.loads(json.dumps(found.to_json()))) == found
    return found


def good(folder: Path, number: int = 1) -> Path:
    put(synthetic(number, 10), folder / "generate")
    papers(folder, number)
    return folder


def test_a_good_one_is_found_wherever_its_images_lie(tmp_path, bench):
    for place in ("a/generate", "b/hw3/Generate", "c", "d/作業/generate/generate", "e/images"):
        put(synthetic(1, 10), tmp_path / place)
        papers(tmp_path / place.split("/")[0], 1)
        found = look(tmp_path / place.split("/")[0], bench)
        assert found.images == 10 and found.problems == ()
        assert [row.what for row in found.rows if not row.passed] == [], place
        assert found.report.fault == "" and not any(part.fault for part in found.grids.values())


def test_which_images_are_made_again_depends_on_the_secret_of_the_class(tmp_path, bench, vivid_checkpoint):
    """By what was handed in alone a student could pack images of another origin until only good ones are drawn."""
    generate(vivid_checkpoint, tmp_path / "generate", 3, Sampler("ddim", 2), progress=False)
    shutil.copy(vivid_checkpoint, tmp_path)
    shutil.move(tmp_path / "generate.json", tmp_path / "generate")
    one, other = (look(tmp_path, Bench(replace(bench.settings, secret=word), bench.train)).again for word in "ab")
    assert one.share == other.share == 1 and len(one.numbers) == 2 and one.numbers != other.numbers


@pytest.mark.parametrize("harm", ["pixels", "bytes", "none", "text", "link"])
def test_one_hostile_image_is_one_fault(harm, tmp_path, bench):
    from test_grade_intake import png_header

    path = good(tmp_path / "x") / "generate" / "00003.png"
    data = {"pixels": png_header(40_000, 40_000), "bytes": bytes(2 * 2**20), "none": b"", "text": b"\x89PNG\r\n\x1a\n?"}
    path.unlink()
    if harm == "link":
        path.symlink_to("/etc/passwd")
    else:
        path.write_bytes(data[harm])
    found = look(tmp_path / "x", bench)
    assert found.images == 9 and found.numbers["digits"]["value"] > 0
    assert [row.what for row in found.rows if row.passed is False] == (
        ["10 files", "names"] if harm == "link" else ["every file opens"]
    )
    if harm in ("pixels", "bytes", "link"):
        assert "00003.png" in found.problems[0] and len(found.problems) == 1


def test_nothing_but_blank_images_has_no_numbers(tmp_path, bench):
    put(np.zeros((10, 3, 28, 28), np.uint8), tmp_path / "x" / "generate")
    found = look(tmp_path / "x", bench)
    assert found.numbers == {} and not found.failed
    mark = read_rubric().grade(found)["quality"]
    assert mark.points == 0 and "could not be measured" in mark.costs[0].why


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("run.json", b'{"epoch": "\\ud800", "history": [], "images": {"made_by": {"sampler": {"\\ud800": 1}}}}'),
        ("run.json", b"[" * 200_000),
        ("run.json", b'{"images": {"made_by": {"sampler": {"name": {}}}}}'),
        ("run.json", b'{"images": [], "weights": 3, "history": 5, "recipe": []}'),
        ("run.json", b"\xff\xfe"),
        ("history.jsonl", b'{"epoch": 1}\n'),
        ("ema_latest.pt", b"PK\5\6" + bytes(18)),
        ("ema_latest.safetensors", b"\xff" * 100),
        ("diffusion_grid_ddpm.png", b"GIF89a"),
        ("report.html", b"<" * 1_000_000),
        ("report.html", b"<script>" * 50_000),
        ("notebook.ipynb", b'{"cells": 3}'),
        ("notebook.ipynb", b"[" * 100_000),
    ],
)
def test_a_hostile_file_costs_its_own_part_only(name, data, tmp_path, bench):
    (good(tmp_path / "x") / name).write_bytes(data)
    started = time.monotonic()
    found = look(tmp_path / "x", bench)
    json.dumps(found.to_json(), ensure_ascii=False).encode()  # so it can be kept
    assert time.monotonic() - started < 60
    assert found.images == 10 and all(row.passed for row in found.rows) and found.numbers["digits"]["value"] > 0


def test_a_file_that_is_no_submission_is_a_line(tmp_path, bench):
    (tmp_path / "x.rar").write_bytes(b"Rar!")
    (tmp_path / "empty").mkdir()
    assert "no .zip" in look(tmp_path / "x.rar", bench).failed
    assert "no file" in look(tmp_path / "empty", bench).failed
    assert look(None, bench).failed == "Nothing was handed in."


def test_blank_figures_and_reports_are_told(tmp_path, bench):
    from PIL import Image

    folder = good(tmp_path / "x")
    Image.new("RGB", (240, 240), "white").save(folder / "diffusion_grid_ddpm.png")
    Image.new("RGB", (20, 20), "white").save(folder / "diffusion_grid_ddim.png")
    (folder / "report.html").write_text("<style>" + "a" * 5000 + "</style><p>Report</p>")
    found = look(folder, bench)
    assert "is blank" in found.grids["ddpm"].fault and "20×20 pixels" in found.grids["ddim"].fault
    assert "nearly blank: 6 letters" in found.report.fault
    shutil.rmtree(folder)
    put(synthetic(1, 10), folder / "generate")
    found = look(folder, bench)
    assert "no figure" in found.grids["ddpm"].fault and found.report.fault == "There is no report."


def test_the_functions_are_asked_for_by_the_option_alone(tmp_path, bench, monkeypatch):
    import types

    (good(tmp_path / "x") / "02.ipynb").write_text("{}")
    asked = []

    def grade_functions(notebooks, seeds, isolated):
        asked.append((notebooks, seeds))
        results = {"q_sample": ("1.2", True, ""), "ddim_step": ("3.1", False, "It adds noise at the end.")}
        return {n: types.SimpleNamespace(number=a, passed=b, text=c, ran=True) for n, (a, b, c) in results.items()}

    fake = types.SimpleNamespace(grade_functions=grade_functions)
    monkeypatch.setitem(__import__("sys").modules, "hwkit.grade.functions", fake)
    assert look(tmp_path / "x", bench).tasks is None and asked == []
    monkeypatch.setattr(Bench, "isolated", None)
    wanted = Bench(replace(bench.settings, functions=True, seeds=str(tmp_path / "seeds")))
    found = look(tmp_path / "x", wanted)
    assert asked == [([b"{}"], tmp_path / "seeds")]
    mark = read_rubric().grade(found)["functions"]
    assert (mark.points, mark.most) == (10, 20) and "Task 3.1: It adds noise" in mark.costs[0].why


def test_where_nothing_can_be_shut_in_the_functions_are_left_out_of_the_points(few, tmp_path, in_process, monkeypatch):
    from hwkit.grade import isolated

    monkeypatch.setattr(isolated, "HOW", ())
    started = lambda *a: pytest.fail("a student's function was about to be run")  # noqa: E731
    monkeypatch.setattr(isolated, "started", started)
    plain = again(few, tmp_path / "plain")
    (few / "cid.zip").write_bytes(b"broken")
    rules = few.parent / "rubric.toml"
    lines = list(grade(few, tmp_path / "out", rubric=rules, settings=replace(Settings(), functions=True)))
    assert "cannot shut them in" in lines[0] and lines[0].endswith("They are left out of the points.")
    found = rows_of(tmp_path / "out")
    assert {row["functions"] for row in found.values()} == {"not measured"}
    assert {row["most"] for row in found.values()} == {"100"}
    assert [found[name]["total"] for name in ("ann", "bob", "cid~1")] == [
        plain[n]["total"] for n in ("ann", "bob", "cid")
    ]
    said = "".join(Page((tmp_path / "out" / "class.html").read_text("utf-8")).said)
    assert "The functions of 4 students are left out of the points." in said and "bubblewrap" in said
    page = "".join(Page((tmp_path / "out" / "feedback" / "ann.html").read_text("utf-8")).said)
    assert "Functions · not measured" in page and "left out of the points" in page
    content = json.loads((tmp_path / "out" / "feedback" / "ann.results.json").read_text("utf-8"))
    assert (content["tests"][-1]["score"], content["tests"][-1]["max_score"]) == (0, 0)
    assert "left out of the points" in content["tests"][-1]["output"]


def test_walls_that_fall_later_leave_one_out_who_is_tried_again(tmp_path, bench, monkeypatch):
    from hwkit.grade import isolated

    monkeypatch.setattr(isolated, "HOW", ())
    folder = good(tmp_path / "x")
    (folder / "02.ipynb").write_text(
        json.dumps({"cells": [{"cell_type": "code", "source": "def nodes(T):\n    return T"}]})
    )
    found, _ = examine(Entry("x", "x", folder), Bench(replace(bench.settings, functions=True)), "ab", "key")
    assert found.key == "" and found.tasks is None and "bubblewrap" in found.untried
    mark = read_rubric().grade(found)["functions"]
    assert not mark.measured and (mark.points, mark.most) == (0, 0)


def test_a_notebook_that_cannot_be_read_leaves_nothing_out_of_the_points(tmp_path, bench, monkeypatch):
    """Else a student whose functions are wrong would hand in one that is too large."""
    from hwkit.grade import examine as examination

    folder = good(tmp_path / "x")
    (folder / "02.ipynb").write_text(" " * 5000)
    monkeypatch.setattr(examination, "LARGEST_TEXT", 4000)
    monkeypatch.setattr(Bench, "isolated", None)
    found = look(folder, Bench(replace(bench.settings, functions=True)))
    assert any("02.ipynb has 5,000 bytes" in problem for problem in found.problems)
    mark = read_rubric().grade(found)["functions"]
    assert (mark.points, mark.most) == (0, 20) and mark.costs


def test_who_handed_in_nothing_is_asked_for_as_much_as_the_others(few, tmp_path, in_process, monkeypatch):
    monkeypatch.setattr(grading, "why_untried", lambda settings: "")
    monkeypatch.setattr(Bench, "isolated", None)
    (few / "dan.zip").write_bytes(b"broken")
    (few.parent / "r.csv").write_text("id\nann\nbob\ncid\ndan\neve\n")
    how = {"rubric": few.parent / "rubric.toml", "roster": few.parent / "r.csv"}
    list(grade(few, tmp_path / "out", settings=replace(Settings(), functions=True), **how))
    found = rows_of(tmp_path / "out")
    assert {row["most"] for row in found.values()} == {"120"} and {row["functions"] for row in found.values()} == {"0"}


def test_a_sampler_that_there_is_not_hides_no_copies(tmp_path, bench, monkeypatch):
    """Of what is said about the images nothing may keep them from being compared."""
    from hwkit.mnist.sources import SAMPLE, read_source

    folder = good(tmp_path / "x")
    put(np.repeat(read_source(SAMPLE, "train").images[100:110], 3, axis=1), folder / "generate")
    facts = {"images": {"made_by": {"sampler": {"name": "ddim", "steps": -3}, "seed": 0, "checkpoint_sha256": ""}}}
    (folder / "run.json").write_text(json.dumps(facts))
    with_kit = Bench(replace(bench.settings, kit=str(KITS)))
    monkeypatch.setattr(Bench, "kits_images", lambda self, sampler, seed, count: synthetic(9, 2))
    assert [kind for *_, kind in look(folder, with_kit).known] == ["training digits"]


def test_a_file_whose_name_is_no_utf_8_is_graded(few, tmp_path, in_process):
    if sys.platform != "linux":
        pytest.skip("names of files are text here")
    (few / "ann").rename(os.fsdecode(os.fsencode(few) + b"/\xa4\xfd\xa4p_B07"))
    (found,) = [row for row in again(few, tmp_path / "out").values() if "B07" in row["id"]]
    assert found["status"] == "graded" and "�" in found["submission"]


def test_one_function_that_is_too_deep_leaves_the_others_alone(monkeypatch):
    from hwkit.grade import functions, isolated

    monkeypatch.setattr(isolated.Isolated, "start", lambda self: None)
    monkeypatch.setattr(isolated.Isolated, "one", lambda *a: {"passed": True, "text": "right"})
    deep = "def q_sample(x_0, alpha_bar_t, eps):\n    raise ValueError(" + "+".join(["1"] * 900) + ")"
    cells = [{"cell_type": "code", "source": text} for text in (deep, "def nodes(T, count=8):\n    return []")]
    found = functions.grade_functions([json.dumps({"cells": cells}).encode()])
    assert found["nodes"].passed and not found["q_sample"].passed and "not run" in found["q_sample"].text


# Flags


def traces(stack: np.ndarray, words=(), code=()) -> Traces:
    names = np.array([file_name(k).encode() for k in range(1, len(stack) + 1)], "S")
    return Traces(
        names, hashes(stack), strokes(stack), thumbnails(stack), np.array(words, np.uint64), np.array(code, np.uint64)
    )


def flags_of(tmp_path: Path, stacks: dict[str, np.ndarray], seeds: dict[str, str] | None = None, digits=()):
    entries = []
    for name, stack in stacks.items():
        put(stack, tmp_path / name / "generate")
        entries.append(Entry(name, name, tmp_path / name))
    found = {name: Submission(id=name, seed=(seeds or {}).get(name, ""), folder="generate/") for name in stacks}
    limits = read_rubric().flags
    return evidence.flags(entries, found, {name: traces(stack) for name, stack in stacks.items()}, digits, limits)


def noisy(stack: np.ndarray, by: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, by, (len(stack), 1, 28, 28))
    return (stack + noise).clip(0, 255).round().astype(np.uint8)


def test_images_of_different_students_are_not_flagged(tmp_path):
    assert flags_of(tmp_path, {"a": synthetic(1, 40), "b": synthetic(2, 40)}) == []


def test_the_same_images_in_another_order_are_flagged(tmp_path):
    stack = synthetic(1, 40)
    (flag,) = flags_of(tmp_path, {"a": stack, "b": np.concatenate([synthetic(2, 20), stack[::-1][:20]])})
    assert flag.ids == ("a", "b") and flag.said.startswith("20 images of a are images of b") and len(flag.pictures) == 6


def test_nearly_the_same_images_are_flagged(tmp_path):
    stack = synthetic(1, 40)
    (flag,) = flags_of(tmp_path, {"a": stack, "b": noisy(stack[::-1], 6)})
    assert set(flag.ids) == {"a", "b"} and "nearly" in flag.said and len(flag.pictures) == 6


WAYS = {
    "mirrored": lambda x: x[..., ::-1],
    "upside down": lambda x: x[..., ::-1, :],
    "turned": lambda x: np.rot90(x, axes=(-2, -1)),
    "transposed": lambda x: x.swapaxes(-2, -1),
    "shifted": lambda x: np.roll(x, (1, -1), (-2, -1)),
    "mirrored and shifted": lambda x: np.roll(x[..., ::-1], 2, -1),
    "a film of noise": lambda x: np.where(x < 8, 7 - x % 8, x)[..., ::-1],
}


@pytest.mark.parametrize("way", WAYS)
def test_mirrored_turned_and_shifted_images_are_flagged(way, tmp_path):
    stack = small(synthetic(1, 40))
    moved = np.ascontiguousarray(WAYS[way](stack[::-1][:25]))
    (flag,) = flags_of(tmp_path, {"a": stack, "b": np.concatenate([small(synthetic(2, 15)), moved])})
    assert flag.ids == ("a", "b") and len(flag.pictures) == 6
    assert flag.said == "25 images of a are images of b, mirrored, turned or shifted."


def test_mirrored_real_digits_and_kits_images_are_flagged(tmp_path, bench, monkeypatch):
    real = small(synthetic(5, 300))
    known = evidence.known("test digits", real[:, 0])
    (flag,) = flags_of(tmp_path, {"a": real[:40, :, ::-1]}, digits=[known])
    assert flag.kind == "test digits" and flag.said.startswith("40 of its images are digits of MNIST, mirrored")
    one_equal = np.concatenate([real[50:51], real[:39, :, :, ::-1]])
    found = flags_of(tmp_path / "2", {"a": one_equal}, digits=[known])
    assert [flag.said.split(" are")[0].split(" of")[0] for flag in found] == ["1", "39"]
    kits = small(synthetic(9, 10))
    monkeypatch.setattr(Bench, "kits_images", lambda self, sampler, seed, count: kits[:4])
    put(np.roll(kits[..., ::-1], 1, -1), tmp_path / "kit" / "generate")
    known = look(tmp_path / "kit", Bench(replace(bench.settings, kit=str(KITS)))).known
    assert {kind for *_, kind in known} == {"kit's images"} and known[0][0].startswith("4 of 4 images")


@pytest.mark.parametrize("seed, student", [(2, "ann"), (8042, "B11208042")])
def test_images_of_the_kits_weights_are_found_under_likely_seeds_that_nobody_names(seed, student, bench, tmp_path):
    kits = Bench(replace(bench.settings, kit=str(KITS), kit_seeds=3))
    put(kits.kits_images(Sampler("dpm++sde"), seed, 10), tmp_path / "generate")
    found, _ = examine(Entry(student, "x", tmp_path), kits)
    ((said, pictures, kind),) = found.known
    assert kind == "kit's images" and f"seed {seed}) are in it" in said and len(pictures) == 4


def test_weights_that_went_on_from_the_kits_are_told_and_others_are_not(bench, tmp_path):
    """A few more steps of training make all numbers others, and the hash with them."""
    recipe = replace(TINY, T=60)
    own, others = (vivid_unet(recipe.model, seed).state_dict() for seed in (0, 9))
    near = {name: 1.25 * tensor for name, tensor in own.items()}
    checkpoint.save(tmp_path / "kit.pt", recipe, own)
    kit, known = Bench(replace(bench.settings, kit=str(tmp_path / "kit.pt")), bench.train), {}
    for name, weights in (("own", own), ("near", near), ("others", others)):
        checkpoint.save(tmp_path / name / "ema_latest.pt", recipe, weights)
        known[name] = [text for text, _, kind in look(tmp_path / name, kit).known if kind == "kit's weights"]
    assert known["own"] == ["The weights are those that come with the kit."] and known["others"] == []
    assert "the difference has 25.0% of the length" in known["near"][0]


def test_images_of_the_kits_weights_are_made_anew_when_those_change(bench, vivid_checkpoint, tmp_path):
    """A new version of the kit comes with other weights, and the folder of the last grading is still there."""
    weights, sampler = tmp_path / "kit.pt", Sampler("ddim", 3)
    recipe = checkpoint.recipe_of(checkpoint.load(vivid_checkpoint))
    for seed in (1, 2):
        checkpoint.save(weights, recipe, vivid_unet(recipe.model, seed).state_dict())
        kits = Bench(replace(bench.settings, kit=str(weights), cache=str(tmp_path)), bench.train)
        expected = images(checkpoint.load_denoiser(weights), sampler, 5, [1, 10])
        assert np.array_equal(kits.kits_images(sampler, 5, 2), expected)


def test_the_last_digits_of_a_student_number_are_likely_seeds():
    assert likely_seeds("B11208042_late") == [42, 8042, 208042, 11208042]
    assert likely_seeds("7") == [7] and likely_seeds("王小明") == []


def small(stack: np.ndarray) -> np.ndarray:
    """Digits with room about them, as MNIST's have: so that nothing is lost when they are moved by two pixels."""
    stack = stack.copy()
    for edge in (slice(0, 3), slice(-3, None)):
        stack[..., edge, :] = stack[..., :, edge] = 0
    return stack


def test_digits_that_differ_in_place_only_by_their_levels_are_not_taken_for_moved():
    """What few levels of grey say is not enough, and the same levels in other places are not the same digit."""
    plain = np.where(synthetic(1, 20) > 127, 255, 0).astype(np.uint8)
    assert not strokes(plain).any() and strokes(synthetic(1, 20)).all()
    rng = np.random.default_rng(0)
    image = synthetic(1, 1)[0]
    mixed = np.repeat(rng.permutation(image[0].ravel()).reshape(1, 28, 28), 3, axis=0)
    assert strokes(image[None]) == strokes(mixed[None]) and not is_moved(image, mixed) and is_moved(image, image)
    assert not is_moved(np.zeros_like(image), np.zeros_like(image))


def test_like_images_of_the_same_seed_are_not_flagged_unless_they_are_equal_but_for_pixels(tmp_path):
    stack, seeds = synthetic(1, 40), {"a": "ddim-50, seed 0", "b": "ddim-50, seed 0"}
    assert flags_of(tmp_path / "1", {"a": stack, "b": noisy(stack, 6)}, seeds) == []
    (flag,) = flags_of(tmp_path / "2", {"a": stack, "b": noisy(stack, 1)}, seeds)
    assert "from the same noise" in flag.said


def test_signs_that_nobody_sees_make_no_other_words():
    plain = "the loss falls fast at first"
    hidden = "the lo\u200bss fa\u00adlls ｆａｓｔ at\u2060 first"
    assert words_of(hidden) == words_of(plain) == plain.split()


def test_no_image_but_a_blank_one_is_nobodys():
    """A student could choose pixels whose factors add up to 0, and so take the image out of all comparisons."""
    factors = np.random.default_rng(0).integers(1, 2**63, 3 * 28 * 28, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    stack = synthetic(1, 300)
    assert (hashes(stack) != 0).all() and len(set(hashes(stack).tolist())) == 300
    even = hashes(stack) == (stack.reshape(300, -1) * factors).sum(axis=1, dtype=np.uint64)
    assert 0 < even.sum() < 300  # of half of them the sum is even, and is moved off the even numbers, 0 among them


def test_noise_of_another_device_is_for_a_second_look(tmp_path):
    """By this word a student has the points for images made again though none was: a person should know."""
    again = Again(trouble="Drawn elsewhere.", elsewhere=True)
    found = {"a": Submission(id="a", again=again), "b": Submission(id="b")}
    entries = [Entry(name, name, tmp_path / name) for name in found]
    (flag,) = evidence.flags(entries, found, {name: Traces.none() for name in found}, [], read_rubric().flags)
    assert (flag.kind, flag.ids, flag.said) == ("not tested", ("a",), "Drawn elsewhere.")


def test_only_the_flags_of_the_page_read_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "MANY", 2)
    stack = synthetic(1, 40)
    found = flags_of(tmp_path, dict.fromkeys("abc", stack))
    assert [len(flag.pictures) for flag in found] == [6, 6, 0]


def test_blank_images_are_nobodys(tmp_path):
    black = np.zeros((40, 3, 28, 28), np.uint8)
    assert flags_of(tmp_path, {"a": black, "b": black.copy()}) == []


def test_real_test_digits_are_flagged_plain_and_with_noise(tmp_path):
    real = np.random.default_rng(0).permutation(synthetic(5, 300))
    known = evidence.known("test digits", real[:, 0])
    plain, noise, own = (
        flags_of(tmp_path / str(i), {"a": stack}, digits=[known])
        for i, stack in enumerate((real[:40], noisy(real[:40], 6), synthetic(6, 40)))
    )
    assert "pixel by pixel" in plain[0].said and plain[0].said.startswith("40 of its images")
    assert "nearly" in noise[0].said and noise[0].kind == "test digits" and own == []


def test_words_that_two_share_are_flagged_and_those_that_all_share_are_not():
    rng = np.random.default_rng(0)
    given_to_all = rng.integers(1, 2**60, 500)
    own = {name: rng.integers(1, 2**60, 100) for name in "abcdefgh"}
    own["b"][:50] = own["a"][:50]
    empty = np.zeros((0, 3, 28, 28), np.uint8)
    trace = {name: traces(empty, np.unique(np.r_[given_to_all, words]), ()) for name, words in own.items()}
    entries = [Entry(name, name, Path("nowhere")) for name in own]
    (flag,) = evidence.of_words(entries, trace, {"words": 0.3, "code": 0.5})
    assert flag.ids == ("a", "b") and flag.said.startswith("50% of the runs of 6 words")


def words_flags(tmp_path: Path, bench: Bench) -> list[evidence.Flag]:
    """Of all that lies in `tmp_path`, the flags for words, and for what was not compared."""
    entries = [Entry(path.name, path.name, path) for path in sorted(tmp_path.iterdir())]
    both = {entry.id: examine(entry, bench, "ab") for entry in entries}
    found, trace = ({name: pair[k] for name, pair in both.items()} for k in (0, 1))
    every = evidence.flags(entries, found, trace, [], read_rubric().flags)
    return [flag for flag in every if flag.kind in ("words", "code", "not tested")]


def office(path: Path, text: str) -> None:
    """A text as Word or LibreOffice keep it, in pieces as these make them."""
    word = path.suffix == ".docx"
    middle = len(text) // 2
    begin, cut, end, name = (
        ("<w:p><w:r><w:t>", "</w:t></w:r><w:r><w:t>", "</w:t></w:r></w:p>", "word/document.xml")
        if word
        else ("<text:p>", "<text:span>", "</text:span></text:p>", "content.xml")
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, f"<x>{begin}{text[:middle]}{cut}{text[middle:]}{end}{begin}The end.{cut}{end}</x>")


@pytest.mark.parametrize("kind", ["html", "docx", "odt", "md"])
def test_a_copied_report_is_flagged_in_another_form_and_however_much_is_put_around_it(kind, tmp_path, bench):
    for number, name in enumerate("abc", 1):
        put(synthetic(number, 10), tmp_path / name / "generate")
    text, own = make_class.words(1), [make_class.words(20 + k, 3000) for k in range(2)]
    (tmp_path / "a" / "report.html").write_text(f"<p>{text}</p>")
    (tmp_path / "c" / "report.html").write_text(f"<p>{make_class.words(3)}</p>")
    hidden = f'<p style="color:white">{own[0]}</p><p>{text}</p><div style="display:none">{own[1]}</div>'
    path = tmp_path / "b" / f"report.{kind}"
    if kind in ("docx", "odt"):
        office(path, text)
    else:
        path.write_text(hidden if kind == "html" else f"{own[0]}\n\n{text}\n\n{own[1]}")
    (flag,) = words_flags(tmp_path, bench)
    assert flag.ids == ("a", "b") and flag.said.startswith("100%") and flag.passage in text
    assert look(tmp_path / "b", bench).report == Part(path.name, "")


def test_what_stands_before_a_copy_does_not_hide_it(tmp_path, bench, monkeypatch):
    """Neither other files, which are read first, nor more letters than are compared, which are told."""
    from hwkit.grade import examine as examination

    for number, name in enumerate("abc", 1):
        put(synthetic(number, 10), tmp_path / name / "generate")
        (tmp_path / name / "report.html").write_text(f"<p>{make_class.words(number)}</p>")
    for number in range(20):
        (tmp_path / "b" / f"report_{number:02d}.html").write_text(f"<p>{make_class.words(30 + number, 100)}</p>")
        (tmp_path / "b" / f"a{number:02d}.py").write_text(make_class.words(60 + number, 100))
    (tmp_path / "b" / "report_z.html").write_text(f"<p>{make_class.words(1)}</p>")
    cells = [{"cell_type": "code", "source": make_class.words(99)}]
    for name in "bc":
        (tmp_path / name / "z.ipynb").write_text(json.dumps({"cells": cells}))
    assert [(flag.kind, flag.ids) for flag in words_flags(tmp_path, bench)] == [
        ("words", ("a", "b")),
        ("code", ("b", "c")),
    ]
    monkeypatch.setattr(examination, "COMPARED", 8_000)
    (flag, *others) = words_flags(tmp_path, bench)
    assert (flag.kind, flag.ids) == ("not tested", ("b",)) and "8,000 letters" in flag.said and "report_" in flag.said
    assert [(other.kind, other.ids) for other in others] == [("code", ("b", "c"))]  # notebooks are read first


@pytest.mark.parametrize("data", [b"", b"PK\5\6" + bytes(18), b"\xff" * 5000, "bomb", "other"])
def test_an_office_file_that_is_none_is_a_blank_report(data, tmp_path, bench):
    folder = good(tmp_path / "x")
    (folder / "report.html").unlink()
    path = folder / "report.docx"
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("word/document.xml" if data == "bomb" else "a.txt", bytes(40 * 2**20))
    found = look(folder, bench)
    assert found.report == Part("report.docx", "report.docx is blank, or no docx.")


def test_the_passage_is_what_both_have(tmp_path, bench):
    common = "a sentence that only these two have in their reports and which nobody else has ever written down so"
    for name, before in (("a", "one two three four five six seven"), ("b", "alpha beta gamma delta epsilon zeta")):
        put(synthetic(1, 10), tmp_path / name / "generate")
        (tmp_path / name / "report.html").write_text(f"<p>{before} {common}. {before}</p>")
    found = {name: examine(Entry(name, name, tmp_path / name), bench, "ab")[1] for name in "ab"}
    shared = np.intersect1d(found["a"].words, found["b"].words)
    assert evidence.passage(tmp_path / "a", "words", shared) == common


def test_a_long_passage_that_two_share_is_found_soon(tmp_path):
    """Two uploads of one report of 200,000 words: a list that grew word by word took hours."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [letters[k % 26] + letters[k // 26 % 26] + letters[k // 676 % 26] + "x" * (k % 7) for k in range(200_000)]
    put(synthetic(1, 10), tmp_path / "generate")
    (tmp_path / "report.txt").write_text(" ".join(words))
    shared, started = np.array(evidence.shingles(words, evidence.WORDS), np.uint64), time.monotonic()
    assert evidence.passage(tmp_path, "words", shared) == " ".join(words[:60])
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("kind", ["words", "code"])
def test_what_the_kit_gave_to_all_is_nobodys_own(kind):
    """The page's words in the language of a few, or a function of the library that two have handed in."""
    if kind == "words":
        paths = sorted((KIT / "notebooks" / "zh-TW").glob("03*.ipynb"))
        cells = json.loads(paths[0].read_text("utf-8"))["cells"]
        text = "".join(next(cell["source"] for cell in cells if len("".join(cell["source"])) > 300))
        own = evidence.unique(evidence.shingles(evidence.words_of(text), evidence.WORDS))
    else:
        text = (KIT / "hwkit" / "diffusion.py").read_text("utf-8")
        own = evidence.unique(evidence.shingles(evidence.tokens_of(text), evidence.TOKENS))
    mine = np.array([1, 2, 3], np.uint64)
    sets = {"a": np.union1d(own, mine), "b": np.union1d(own, mine), "c": np.array([4], np.uint64)}
    found = evidence.rare(sets, evidence.given(kind))
    assert len(own) > 50 and found["a"].tolist() == found["b"].tolist() == [1, 2, 3]


def test_a_step_that_the_machine_broke_off_is_tried_again_and_told(tmp_path, bench, monkeypatch):
    """A full disk is no fault of the student's: their work is looked at again, and a person is told."""
    from hwkit.grade.examine import Work

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Work, "provenance", full)
    found, _ = examine(Entry("x", "x", good(tmp_path / "x")), bench, "ab", "a key")
    assert found.key == "" and "No space left" in found.problems[0]
    assert ("not tested", True) in [(kind, "No space left" in said) for said, _, kind in found.known]


@pytest.mark.parametrize(
    ("names", "images", "grids"),
    [
        ([f"generate/sample_{k:05d}.png" for k in range(1, 13)], 12, ["", ""]),
        (["figures/ddpm.png", "figures/diffusion_process_ddim.png"], 0, None),
        (["ddim/figures/loss_curve.png", "ddim/figures/grid.png"], 0, ["", "ddim/figures/grid.png"]),
        (["figures/ddim_50steps.png"], 0, ["", "figures/ddim_50steps.png"]),
        (["my ddpm homework/figures/samples.png", "my ddpm homework/figures/grid.png"], 0, ["", ""]),
        (["figures/sample_sheet.png", "figures/samples.png"], 0, ["", ""]),
        (["figures/ddpm/samples.png", "figures/ddpm/loss_curve.png"], 0, ["figures/ddpm/samples.png", ""]),
        (["figures/ddim_samples.png", "compare/ddim_1.png"], 0, ["", "figures/ddim_samples.png"]),
        ([f"generate/{k:05d}_ddim.png" for k in range(1, 13)], 12, ["", ""]),
    ],
    ids=[
        *("samples by number", "figures by name", "figures of a folder", "with a number", "the work's own name"),
        *("sheets", "a folder's own", "beside a single image", "numbers first"),
    ],
)
def test_what_is_a_figure_and_what_an_image(names, images, grids, tmp_path):
    for name in [*names, *(f"generate/{k:05d}.png" for k in range(1, 13) if not images)]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    plan = layout(Folder(tmp_path))
    assert plan.folder == "generate/" and len(plan.images) == 12
    grids = grids or ["figures/ddpm.png", "figures/diffusion_process_ddim.png"]
    assert [plan.grids[kind] for kind in ("ddpm", "ddim")] == grids


def test_pages_of_an_earlier_grading_whose_id_is_gone_are_not_left_to_be_sent(few, tmp_path, in_process):
    again(few, tmp_path / "out")
    notes = tmp_path / "out" / "feedback" / "notes.html"
    notes.write_text("the instructor's own")
    shutil.copytree(few / "bob", few / "bob again")
    (few / "bob").rename(few / "ben")
    again(few, tmp_path / "out")
    left = {path.name for path in notes.parent.iterdir()}
    assert {"ben.html", "ben.results.json", "notes.html"} <= left and not {"bob.html", "bob.results.json"} & left


# Rubrics


def whole() -> Submission:
    rows = tuple(Row(what, True, "", "", what) for what in ("no subfolders", "files", "names", "RGB"))
    weights, made = Weights("w.pt", "aa", "bb"), Again((1, 2, 3, 4), equal=4)
    parts = {"ddpm": Part("a.png"), "ddim": Part("b.png")}
    numbers = {"digits": {"value": 0.4, "error": 0.03, "kid": 0.0, "kid_error": 0.1, "precision": 0.8, "recall": 0.9}}
    found = Submission(id="a", rows=rows, images=10_000, numbers=numbers, grids=parts, report=Part("r.pdf"))
    return replace(found, weights=weights, again=made, history=History(3))


def test_who_has_all_has_all_points():
    given = read_rubric().grade(whole())
    assert (given.total, given.most) == (100, 100) and not any(mark.costs for mark in given.marks)


@pytest.mark.parametrize(
    ("change", "part", "points"),
    [
        ({"rows": (Row("RGB", False, "x", "", "RGB"), Row("names", None, "x"))}, "images", 20),
        ({"rows": tuple(Row("x", False, "", "", key) for key in ("no copies", "28×28", "files"))}, "images", 0),
        ({"rows": (Row("10 Dateien", False, "", "", "files"),)}, "images", 20),
        ({"rows": (Row("a row of tomorrow", False, ""),)}, "images", 0),
        ({"numbers": {"digits": {"value": 2.01, "error": 0.1}}}, "quality", 22.5),
        ({"numbers": {"digits": {"value": 150.0, "error": 0.1}}}, "quality", 7.5),
        ({"numbers": {"digits": {"value": 151.0, "error": 0.1}}}, "quality", 0),
        ({"grids": {"ddpm": Part("a.png"), "ddim": Part("b.png", "is blank")}}, "grids", 5),
        ({"report": Part("r.pdf", "is blank")}, "report", 0),
        ({"again": Again((1, 2, 3, 4), equal=1, near=1, other=2)}, "weights", 7.5),
        ({"again": Again((1, 2), other=2)}, "weights", 5),
        ({"again": Again(trouble="Nothing says what made the images.")}, "weights", 5),
        ({"again": Again(trouble="Drawn on another device.", elsewhere=True)}, "weights", 10),
        ({"weights": Weights("w.pt", trouble="is damaged")}, "weights", 0),
        ({"history": History(3, ("one",))}, "history", 5),
        ({"history": History(3, ("one", "two", "three"))}, "history", 0),
        ({"history": History()}, "history", 0),
        ({"history": History(0, ("The history in history.jsonl is not as the training writes it.",))}, "history", 0),
        ({"tasks": (Task("1", True), Task("2", False, "no"))}, "functions", 10),
    ],
)
def test_what_costs_points_costs_those_of_the_rubric(change, part, points):
    mark = read_rubric().grade(replace(whole(), **change))[part]
    assert mark.points == points
    assert points == mark.most or mark.costs or mark.notes


def test_a_trouble_is_told_once():
    """Beside the points that it costs, or beside all points."""
    for elsewhere, costs, notes in ((False, 1, ()), (True, 0, ("why",))):
        mark = read_rubric().grade(replace(whole(), again=Again(trouble="why", elsewhere=elsewhere)))["weights"]
        assert (len(mark.costs), mark.notes) == (costs, notes)


def test_late_costs_and_never_more_than_there_is():
    rules = read_rubric()
    assert rules.grade(whole(), late=True).total == 90
    assert rules.grade(Submission(id="a", failed="broken"), late=True).total == 0


def test_each_number_of_the_rubric_can_be_changed(tmp_path):
    default = read_rubric()
    for table in ("measure", "points", "check", "history", "unknown", "penalties", "flags"):
        for name in getattr(default, table):
            value = 1 if table in ("unknown", "measure") else 7
            (tmp_path / "r.toml").write_text(f'[{table}]\n"{name}" = {value}\n', encoding="utf-8")
            changed = getattr(read_rubric(tmp_path / "r.toml"), table)
            assert changed[name] == value and {**changed, name: 0} == {**getattr(default, table), name: 0}
    (tmp_path / "r.toml").write_text("[bands]\ninception = [[3, 1]]\n")
    assert read_rubric(tmp_path / "r.toml").bands["inception"] == [[3, 1]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[points", "is no TOML"),
        ("[pionts]\nimages = 3", r"there is no \[pionts\], but \[measure\]"),
        ("[points]\nimgaes = 3", "there is no 'imgaes', but images, quality"),
        ("[points]\nimages = -3", "must be a number, 0 or more"),
        ("[points]\nimages = true", "must be a number, 0 or more"),
        ("[points]\nimages = nan", "must be a number, 0 or more"),
        ("[bands]\ndigits = 3", "must be pairs"),
        ("[bands]\ndigits = [[3, 1], [1, 0.5]]", "must rise"),
        ("[bands]\ndigits = [[3, 1.5]]", "between 0 and 1"),
        ("[unknown]\nagain = 2", "between 0 and 1"),
        ("[measure]\nimages = 0", "whole number"),
        ("[measure]\nagain = 1.5", "whole number"),
        ("points = 3", r"there is no \[points\]"),
    ],
)
def test_a_rubric_that_cannot_work_is_refused_in_a_sentence(text, said, tmp_path):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_rubric(tmp_path / "r.toml")


def test_the_rubric_of_the_class_asks_for_what_is_asked_of_it(tmp_path):
    (tmp_path / "r.toml").write_text(RUBRIC)
    assert read_rubric(tmp_path / "r.toml").measure == {"images": make_class.N, "again": 6, "kit_seeds": 3}


# What comes out


def result(name: str, value: float | None = None, error: float = 0.1, points: float = 0) -> feedback.Result:
    numbers = {} if value is None else {"digits": {"value": value, "error": error}}
    found = Submission(id=name, numbers=numbers, failed="" if numbers else "broken")
    return feedback.Result(Entry(name, name, Path(name)), found, read_rubric().grade(found))


def test_ties_within_one_error_share_a_rank():
    """Of a (1.00 ± 0.10), √(0.1² + 0.1²) = 0.14: b and c share its rank, d begins another, which e (± 0.5) shares."""
    values = {"a": (1.0, 0.1), "c": (1.14, 0.1), "b": (1.1, 0.1), "d": (1.2, 0.1), "e": (1.6, 0.5), "f": (1.9, 0.1)}
    results = [result(name, *numbers) for name, numbers in values.items()] + [result("g")]
    places = [(place.rank, place.result.id) for place in feedback.leaderboard(results, "digits")]
    assert places == [(1, "a"), (1, "b"), (1, "c"), (4, "d"), (4, "e"), (6, "f")]


def test_the_class_on_the_whole_is_not_told_of_two():
    assert feedback.quartiles([1.0, 2.0]) is None
    assert feedback.quartiles([1.0, 2.0, 3.0]) == (1.5, 2.0, 2.5)


HOSTILE = st.text(max_size=40) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</style><svg onload=x>",
        "{{ 7*7 }}",
        "{%",
        "`<b>`",
    ]
)


@given(st.lists(HOSTILE, min_size=8, max_size=8))
@settings(max_examples=60)
def test_no_words_of_a_student_become_html(tmp_path_factory, words):
    a, b, c, d, e, f, g, h = words
    rows = (Row(a, False, b, c), Row("RGB", None, d))
    found = replace(whole(), rows=rows, problems=(e,), report=Part(f, g), failed=h)
    found = replace(found, history=History(1, (a,)), again=Again(trouble=b), tasks=(Task(c, False, d),))
    one = feedback.Result(
        Entry("x", f, Path("hand in") / (a.replace("/", "").replace("\0", "") or "x")),
        found,
        read_rubric().grade(found),
    )
    flag = evidence.Flag(a, (b, c), d, ("",), e)
    out = tmp_path_factory.mktemp("pages")
    feedback.write([one], [flag], "digits", read_rubric(), out)
    plain = feedback.Result(
        Entry("x", "x", Path("x")), replace(whole(), report=Part("r", "x")), read_rubric().grade(whole())
    )
    for text in ((out / "feedback" / "x.html").read_text("utf-8"), (out / "class.html").read_text("utf-8")):
        page = Page(text)
        assert not {"script", "iframe", "object", "embed", "form", "base", "link", "b"} & (set(page.tags) - {"b"})
        assert page.tags.count("img") <= 1 and "49" not in [said.strip() for said in page.said]
        assert all(link.startswith(("data:image/png;base64,", "feedback/")) for link in page.links)
        assert page.tags.count("svg") == text.count('<svg class="')
    assert plain.id == "x"


@given(HOSTILE | st.sampled_from(["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\n=1", "-5", "+3.5"]))
def test_no_cell_is_a_formula_and_each_line_is_one_student(text):
    cell = feedback.safe_cell(text)
    assert "\n" not in cell and "\r" not in cell
    if cell[:1] in ("=", "+", "-", "@"):
        float(cell)


def test_a_student_cannot_write_another_line_into_the_csv(few, tmp_path, in_process):
    hostile = few / 'x","y\n=1+1,100'
    shutil.copytree(few / "ann", hostile)
    found = again(few, tmp_path / "out")
    assert len(found) == 4 and len({row["total"] for row in found.values()}) == 1
    assert {path.suffix for path in (tmp_path / "out" / "feedback").iterdir()} == {".html", ".json"}


# The command line


def refused(capsys, *arguments) -> str:
    assert main(["grade", *map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hwkit: ") and said.count("\n") == 1 and "Traceback" not in said
    return said


def test_what_cannot_be_graded_is_refused_in_a_sentence(tmp_path, few, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("name\n")
    assert "Name one folder" in refused(capsys)
    assert "is not there" in refused(capsys, tmp_path / "nowhere")
    assert "is a file" in refused(capsys, tmp_path / "bad.csv")
    assert "holds no submissions" in refused(capsys, tmp_path / "empty")
    assert "none called id" in refused(capsys, few, "--roster", tmp_path / "bad.csv")
    assert "no TOML" in refused(capsys, few, "--rubric", tmp_path / "bad.csv")
    assert "more than 0" in refused(capsys, few, "--jobs", 0)
    assert "--train" in refused(capsys, few, "--train", tmp_path / "nowhere")
    assert not list(tmp_path.glob("few-graded"))


def test_one_image_in_a_zip_is_enough_to_see_that_zips_and_folders_are_alike(few, tmp_path, in_process):
    with zipfile.ZipFile(few / "dan.zip", "w") as archive:
        for path in sorted((few / "ann").rglob("*")):
            archive.write(path, path.relative_to(few / "ann"))
    found = again(few, tmp_path / "out")
    own = {"id", "student", "name", "submission", "seconds", "flags"}
    assert {k: v for k, v in found["dan"].items() if k not in own} == {
        k: v for k, v in found["ann"].items() if k not in own
    }
    assert "images like" in found["dan"]["flags"] and encode_png(synthetic(1, 1)[0])
