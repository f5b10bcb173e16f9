"""What is handed in: texts that are still to be written are named, the facts are the run's, the zip holds it all."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from hwkit.runs import checkpoint
from hwkit.runs.checkpoint import best_of, digest, export, load
from hwkit.runs.generate import generate
from hwkit.sampling import Sampler
from hwkit.show.handin import unfinished, write_facts, write_submission


def picture(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (28, 28), (level, 0, 0)).save(path, "PNG")
    return path


# Nothing is packed before it is written

WRITTEN = ({"AUTHOR": "Lin Mei", "STUDENT_NUMBER": "B12901001"}, {"CONCLUSION": "It worked well, and v would be next."})


def test_what_is_written_is_not_named():
    assert unfinished(*WRITTEN) == []
    assert unfinished({"AUTHOR": "林美"}, {"CONCLUSION": "訓練成功,損失持續下降,下一步想嘗試其他的雜訊排程。"}) == []


@pytest.mark.parametrize("name", ["", "  ", "…", "...", "your name", "Your Name", "TODO", "your student number."])
def test_a_placeholder_for_a_name_is_named(name):
    (sentence,) = unfinished({"AUTHOR": name}, {})
    assert sentence == "AUTHOR is still to be written."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "still to be written"),
        ("Your conclusion stands here: what worked, what did not, and what you would try next.", "still to be written"),
        ("it worked", "very short (9 characters)"),
        ("。。。", "still to be written"),
    ],
)
def test_a_conclusion_that_is_none_is_named(text, said):
    (sentence,) = unfinished({}, {"CONCLUSION": text})
    assert sentence.startswith("CONCLUSION is ") and said in sentence


def test_each_open_question_is_named_by_itself():
    left = unfinished({"AUTHOR": ""}, {"Why does it work?": "", "What differs?": "DDPM adds fresh noise on the way."})
    assert left == ["AUTHOR is still to be written.", "Why does it work? is still to be written."]


# The facts


@pytest.fixture(scope="module")
def made(trained_run, tmp_path_factory) -> Path:
    run = shutil.copytree(trained_run, tmp_path_factory.mktemp("handin") / "run")
    generate(best_of(run), run / "generate", 3, Sampler("ddim", 3), seed=5, progress=False)
    return run


def test_the_facts_say_what_made_the_images(made, tmp_path):
    facts = json.loads(write_facts(tmp_path / "run.json", made, made / "generate").read_text("utf-8"))
    assert facts["weights"] == {"file": "ema_latest.pt", "sha256": digest(best_of(made)), "come_with_the_kit": False}
    assert facts["images"]["count"] == 3 and facts["images"]["made_by"]["seed"] == 5
    assert facts["images"]["made_by"]["sampler"]["name"] == "ddim"
    assert facts["recipe"]["name"] == "smoke" and facts["images_seen"] == 192
    assert [line["epoch"] for line in facts["history"]] == [1, 2]


def test_other_images_have_another_hash(made, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")

    def hashed() -> str:
        return json.loads(write_facts(tmp_path / "run.json", run, run / "generate").read_text("utf-8"))["images"][
            "sha256"
        ]

    before = hashed()
    assert hashed() == before
    picture(run / "generate" / "00002.png", level=9)
    assert hashed() != before


def test_the_facts_tell_of_weights_that_come_with_the_kit(made, tmp_path, monkeypatch):
    run = shutil.copytree(made, tmp_path / "run")
    export(load(best_of(run)), run / checkpoint.EXPORTED)
    monkeypatch.setattr(checkpoint, "PRETRAINED", run)
    facts = json.loads(write_facts(tmp_path / "run.json", run, run / "generate").read_text("utf-8"))
    assert facts["weights"]["come_with_the_kit"] is True


# The zip


def test_the_submission_holds_images_flat_notebooks_apart_and_the_rest_by_name(tmp_path):
    images = tmp_path / "elsewhere" / "generate"
    for k in (2, 1):
        picture(images / f"{k:05d}.png", level=k)
    report, notebook = tmp_path / "report.html", tmp_path / "Copy of 06_report.ipynb"
    report.write_text("<p>")
    notebook.write_text("{}")
    path = write_submission(tmp_path / "submission.zip", images, [report], [notebook])
    with zipfile.ZipFile(path) as archive:
        names = ["generate/00001.png", "generate/00002.png", "report.html", "notebooks/Copy of 06_report.ipynb"]
        assert archive.namelist() == names
        assert archive.read("generate/00002.png") == (images / "00002.png").read_bytes()


@pytest.mark.parametrize(
    "left",
    [
        *("._00001.png", ".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt", "sample.png", "00001 (1).png"),
        *("__MACOSX/._00001.png", ".ipynb_checkpoints/00001-checkpoint.png", "00002.png/inside.png", ".00001.png"),
    ],
)
def test_what_is_no_image_of_the_homework_is_not_handed_in(tmp_path, left):
    images = tmp_path / "generate"
    picture(images / "00001.png")
    (images / left).parent.mkdir(exist_ok=True)
    (images / left).write_bytes(b"not to be handed in")
    others = [picture(tmp_path / "grid.png"), picture(tmp_path / "._grid.png")]
    with zipfile.ZipFile(write_submission(tmp_path / "submission.zip", images, others)) as archive:
        assert archive.namelist() == ["generate/00001.png", "grid.png"]


def test_there_is_no_zip_without_images(tmp_path):
    (tmp_path / "generate").mkdir()
    for folder in (tmp_path / "generate", tmp_path / "misspelt"):
        with pytest.raises(ValueError, match=rf"{re.escape(folder.name)} holds no images.*python -m hwkit sample"):
            write_submission(tmp_path / "submission.zip", folder, [])
    assert not (tmp_path / "submission.zip").exists()
