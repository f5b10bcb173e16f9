"""The library in Chinese: the language is chosen as it should be, and no English sentence is left in what is shown."""

import gettext
import importlib
import io
import re
import shutil
import string
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from babel.messages.mofile import read_mo
from conftest import TINY
from matplotlib.text import Text
from PIL import Image

from hwkit import files, notebook, sampling
from hwkit.__main__ import main
from hwkit.course import doctor, selfcheck
from hwkit.course.mistakes import MISTAKES
from hwkit.course.tasks import BY_NAME, TASKS
from hwkit.diffusion import q_sample
from hwkit.files import load_npz, read_json, write_text
from hwkit.language import clauses, filled, language, listing, of_system, say, sentences, speak, speaking
from hwkit.measure import check, distances
from hwkit.measure.curve import Curve, Point
from hwkit.measure.features import DigitFeatures
from hwkit.measure.memorisation import Pairs
from hwkit.measure.score import results_of, score
from hwkit.mnist.folder import load_folder
from hwkit.mnist.sources import SAMPLE, prepare
from hwkit.runs.checkpoint import best_of
from hwkit.runs.checkpoint import load as load_run
from hwkit.runs.generate import generate
from hwkit.runs.run import train
from hwkit.runs.speed import duration
from hwkit.sampling import Frame, Sampler
from hwkit.schedule import SCHEDULES, Schedule
from hwkit.show import figures, handin, report
from hwkit.show.slider import SEQUENCES, SliderFrames, slider_html, timestep_slider
from hwkit.unet import UNet, UNetConfig

KIT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(KIT / "notebooks"))
po, translations = map(importlib.import_module, ("po", "translations"))
sys.path.remove(str(KIT / "notebooks"))
CATALOGUE = translations.catalogue(translations.LIBRARY)


@pytest.fixture
def chinese():
    speak("zh-TW")


# Which language


def test_it_is_chosen_by_a_notebook_else_by_the_environment_else_it_is_english(monkeypatch):
    assert language() == "en" and say("batch") == "batch"
    monkeypatch.setenv("HWKIT_LANG", "zh_tw")
    assert language() == "zh-TW" and say("batch") == "批次"
    speak("en")
    assert say("batch") == "batch"
    with speaking("zh-TW"):
        assert say("batch") == "批次"
    assert say("batch") == "batch"
    speak(None)
    assert say("batch") == "批次"


def test_a_language_that_is_not_spoken_is_named(monkeypatch):
    with pytest.raises(ValueError, match=r"language is 'fr', but must be en or zh-TW\."):
        speak("fr")
    monkeypatch.setenv("HWKIT_LANG", "klingon")
    with pytest.raises(ValueError, match="HWKIT_LANG is 'klingon'"):
        say("batch")


@pytest.mark.parametrize(
    "name, value, spoken",
    [
        ("LANG", "zh_TW.UTF-8", "zh-TW"),
        ("LC_ALL", "zh_HK.UTF-8", "zh-TW"),
        ("LANG", "de_DE.UTF-8", "en"),
        ("LANG", "zh_CN.UTF-8", "en"),
        ("LANG", "C", "en"),
    ],
)
def test_a_notebook_speaks_the_systems_language_the_command_line_does_not(monkeypatch, name, value, spoken):
    monkeypatch.setenv(name, value)
    assert of_system() == spoken and language() == "en"
    notebook.start("01_data", drive=False)
    assert language() == spoken


@pytest.mark.parametrize(
    "name, spoken",
    [("Chinese (Traditional)_Taiwan", "zh-TW"), ("zh-Hant_TW", "zh-TW"), ("German_Germany", "en"), (None, "en")],
)
def test_without_a_variable_the_systems_own_locale_tells(monkeypatch, name, spoken):
    """As on Windows."""
    monkeypatch.delenv("LANG")
    monkeypatch.setattr("hwkit.language.locale.getlocale", lambda: (name, "x"))
    assert of_system() == spoken


def test_the_environment_and_the_notebook_come_before_the_system(monkeypatch):
    monkeypatch.setenv("LANG", "zh_TW.UTF-8")
    monkeypatch.setenv("HWKIT_LANG", "en")
    notebook.start("01_data", drive=False)
    assert language() == "en"
    notebook.start("01_data", drive=False, language="zh-TW")
    assert language() == "zh-TW"


@pytest.mark.parametrize(
    "lang, said", [("zh-TW", "沒有檢查點"), ("en", "There is no checkpoint"), ("xx", "HWKIT_LANG")]
)
def test_the_command_line_speaks_what_the_environment_says_and_its_help_is_english(lang, said, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "hwkit", *arguments]
        env = {"PATH": "", "HWKIT_LANG": lang, "PYTHONPATH": str(KIT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8")

    done = run("sample", "--run", "nowhere")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not re.search("[㐀-鿿]", run("sample", "--help").stdout)


# The catalogue


def test_every_text_of_the_library_is_translated_and_follows_the_rules():
    source = translations.LIBRARY
    assert not [*translations.faults(source), *translations.broken_rules(source)]


def test_the_compiled_catalogue_is_that_of_the_texts():
    compiled = CATALOGUE.with_suffix(".mo").read_bytes()
    assert compiled == po.compiled(po.read(CATALOGUE)), "translations.py update library"
    theirs = gettext.GNUTranslations(io.BytesIO(compiled))
    messages = [message for message in po.read(CATALOGUE) if message.usable]
    assert len(messages) > 900 and all(theirs.gettext(m.english) == m.chinese for m in messages)
    assert {message.id for message in read_mo(io.BytesIO(compiled)) if message.id} == {m.english for m in messages}


def test_texts_are_found_where_they_are_said():
    code = """
A = marked("a")
def f(x):
    text = "b {n}" if x else "c {n}"
    if x > 1:
        text = "d {n}"
    one, two = "h", "i"
    return say(text, n=1) + say("e") + other("no") + say(one if x else two)
for each in (1, 2):
    say("f" if each else "g")
"""
    assert set(translations.spoken(translations.ast.parse(code), "x")) == {*"aefghi", "b {n}", "c {n}", "d {n}"}
    with pytest.raises(ValueError, match=r"x:1: an f-string"):
        translations.spoken(translations.ast.parse("say(f'{x} y')"), "x")


# What is put together


def test_sentences_clauses_and_lists_are_joined_as_the_language_does():
    english = sentences("One.", "", "Two."), clauses("a", "b"), listing("abcd", 3), listing("ab", 3)
    assert english == ("One. Two.", "a; b", "a, b, c, …", "a, b")
    speak("zh-TW")
    assert (sentences("一。", "", "二。"), clauses("甲", "乙"), listing("abcd", 3)) == (
        "一。二。",
        "甲；乙",
        "a、b、c、…",
    )


@pytest.mark.parametrize("text, width", [("abc", 3), ("雜訊", 4), ("x̂_0，", 5)])
def test_a_column_of_a_table_counts_places_on_the_screen(text, width):
    assert filled(text, 8) == text + " " * (8 - width)


def test_times_are_said_in_both_languages(chinese):
    assert [duration(s) for s in (50, 600, 27600)] == ["50 秒", "10 分鐘", "7 小時 40 分鐘"]
    speak("en")
    assert [duration(s) for s in (50, 600, 27600)] == ["50 s", "10 min", "7 h 40 min"]


# No English sentence is left


NAMES = (
    r"denoising diffusion probabilistic model|\w+( & Ho)? et al|Salimans & Ho|python -m [^，。；：）]*|\w+\([^()]*\)"
)


def english(text: str) -> list[str]:
    """Three English words or more in a row, outside of code, paths, commands and names."""
    text = re.sub(rf"`[^`]*`|{NAMES}|\S*[/\\_=(\[.]\S*", " · ", text)
    return re.findall(r"(?:\b[A-Za-z]{2,}[’']?[a-z]*[,;:]? ){2,}[A-Za-z]{2,}", text)


def test_an_english_sentence_would_be_found():
    assert english("✓ The values are right: see 式 4") and english("there is no runs/x here at all")
    assert not english("第 3 輪：runs/cpu，python -m hwkit fid X Y Z，U-Net、SiLU 和 `some code here`，cpu DDPM")


def all_chinese(*texts: str) -> None:
    for text in texts:
        assert re.search("[㐀-鿿]", text) and not english(text), (english(text), text)


def test_every_hint_on_every_mistake_is_chinese(chinese):
    for name, bank in MISTAKES.items():
        for mistake in bank:
            for hint in mistake.hints:
                all_chinese(selfcheck.failed(BY_NAME[name], mistake.name, say(hint)).text)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_pass_a_blank_and_a_table_are_chinese(task, chinese, capsys):
    all_chinese(selfcheck.check(task.answer, task.number).text)

    def blank(*_, **__):
        raise NotImplementedError("題目 1.1：填入")

    all_chinese(selfcheck.check(blank, task.number).text)
    selfcheck.progress()
    *rows, total = capsys.readouterr().out.splitlines()
    all_chinese(total, *(row[24:74] for row in rows[-len(TASKS) :]))


WRONG = {
    "another factor": lambda x_0, a, eps: a**0.5 * x_0 + (1 - a**2) ** 0.5 * eps,
    "another function": lambda x_0, a, eps: q_sample(x_0, a, eps).clamp(-1, 1),
    "none": lambda x_0, a, eps: None,
    "number": lambda x_0, a, eps: 3.0,
    "array": lambda x_0, a, eps: q_sample(x_0, a, eps).numpy(),
    "shape": lambda x_0, a, eps: q_sample(x_0, a, eps)[:1],
    "dtype": lambda x_0, a, eps: q_sample(x_0, a, eps).half(),
    "random": lambda x_0, a, eps: torch.rand_like(x_0),
    "in place": lambda x_0, a, eps: x_0.mul_(0.5),
    "error": lambda x_0, a, eps: x_0 @ [],
    "nan": lambda x_0, a, eps: q_sample(x_0, a, eps) / 0 * 0,
    "order": lambda eps, a, x_0: None,
    "arguments": lambda x: None,
    "nothing": 3,
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_said_of_any_other_answer_is_chinese(name, chinese):
    selfcheck.failures.clear()
    for _ in range(3):
        said = selfcheck.check(WRONG[name], "q_sample").text
        said = re.sub(r"停了下來：\w+: .*?[。，]", "", said)  # Python's own words
        said = re.sub(r"，接不起來（.*?）", "", said)
        all_chinese(said)


def test_other_tasks_sentences_are_chinese(chinese):
    answers = {
        "predict_x0_eps": lambda output, x_t, alpha_bar_t, prediction: output,
        "times": lambda T, steps: [0.5] * steps,
        "draw_t_and_eps": lambda x_0, T: (torch.zeros(len(x_0)), x_0),
        "frechet_distance": lambda mu1, sigma1, mu2, sigma2: 1j,
        "alpha_bar_table": lambda beta: (1 - beta).cumprod(0).float(),
        "ResBlock": lambda c_in, c_out, time_dim: torch.nn.Linear(2, 2),
        "nodes": lambda T, count=8: [*BY_NAME["nodes"].answer(T, count)[:-1], 3],
        "update_weights": lambda model, ema, optimizer, loss, clip=1.0, decay=0.999: loss.backward(),
    }
    for name, answer in answers.items():
        for _ in range(3):
            said = selfcheck.check(answer, name).text
            all_chinese(re.sub(r"停了下來：\w+: .*?[。，]", "", said))


@pytest.fixture
def measured_run(trained_run, tmp_path, monkeypatch) -> Path:
    """A run with images, measured in Chinese, and all of its figures."""
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(trained_run, tmp_path / "runs" / "mine")
    generate(best_of(run), run / "generate", 12, Sampler("ddim", 2), progress=False)
    score(DigitFeatures(), [run / "generate"], [load_folder(run / "generate")]).write(results_of(run / "generate"))
    return run


def said_by(page: Path) -> str:
    source = page.read_text("utf-8")
    body = source[source.index("<body") : source.index('<ul class="references"')]
    alts = re.findall(r'alt="([^"]*)"', body)
    return "\n".join([unescape(re.sub(r"<[^>]*>", "\n", re.sub(r"<svg.*?</svg>", "", body, flags=re.S))), *alts])


def test_the_report_is_chinese_with_the_courses_headings(measured_run, chinese, monkeypatch, capsys):
    monkeypatch.setattr(report.shutil, "which", lambda name: None)
    x = torch.zeros(8, 3, 28, 28)
    monkeypatch.setattr(report, "grid_frames", lambda *_: [Frame(1, x, x)])
    monkeypatch.setattr(report, "images", lambda *_: torch.zeros(100, 3, 28, 28, dtype=torch.uint8))
    list(report.draw_figures(measured_run, best_of(measured_run), measured_run / "figures", dpi=50))
    for name in ("fid_curve", "digit_histogram", "closest_pairs"):
        Image.new("RGB", (4, 4)).save(measured_run / "figures" / f"{name}.png")
    shutil.copytree(measured_run, measured_run.with_name("other"))
    page, _ = report.write_report(measured_run, author="林美", conclusion="訓練得很順利。")
    assert '<html lang="zh-Hant-TW">' in page.read_text("utf-8")
    said = said_by(page)
    headings = re.findall(r"<h2[^>]*>([^<]*)", page.read_text("utf-8"))
    course = ["1. Model Description", "2. Implementation Details", "3. Result Analysis", "4. Short Conclusion"]
    assert headings == [*course, "References"]
    for heading in [*course, "References"]:
        said = said.replace(heading, "")
    assert "從零開始的 MNIST 擴散模型" in said and "訓練得很順利。" in said and "不同的訓練並列" in said
    assert not english(said), english(said)
    all_chinese(capsys.readouterr().out)


def test_a_report_of_the_kits_weights_says_so_in_chinese(measured_run, chinese, monkeypatch, capsys):
    monkeypatch.setattr(report.shutil, "which", lambda name: None)
    monkeypatch.setattr(report, "is_the_kits", lambda path: True)
    monkeypatch.setattr(notebook, "is_the_kits", lambda path: True)
    page, _ = report.write_report(measured_run)
    assert "不是你的模型" in said_by(page) and "這裡寫你自己的話" in said_by(page)
    notebook.find_run("mine")
    all_chinese(capsys.readouterr().out.replace("!", ""))


@pytest.mark.skipif(
    not figures.chinese_font() or not shutil.which("pdftotext"), reason="no Chinese font, or no pdftotext"
)
@pytest.mark.skipif(not any(map(shutil.which, report.BROWSERS)), reason="no Chromium")
def test_the_pdf_gives_its_sentences_back_and_embeds_its_fonts(measured_run, chinese):
    _, pdf = report.write_report(
        measured_run, author="林美 · B12901001", conclusion="網路學會了畫數字。接下來想試試餘弦排程。"
    )
    text = subprocess.run(["pdftotext", pdf, "-"], capture_output=True, text=True, encoding="utf-8").stdout
    joined = re.sub(r"\s", "", text)
    assert "網路學會了畫數字。接下來想試試餘弦排程。" in joined and "4.ShortConclusion" in joined
    assert re.sub(r"\s", "", say(report.CHAPTERS["Result analysis"].text))[:60] in joined
    fonts = subprocess.run(["pdffonts", pdf], capture_output=True, text=True).stdout.splitlines()[2:]
    assert fonts and all(re.search(r" (yes|no) +(yes|no) +(yes|no) +\d+ +\d+$", line)[1] == "yes" for line in fonts)


def test_a_table_of_the_check_is_chinese(tmp_path, chinese):
    with np.load(SAMPLE) as arrays:
        digits = arrays["images"][:40]
    folders = {name: tmp_path / name for name in ("good", "bad", "faint", "black", "nested")}
    for name, folder in folders.items():
        folder.mkdir()
        for k, digit in enumerate(digits[:20] if name != "good" else digits[:12], start=1):
            image = Image.fromarray(digit).convert("RGB")
            if name == "faint":
                image = image.point(lambda value: value // 3)
            if name == "black":
                image = image.point(lambda value: 255 - value)
            image.save(folder / f"{k:05d}.png")
    (folders["bad"] / "00003.png").write_bytes(b"no image")
    Image.new("L", (32, 32)).save(folders["bad"] / "00004.png")
    Image.new("RGB", (28, 28)).save(folders["bad"] / "00005.png")
    shutil.copy(folders["bad"] / "00001.png", folders["bad"] / "00002.png")
    Image.new("RGB", (28, 28)).save(folders["bad"] / "7.jpg")
    (folders["bad"] / "Thumbs.db").write_bytes(b"")
    (folders["nested"] / "inner").mkdir()
    (folders["nested"] / "00001.png").rename(folders["nested"] / "inner" / "00001.png")
    for name, folder in [*folders.items(), ("none", tmp_path / "none"), ("file", folders["bad"] / "7.jpg")]:
        for row in check.rows(folder, 12):
            words = " ".join([row.what, row.found, row.mend.split(": ")[0]])
            assert not english(words), (name, row)
            assert row.passed is not False or re.search("[㐀-鿿]", row.mend)
            assert row.what == (say("{n:,} files", n=12) if row.key == "files" else say(row.key))


@pytest.mark.parametrize("symptom", doctor.SYMPTOMS, ids=lambda symptom: symptom.name)
def test_what_the_doctor_says_of_each_symptom_is_chinese(symptom, chinese):
    fields = [field for _, field, _, _ in string.Formatter().parse(symptom.seen) if field]
    words = doctor.found(symptom.name, **dict.fromkeys(fields, 1)).words()
    assert len(words) == 4 and all(word[: word.index("：") + 1].strip() for word in words[:3])
    all_chinese(*words)
    both = {say(symptom.title): symptom.title, say(symptom.mend): symptom.mend}
    speak("en")
    assert not re.search("[㐀-鿿]", "".join(doctor.found(symptom.name, **dict.fromkeys(fields, 1)).words()))
    assert all(said != told for said, told in both.items())


def test_the_doctors_and_the_checks_commands_speak_chinese(trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HWKIT_LANG", "zh-TW")
    with np.load(SAMPLE) as arrays:
        np.savez(tmp_path / "train.npz", x_train=arrays["images"][:500])
        digits = arrays["images"][2000:2020]
    folders = {name: tmp_path / name for name in ("good", "faint")}
    for name, folder in folders.items():
        folder.mkdir()
        for k, digit in enumerate(digits, start=1):
            Image.fromarray(digit if name == "good" else 90 + digit // 4).convert("RGB").save(folder / f"{k:05d}.png")
    Image.open(folders["faint"] / "00003.png").convert("L").resize((32, 32)).save(folders["faint"] / "00000.png")
    words = ["--train", str(tmp_path / "train.npz")]
    assert main(["doctor", str(folders["good"]), *words]) == 0
    assert main(["doctor", str(folders["faint"]), str(trained_run), *words]) == 1
    said = capsys.readouterr().out.replace(str(tmp_path), "")
    for name in ("number", "size", "unfinished", "early", "schedule"):
        assert f"✗ {say(doctor.BY_NAME[name].title)}：" in said
    assert "沒有看到已知錯誤的跡象" in said and "CLINIC.zh-TW.md" in said
    all_chinese(*said.splitlines())
    assert main(["check", str(folders["good"]), str(folders["faint"]), "--n", "20", *words]) == 1
    table = capsys.readouterr().out.replace(str(tmp_path), "")
    assert "/good：全部通過。" in table and re.search("/faint：有 [1-9] 項檢查沒有通過。", table)
    assert "✓ 檔案都能開啟     20" in table, "six characters take twelve of the column's sixteen places"
    all_chinese(*[line.split("→")[0] for line in table.splitlines() if line[0] in "✓✗–"])
    assert main(["doctor", str(tmp_path / "train.npz")]) == 2
    all_chinese(capsys.readouterr().err.split(":", 1)[1].replace(str(tmp_path), ""))


def test_commands_that_a_chinese_notebook_runs_speak_chinese(tmp_path, monkeypatch):
    monkeypatch.setenv("HWKIT_LANG", "en")
    notebook.start("01_data", drive=False, language="zh-TW")
    command = [sys.executable, "-m", "hwkit", "doctor", tmp_path / "nowhere"]
    done = subprocess.run(command, cwd=KIT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 2 and "沒有" in done.stderr


def test_a_training_run_speaks_chinese(digits, tmp_path, chinese, capsys):
    for _ in range(2):
        for _ in train(TINY, digits, tmp_path / "run", device="cpu"):
            pass
    said = capsys.readouterr().out
    assert "第 1/2 輪完成，平均損失" in said and "的訓練已經完成" in said
    assert not english(said), said


def test_data_and_submission_speak_chinese(digits_npz, tmp_path, chinese, capsys):
    folder = prepare(digits_npz, out=tmp_path / "out")
    assert not english(capsys.readouterr().out.replace(str(tmp_path), ""))
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("1,2")
    for source in ("none.zip", "out/mnist/train/00001.png", "empty", "table.csv"):
        with pytest.raises((FileNotFoundError, ValueError)) as caught:
            prepare(tmp_path / source, out=tmp_path / "other")
        all_chinese(str(caught.value).replace(str(tmp_path), "").split("np.savez")[0])
    assert folder.is_dir()
    all_chinese(*handin.unfinished({"AUTHOR": ""}, {"CONCLUSION": "好。"}))


def broken_statistics(path: Path):
    np.savez(path, mu=np.zeros(3), sigma=-np.eye(3))
    return path


MISTAKES_IN_A_NOTEBOOK = {  # what a student may write there, and a piece of what is said of it
    "a sampler's name": (lambda _: Sampler("ddmp"), "ddim、ddpm"),
    "eta": (lambda _: Sampler("dpm++", 10, eta=0.5), "eta 是 0.5"),
    "a variance": (lambda _: Sampler("ddim", variance="beta"), "posterior"),
    "too many steps": (lambda _: Sampler("ddim", 100).resolve(40), "請選 1 到 40"),
    "too few for the nodes": (lambda _: sampling.times(830, 5, sampling.nodes(830)), "請用更多步"),
    "no levels": (lambda _: SCHEDULES["cosine"](0), "T = 0"),
    "a beta": (lambda _: SCHEDULES["linear"](830, 0.02, 1e-4), "0.02"),
    "a table": (lambda _: Schedule("mine", torch.linspace(1, 0.1, 5)), "float32"),
    "a rising table": (lambda _: Schedule("mine", torch.linspace(0.1, 1, 5).double()), "遞減"),
    "a batch": (lambda _: replace(TINY, batch_size=0), "batch_size 是 0"),
    "a learning rate": (lambda _: replace(TINY, lr=0), "大於 0"),
    "a recipe's name": (lambda _: replace(TINY, name="a/b"), "資料夾"),
    "an average": (lambda _: replace(TINY, ema=1), "ema < 1"),
    "a width": (lambda _: UNetConfig(base=20), "16 的倍數"),
    "levels": (lambda _: UNetConfig(multipliers=()), "每一層"),
    "blocks": (lambda _: UNetConfig(blocks=0), "至少要 1"),
    "a picture's side": (lambda _: UNet(TINY.model)(torch.zeros(1, 3, 27, 27), torch.tensor([1])), "(27, 27)"),
    "one image": (lambda _: distances.statistics(np.zeros((1, 3))), "2 張"),
    "other features": (lambda _: distances.frechet_distance(*[np.zeros(3)] * 2, *[np.zeros(4)] * 2), "無法比較"),
    "KID of one": (lambda _: distances.kernel_distance(np.zeros((1, 3)), np.zeros((9, 3))), "2 張"),
    "recall of three": (lambda _: distances.precision_recall(np.zeros((3, 3)), np.zeros((9, 3))), "超過 3 張"),
    "no statistics": (lambda tmp: distances.read_statistics(broken_statistics(tmp / "a.npz")), "負的特徵值"),
    "a file in the way": (lambda tmp: write_text(broken_statistics(tmp / "b.npz") / "c", "x"), "請換一個路徑"),
    "no npz": (lambda tmp: load_npz(Path(write_text(tmp / "d.npz", "x") or tmp / "d.npz")), "請重新取得"),
    "no JSON": (lambda tmp: read_json(Path(write_text(tmp / "e.json", "{") or tmp / "e.json")), "已損壞"),
    "no run": (lambda tmp: load_run(tmp / "runs" / "mine"), "沒有檢查點"),
    "no images": (lambda tmp: load_folder(tmp / "none"), "沒有"),
    "a grey tensor": (lambda _: DigitFeatures()(torch.zeros(2, 3, 28, 28)), "uint8"),
}


@pytest.mark.parametrize("name", MISTAKES_IN_A_NOTEBOOK)
def test_what_is_said_of_a_plausible_mistake_is_chinese(name, tmp_path, chinese):
    mistake, piece = MISTAKES_IN_A_NOTEBOOK[name]
    with pytest.raises((ValueError, OSError)) as caught:
        mistake(tmp_path)
    said = str(caught.value).replace(str(tmp_path), "")
    assert piece in said
    all_chinese(re.sub(r"（[^（）]*）", "", said))  # in brackets: Python's own words


def test_two_at_once_in_one_folder_are_told_so_in_chinese(tmp_path, chinese, monkeypatch):
    monkeypatch.setattr(files, "WAIT_FOR_LOCK", 0.1)
    place = tmp_path / "x"
    with files.only_process(place), pytest.raises(ValueError, match="正在寫入"), files.only_process(place):
        pass


def test_the_slider_is_chinese(chinese):
    images = np.zeros((9, 8, 3, 28, 28), np.uint8)
    frames = SliderFrames(range(8, -1, -1), range(8, -1, -1), dict.fromkeys(SEQUENCES, images))
    page = slider_html(frames)
    assert '<html lang="zh-Hant-TW">' in page and "<h1>從雜訊到數字</h1>" in page
    body = page[page.index("<main") :]
    assert not english(re.sub(r"<[^>]*>", "\n", re.sub(r"<script>.*", "", body, flags=re.S)))
    all_chinese(*re.findall(r'aria-label="([^"]*)"', body), *frames.labels[1:], *frames.samplers)
    words = re.findall(r'textContent = "([^"]*)"', body)
    assert set(words) == {"▶ 播放", "⏸ 暫停"}
    choices, *_ = timestep_slider(frames).children
    all_chinese(*(option for group in choices.children for option in group.options))


# Figures


def test_a_chinese_title_is_drawn_where_a_font_has_it_and_left_out_where_none_has(tmp_path, monkeypatch, capsys):
    def drawn(title: str) -> np.ndarray:
        figure, _ = figures.plot("t", "loss", title)
        return np.asarray(Image.open(figures.save(figure, tmp_path / "a.png", 60)).convert("L"))

    if figures.chinese_font():
        assert (drawn("雜訊") != drawn("數字")).any(), "boxes would all look the same"
        assert (drawn("$x_t$ 雜訊") != drawn("$x_t$ 數字")).any(), "nor beside a formula"
    monkeypatch.setattr(figures, "CHINESE", ())
    figures.chinese_font.cache_clear()
    assert (drawn("DDPM 雜訊 830") == drawn("DDPM 830")).all()
    said = capsys.readouterr().out
    assert said.count("No font here has Chinese characters") == 1
    speak("zh-TW")
    with figures.drawn_language():
        assert say("batch") == "batch", "a title of the kit's own is English then"
    figures.chinese_font.cache_clear()


LOSSES = [{"images_seen": 8 * n, "loss": 1 / n, "curve": [[8 * n - 4, 1 / n]]} for n in (1, 2)]
BLACK = np.zeros((10, 28, 28), np.uint8)
POINTS = tuple(Point(f"ddim-{n}", "ddim", n, 1.0, 9.0, 0.5) for n in (5, 10))
DRAWN = {  # each figure of the library that has words, and some of them
    "network": (lambda: figures.network_diagram(TINY.model), "每 2×2 個像素"),
    "loss": (lambda: figures.loss_curve(LOSSES), "訓練損失"),
    "schedule": (lambda: figures.schedule_curves([SCHEDULES["linear"](9)]), "$（影像的比例）"),
    "histogram": (lambda: figures.digit_histogram_figure([1] * 11, [2] * 11), "不像數字"),
    "curve": (lambda: figures.fid_curve_figure(Curve("", 40, 0, 1.5, {}, POINTS)), "同樣多的真實測試數字：1.50"),
    "pairs": (lambda: figures.memorisation_figure(Pairs(BLACK, BLACK, np.ones(10), [*range(10)])), "最近的訓練影像"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_the_words_of_the_librarys_figures_are_chinese_where_a_font_is(name, chinese, monkeypatch):
    draw, piece = DRAWN[name]

    def words():
        figure = figures.drawable(draw())
        return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_text())

    monkeypatch.setattr(figures, "chinese_font", lambda: "Noto Sans CJK TC")
    said = words()
    assert piece in said and not english(said) and not re.search("[a-z]{3,} (of|the|images|steps)", said)
    monkeypatch.setattr(figures, "chinese_font", lambda: None)
    latin = words()
    assert not re.search("[㐀-鿿]", latin) and re.search("[a-z]{3,} [a-z]{2,}", latin) and language() == "zh-TW"
    speak("en")
    assert words() == latin


def test_notebooks_are_those_of_the_language(monkeypatch, chinese):
    found = notebook.own_notebooks()
    assert found and all(path.parent.name == "zh-TW" for path in found)
