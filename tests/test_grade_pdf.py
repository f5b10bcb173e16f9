"""Reports as PDF: their words are compared where pypdf is installed, and no PDF stops the grading or takes it long."""

import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from make_class import put, synthetic, words

from hwkit.grade import evidence, pdf
from hwkit.grade.examine import Bench, Settings, examine, layout
from hwkit.grade.intake import opened
from hwkit.grade.roster import Entry

installed = pytest.mark.skipif(not pdf.is_installed(), reason="pypdf is not installed")


def pages(*streams: bytes, packed: bool = False, loop: bool = False) -> bytes:
    """A PDF of these content streams, written by hand."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(streams)))
    kids += " 2 0 R" * loop  # the pages hold themselves
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(streams)} >>", font]
    objects = [text.encode() for text in objects]
    for i, stream in enumerate(streams):
        page = f"<< /Type /Page /Parent 2 0 R /Resources << /Font << /F 3 0 R >> >> /Contents {5 + 2 * i} 0 R >>"
        method = "/Filter /FlateDecode " * packed
        data = f"<< {method}/Length {len(stream)} >>\nstream\n".encode() + stream + b"\nendstream"
        objects += [page.encode(), data]
    content, places = b"%PDF-1.4\n", []
    for number, data in enumerate(objects, 1):
        places.append(len(content))
        content += b"%d 0 obj\n" % number + data + b"\nendobj\n"
    start = len(content)
    content += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    content += b"".join(b"%010d 00000 n \n" % place for place in places)
    return content + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)


def written(text: str) -> bytes:
    """A content stream that shows this text, ten words a line."""
    parts = text.split()
    lines = [" ".join(parts[i : i + 10]) for i in range(0, len(parts), 10)]
    return ("BT /F 10 Tf 12 TL 40 800 Td " + " ".join(f"({line}) Tj T*" for line in lines) + " ET").encode()


def bomb(size: int) -> bytes:
    """`size` bytes of blanks, packed."""
    press = zlib.compressobj(9)
    return b"".join(press.compress(b" " * 2**20) for _ in range(size >> 20)) + press.flush()


@installed
def test_the_words_are_read_page_by_page():
    first, second = words(1, 60), words(2, 60)
    assert pdf.words(pages(written(first), written(second))).split() == f"{first} {second}".split()


@installed
@pytest.mark.parametrize("harm", ["bomb", "loop", "none", "cut", "empty"])
def test_no_pdf_takes_long_or_raises_anything_else(harm):
    data = {
        "bomb": lambda: pages(bomb(3 * 2**30), packed=True),
        "loop": lambda: pages(written(words(1)), loop=True),
        "none": lambda: b"%PDF-1.7 and nothing else",
        "cut": lambda: pages(written(words(1)))[:400],
        "empty": lambda: b"",
    }[harm]()
    assert len(data) < 2**23
    started = time.monotonic()
    try:
        pdf.words(data)
    except ValueError as error:
        assert "could be read" in str(error)
    assert time.monotonic() - started < pdf.WALL + 30


@installed
def test_a_process_that_does_not_end_is_ended_and_what_it_read_before_counts(monkeypatch):
    run = subprocess.run

    def slow(command, **how):
        code = "import sys, time; print('first page', flush=True); time.sleep(600)"
        return run([sys.executable, "-c", code], **how | {"timeout": 5})

    monkeypatch.setattr(subprocess, "run", slow)
    assert pdf.words(b"").split() == ["first", "page"]


@installed
def test_equal_reports_as_pdf_are_flagged_and_others_are_not(tmp_path):
    bench = Bench(Settings(images=10, again=2, cache=str(tmp_path)))
    own = {"ann": words(1), "bob": words(1) + " and a few of my own", "cid": words(3)}
    entries, traces = [], {}
    for number, (name, text) in enumerate(own.items()):
        put(synthetic(number, 10), tmp_path / name / "generate")
        (tmp_path / name / "report.pdf").write_bytes(pages(written(text)))
        entries.append(Entry(name, name, tmp_path / name))
        found, traces[name] = examine(entries[-1], bench, "ab")
        assert found.problems == () and len(traces[name].words) > 200
    (flag,) = evidence.of_words(entries, traces, {"words": 0.3, "code": 0.5})
    assert flag.ids == ("ann", "bob") and len(flag.passage.split()) == 60


@installed
def test_a_pdf_without_words_is_a_problem_of_its_own_only(tmp_path):
    put(synthetic(1, 10), tmp_path / "x" / "generate")
    (tmp_path / "x" / "report.pdf").write_bytes(b"%PDF-1.7" + np.random.default_rng(0).bytes(5000))
    found, traces = examine(Entry("x", "x", tmp_path / "x"), Bench(Settings(images=10, cache=str(tmp_path))), "ab")
    assert found.images == 10 and len(traces.words) == 0
    assert found.problems == ("report.pdf: no words could be read in it, so they are not compared with others'.",)


def test_without_pypdf_no_pdf_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(pdf, "is_installed", lambda: False)
    monkeypatch.setattr(pdf, "words", lambda data: pytest.fail("it was opened"))
    put(synthetic(1, 10), tmp_path / "x" / "generate")
    (tmp_path / "x" / "report.pdf").write_bytes(pages(written(words(1))))
    plan = layout(opened(tmp_path / "x"))
    assert plan.report == "report.pdf" and plan.texts == []


def test_the_process_imports_nothing_of_the_kit():
    assert "hwkit" not in "".join(
        line for line in Path(pdf.__file__).read_text("utf-8").split("\n") if "import" in line
    )
