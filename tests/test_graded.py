"""The homework's own measurement, with a stand-in for pytorch-fid; the program itself runs in test_features.py."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwkit import notebook
from hwkit.measure import graded
from hwkit.measure.graded import grade, pytorch_fid, read_graded
from hwkit.measure.score import results_of

STAND_IN = """
import os, sys
home = os.path.join(os.environ["TORCH_HOME"], "hub", "checkpoints")
(weights,) = os.listdir(home)
print("weights:", open(os.path.join(home, weights)).read(), file=sys.stderr)
if "--save-stats" in sys.argv:
    open(sys.argv[-1], "w").write("statistics")
    print("Saving statistics for", sys.argv[-2])
else:
    print("FID:  3.25")
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """`program(source)`: what `python -m pytorch_fid` runs. The weights are a file of three letters."""
    package = tmp_path / "site" / "pytorch_fid"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / "inception.pth").write_text("abc")
    monkeypatch.setenv("HWKIT_INCEPTION", str(tmp_path / "inception.pth"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))

    def write(source: str) -> None:
        (package / "__main__.py").write_text(source)

    write(STAND_IN)
    return write


@pytest.fixture
def folder(tmp_path) -> Path:
    images = tmp_path / "run" / "generate"
    images.mkdir(parents=True)
    for k in range(1, 5):
        pixels = np.random.default_rng(k).integers(0, 256, (28, 28, 3), np.uint8)
        Image.fromarray(pixels).save(images / f"{k:05d}.png")
    return images


def test_the_program_is_run_with_the_weights_that_are_named(program, folder):
    command, output = pytorch_fid("real.npz", folder)
    assert command == f"python -m pytorch_fid real.npz {folder}" and output == "FID:  3.25"
    program(STAND_IN + "print(os.listdir(home)[0], open(os.path.join(home, weights)).read())")
    assert pytorch_fid("real.npz", folder)[1] == "FID:  3.25\npt_inception-2015-12-05-6726825d.pth abc"


def test_its_answer_is_kept_beside_the_images_and_is_of_these_only(program, folder):
    assert read_graded(folder) is None
    found = grade(Path("real.npz"), folder)
    assert (found.output, found.images, found.official) == ("FID:  3.25", 4, False)
    assert json.loads((results_of(folder) / "graded.json").read_text())["output"] == "FID:  3.25"
    assert read_graded(folder) == found
    shutil.copy(folder / "00001.png", folder / "00002.png")
    assert read_graded(folder) is None, "the images are others now"


def test_the_published_weights_are_known_by_their_hash(program, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(graded.InceptionFeatures, "official", graded.digest(tmp_path / "inception.pth")[:8])
    assert grade(Path("real.npz"), folder).official


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import sys; sys.exit('RuntimeError: Invalid path')", "failed: RuntimeError: Invalid path"),
        (
            "raise TypeError('unexpected keyword argument disp')",
            r"older SciPy: pip install 'scipy<1\.18'",
        ),
        ("import sys; sys.exit(3)", "failed: exit code 3"),
        ("print('nothing')", "printed no FID, but: nothing"),
    ],
)
def test_a_failure_is_a_sentence_and_nothing_is_kept(program, folder, source, said):
    program(source)
    with pytest.raises(ValueError, match=said):
        grade(Path("real.npz"), folder)
    assert not results_of(folder).exists()


def test_a_damaged_answer_is_named(program, folder):
    grade(Path("real.npz"), folder)
    (results_of(folder) / "graded.json").write_text("{}")
    with pytest.raises(ValueError, match=r"graded\.json holds no graded"):
        read_graded(folder)


# As a notebook asks for it


@pytest.fixture
def real(tmp_path, monkeypatch) -> Path:
    """What `prepare` gives: a folder of training digits, of which four are all."""
    digits = tmp_path / "data" / "mnist" / "train"
    digits.mkdir(parents=True)
    for k in range(1, 5):
        (digits / f"{k:05d}.png").touch()
    monkeypatch.setattr(notebook, "prepare", lambda source: digits)
    monkeypatch.setattr(notebook, "REAL_IMAGES", 4)
    return digits


def test_a_notebook_saves_the_statistics_once_and_prints_command_and_answer(program, folder, real, capsys):
    notebook.graded_number(folder)
    statistics = real.with_name("mnist_train_inception.npz")
    said = capsys.readouterr().out
    assert f"python -m pytorch_fid {statistics} {folder}\nFID:  3.25" in said and "Inception reads" in said
    assert statistics.read_text() == "statistics"
    notebook.graded_number(folder)
    assert "Inception reads" not in capsys.readouterr().out


def test_less_than_all_of_mnist_gives_no_graded_number(program, folder, real, monkeypatch, capsys):
    monkeypatch.setattr(notebook, "REAL_IMAGES", 60_000)
    notebook.graded_number(folder)
    assert "There is no graded number: only 4 of MNIST's 60,000" in capsys.readouterr().out
    assert read_graded(folder) is None


def test_without_weights_a_notebook_goes_on_with_a_sentence(program, folder, real, monkeypatch, capsys):
    monkeypatch.setenv("HWKIT_INCEPTION", str(folder / "nowhere.pth"))
    notebook.graded_number(folder)
    assert "There is no graded number: There are no Inception weights" in capsys.readouterr().out
