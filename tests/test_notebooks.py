"""The notebooks as files: pairs in step, clean outputs, readable cells, true badges; and how the library helps them.

That they run is nbval's part of `make test`; Colab's branch has `test_colab.py`, Drive `test_drive.py`.
"""

import ast
import copy
import html
import importlib.util
import itertools
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
import torch
from conftest import copy_of_kit

from hwkit import notebook
from hwkit.recipe import RECIPES
from hwkit.runs import checkpoint
from hwkit.runs.checkpoint import best_of, load
from hwkit.runs.generate import generate, read_manifest
from hwkit.sampling import Sampler
from hwkit.show import figures
from hwkit.show.slider import SEQUENCES, SliderFrames
from hwkit.unet import UNet, UNetConfig

KIT = Path(__file__).resolve().parent.parent
NOTEBOOKS = KIT / "notebooks"
HOMEWORK = ["01_data", "02_training", "03_sampling", "04_visualization", "05_fid", "06_report"]
NAMES = ["00_toy", *HOMEWORK]  # 0 is a warm-up, of which nothing is handed in
CHECK = re.compile(r"(from hwkit\.course\.selfcheck import check\n\n)?check\([^\n]+\)")
ABSOLUTE = re.compile(r"(?<![\w.:/])(/(home|work|tmp|root|Users|mnt|opt|var)/|[A-Z]:\\\\)")


def source(name: str):
    """The .py of a pair, as a notebook."""
    return jupytext.read(NOTEBOOKS / f"{name}.py")


def executed(name: str):
    """The .ipynb of a pair."""
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(content, tag: str | None = None) -> list:
    cells = [cell for cell in content.cells if cell.cell_type == "code"]
    return [cell for cell in cells if tag is None or tag in cell.metadata.get("tags", [])]


def outputs(content) -> list:
    return [output for cell in code_cells(content) for output in cell.outputs]


def test_these_are_the_notebooks_and_each_is_a_pair():
    for kind in (".ipynb", ".py"):
        found = [path.stem for path in NOTEBOOKS.glob(f"[0-9]*{kind}") if ".before-sync" not in path.name]
        assert sorted(found) == NAMES


# What was saved


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_is_in_step(name):
    pair = [
        [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in read(name).cells] for read in (source, executed)
    ]
    assert pair[0] == pair[1], "make sync brings the pair in step"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_was_run_from_top_to_bottom_and_saved_clean(name):
    content = executed(name)
    assert [cell.execution_count for cell in code_cells(content)] == [*range(1, len(code_cells(content)) + 1)]
    for output in outputs(content):
        assert output.output_type != "error", output
        assert output.get("name") != "stderr", output
    assert (
        sum(any("image/png" in output.get("data", {}) for output in cell.outputs) for cell in code_cells(content)) >= 3
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_opens_on_github(name):
    content, path = executed(name), NOTEBOOKS / f"{name}.ipynb"
    nbformat.validate(content)
    assert "widgets" not in content.metadata, "GitHub says Invalid Notebook"
    assert set(content.metadata) == {"kernelspec", "language_info", "jupytext"}
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_no_notebook_names_a_place_on_somebodys_machine(name):
    for cell in executed(name).cells:
        texts = [cell.source]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts += [output.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")]
        for text in texts:
            assert not ABSOLUTE.search(text), ABSOLUTE.search(text)


@pytest.mark.parametrize("text", ["open('/home/me/x')", "in /tmp/a", "C:\\\\Users", "(/mnt/disk/runs)"])
def test_such_a_place_would_be_found(text):
    assert ABSOLUTE.search(text) and not ABSOLUTE.search("runs/cpu https://x.org/home/me ../tmp/ data/mnist")


# How it reads


@pytest.mark.parametrize("name", NAMES)
def test_code_cells_are_short_and_each_has_words_before_it(name):
    """A cell that only checks the task above it needs no words: it stands directly below."""
    cells = source(name).cells
    lengths = [len(cell.source.strip().splitlines()) for cell in cells if cell.cell_type == "code"]
    assert max(lengths) <= 20 and statistics.median(lengths) <= 9
    for before, cell in itertools.pairwise(cells):
        if cell.cell_type == "code" and not (CHECK.fullmatch(cell.source) and "### END SOLUTION" in before.source):
            assert before.cell_type == "markdown", cell.source
            assert 15 <= len(before.source.split()) <= 90, before.source


@pytest.mark.parametrize("name", NAMES)
def test_every_notebook_has_the_same_parts(name):
    content = source(name)
    text = [cell.source for cell in content.cells if cell.cell_type == "markdown"]
    assert re.match(r"\[!\[Open in Colab\].*\n\n\*\*English\*\* · .*\n\n# \d · ", text[0]) and int(name[:2]) == int(
        re.search(r"# (\d)", text[0])[1]
    )
    headings = [line[3:] for cell in text for line in cell.splitlines() if line.startswith("## ")]
    acts = [heading for heading in headings if heading.startswith("Act ")]
    assert headings == ["Where this leads", *acts, "Summary", "Exercises", "References"]
    assert [int(act.split()[1]) for act in acts] == [*range(1, len(acts) + 1)] and 3 <= len(acts) <= 5
    assert sum("**What to notice.**" in cell for cell in text) >= len(acts)
    assert len(code_cells(content, "goal")) == 1, "its picture is shown at the start"
    assert (NOTEBOOKS / "pictures" / f"{name}.png").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_there_is_one_cell_of_parameters_and_it_holds_literals(name):
    (cell,) = code_cells(source(name), "parameters")
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
        assert all(target.id.isupper() for target in statement.targets)


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_of_a_student_knows_of_tests(name):
    for cell in source(name).cells:
        assert not re.search(r"notebook\.SMOKE|NBVAL|HWKIT_RECIPE|make test.{0,40}small", cell.source), cell.source
        assert "redirect_stdout" not in cell.source


def functions(code: str) -> dict[str, str]:
    """Name → body, as text, of all functions at the top: without docstring, annotations and comments."""

    def plain(function: ast.FunctionDef) -> str:
        if ast.get_docstring(function):
            function.body = function.body[1:]
        for node in ast.walk(function):
            if isinstance(node, ast.arg):
                node.annotation = None
        function.returns = None
        return ast.unparse(function)

    return {node.name: plain(node) for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}


def test_every_equation_is_written_out_in_one_notebook_as_it_stands_in_the_library():
    library = functions((KIT / "hwkit" / "diffusion.py").read_text("utf-8"))
    library = {name: body for name, body in library.items() if not name.startswith("_")}
    written = [
        item for name in NAMES for cell in code_cells(source(name), "core") for item in functions(cell.source).items()
    ]
    assert len(written) == len(dict(written)), "twice"
    assert dict(written) == library


def test_the_network_written_out_in_notebook_2_is_the_kits():
    """With the same weights, in the same order, the same answers: of the original's size, folded, and grey."""
    scope = {"torch": torch}
    for cell in code_cells(source("02_training"), "network"):
        exec(cell.source, scope)
    generator = torch.Generator().manual_seed(0)
    for arguments, config in (
        ({}, RECIPES["original"].model),
        ({"base": 32, "patch": 2}, UNetConfig(base=32, patch=2)),
        ({"base": 16, "patch": 2, "channels": 1}, UNetConfig(base=16, patch=2, channels=1)),
    ):
        written, kits = scope["UNet"](**arguments), UNet(config)
        assert all(not p.any() for p in list(written.parameters())[-2:]), "a new network says 0"
        with torch.no_grad():
            for ours, theirs in zip(written.parameters(), kits.parameters(), strict=True):
                ours.copy_(theirs.normal_(std=0.05, generator=generator))
            x_t = torch.randn(3, config.channels, 28, 28, generator=generator)
            t = torch.tensor([1, 415, 830])
            assert kits(x_t, t).std() > 0.01
            assert torch.allclose(written(x_t, t), kits(x_t, t), atol=1e-5)


@pytest.mark.parametrize("step", [0, 9, 1000, 10**6])
def test_the_average_written_out_in_notebook_2_is_the_kits(step):
    """How much of itself it keeps; that `update_weights` keeps as much is what its check tries."""
    scope = {}
    for cell in code_cells(source("02_training"), "average"):
        exec(cell.source, scope)
    keep = scope["ema_decay"](step, longest=RECIPES["cpu"].ema)
    assert keep == pytest.approx(RECIPES["cpu"].ema_decay(step), abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_code_is_wider_than_its_cell(name):
    """88 characters fit at 1,000 pixels. The first cell, which holds an address, is nothing to be read."""
    wide = [line for cell in code_cells(source(name)) for line in cell.source.splitlines() if len(line) > 88]
    assert not wide


# Colab


@pytest.mark.parametrize("name", NAMES)
def test_badge_and_clone_point_to_this_notebook_in_one_repository(name):
    text, reference = (NOTEBOOKS / f"{name}.py").read_text("utf-8"), (NOTEBOOKS / "01_data.py").read_text("utf-8")
    badge, switch = re.findall(r"colab\.research\.google\.com/github/(\S+?)/blob/(\S+?)/(\S+?)\)", text)
    (clone,) = re.findall(r'git clone -q -b (\S+) https://github\.com/(\S+) hwkit"', text)
    assert badge == (clone[1], clone[0], f"notebooks/{name}.ipynb")
    assert switch == (clone[1], clone[0], f"notebooks/zh-TW/{name}.ipynb")
    assert f"blob/{clone[0]}/" in reference and f'github.com/{clone[1]} hwkit"' in reference


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cell_is_the_same_everywhere_and_has_seven_lines(name):
    first, reference = (code_cells(source(n))[0].source for n in (name, "01_data"))
    assert first == reference.replace("01_data", name)
    assert len([line for line in first.splitlines() if line.strip()]) <= 7


def build(folder: Path):
    """The build.py that stands in a copy of notebooks/, as a module."""
    spec = importlib.util.spec_from_file_location("build", folder / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_badges_are_rewritten_in_all_notebooks_and_again(tmp_path, monkeypatch):
    """Of the pairs each time; the other editions are made of these, which takes long, the last time only."""
    copy = shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    monkeypatch.setenv("PYTHONPATH", str(KIT))  # the copy has no library beside it
    addresses = re.compile(
        r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob/(.+?)/notebooks/(?:zh-TW/)?(?:student/)?\d"
        r"|git clone -q -b (\S+) https://github\.com/([\w.-]+/[\w.-]+)"
    )
    for owner, *ref in (("somebody/fork-1",), ("other/hwkit", "week/3"), ("other/hwkit", "v0.2.0"), ("o/h",)):
        last = owner == "o/h"
        with monkeypatch.context() as patch:
            if not last:
                patch.setattr(subprocess, "run", lambda *_, **__: None)
            build(copy).badges(owner, *ref)
        notebooks = list(copy.rglob("0*.ipynb")) if last else [*copy.glob("0*.ipynb"), *copy.glob("solutions/0*.ipynb")]
        for path in [*copy.glob("0*.py"), *notebooks]:
            *pages, clone = addresses.findall(path.read_text("utf-8"))
            assert len(pages) == (0 if path.parent.name == "solutions" else 2), "a badge, and the other language"
            assert {page[:2] for page in pages} <= {clone[:1:-1]} == {(owner, *(ref or ["main"]))}, path
        for path in (path for path in notebooks if path.stem == "04_visualization" and path.parent.name != "solutions"):
            (link,) = re.findall(r"https://([\w.-]+)\.github\.io/([\w.-]+)/index\.html", path.read_text("utf-8"))
            assert "/".join(link) == owner, path


@pytest.mark.parametrize("wrong", [["no-owner"], ["a/b/c"], ["a/b", "no ref"]])
def test_a_wrong_address_is_refused_in_a_sentence(wrong):
    with pytest.raises(SystemExit, match=r"owner/name|no branch"):
        build(NOTEBOOKS).badges(*wrong)


def environment(**extra) -> dict:
    return {**os.environ, "PYTHONPATH": str(KIT), "OMP_NUM_THREADS": "1", **extra}


def test_start_needs_no_checkout(tmp_path):
    """As `pip install` leaves the kit: the package alone. The working directory stays what it is."""
    shutil.copytree(KIT / "hwkit", tmp_path / "site" / "hwkit")
    code = "from hwkit import notebook; notebook.start('01_data'); import os; print(os.getcwd(), notebook.KIT)"
    env = environment(PYTHONPATH=str(tmp_path / "site"))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{tmp_path} {tmp_path / 'site'}"


def test_on_colab_only_what_is_missing_is_installed(monkeypatch, tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# lower bounds\ntorch>=2.4\nno-such-package-1>=3\nnumpy>=1.24\nno.such_2\n")
    called = []
    monkeypatch.setattr(notebook.subprocess, "run", lambda command, check: called.append(command))
    assert notebook.install_missing(requirements) == ["no-such-package-1", "no.such_2"]
    assert called == [[sys.executable, "-m", "pip", "install", "--quiet", "no-such-package-1", "no.such_2"]]
    requirements.write_text("torch>=2.4\n")
    assert notebook.install_missing(requirements) == [] and len(called) == 1
    assert notebook.install_missing(tmp_path / "none.txt") == [], "an installed kit has brought them along"


@pytest.mark.parametrize(("device", "said"), [("cpu", True), ("cuda", False)])
def test_on_colab_a_gpu_is_asked_for_where_there_is_none(monkeypatch, capsys, tmp_path, device, said):
    monkeypatch.setattr(notebook, "on_colab", lambda: True)
    monkeypatch.setattr(notebook, "best_device", lambda: device)
    monkeypatch.setattr(notebook, "install_missing", lambda requirements: [])
    monkeypatch.chdir(tmp_path)
    notebook.start("06_report", drive=False)
    shown = capsys.readouterr().out
    assert ("Runtime → Change runtime type" in shown) == said == ("estimates" in shown)


def test_elsewhere_nothing_is_said_of_gpus_or_drive(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    notebook.start("06_report")
    assert len(capsys.readouterr().out.splitlines()) == 1


# Long work, and its results


@pytest.fixture
def run_of_ones_own(trained_run, tmp_path) -> Path:
    return shutil.copytree(trained_run, tmp_path / "runs" / "mine")


def test_images_are_made_after_a_word_on_the_time_and_kept_on_the_way(run_of_ones_own, monkeypatch, capsys, threads):
    kept = []
    there = lambda run: len(list(run.glob("generate/*.png")))  # noqa: E731
    monkeypatch.setattr(notebook, "keep", lambda run, minutes=0: kept.append((there(run), minutes)))
    threads(2)
    folder = notebook.make_images(run_of_ones_own, 450, Sampler("dpm++sde", 2))
    shown = capsys.readouterr().out
    assert re.search(r"450 of 450 images are to be made by dpm\+\+sde: about \d+ s on this cpu", shown)
    assert len(list(folder.glob("*.png"))) == 450 and kept == [(200, 5), (400, 5), (450, 5), (450, 0)]
    assert read_manifest(folder)["sampler"]["name"] == "dpm++sde"
    assert notebook.make_images(run_of_ones_own, 300) == folder and not capsys.readouterr().out, "none is missing"


def test_images_that_were_begun_go_on_as_they_were_begun(run_of_ones_own):
    folder = run_of_ones_own / "generate"
    generate(best_of(run_of_ones_own), folder, 5, Sampler("ddim", 2), seed=3, progress=False)
    before = (folder / "00004.png").read_bytes()
    notebook.make_images(run_of_ones_own, 8, seed=1)
    made = read_manifest(folder)
    assert (made["sampler"]["name"], made["seed"]) == ("ddim", 3) and len(list(folder.glob("*.png"))) == 8
    assert (folder / "00004.png").read_bytes() == before


def test_images_in_bf16_go_on_in_bf16(run_of_ones_own):
    """As the command line makes them where that is quicker."""
    folder = run_of_ones_own / "generate"
    generate(best_of(run_of_ones_own), folder, 5, Sampler("ddim", 2), precision="bf16", progress=False)
    notebook.make_images(run_of_ones_own, 8)
    assert read_manifest(folder)["precision"] == "bf16" and len(list(folder.glob("*.png"))) == 8


@pytest.mark.parametrize("n", [5, 8], ids=["none is missing", "three are missing"])
def test_images_of_other_weights_are_not_taken_for_those_of_these(run_of_ones_own, n):
    """As after a longer training, or a guide that was added: what is measured and handed in must be one run's."""
    folder, weights = run_of_ones_own / "generate", best_of(run_of_ones_own)
    generate(weights, folder, 5, Sampler("ddim", 2), progress=False)
    content = checkpoint.load(weights)
    checkpoint.save(weights, checkpoint.recipe_of(content), content["weights"], epoch=3, images_seen=999)
    before = sorted(path.read_bytes() for path in folder.iterdir())
    with pytest.raises(ValueError, match=r"made by other weights than ema_latest\.pt holds now: move"):
        notebook.make_images(run_of_ones_own, n)
    assert sorted(path.read_bytes() for path in folder.iterdir()) == before


def test_the_time_that_is_said_goes_with_the_steps(run_of_ones_own, monkeypatch):
    weights, now = best_of(run_of_ones_own), [0.0]

    def evaluated(module, inputs):  # on this clock each takes a second, and nothing else takes any time
        now[0] += isinstance(module, UNet)

    monkeypatch.setattr(notebook.time, "monotonic", lambda: now[0])
    watching = torch.nn.modules.module.register_module_forward_pre_hook(evaluated)
    few, many = (notebook.seconds_an_image(weights, Sampler("ddim", steps)) for steps in (1, 40))
    watching.remove()
    assert few > 0 and many / few == pytest.approx(40)


@pytest.fixture
def slider() -> SliderFrames:
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 3, 28, 28), np.uint8)
    return SliderFrames(range(8, -1, -1), range(8, -1, -1), dict.fromkeys(SEQUENCES, images))


@pytest.fixture
def shown(monkeypatch) -> list:
    """What was displayed."""
    found = []
    monkeypatch.setattr(notebook, "display", lambda data, metadata=None, raw=False: found.append((data, metadata)))
    return found


def test_a_slider_leaves_a_picture_where_a_saved_notebook_cannot_run_it(slider, shown, tmp_path):
    notebook.show_slider(slider)
    ((data, metadata),) = shown
    assert data[notebook.WIDGET]["model_id"] and data["image/png"].startswith(b"\x89PNG")
    assert "slider" in metadata["image/png"]["alt"]
    output = nbformat.v4.new_output("display_data", {**data, "image/png": "aaaa"}, metadata=metadata)
    bar = nbformat.v4.new_output("display_data", {notebook.WIDGET: {"model_id": "x"}, "text/plain": "a bar"})
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output, bar], execution_count=1)])
    build(NOTEBOOKS).write(content, tmp_path / "saved.ipynb")
    (kept,) = nbformat.read(tmp_path / "saved.ipynb", as_version=4).cells[0].outputs
    assert set(kept.data) == {"image/png", "text/plain"} and kept.metadata["image/png"]["alt"]


def test_the_rows_in_the_sliders_place_have_their_own_names(shown, monkeypatch):
    names, seen, real = ("ddim-xt", "ddim-x0", "ddpm-xt", "ddpm-x0"), [], notebook.labelled_rows
    monkeypatch.setattr(notebook, "labelled_rows", lambda rows, *a, **k: seen.append(rows) or real(rows, *a, **k))
    frames = {name: np.full((9, 8, 3, 28, 28), k, np.uint8) for k, name in enumerate(names)}
    notebook.show_slider(SliderFrames(range(8, -1, -1), range(8, -1, -1), frames))
    found = {label: int(row.max()) for label, row in seen[0].items()}
    assert found == {"DDIM $x_t$": 0, "DDIM guess": 1, "DDPM $x_t$": 2, "DDPM guess": 3}


def test_on_colab_the_slider_is_its_page_in_a_frame(slider, shown, monkeypatch):
    monkeypatch.setattr(notebook, "on_colab", lambda: True)
    notebook.show_slider(slider)
    ((data, _),) = shown
    frame = data["text/html"]
    assert frame.startswith("<iframe srcdoc=") and 'title="From noise to digits"' in frame
    inner = html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1])
    assert inner.startswith("<!DOCTYPE html>") and inner.rstrip().endswith("</html>")


def test_every_picture_has_words():
    figure, axes = figures.plot("t", "loss", "A title")
    axes.plot([1, 2], [1, 2], label="mine")
    axes.legend()
    assert notebook.described(figure) == "A title; loss against t; mine"
    figure.set_label("What it shows")
    assert notebook.described(figure) == "What it shows"
    sheet = figures.labelled_rows({"DDIM": np.zeros((2, 3, 28, 28), np.uint8)}, "Rows")
    assert notebook.described(sheet) == "Rows; DDIM"
    picture, about = notebook.png(figure)
    assert picture.startswith(b"\x89PNG") and about == {"alt": "What it shows"}


def test_elsewhere_the_notebooks_are_those_of_this_folder_and_nothing_is_downloaded(tmp_path, capsys):
    assert [path.stem for path in notebook.own_notebooks()] == HOMEWORK
    (tmp_path / "a.zip").write_bytes(b"PK")
    notebook.offer(tmp_path / "a.zip")
    assert capsys.readouterr().out == f"{tmp_path / 'a.zip'}: 0.0 MB\n"


@pytest.mark.parametrize("edition", ["student", "zh-TW/student"])
def test_a_notebook_that_still_has_blanks_is_named_before_it_is_packed(tmp_path, monkeypatch, capsys, edition):
    """What stands in the file is packed, and a filled-in notebook may not be saved yet."""
    monkeypatch.setattr(notebook, "KIT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(NOTEBOOKS / "01_data.ipynb", tmp_path / "notebooks")
    notebook.own_notebooks()
    assert capsys.readouterr().out == "", "the worked edition has none"
    shutil.copy(NOTEBOOKS / edition / "03_sampling.ipynb", tmp_path / "notebooks")
    notebook.own_notebooks()
    assert "STILL WITH BLANKS: 03_sampling.ipynb. If you have filled them in, save" in capsys.readouterr().out


@pytest.mark.parametrize("language", ["", "zh-TW"])
def test_a_kit_of_which_the_worked_edition_was_taken_away_hands_in_the_students(
    tmp_path, monkeypatch, capsys, language
):
    """As an instructor may hand it out; once such a kit packed none, and spoke of a Drive that there was not."""
    monkeypatch.setattr(notebook, "KIT", tmp_path)
    if language:
        monkeypatch.setenv("HWKIT_LANG", language)
    here = tmp_path / "notebooks" / language
    here.mkdir(parents=True)
    assert notebook.own_notebooks() == []
    said = capsys.readouterr().out
    assert str(here) in "".join(said.split("\n")) and "Drive" not in said
    shutil.copytree(NOTEBOOKS / language / "student", here / "student")
    shutil.copy(here / "student" / "01_data.ipynb", here / "student" / "01_data.new.ipynb")
    found = notebook.own_notebooks()
    assert found == [here / "student" / f"{name}.ipynb" for name in HOMEWORK]
    assert "01_data.ipynb" in capsys.readouterr().out, "it still has blanks"


def test_a_student_edition_that_was_begun_is_handed_in_for_its_notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "KIT", tmp_path)
    shutil.copytree(NOTEBOOKS / "student", tmp_path / "notebooks" / "student")
    for name in NAMES:
        shutil.copy(NOTEBOOKS / f"{name}.ipynb", tmp_path / "notebooks")
    assert notebook.own_notebooks() == [tmp_path / "notebooks" / f"{name}.ipynb" for name in HOMEWORK]
    mine = tmp_path / "notebooks" / "student" / "03_sampling.ipynb"
    content = nbformat.read(mine, as_version=4)
    content.cells[2].execution_count = 1
    nbformat.write(content, mine)
    found = notebook.own_notebooks()
    assert found[2] == mine and [path.stem for path in found] == HOMEWORK


@pytest.mark.parametrize("how", ["written into, and its outputs cleared", "in Chinese"])
def test_the_worked_answers_are_not_handed_in_for_who_has_begun_the_student_edition(tmp_path, monkeypatch, capsys, how):
    """Neither for a notebook that was never opened: its blanks are handed in, and named."""
    monkeypatch.setattr(notebook, "KIT", tmp_path)
    shutil.copytree(NOTEBOOKS / "student", tmp_path / "notebooks" / "student")
    shutil.copytree(NOTEBOOKS / "zh-TW" / "student", tmp_path / "notebooks" / "zh-TW" / "student")
    for name in NAMES:
        shutil.copy(NOTEBOOKS / f"{name}.ipynb", tmp_path / "notebooks")
    mine = tmp_path / "notebooks" / ("zh-TW/student" if "Chinese" in how else "student") / "03_sampling.ipynb"
    content = nbformat.read(mine, as_version=4)
    content.cells[-1].source += "\n# mine"
    nbformat.write(content, mine)
    found = {path.name: path for path in notebook.own_notebooks()}
    assert found["03_sampling.ipynb"] == mine
    student = tmp_path / "notebooks" / "student"
    assert {found[f"{name}.ipynb"].parent for name in ("01_data", "02_training", "04_visualization")} == {student}
    assert "STILL WITH BLANKS: 01_data.ipynb" in capsys.readouterr().out


def test_an_answer_above_the_line_of_the_blank_is_told_what_to_delete(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebook, "KIT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    content = nbformat.v4.new_notebook()
    blank = 'raise NotImplementedError("Task 1.2: the jump")'
    under, in_comment = f"def f():\n    return 1\n    {blank}", f"def f():\n    # {blank}\n    return 1"
    for source, named in ((under, True), (under.replace('"', "'"), True), (in_comment, False)):
        content.cells = [nbformat.v4.new_code_cell(source)]
        nbformat.write(content, tmp_path / "notebooks" / "01_data.ipynb")
        notebook.own_notebooks()
        said = capsys.readouterr().out
        assert ("STILL WITH BLANKS: 01_data.ipynb" in said and "delete the line" in said) == named


@pytest.mark.parametrize("spoilt", [b"", b"{", b"[]", b'{"cells": [1]}', b"\xff\xfe"])
def test_a_notebook_that_does_not_read_stops_no_handing_in_but_is_named(spoilt, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebook, "KIT", tmp_path)
    (tmp_path / "notebooks" / "student").mkdir(parents=True)
    (tmp_path / "notebooks" / "student" / "01_data.ipynb").write_bytes(spoilt)
    assert [path.name for path in notebook.own_notebooks()] == ["01_data.ipynb"]
    assert "CANNOT BE READ: 01_data.ipynb" in capsys.readouterr().out


def test_another_seed_than_the_images_were_begun_with_is_told_loudly(run_of_ones_own, capsys):
    generate(best_of(run_of_ones_own), run_of_ones_own / "generate", 5, Sampler("dpm++sde", 2), seed=0, progress=False)
    notebook.make_images(run_of_ones_own, 5, seed=4123)
    said = capsys.readouterr().out
    assert "!!!" in said and "was begun by dpm++sde-2, seed 0, and goes on so" in " ".join(said.split())


# Which run a notebook looks at


def test_the_kits_own_weights_are_called_so(trained_run, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="hwkit train"):
        notebook.find_run()
    checkpoint.export(load(best_of(trained_run)), tmp_path / "pretrained" / checkpoint.EXPORTED)
    (tmp_path / "pretrained" / "history.jsonl").write_text("")
    for name in (None, "pretrained"):
        assert notebook.find_run(name) == tmp_path / "runs" / "pretrained"
        assert "NOT YOUR MODEL" in capsys.readouterr().out


def test_on_colab_the_kits_weights_are_the_last_resort_and_it_says_where_was_searched(
    trained_run, tmp_path, monkeypatch, capsys
):
    checkpoint.export(load(best_of(trained_run)), tmp_path / "pretrained" / checkpoint.EXPORTED)
    (tmp_path / "pretrained" / "history.jsonl").write_text("")
    monkeypatch.setattr(notebook, "kept_on", (tmp_path / "MyDrive" / "hwkit", 1))
    notebook.find_run()
    shown = capsys.readouterr().out
    assert "NOT YOUR MODEL" in shown and f"There is no run in {tmp_path / 'MyDrive' / 'hwkit'}" in shown


def test_the_kits_weights_by_another_name_are_called_so_too(trained_run, tmp_path, capsys):
    checkpoint.export(load(best_of(trained_run)), tmp_path / "pretrained" / checkpoint.EXPORTED)
    shutil.copytree(tmp_path / "pretrained", tmp_path / "runs" / "mine")
    assert notebook.find_run() == tmp_path / "runs" / "mine" and "NOT YOUR MODEL" in capsys.readouterr().out


def test_a_run_of_ones_own_comes_first_and_is_not_called_the_kits(trained_run, tmp_path, capsys):
    for k, name in enumerate(("old", "new", "smoke")):
        shutil.copytree(trained_run, tmp_path / "runs" / name)
        os.utime(tmp_path / "runs" / name / "ema_latest.pt", (k, k))
    assert notebook.find_run() == tmp_path / "runs" / "new"
    assert notebook.find_run("old") == tmp_path / "runs" / "old"
    shown = capsys.readouterr().out
    assert "NOT YOUR MODEL" not in shown and "ema_latest.pt, epoch 2, 192 images seen" in shown


# Pairs are brought in step, and nobody's answer is lost


@pytest.fixture
def pair(tmp_path):
    """A copy of notebooks/ with one pair only, 01_tiny; its .ipynb was executed."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(NOTEBOOKS / "build.py", folder)
    (folder / "01_tiny.py").write_text("# %% [markdown]\n# Words.\n\n# %%\nprint(6 * 7)\n")
    build(folder).execute([])
    return folder / "01_tiny.py", folder / "01_tiny.ipynb"


def type_into(notebook: Path, answer: str, time: float) -> None:
    """What a student does in Jupyter or Colab, which save the .ipynb only."""
    content = nbformat.read(notebook, as_version=4)
    content.cells.append(nbformat.v4.new_code_cell(answer))
    nbformat.write(content, notebook)
    os.utime(notebook, (time, time))


def copies(pair) -> list[Path]:
    return sorted(pair[0].parent.glob("*.before-sync*"))


def test_executing_saves_outputs_and_leaves_nothing_beside_an_unchanged_pair(pair):
    assert "42" in code_cells(nbformat.read(pair[1], as_version=4))[0].outputs[0].text
    build(pair[0].parent).execute(["01"])
    build(pair[0].parent).sync()
    assert copies(pair) == []


@pytest.mark.parametrize("age", [-100, 0, 100])
@pytest.mark.parametrize("command", ["execute", "sync"])
def test_an_answer_that_stands_in_the_ipynb_only_is_not_lost(pair, command, age, capsys):
    """The .ipynb older than the .py (as after a git pull), as old, and newer."""
    type_into(pair[1], "answer = 'by hand'", pair[0].stat().st_mtime + age)
    module = build(pair[0].parent)
    module.sync() if command == "sync" else module.execute([])
    kept = [pair[1], *copies(pair)]
    assert any("by hand" in path.read_text() for path in kept)
    if "by hand" not in pair[1].read_text():
        assert "01_tiny.before-sync.ipynb" in capsys.readouterr().out
    if command == "sync" and age == 100:
        assert "by hand" in pair[0].read_text(), "the newer one's cells are both's"


def test_cells_of_the_py_that_a_newer_ipynb_replaces_are_kept_too(pair, capsys):
    pair[0].write_text(pair[0].read_text() + "\n# %%\nmine = 'in the py'\n")
    type_into(pair[1], "other = 1", pair[0].stat().st_mtime + 100)
    build(pair[0].parent).sync()
    assert "other = 1" in pair[0].read_text() and "in the py" in copies(pair)[0].read_text()
    assert "01_tiny.before-sync.py" in capsys.readouterr().out


def test_a_second_answer_does_not_replace_the_copy_of_the_first(pair):
    for answer in ("first = 1", "second = 2"):
        type_into(pair[1], answer, pair[0].stat().st_mtime - 100)
        build(pair[0].parent).sync()
    first, second = (path.read_text() for path in sorted(copies(pair), key=lambda path: len(path.name)))
    assert "first = 1" in first and "second = 2" in second and len(copies(pair)) == 2
    build(pair[0].parent).sync()
    assert len(copies(pair)) == 2, "nothing was replaced; and the copies are no pairs of their own"


# nbval runs them small, and compares the marked cells


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """The copies that `make test` runs."""
    folder = tmp_path_factory.mktemp("small")
    build(NOTEBOOKS).smoke(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_small_values_follow_the_parameters_that_they_replace(small, name):
    content, before = nbformat.read(small / f"{name}.ipynb", as_version=4), executed(name)
    (place,) = (i for i, cell in enumerate(content.cells) if "injected-parameters" in cell.metadata.get("tags", []))
    injected = content.cells.pop(place)
    assert content.cells == before.cells and "parameters" in content.cells[place - 1].metadata.tags
    names = [{s.targets[0].id for s in ast.parse(c.source).body} for c in (injected, content.cells[place - 1])]
    assert names[0] and names[0] <= names[1], "a name that the notebook does not have would change nothing"


def test_a_changed_number_in_a_marked_cell_fails(small, tmp_path):
    """Notebook 1 up to its first marked cell, then that cell again with one digit of its output changed."""
    content = nbformat.read(small / "01_data.ipynb", as_version=4)
    marked = [i for i, cell in enumerate(content.cells) if "nbval-check-output" in cell.metadata.get("tags", [])]
    content.cells = content.cells[: marked[0] + 1]
    again = copy.deepcopy(content.cells[-1])
    again.id, (output,) = "again", again.outputs
    content.cells.append(again)
    number = re.search(r"\d", output.text)
    output.text = output.text[: number.start()] + str((int(number[0]) + 1) % 10) + output.text[number.end() :]
    nbformat.write(content, tmp_path / "changed.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "changed.ipynb"]
    env = environment(PYTHONPATH=str(copy_of_kit(tmp_path / "kit", "hwkit", "data")))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)
    last = sum(cell.cell_type == "code" for cell in content.cells) - 1
    failed = re.findall(r"^FAILED (\S+ \d+)", done.stdout, re.M)
    assert done.returncode == 1 and failed == [f"changed.ipynb::Cell {last}"], done.stdout
