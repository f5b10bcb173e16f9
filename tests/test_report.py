"""The report to hand in: what stands in it is what the run's files say, and it is safe, whole and printable."""

import json
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
from conftest import TINY

from hwkit.measure.features import DigitFeatures
from hwkit.measure.score import publish, score
from hwkit.mnist.folder import encode_png, load_folder
from hwkit.runs.checkpoint import EXPORTED, best_of, export, load
from hwkit.runs.generate import generate
from hwkit.sampling import Sampler
from hwkit.show.report import (
    BROWSERS,
    Part,
    model_rows,
    result_rows,
    training_rows,
    write_html,
    write_pdf,
    write_submission,
)
from hwkit.unet import UNet

PNG = encode_png(np.zeros((28, 28), np.uint8))


@pytest.fixture
def run(trained_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained_run, tmp_path / "run")


def text(rows) -> str:
    return "\n".join(f"{what}: {value}" for what, value in rows)


def test_the_tables_say_what_the_run_was(run):
    said = text(model_rows(run) + training_rows(run))
    count = sum(p.numel() for p in UNet(TINY.model).parameters())
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    for part in (f"parameters: {count:,}", "T = 40", "x_0, the image", "Muon 0.02", "8, seed 0", "192, in epochs: 2"):
        assert part in said, said
    assert f"{history[-1]['loss']:.4f}" in said and "torch 2" in said


def test_without_a_history_nothing_is_made_up(run):
    (run / "history.jsonl").unlink()
    said = text(training_rows(run))
    assert "loss, last epoch" not in said and "time:" not in said
    assert result_rows(run) == []


def test_weights_that_came_with_the_kit_have_a_report_too(run, tmp_path):
    exported = tmp_path / "exported"
    export(load(run / "ema_latest.pt"), exported / EXPORTED)
    assert model_rows(exported) == model_rows(run)


def test_measured_values_stand_there_with_error_and_floor(run):
    folder = run / "generate"
    generate(best_of(run), folder, 12, Sampler("ddim", 3), seed=5)
    images = load_folder(folder)
    record = score(DigitFeatures(), [folder], [images])
    publish(record, run / "generate-evaluation")
    said = text(result_rows(run))
    assert "12 PNGs by ddim-3, seed 5" in said
    assert f"digit-FID: {record['value']:.2f} ± {record['error']:.2f}, 12 images" in said
    for numbers in record["real"].values():
        assert f"{numbers['value']:.2f}" in said


def test_the_page_needs_nothing_else_and_runs_nothing(tmp_path):
    picture = tmp_path / "p.png"
    picture.write_bytes(PNG)
    evil = "<script>alert(1)</script>"
    part = Part(evil, [f"a < b & {evil}"], [(evil, '"quoted" <b>')], [(picture, f'{evil} " onload="x')])
    page = write_html(tmp_path / "r.html", evil, evil, [part]).read_text("utf-8")
    assert "<script" not in page and 'onload="x' not in page and "&lt;script&gt;" in page
    assert "data:image/png;base64," in page and "http" not in page.replace("http-equiv", "")


def test_the_page_is_printed_where_there_is_a_browser(tmp_path, monkeypatch):
    page = write_html(tmp_path / "my report.html", "Title", "me", [Part("One", ["text"])])
    if any(map(shutil.which, BROWSERS)):
        pdf = write_pdf(page)
        assert pdf == tmp_path / "my report.pdf" and pdf.read_bytes().startswith(b"%PDF")
        pdf.unlink()
    monkeypatch.setattr(handout.shutil, "which", lambda name: None)
    assert write_pdf(page) is None
    monkeypatch.setattr(handout.shutil, "which", lambda name: "/bin/false")
    assert write_pdf(page) is None, "a browser that fails"

    def hang(*_, **__):
        raise subprocess.TimeoutExpired("chromium", 120)

    monkeypatch.setattr(handout.subprocess, "run", hang)
    assert write_pdf(page) is None and [path.name for path in tmp_path.iterdir()] == ["my report.html"]


def test_the_submission_holds_images_flat_and_the_rest_by_name(tmp_path):
    images = tmp_path / "elsewhere" / "generate"
    images.mkdir(parents=True)
    for k in (2, 1):
        (images / f"{k:05d}.png").write_bytes(PNG)
    (images / "notes.txt").write_text("not mine to hand in")
    (tmp_path / "report.html").write_text("<p>")
    path = write_submission(tmp_path / "submission.zip", images, [tmp_path / "report.html"])
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["generate/00001.png", "generate/00002.png", "report.html"]
        assert archive.read("generate/00002.png") == PNG
