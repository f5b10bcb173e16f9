"""The figures: every pixel and label where it belongs, and the right frames in the grids."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

from hwkit.runs.checkpoint import load_denoiser
from hwkit.sampling import Frame, Sampler, nodes
from hwkit.schedule import cosine, linear
from hwkit.show.figures import diffusion_grid, loss_curve, sample_sheet, save, schedule_curves, tile
from hwkit.show.report import draw_figures, grid_frames, hundred_samples


def shown(figure) -> np.ndarray:
    """The pixels of the picture in a figure."""
    [image] = figure.axes[0].get_images()
    return np.asarray(image.get_array())


def frame(t: int, levels) -> Frame:
    """A state whose images are all of one level each, in [−1, 1]."""
    x = torch.tensor(levels, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 28, 28)
    return Frame(t, x, x)


@pytest.fixture(autouse=True)
def nothing_is_shown(monkeypatch):
    """No figure is handed to pyplot, which would show it in a notebook a second time."""
    yield
    assert plt.get_fignums() == []


def test_tiles_stand_in_rows_with_gaps_between():
    images = np.arange(5 * 3, dtype=np.uint8).reshape(5, 3, 1, 1).repeat(4, 2).repeat(6, 3)  # 5 images of 4×6
    sheet = tile(images, columns=3, gap=2, background=200)
    assert sheet.shape == (2 * 6 + 2, 3 * 8 + 2, 3) and sheet.dtype == np.uint8
    for i in range(5):
        top, left = 2 + i // 3 * 6, 2 + i % 3 * 8
        assert (sheet[top : top + 4, left : left + 6] == [3 * i, 3 * i + 1, 3 * i + 2]).all()
        sheet[top : top + 4, left : left + 6] = 200
    assert (sheet == 200).all()


def test_a_tile_is_not_turned_or_mirrored(digits):
    assert np.array_equal(tile(digits[:1], 1)[2:-2, 2:-2, 0], digits[0, 0])


def test_a_diffusion_grid_has_a_row_for_each_sample_and_a_column_for_each_frame():
    frames = [frame(830, [-5, 0]), frame(119, [-0.5, 5]), frame(0, [-1, 1])]
    figure = diffusion_grid(frames, title="DDIM, 50 steps")
    sheet = shown(figure)
    assert sheet.shape[:2] == (2 * 30 + 2, 3 * 30 + 2)
    levels = sheet[16::30, 16::30]  # in the middle of each cell
    assert (levels[..., :1] == levels).all()
    assert levels[..., 0].tolist() == [[0, 64, 0], [128, 255, 255]]
    texts = {text.get_text(): text.get_position()[0] for text in figure.axes[0].texts}
    assert list(texts) == ["$t=830$", "$t=119$", "$t=0$"]
    for i, x in enumerate(texts.values()):
        assert x == pytest.approx(2 + 30 * i + 13.5, abs=1), "a title stands above the middle of its column"
    assert [text.get_text() for text in figure.texts] == ["DDIM, 50 steps"]


def test_a_sample_sheet_shows_the_images_in_order(digits):
    sheet = shown(sample_sheet(digits[:7].expand(-1, 3, -1, -1), columns=5))
    assert sheet.shape == (2 * 30 + 2, 5 * 30 + 2, 3)
    assert np.array_equal(sheet[32:60, 32:60, 1], digits[6, 0])


def test_the_loss_curve_shows_windows_and_epochs():
    history = [
        {"epoch": 1, "loss": 0.5, "images_seen": 2000, "curve": [[1000, 0.6], [2000, 0.4]]},
        {"epoch": 2, "loss": 0.2, "images_seen": 4000, "curve": [[3000, 0.3], [4000, 0.1]]},
    ]
    [axes] = loss_curve(history, "a title").axes
    [windows], [epochs] = axes.get_lines(), axes.collections
    assert windows.get_xydata().tolist() == [[1, 0.6], [2, 0.4], [3, 0.3], [4, 0.1]]
    assert [segment.tolist() for segment in epochs.get_segments()] == [[[0, 0.5], [2, 0.5]], [[2, 0.2], [4, 0.2]]]
    assert axes.get_yscale() == "log" and axes.get_title() == "a title"
    assert "thousands" in axes.get_xlabel() and "loss" in axes.get_ylabel()


def test_the_schedules_are_drawn_from_t_0_and_say_what_is_left_of_the_image():
    left, right = schedule_curves([linear(830), cosine(1000)]).axes
    for line, schedule in zip(left.get_lines(), (linear(830), cosine(1000)), strict=True):
        x, y = line.get_data()
        assert (x[0], x[-1]) == (0, 1) and len(x) == schedule.T + 1
        np.testing.assert_allclose(y, schedule.alpha_bar.sqrt())
        assert f"T = {schedule.T}" in line.get_label() and f"{schedule.alpha_bar[-1].sqrt():.4f}" in line.get_label()
    np.testing.assert_allclose(right.get_lines()[0].get_ydata(), linear(830).snr[1:])
    assert right.get_yscale() == "log"


@pytest.mark.parametrize("dpi", [150, 300])
def test_a_figure_is_saved_at_its_resolution(tmp_path, dpi, digits):
    figure = sample_sheet(digits[:4].expand(-1, 3, -1, -1), columns=2)
    path = save(figure, tmp_path / "new" / "sheet.png", dpi)
    with Image.open(path) as image:
        assert image.size == tuple((figure.get_size_inches() * dpi).astype(int))
        assert image.format == "PNG"


# The figures of a run


@pytest.fixture
def denoise(trained_run):
    return load_denoiser(trained_run / "ema_latest.pt")


def test_both_grids_start_from_the_same_noise_and_hold_the_nodes(denoise):
    ddim, ddpm = (grid_frames(denoise, Sampler(name), seed=5) for name in ("ddim", "ddpm"))
    for frames in (ddim, ddpm):
        assert [frame.t for frame in frames] == nodes(TINY.T) and frames[0].t == TINY.T and frames[-1].t == 0
        assert frames[0].x_t.shape == (8, 3, 28, 28)
    assert torch.equal(ddim[0].x_t, ddpm[0].x_t)
    assert not torch.isclose(ddim[-1].x_t, ddpm[-1].x_t).all()


def test_a_run_is_drawn_in_five_figures(trained_run, tmp_path, capsys):
    paths = list(draw_figures(trained_run, trained_run / "ema_latest.pt", tmp_path / "figures"))
    names = ["diffusion_grid_ddpm.png", "diffusion_grid_ddim.png", "loss_curve.png", "samples.png", "schedule.png"]
    assert [path.name for path in paths] == names
    for path in paths:
        with Image.open(path) as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 10
    said = capsys.readouterr().out
    assert "ema_latest.pt" in said and "√ᾱ_T" in said and "192 images seen" in said


def test_without_a_history_there_is_no_loss_curve(vivid_checkpoint, tmp_path):
    paths = draw_figures(vivid_checkpoint.parent, vivid_checkpoint, tmp_path)
    assert "loss_curve.png" not in [path.name for path in paths]


def test_the_sample_sheet_shows_what_was_generated(denoise, tmp_path):
    fresh = hundred_samples(tmp_path, denoise, 0, "cpu")
    assert fresh.shape == (100, 3, 28, 28)
    (tmp_path / "generate").mkdir()
    for k in range(1, 101):
        Image.new("RGB", (28, 28), (k, 0, 0)).save(tmp_path / "generate" / f"{k:05d}.png")
    there = hundred_samples(tmp_path, denoise, 0, "cpu")
    assert there[:, 0, 0, 0].tolist() == list(range(1, 101)) and not there[:, 1:].any()
    (tmp_path / "generate/00100.png").unlink()
    assert np.array_equal(hundred_samples(tmp_path, denoise, 0, "cpu"), fresh)
