"""The timestep slider: its frames, its size, its links, and the page. What a browser does with it: tests/browser."""

import base64
import io
import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from ipywidgets import Widget
from ipywidgets.embed import dependency_state
from PIL import Image

from hwkit.__main__ import main
from hwkit.mnist.batches import to_uint8
from hwkit.runs.checkpoint import load_denoiser
from hwkit.sampling import Sampler, nodes
from hwkit.schedule import linear
from hwkit.show import slider as slider_module
from hwkit.show.report import grid_frames
from hwkit.show.slider import KINDS, SEQUENCES, SliderFrames, draw_strips, slider_frames, slider_html, timestep_slider

LIMIT = 1_500_000
PITCH = 30  # of an image in a strip: 28 pixels, and a gap of 2
HEIGHT = 2 * PITCH + 2  # of a strip


class NoisyDenoiser:
    """A network that predicts noise: with it, all four sequences are as hard to compress as they can be."""

    schedule = linear(830)

    def __call__(self, x_t, t):
        generator = torch.Generator().manual_seed(t)
        return torch.randn(x_t.shape, generator=generator), torch.randn(x_t.shape, generator=generator)


@pytest.fixture(scope="module")
def frames(vivid_checkpoint) -> SliderFrames:
    return slider_frames(load_denoiser(vivid_checkpoint), seed=3)


@pytest.fixture(scope="module")
def noisy() -> SliderFrames:
    return slider_frames(NoisyDenoiser())


@pytest.fixture
def slider(frames):
    yield timestep_slider(frames)
    Widget.close_all()


def test_four_sequences_at_the_same_times_from_T_to_0(frames, noisy):
    assert frames.times == list(range(30, -1, -1))
    assert len(noisy.times) == 51  # DDIM's 50 steps of T = 830
    for shown, T in ((frames, 30), (noisy, 830)):
        assert shown.times[0] == T and shown.times[-1] == 0
        assert shown.nodes == nodes(T) and set(shown.nodes) <= set(shown.times)
        assert set(shown.sequences) == set(SEQUENCES)
        for images in shown.sequences.values():
            assert images.shape == (len(shown.times), 8, 3, 28, 28) and images.dtype == np.uint8


def test_ddim_and_ddpm_start_from_the_same_noise_and_part(frames):
    ddim, ddpm = (frames.sequences[f"{name}-xt"] for name in ("ddim", "ddpm"))
    assert np.array_equal(ddim[0], ddpm[0]) and ddim[0].std() > 80
    assert not np.array_equal(ddim[-1], ddpm[-1])
    assert not np.array_equal(ddim[frames.start], ddpm[frames.start]), "a choice that changes nothing seems broken"


def test_the_image_at_t_0_is_its_own_prediction(frames):
    for name in ("ddim", "ddpm"):
        x_t, x0_hat = frames.sequences[f"{name}-xt"], frames.sequences[f"{name}-x0"]
        assert np.array_equal(x_t[-1], x0_hat[-1]) and not np.array_equal(x_t[0], x0_hat[0])


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_the_marked_frames_are_the_columns_of_the_diffusion_grid(frames, vivid_checkpoint, name):
    columns = grid_frames(load_denoiser(vivid_checkpoint), Sampler(name), seed=3)
    assert [column.t for column in columns] == frames.nodes
    for column in columns:
        shown = frames.sequences[f"{name}-xt"][frames.times.index(column.t)]
        assert np.array_equal(shown, to_uint8(column.x_t).numpy())


def test_the_rows_are_those_that_the_buttons_choose_in_the_css(frames):
    css, png = slider_module.CSS.read_text("utf-8"), base64.b64decode(frames.strips)
    assert re.search(r"\.hwkit-sampler [^{]*\{ --of-ddpm: 2;", css)
    assert re.search(r"\.hwkit-kind [^{]*\{ --of-x0: 1;", css)
    for row, name in enumerate(("ddim-xt", "ddim-x0", "ddpm-xt", "ddpm-x0")):
        seen = cells(png, len(frames.times), row, 4).astype(float)
        off = {other: ((seen - images) ** 2).mean() for other, images in frames.sequences.items()}
        assert min(off, key=off.get) == name


def test_labels_say_the_time_and_number_the_columns(noisy):
    assert noisy.labels[0] == "t = 830 of 830 · column 1 of 8"
    assert noisy.labels[1] == "t = 813 of 830"
    assert noisy.labels[-1] == "t = 0 of 830 · column 8 of 8"
    assert len(set(noisy.labels)) == len(noisy.times)
    assert noisy.samplers == ("DDIM, 50 steps", "DDPM, 830 steps")


def cells(png: bytes, count: int, row: int = 0, rows: int = 1) -> np.ndarray:
    """uint8 (count, 8, 3, 28, 28) from a row of a PNG, cut out here by hand."""
    sheet = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert sheet.shape == (rows * HEIGHT, count * (4 * PITCH + 2), 3)
    found = np.empty((count, 8, 28, 28, 3), np.uint8)
    for f in range(count):
        for k in range(8):
            top, left = row * HEIGHT + 2 + k // 4 * PITCH, f * (4 * PITCH + 2) + 2 + k % 4 * PITCH
            found[f, k] = sheet[top : top + 28, left : left + 28]
    return found.transpose(0, 1, 4, 2, 3)


def of(frames: SliderFrames, name: str) -> np.ndarray:
    """A sequence, as a slider's picture has it."""
    return cells(base64.b64decode(frames.strips), len(frames.times), SEQUENCES.index(name), len(SEQUENCES))


def test_grey_digits_come_back_as_closely_as_an_eye_can_tell(digits):
    images = digits[:24].reshape(3, 8, 1, 28, 28).repeat(1, 1, 3, 1, 1).numpy()
    error = np.abs(cells(draw_strips([images]), 3).astype(int) - images)
    assert error.max() <= 4


def test_noise_comes_back_as_well_as_255_colors_can(noisy):
    images = noisy.sequences["ddpm-xt"]
    fine, coarse = (
        ((cells(draw_strips([images], n), 51) - images.astype(float)) ** 2).mean() ** 0.5 for n in (255, 15)
    )
    assert fine < 0.25 * images.std() and coarse > 1.5 * fine


def test_the_picture_has_a_row_for_each_sequence(frames):
    for name in SEQUENCES:
        assert np.sqrt(((of(frames, name) - frames.sequences[name].astype(float)) ** 2).mean()) < 25


def test_equal_images_are_drawn_equal(frames):
    """So that a choice between DDIM and DDPM at t = T shows that they start from the same noise."""
    ddim, ddpm = of(frames, "ddim-xt"), of(frames, "ddpm-xt")
    assert np.array_equal(ddim[0], ddpm[0]) and not np.array_equal(ddim[-1], ddpm[-1])


def test_only_the_gaps_are_transparent(frames):
    alpha = np.asarray(Image.open(io.BytesIO(base64.b64decode(frames.strips))).convert("RGBA"))[..., 3]
    expected = np.zeros((HEIGHT, 4 * PITCH + 2), np.uint8)
    for k in range(8):
        top, left = 2 + k // 4 * PITCH, 2 + k % 4 * PITCH
        expected[top : top + 28, left : left + 28] = 255
    assert np.array_equal(alpha, np.tile(expected, (len(SEQUENCES), len(frames.times))))


def test_the_limit_holds_even_for_nothing_but_noise(noisy):
    in_all_colors = draw_strips(list(noisy.sequences.values()))
    assert len(in_all_colors) * 4 / 3 > LIMIT, "with all colors it would not fit"
    assert len(slider_html(noisy).encode()) < LIMIT
    assert len(json.dumps(dependency_state(timestep_slider(noisy)))) < LIMIT
    Widget.close_all()


def test_what_does_not_fit_is_an_error(frames, monkeypatch):
    monkeypatch.setattr(slider_module, "LIMIT", 1_000)
    with pytest.raises(ValueError, match="31 frames do not fit 1,000 bytes"):
        slider_html(SliderFrames(frames.times, frames.nodes, frames.sequences))


def models(slider) -> dict[str, list[dict]]:
    """The saved state of the widgets, links included, by the name of their model."""
    found = {}
    for key, model in dependency_state(slider).items():
        found.setdefault(model["model_name"], []).append({"id": f"IPY_MODEL_{key}", **model["state"]})
    return found


def test_play_slider_and_picture_are_linked_in_the_browser(slider, frames):
    saved = models(slider)
    (play,), (time,), (picture,) = (saved[f"{name}Model"] for name in ("Play", "SelectionSlider", "IntProgress"))
    links = [(tuple(link["source"]), tuple(link["target"])) for link in saved["LinkModel"]]
    assert sorted(links) == sorted(
        [((play["id"], "value"), (time["id"], "index")), ((time["id"], "index"), (picture["id"], "value"))]
    )
    assert play["value"] == time["index"] == picture["value"] == frames.start
    # The bar has F parts, and frame i shows i + 1 of them.
    assert (picture["min"], picture["max"]) == (-1, len(frames.times) - 1)
    assert (play.get("min", 0), play["max"]) == (0, len(frames.times) - 1)  # a default is not saved
    assert time["_options_labels"] == tuple(frames.labels)
    assert [model["_options_labels"] for model in saved["ToggleButtonsModel"]] == [
        frames.samplers,
        KINDS,
    ]


def test_python_has_no_part_in_a_move(slider):
    """With an observer or a `link` in Python the others would follow here, where there is no browser."""
    _, picture, below = slider.children
    play, time = below.children[0], below.children[1].children[0]
    before = picture.value
    time.index = 2
    play.value = 3
    assert (time.index, play.value, picture.value) == (2, 3, before)


def test_only_core_widgets(slider):
    modules = {model["model_module"] for model in dependency_state(slider).values()}
    assert modules == {"@jupyter-widgets/base", "@jupyter-widgets/controls"}


def test_two_sliders_do_not_mix(frames, noisy):
    assert classes(timestep_slider(frames)) != classes(timestep_slider(noisy))
    assert classes(timestep_slider(frames)) == classes(timestep_slider(frames)), "the same frames, the same notebook"
    Widget.close_all()


@pytest.mark.parametrize("T", [1, 2, 7, 8, 60])
def test_few_times_make_a_slider_too(T):
    class Few(NoisyDenoiser):
        schedule = linear(T)

    shown = slider_frames(Few())
    assert shown.times[0] == T and shown.times[-1] == 0 and set(shown.nodes) == set(nodes(T)) <= set(shown.times)
    assert slider_html(shown).count('data-frame="') == len(set(nodes(T)))


def classes(slider) -> set[str]:
    return set(slider._dom_classes)


def without_pictures(page: str) -> str:
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)


def test_the_page_needs_no_network(frames):
    page = without_pictures(slider_html(frames))
    assert len(page) < 20_000
    assert not re.findall(r"https?:|//\w|@import|<link|<iframe|\bsrc\s*=|\bfetch\b|XMLHttp|\bimport\b", page)
    assert set(re.findall(r"url\(([^)]*)\)", page)) == {"data:image/png;"}


def test_the_page_holds_the_picture_once(frames):
    [data] = re.findall(r"--strips:url\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", slider_html(frames))
    assert data == frames.strips


def test_the_page_marks_the_eight_columns(noisy):
    marks = re.findall(r'<button style="left:([\d.]+)%" data-frame="(\d+)">t=(\d+)</button>', slider_html(noisy))
    assert [int(t) for _, _, t in marks] == [830, 711, 593, 474, 356, 237, 119, 0]
    for left, frame, t in marks:
        assert noisy.times[int(frame)] == int(t) and float(left) == pytest.approx(int(frame) * 2)


def test_the_title_is_text(frames):
    page = slider_html(frames, '</title><script>alert("$title")</script>&')
    assert page.count("<script>") == 1 and "alert(" not in page.split("<script>")[1]
    assert "&lt;/title&gt;&lt;script&gt;alert(&quot;$title&quot;)&lt;/script&gt;&amp;" in page


def test_the_page_needs_no_ipywidgets(frames, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError):
        timestep_slider(frames)
    assert slider_html(frames).startswith("<!DOCTYPE html>")


def test_the_command_writes_the_page(vivid_checkpoint, frames, tmp_path, capsys):
    out = tmp_path / "new folder" / "out.html"
    assert main(["slider", "--checkpoint", str(vivid_checkpoint), "--html", str(out), "--seed", "3"]) == 0
    name = vivid_checkpoint.parent.name
    assert out.read_text("utf-8") == slider_html(frames, f"From noise to digits: {name}")
    assert f"Slider: {out}" in capsys.readouterr().out


def test_the_command_puts_the_page_beside_the_figures(vivid_checkpoint, tmp_path):
    run = tmp_path / "mine"
    run.mkdir()
    shutil.copy(vivid_checkpoint, run / "ema_latest.pt")
    assert main(["slider", "--run", str(run)]) == 0
    assert "From noise to digits: mine" in (run / "figures" / "slider.html").read_text("utf-8")


def test_the_command_without_a_run_says_so(capsys):
    assert main(["slider"]) == 2
    assert "There is no run" in capsys.readouterr().err
