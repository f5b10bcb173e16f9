"""The doctor names the mistake that a run or images were made with, and says nothing of healthy ones."""

import copy
import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, vivid_unet
from PIL import Image

from hwkit.__main__ import main
from hwkit.course import doctor
from hwkit.course.doctor import BY_NAME, CLINIC, SYMPTOMS, curve_findings, picture_findings, run_findings
from hwkit.language import LANGUAGES, say, speaking
from hwkit.mnist.folder import encode_png, file_name
from hwkit.mnist.sources import SAMPLE
from hwkit.runs import checkpoint
from hwkit.runs.generate import images
from hwkit.sampling import Sampler

KIT = Path(__file__).resolve().parents[1]
PRETRAINED = KIT / "data" / "pretrained"
PICTURES = KIT / "notebooks" / "pictures" / "clinic"
NUMBERS = range(101, 125)
FOUND = {  # by the mistake: what the doctor should call it, where that has another name
    "healthy": None,
    "resized": "blurred",
    "strided": "noisy",
}

spec = importlib.util.spec_from_file_location("make_clinic", KIT / "data" / "make_clinic.py")
make_clinic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_clinic)
make_clinic.STEPS = 10


@pytest.fixture(scope="session")
def kit():
    return checkpoint.load_denoiser(PRETRAINED / checkpoint.EXPORTED)


@pytest.fixture(scope="session")
def clinic() -> dict[str, np.ndarray]:
    """The sixteen images of each picture in the clinic, uint8 (16, 3, 28, 28), three pixels for each of them there."""
    cells = {}
    for path in PICTURES.glob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGB"))[1::3, 1::3].reshape(2, 30, 8, 30, 3)
        cells[path.stem] = pixels[:, 1:-1, :, 1:-1].transpose(0, 2, 4, 1, 3).reshape(16, 3, 28, 28).copy()
    return cells


@pytest.fixture(scope="session")
def anew(kit) -> dict[str, np.ndarray]:
    """24 other images with those mistakes that are quickly made again, in ten steps."""
    quick = (
        "healthy",
        "washed_out",
        "hard",
        "wrapped",
        "inverted",
        "scrambled",
        "resized",
        "noisy",
        "black",
        "blurred",
    )
    return {name: make_clinic.CLINIC[name](kit, NUMBERS).numpy() for name in quick}


@pytest.fixture(scope="session")
def sample() -> np.ndarray:
    with np.load(SAMPLE) as arrays:
        return arrays["images"]


@pytest.fixture(scope="session")
def train(sample) -> tuple[str, np.ndarray]:
    """Digits that stand for the training set; the others of the sample are unseen."""
    return "the first 2,000", sample[:2000]


def names(images, train) -> list[str]:
    found = list(picture_findings(np.asarray(images), train))
    assert all(f.seen and "{" not in f.seen for f in found)
    return [f.symptom.name for f in found]


def rgb(grey) -> np.ndarray:
    """Grey pictures (N, 28, 28) with levels of any kind → uint8 (N, 3, 28, 28)."""
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[:, None], 3, axis=1)


# Images


@pytest.mark.parametrize("mistake", make_clinic.CLINIC)
def test_each_mistake_of_the_clinic_is_named_and_no_other(clinic, train, mistake):
    wanted = FOUND.get(mistake, mistake)
    assert names(clinic[mistake], train) == [wanted] * (wanted is not None)


def test_it_is_named_in_other_images_too(anew, train):
    found = {name: names(pictures, train) for name, pictures in anew.items()}
    assert found == {name: [FOUND.get(name, name)] if name != "healthy" else [] for name in anew}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [16, 32, 200])
def test_real_digits_are_healthy(sample, train, seed, count):
    chosen = 2000 + np.random.default_rng(seed).choice(3000, count, replace=False)
    assert names(rgb(sample[chosen]), train) == []


@pytest.mark.parametrize(
    ("sampler", "seed"), [(Sampler("dpm++sde", 10), 1), (Sampler("ddim", 10), 2), (Sampler("unipc", 8), 3)], ids=str
)
def test_the_kits_images_are_healthy_with_any_sampler(kit, train, sampler, seed):
    assert names(images(kit, sampler, seed, NUMBERS), train) == []


def test_mistakes_made_to_real_digits_are_named_too(sample, train):
    """By other code than the clinic's, from digits that no network has touched."""
    x = sample[2000:2032].astype(float)
    rng = np.random.default_rng(0)
    both = np.repeat(x[:, None], 3, axis=1)
    normalised = ((x / 255 - 0.1307) / 0.3081 + 1) / 2 * 255  # torchvision's constants for MNIST, saved as [−1, 1]
    small = [Image.fromarray(i.astype(np.uint8)).resize((32, 32), 2).resize((28, 28), 2) for i in x]
    film = both + rng.normal(0, 8, both.shape)
    tinted = both + 60 * np.clip(rng.normal(size=(32, 3, 1, 1)), 0, 1) * np.linspace(0, 1, 28)
    over = (both * 1.06).astype(np.int64).astype(np.uint8)
    quarters = x.copy()  # each put where the opposite one was
    quarters[:, 4:24, 4:24] = x[:, 4:24, 4:24].reshape(32, 2, 10, 2, 10)[:, ::-1, :, ::-1].reshape(32, 20, 20)
    wrong = {
        "washed_out": [rgb(127.5 + x / 2), rgb(normalised)],
        "unfinished": [rgb(20 + 0.7 * x), rgb(0.6 * x)],
        "inverted": [rgb(255 - x)],
        "noisy": [rgb(x + rng.normal(0, 8, x.shape)), np.clip(film, 0, 255).astype(np.uint8)],
        "stained": [np.clip(tinted, 0, 255).astype(np.uint8)],
        "wrapped": [over],
        "diverged": [rng.integers(0, 256, (32, 3, 28, 28)).astype(np.uint8)],
        "black": [np.zeros((32, 3, 28, 28), np.uint8), np.full((32, 3, 28, 28), 255, np.uint8)],
        "alike": [rgb(np.repeat(x[:4], 8, axis=0))],
        "blurred": [rgb(np.stack([np.asarray(i, float) for i in small]))],
        "hard": [rgb(2 * x - 255)],
        "thick": [rgb(np.maximum.reduce([x, np.roll(x, 1, 1), np.roll(x, 1, 2), np.roll(x, 1, (1, 2))]))],
        "collapsed": [rgb(sample[2001:2401:10])],  # the sample goes through the digits
        "copied": [rgb(sample[:32])],
        "no_digits": [rgb(quarters)],
    }
    found = {name: [names(pictures, train) for pictures in sets] for name, sets in wrong.items()}
    assert {name: sets for name, sets in found.items() if any(name not in each for each in sets)} == {}


def test_few_images_are_judged_by_themselves_only(clinic, sample, train):
    assert names(clinic["noisy"][:2], train) == ["noisy"] and names(clinic["alike"][:4], train) == []
    assert names(rgb(sample[:1]), train) == []


# Training


@pytest.fixture
def run(tmp_path):
    """A function that writes a run like the kit's, with its history but a smaller network, and with changes."""
    content = checkpoint.load(PRETRAINED)
    small = replace(checkpoint.recipe_of(content), model=TINY.model)
    network = vivid_unet(TINY.model).state_dict()
    lines = [json.loads(line) for line in (PRETRAINED / "history.jsonl").read_text("utf-8").splitlines()]

    def written(losses=lambda k, loss: loss, weights=None, ema=None, steps=None, recipe=None) -> Path:
        folder, count = tmp_path / "run", 0
        folder.mkdir(exist_ok=True)
        history = copy.deepcopy(lines)
        for line in history:
            for point in line["curve"]:
                point[1], count = losses(count, point[1]), count + 1
        (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
        seen = content["images_seen"] if steps is None else steps * small.batch_size
        facts = {"ema": ema or weights or network, "images_seen": seen, "epoch": 30}
        checkpoint.save(folder / "latest.pt", recipe or small, weights or network, **facts)
        return folder

    return written


def kinds(folder) -> list[str]:
    return [finding.symptom.name for finding in run_findings(folder)]


def test_the_kits_own_run_is_healthy(run):
    assert kinds(PRETRAINED) == [] and kinds(run()) == []


def test_what_is_wrong_with_a_training_is_named(run):
    rng = np.random.default_rng(0)
    nan = {name: tensor.clone() for name, tensor in vivid_unet(TINY.model).state_dict().items()}
    nan["stem.weight"][0, 0, 0, 0] = torch.nan
    assert kinds(run(weights=nan)) == kinds(run(ema=nan)) == ["not_finite"]
    assert kinds(run(lambda k, loss: float("nan") if k > 900 else loss)) == ["not_finite"]
    assert kinds(run(lambda k, loss: float("inf") if k == 3 else loss)) == ["not_finite"]
    assert kinds(run(lambda k, loss: 0.77 + 0.02 * rng.standard_normal())) == ["flat"]
    assert kinds(run(lambda k, loss: loss * (1 + max(0, k - 600) / 300))) == ["rising"]
    assert kinds(run(steps=60)) == ["early"]
    assert kinds(run(lambda k, loss: loss * (1 + 0.05 * rng.standard_normal()))) == []  # a healthy loss jumps


def test_an_average_that_lags_behind_is_named(run):
    content = checkpoint.load(PRETRAINED)
    recipe = checkpoint.recipe_of(content)
    torch.manual_seed(1)
    random = type(checkpoint.load_denoiser(PRETRAINED).model)(recipe.model).state_dict()
    for share, named in ((0.6, ["ema"]), (0.001, [])):  # of the average: the random weights of the beginning
        ema = {name: share * random[name] + (1 - share) * weight for name, weight in content["weights"].items()}
        assert kinds(run(weights=content["weights"], ema=ema, recipe=recipe)) == named


def test_a_schedule_that_was_cut_short_is_named(run):
    recipe = replace(checkpoint.recipe_of(checkpoint.load(PRETRAINED)), model=TINY.model)
    assert kinds(run(recipe=replace(recipe, T=200))) == ["schedule"]
    assert kinds(run(recipe=replace(recipe, T=200, schedule="cosine"))) == []


def test_the_bounds_of_a_training_from_both_sides(run):
    recipe = replace(checkpoint.recipe_of(checkpoint.load(PRETRAINED)), model=TINY.model)
    assert kinds(run(steps=499)) == ["early"] and kinds(run(steps=500)) == []
    assert kinds(run(recipe=replace(recipe, T=400))) == ["schedule"]
    assert kinds(run(recipe=replace(recipe, T=500))) == []
    for first, rest, flat in ((1.0, 0.55, True), (1.0, 0.45, False), (0.15, 0.09, False)):
        assert bool(list(curve_findings([first] + [rest] * 31, 5000))) == flat


def test_a_run_of_two_epochs_was_stopped_too_early(trained_run):
    assert TINY.epochs == 2 and kinds(trained_run) == ["early", "schedule"]  # with T = 40


def test_a_short_curve_says_nothing():
    assert not list(curve_findings([1.0] * 7, 5000)) and list(curve_findings([1.0] * 8, 5000))
    assert not list(curve_findings([1.0] * 8, 100))  # after few steps it may still be flat


# The command


@pytest.fixture
def folder(tmp_path, sample):
    """A folder of 20 unseen digits, and a set that stands for the training digits."""
    place = tmp_path / "images"
    place.mkdir()
    for k, grey in enumerate(sample[2000:2020], 1):
        (place / file_name(k)).write_bytes(encode_png(grey[None]))
    np.savez(tmp_path / "train.npz", x_train=sample[:2000])
    return place


def test_the_command_says_what_was_seen_what_is_healthy_and_what_to_do(folder, capsys, run, tmp_path):
    words = ["doctor", str(folder), "--train", str(tmp_path / "train.npz")]
    assert main(words) == 0 and "no sign of a known mistake" in capsys.readouterr().out
    for path in folder.glob("*.png"):
        Image.fromarray(127 + np.asarray(Image.open(path)) // 2).save(path)
    assert main(words) == 1
    said = capsys.readouterr().out
    symptom = BY_NAME["washed_out"]
    assert f"✗ {symptom.title}: The background has level 127" in said and "CLINIC.md" in said
    assert symptom.healthy in said and symptom.cause in said and symptom.mend in said
    whole = run(steps=60)  # a run is looked at with its images
    shutil.copytree(folder, whole / "generate")
    assert main(["doctor", str(whole), *words[2:]]) == 1
    said = capsys.readouterr().out
    assert BY_NAME["early"].title in said and symptom.title in said


def test_files_are_looked_at_before_pictures(folder, tmp_path):
    (folder / file_name(20)).rename(folder / file_name(0))
    Image.open(folder / file_name(3)).convert("L").save(folder / file_name(3))
    Image.open(folder / file_name(4)).resize((32, 32)).save(folder / file_name(4))
    found = {f.symptom.name: f.seen for f in doctor.findings(folder, tmp_path / "train.npz")}
    assert set(found) == {"number", "size"}
    assert "2 of 20" in found["size"] and "28×28 in mode L" in found["size"]


@pytest.mark.parametrize("place", ["nowhere", "empty", "file", "text", "broken"])
def test_a_place_with_nothing_to_look_at_is_refused_in_a_sentence(tmp_path, capsys, place):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name, content in (("text", "a.txt"), ("broken", "00001.png")):
        (tmp_path / name).mkdir()
        (tmp_path / name / content).write_text("no picture")
    assert main(["doctor", str(tmp_path / place)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("hwkit: ") and place in said.err and len(said.err.splitlines()) == 1


# The clinic


def test_every_symptom_says_all_and_the_page_shows_each():
    page, chinese = ((KIT / "notebooks" / f"CLINIC{edition}.md").read_text("utf-8") for edition in ("", ".zh-TW"))
    for symptom in SYMPTOMS:
        assert all((symptom.title, symptom.seen, symptom.healthy, symptom.cause, symptom.mend))
        assert f"`{symptom.name}`" in page and symptom.title.lower() in page.lower()
        with speaking("zh-TW"):
            assert f"`{symptom.name}`" in chinese and say(symptom.title) in chinese
    assert {path.stem for path in PICTURES.glob("*.png")} == set(make_clinic.CLINIC)
    assert all(f"pictures/clinic/{name}.png" in page for name in make_clinic.CLINIC)
    assert all(path.stat().st_size < 60_000 for path in PICTURES.glob("*.png"))


def test_the_page_quotes_the_doctor_on_its_own_pictures(clinic, train):
    for language in LANGUAGES:
        with speaking(language):
            page = " ".join((KIT / say(CLINIC)).read_text("utf-8").split())
            for pictures in clinic.values():
                for finding in picture_findings(pictures, train):
                    assert f"*{finding.seen}*" in page
