"""The report to hand in: what stands in it is what the run's files say, and it is safe, whole and printable."""

import datetime
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from conftest import TINY
from PIL import Image

from hwkit.measure.features import DigitFeatures
from hwkit.measure.score import images_sha256, score
from hwkit.mnist.folder import load_folder
from hwkit.runs import checkpoint
from hwkit.runs.checkpoint import EXPORTED, best_of, export, load
from hwkit.runs.generate import generate
from hwkit.sampling import Frame, Sampler
from hwkit.show import report
from hwkit.show.report import (
    BROWSERS,
    Part,
    draw_figures,
    formula,
    log_lines,
    model_rows,
    result_rows,
    run_rows,
    training_rows,
    write_html,
    write_pdf,
    write_report,
)
from hwkit.unet import UNet


@pytest.fixture
def run(trained_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained_run, tmp_path / "run")


@pytest.fixture(scope="module")
def measured(trained_run, tmp_path_factory) -> Path:
    run = shutil.copytree(trained_run, tmp_path_factory.mktemp("measured") / "run")
    generate(best_of(run), run / "generate", 12, Sampler("ddim", 3), seed=5, progress=False)
    score(DigitFeatures(), [run / "generate"], [load_folder(run / "generate")]).write(run / "generate-evaluation")
    return run


@pytest.fixture
def measured_run(measured, tmp_path, monkeypatch) -> Path:
    """A run with twelve images, which have been measured."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(measured, tmp_path / "run")


def picture(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (28, 28), (level, 0, 0)).save(path, "PNG")
    return path


def text(rows) -> str:
    return "\n".join(f"{what}: {value}" for what, value in rows)


def test_the_tables_say_what_the_run_was(run):
    said = text(model_rows(run) + training_rows(run))
    count = sum(p.numel() for p in UNet(TINY.model).parameters())
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    for part in (
        f"parameters: {count:,}",
        "T = 40",
        "x_0, the image",
        "Muon 0.02",
        "8, seed 0",
        "192, in epochs: 2",
        "recipe smoke",
        "AdamW 0.001, falling to 0 from 30% of the run on",
        "EMA, up to 0.9999",
        f"(the lowest: {min(line['loss'] for line in history):.4f})",
    ):
        assert part in said, said
    assert f"{history[-1]['loss']:.4f}" in said and "torch 2" in said


def test_without_a_history_nothing_is_made_up(run):
    (run / "history.jsonl").unlink()
    said = text(training_rows(run))
    assert "loss, last epoch" not in said and "time:" not in said
    assert result_rows(run / "generate") == []


def test_weights_that_were_not_trained_here_are_said_to_be_none_of_ones_own(run, tmp_path, monkeypatch):
    exported = tmp_path / "mine" / EXPORTED
    export(load(run / "ema_latest.pt"), exported)
    assert model_rows(exported.parent) == model_rows(run)
    assert "not trained for this report: exported by another run" in text(training_rows(exported.parent))
    monkeypatch.setattr(checkpoint, "PRETRAINED", exported.parent)  # now it is the file that comes with the kit
    anywhere = shutil.copytree(exported.parent, tmp_path / "anywhere")
    assert "not trained for this report: NOT YOUR MODEL, but the kit’s own" in text(training_rows(anywhere))
    assert "not trained for this report" not in text(training_rows(run))


def test_measured_values_stand_there_with_error_and_floor(measured_run):
    images = measured_run / "generate"
    said = text(result_rows(images))
    found = score(DigitFeatures(), [images], [load_folder(images)])
    assert "12 PNGs by ddim-3, seed 5" in said
    assert f"digit-FID: {found.value:.2f} ± {found.error:.2f}" in said and "12 images" in said
    assert len(found.real) > 1 and all(f"{numbers['value']:.2f}" in said for numbers in found.real.values())
    assert "FID by pytorch-fid: not measured" in said and "not measured yet" not in said


def test_what_was_measured_of_other_images_is_not_told_of_these(measured_run):
    """Of as many images, or of fewer: the report would else name the FID of images that nobody hands in."""
    folder = measured_run / "generate"
    generate(best_of(measured_run), folder, 13, Sampler("ddim", 3), seed=5, progress=False)
    said = text(result_rows(folder))
    assert "13 PNGs" in said and "digit-FID: these images are not measured yet" in said and "±" not in said
    (folder / "00013.png").unlink()
    assert "±" in text(result_rows(folder))
    picture(folder / "00001.png")
    assert "±" not in text(result_rows(folder))


def test_a_score_of_hwkit_0_2_knows_its_images_by_their_number(measured_run):
    path = measured_run / "generate-evaluation" / "digits_fid.json"
    content = json.loads(path.read_text())
    del content["images_sha256"]
    path.write_text(json.dumps(content))
    assert "±" in text(result_rows(measured_run / "generate"))
    (measured_run / "generate" / "00012.png").unlink()
    assert "±" not in text(result_rows(measured_run / "generate"))


def test_the_graded_number_stands_there_with_its_command(measured_run):
    images = measured_run / "generate"
    facts = {"command": "python -m pytorch_fid a b", "output": "FID:  1.66", "images": 12, "official": False}
    facts["images_sha256"] = images_sha256([load_folder(images)])
    (measured_run / "generate-evaluation" / "graded.json").write_text(json.dumps(facts))
    said = text(result_rows(images))
    assert "FID by pytorch-fid: FID:  1.66 (the output of python -m pytorch_fid a b; 12 images)" in said
    assert "compares with no other value" in said
    picture(images / "00001.png")
    assert "1.66" not in text(result_rows(images)), "it is of other images"


def test_the_log_has_its_first_and_last_epochs(run):
    lines = log_lines(run)
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [line.split(",")[0] for line in lines] == [f"Epoch {k}/2 finished" for k in (1, 2)]
    assert all(f"average loss: {record['loss']:.4f}" in line for record, line in zip(history, lines, strict=True))
    whole = history[0]["images_seen"]
    many = [{**history[0], "epoch": k, "images_seen": whole * k - whole * 3 // 4 * (k == 9)} for k in range(1, 10)]
    (run / "history.jsonl").write_text("".join(json.dumps(record) + "\n" for record in many))
    lines = log_lines(run)
    assert len(lines) == 7 and lines[3] == "…" and lines[5].startswith("Epoch 8/2 finished")
    assert lines[6].startswith("25% of epoch 9, average loss"), "as the time was over"
    (run / "history.jsonl").write_text(json.dumps({**history[0], "images_seen": whole // 2}) + "\n")
    assert log_lines(run)[0].startswith("50% of epoch 1, average loss"), "the only one, and not whole"
    (run / "latest.pt").unlink()
    (run / "history.jsonl").write_text("".join(json.dumps(record) + "\n" for record in many))
    assert log_lines(run)[6].startswith("25% of epoch 9"), "by the longest, where the count of the images is not known"


def test_runs_stand_side_by_side(measured_run, trained_run):
    shutil.copytree(trained_run, measured_run.parent / "control")
    rows = dict(run_rows(measured_run.parent))
    assert list(rows) == ["control", "run"] and all("T = 40" in value for value in rows.values())
    assert "not measured" in rows["control"] and "of 12 images by ddim-3" in rows["run"]


def test_another_runs_fault_is_told_in_its_row_and_stops_no_report(measured_run, trained_run, monkeypatch):
    """Its images deleted to save space, its checkpoint damaged, a folder that nobody may read."""
    others = measured_run.parent
    shutil.copytree(measured_run, others / "images gone")
    shutil.rmtree(others / "images gone" / "generate")
    shutil.copytree(trained_run, others / "damaged")
    (others / "damaged" / "ema_latest.pt").write_bytes(b"PK")
    shutil.copytree(measured_run, others / "of unknown origin")
    (others / "of unknown origin" / "generate.json").unlink()
    for file in (others / "of unknown origin" / "generate-evaluation").glob("*_fid.json"):
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "sampler"}))
    rows = dict(run_rows(others))
    assert "not measured" in rows["images gone"] and "cannot be read: " in rows["damaged"]
    assert "by an unknown sampler" in rows["of unknown origin"] and "None" not in rows["of unknown origin"]
    monkeypatch.setenv("PATH", "")
    assert write_report(measured_run)[0].is_file()


def test_the_kits_weights_are_no_run_of_the_students(measured_run, trained_run, monkeypatch, tmp_path):
    """They lie beside it where a notebook was opened before the training."""
    shipped = tmp_path / "shipped" / EXPORTED
    export(load(trained_run / "ema_latest.pt"), shipped)
    monkeypatch.setattr(checkpoint, "PRETRAINED", shipped.parent)
    (measured_run.parent / "pretrained").mkdir()
    shutil.copy(shipped, measured_run.parent / "pretrained")
    assert list(dict(run_rows(measured_run.parent))) == ["run"]


def test_a_curve_of_earlier_weights_is_not_in_the_report(measured_run, monkeypatch):
    monkeypatch.setenv("PATH", "")
    figures = measured_run / "figures"
    figures.mkdir()
    Image.new("RGB", (8, 8)).save(figures / "fid_curve.png")
    curve = {"images": 2, "seed": 0, "floor": 1.0, "versions": {}, "points": []}
    for digest, there in ((checkpoint.digest(best_of(measured_run)), True), ("other", False)):
        (figures / "fid_curve.json").write_text(json.dumps(curve | {"checkpoint_sha256": digest}))
        page = write_report(measured_run)[0].read_text("utf-8")
        assert (page.count("data:image/png") == 1) == there


def test_images_that_nobody_measured_are_said_to_be_so(run):
    for k in (1, 2):
        picture(run / "generate" / f"{k:05d}.png")
    said = text(result_rows(run / "generate"))
    assert "images: 2 PNGs of unknown origin" in said and "python -m hwkit fid" in said


READ = ["history.jsonl", "generate.json", "generate-evaluation/digits_fid.json"]


@pytest.mark.parametrize(
    ("name", "content"),
    [(name, content) for name in READ for content in (b'{"value": 1.0, "na', b"\xff\xfe\0")]
    + [(name, b"") for name in READ[1:]],  # a history without a line is one of no epochs
)
def test_a_damaged_file_is_named(measured_run, name, content):
    (measured_run / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(Path(name).name)):
        write_report(measured_run)
    assert not (measured_run / "report").exists(), "half a report"


def test_a_score_of_another_program_is_named(measured_run):
    (measured_run / "generate-evaluation" / "digits_fid.json").write_text('{"fid": 3.0}')
    with pytest.raises(ValueError, match=r"digits_fid\.json"):
        result_rows(measured_run / "generate")


# The whole page


def read(page: Path) -> tuple[str, list[str]]:
    """The page's text, and the alternative texts of its pictures."""
    source = page.read_text("utf-8")
    body = re.sub(r"<[^>]*>", " ", source[source.index("<body") :])
    return " ".join(unescape(body).split()), [unescape(alt) for alt in re.findall(r'alt="([^"]*)"', source)]


def test_the_report_has_four_chapters_with_all_that_the_run_left(measured_run, monkeypatch):
    monkeypatch.setattr(report.shutil, "which", lambda name: None)
    x = torch.zeros(8, 3, 28, 28)
    monkeypatch.setattr(report, "grid_frames", lambda *_: [Frame(1, x, x)])  # sampling takes time, and is not the point
    monkeypatch.setattr(report, "images", lambda *_: torch.zeros(100, 3, 28, 28, dtype=torch.uint8))
    list(draw_figures(measured_run, best_of(measured_run), measured_run / "figures", dpi=50))
    for path in ("figures/fid_curve", "generate-evaluation/digit_histogram", "generate-evaluation/closest_pairs"):
        picture(measured_run / f"{path}.png")
    page, pdf = write_report(measured_run, "My <title>", "A. Student", "It worked.\n\nNext: more & better.")
    assert page == measured_run / "report" / "report.html" and pdf is None
    said, pictures = read(page)
    chapters = ["1 · Model description", "2 · Implementation details", "3 · Result analysis", "4 · Conclusion"]
    assert [said.index(chapter) for chapter in chapters] == sorted(said.index(chapter) for chapter in chapters)
    assert said.startswith("My <title> A. Student") and "It worked. Next: more & better. References" in said
    assert str(datetime.date.today()) in said and "NOT YOUR MODEL" not in said
    numbered = re.findall(r"Figure (\d+)\.", said)
    assert numbered == [str(k) for k in range(1, len(pictures) + 1)]
    for rows in (model_rows(measured_run), training_rows(measured_run), result_rows(measured_run / "generate")):
        for what, value in rows:
            assert f"{what} {' '.join(value.split())}" in said
    assert len(pictures) == 9 and all(len(alt) > 20 for alt in pictures), "a known figure has words of its own"


def test_a_report_of_a_run_that_has_nothing_yet_makes_nothing_up(run, monkeypatch):
    monkeypatch.setattr(report.shutil, "which", lambda name: None)
    page, _ = write_report(run)
    said, pictures = read(page)
    assert not pictures and "FID ±" not in said and "Your own words" in said


def test_the_report_of_other_images_tells_of_those(measured_run, tmp_path, monkeypatch):
    monkeypatch.setattr(report.shutil, "which", lambda name: None)
    for ending in ("", ".json", "-evaluation"):
        (measured_run / f"generate{ending}").rename(tmp_path / f"elsewhere{ending}")
    said, _ = read(write_report(measured_run, images=tmp_path / "elsewhere")[0])
    assert "12 PNGs by ddim-3, seed 5" in said and "digit-FID" in said
    assert "12 PNGs" not in read(write_report(measured_run)[0])[0]


def test_the_page_needs_nothing_else_and_runs_nothing(tmp_path):
    evil = "<script>alert(1)</script>"
    part = Part(
        evil, [f"a < b & {evil}"], [(evil, '"quoted" <b>')], [(picture(tmp_path / "p.png"), f'{evil} " onload="x')]
    )
    page = write_html(tmp_path / "r.html", evil, evil, [part]).read_text("utf-8")
    assert "<script" not in page and 'onload="x' not in page and "&lt;script&gt;" in page
    assert "data:image/png;base64," in page and "http" not in page.replace("http-equiv", "")
    assert page.startswith("<!doctype html>")


def test_a_chapter_of_ones_own_gets_no_words_of_the_kits(tmp_path):
    part = Part("Result analysis", ["mine"], pictures=[(picture(tmp_path / "samples.png"), "my caption")])
    said, pictures = read(write_html(tmp_path / "r.html", "T", "", [part]))
    assert "1 · Result analysis mine Figure 1. my caption References" in said and pictures == ["my caption"]


def test_questions_are_printed_with_their_answers_and_texts_say_their_language(tmp_path):
    part = Part(
        "Result analysis", ["mine"], answers=[("Why is it so late?", "因為雜訊蓋過了數字。"), ("What else?", "Noise.")]
    )
    page = write_html(tmp_path / "r.html", "擴散模型", "Lin", [part])
    source = page.read_text("utf-8")
    assert '<dt lang="en">Why is it so late?</dt><dd lang="zh-Hant-TW">因為雜訊蓋過了數字。</dd>' in source
    assert '<h1 lang="zh-Hant-TW">' in source and '<dd lang="en">Noise.</dd>' in source and '<html lang="en">' in source


def test_equations_are_set_as_mathematics(run):
    page, _ = write_report(run)
    source = page.read_text("utf-8")
    formulas = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", source, re.S)]
    assert [r"\bar\alpha" in svg.get("aria-label") for svg in formulas] == [True, False, True, True]
    for svg in formulas:
        assert re.fullmatch(r"[MLQCZ\d. -]+", svg[0].get("d")) and len(svg[0].get("d")) > 1000


def test_a_formula_is_drawn_in_its_box():
    svg = ElementTree.fromstring(formula(r"\frac{a < b}{c}"))
    left, top, wide, high = map(float, svg.get("viewBox").split())
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", svg[0].get("d"))]
    xs, ys = numbers[::2], [-y for y in numbers[1::2]]
    assert left < min(xs) and max(xs) < left + wide and top < min(ys) and max(ys) < top + high
    assert svg.get("aria-label") == r"\frac{a < b}{c}"


def test_weights_of_the_kit_are_called_so_on_the_page(run, monkeypatch):
    monkeypatch.setattr(report.shutil, "which", lambda name: None)
    export(load(run / "ema_latest.pt"), run / EXPORTED)
    monkeypatch.setattr(checkpoint, "PRETRAINED", run)
    said, _ = read(write_report(run)[0])
    assert said.index("NOT YOUR MODEL") < said.index("1 · Model description")


def test_a_picture_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        write_html(tmp_path / "r.html", "T", "", [Part("One", pictures=[(tmp_path / "gone.png", "x")])])


def test_the_page_is_printed_where_there_is_a_browser(tmp_path, monkeypatch):
    page = write_html(tmp_path / "my report.html", "Title", "me", [Part("One", ["text"])])
    if any(map(shutil.which, BROWSERS)):
        pdf = write_pdf(page)
        assert pdf == tmp_path / "my report.pdf" and pdf.read_bytes().startswith(b"%PDF")
        pdf.unlink()
    monkeypatch.setattr(report.shutil, "which", lambda name: None)
    assert write_pdf(page) is None
    monkeypatch.setattr(report.shutil, "which", lambda name: "/bin/false")
    assert write_pdf(page) is None, "a browser that fails"
    monkeypatch.setattr(report.shutil, "which", lambda name: "/bin/true")
    assert write_pdf(page) is None, "a browser that writes nothing"

    def hang(*_, **__):
        raise subprocess.TimeoutExpired("chromium", 120)

    monkeypatch.setattr(report.subprocess, "run", hang)
    assert write_pdf(page) is None and [path.name for path in tmp_path.iterdir()] == ["my report.html"]


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="no pdftotext")
@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chromium")
@pytest.mark.parametrize("lines", [16, 18, 20, 22, 24])
def test_the_references_stand_on_one_page_with_the_end_of_the_text(lines, tmp_path):
    """The first page ends before them, in their middle, or behind them: a line of text is a line on the page."""
    text = [f"Line {number}." for number in range(lines)]
    pdf = write_pdf(write_html(tmp_path / "r.html", "Title", "me", [Part("One", text)]))
    said = subprocess.run(["pdftotext", pdf, "-"], capture_output=True, text=True, encoding="utf-8").stdout
    last = said.rstrip("\f").split("\f")[-1]
    assert f"Line {lines - 1}." in last and last.index(f"Line {lines - 1}.") < last.index("References")
    assert last.count("arXiv:") == said.count("arXiv:") == 6
