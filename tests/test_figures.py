"""The figures: every pixel and label where it belongs, the right frames in the grids, and previews that cost little."""

import io
import json
import os
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import TINY, vivid_unet
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from hwkit.measure.curve import Curve, Point
from hwkit.measure.memorisation import Pairs
from hwkit.recipe import RECIPES
from hwkit.runs.checkpoint import load_denoiser
from hwkit.runs.run import Record, train
from hwkit.sampling import Frame, ImageNoise, Sampler, nodes, sample, times
from hwkit.schedule import cosine, linear
from hwkit.show import figures, report
from hwkit.show.figures import diffusion_grid, grid_frames, loss_curve, plot, preview, sample_sheet, save, tile
from hwkit.show.report import draw_figures
from hwkit.unet import UNet


def shown(figure) -> np.ndarray:
    """The pixels of the picture in a figure."""
    [image] = figure.axes[0].get_images()
    return np.asarray(image.get_array())


def frame(t: int, levels) -> Frame:
    """A state whose images are all of one level each, in [−1, 1]."""
    x = torch.tensor(levels, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 28, 28)
    return Frame(t, x, x)


@pytest.fixture(autouse=True)
def nothing_is_shown():
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


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_an_animation_begins_with_its_end(kind):
    """Every second picture, and before them the last, as programs show it that cannot play; three times."""
    pictures = [np.full((5, 7, 3), 17 * k, np.uint8) for k in range(9)]
    pictures[4][0] = np.arange(21).reshape(7, 3) * 12  # colours
    movie = Image.open(io.BytesIO(figures.animation(pictures, 3)[kind == "GIF"]))
    assert movie.format == kind and movie.size == (21, 15) and movie.n_frames == 6 and movie.info["loop"] == 3
    shown, held = [], []
    for k in range(movie.n_frames):
        movie.seek(k)
        shown.append(np.asarray(movie.convert("RGB"))[12, 12].tolist())
        held.append(movie.info["duration"])
    assert shown == [3 * [17 * k] for k in (8, 0, 2, 4, 6, 8)] and held == [800, 150, 150, 150, 150, 150 + 1600]


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


HISTORY = [
    {"epoch": 1, "loss": 0.5, "images_seen": 2000, "curve": [[1000, 0.6], [2000, 0.4]]},
    {"epoch": 2, "loss": 0.2, "images_seen": 4000, "curve": [[3000, 0.3], [4000, 0.1]]},
]


def test_the_loss_curve_shows_windows_and_epochs():
    [axes] = loss_curve(HISTORY, "a title").axes
    [windows], [epochs] = axes.get_lines(), axes.collections
    assert windows.get_xydata().tolist() == [[1, 0.6], [2, 0.4], [3, 0.3], [4, 0.1]]
    assert [segment.tolist() for segment in epochs.get_segments()] == [[[0, 0.5], [2, 0.5]], [[2, 0.2], [4, 0.2]]]
    assert axes.get_yscale() == "log" and axes.get_xscale() == "linear" and axes.get_title() == "a title"
    assert "thousands" in axes.get_xlabel() and "loss" in axes.get_ylabel()


def test_the_schedules_are_drawn_from_t_0_and_say_what_is_left_of_the_image():
    left, right = figures.schedule_curves([linear(830), cosine(1000)]).axes
    for line, schedule in zip(left.get_lines(), (linear(830), cosine(1000)), strict=True):
        x, y = line.get_data()
        assert (x[0], x[-1]) == (0, 1) and len(x) == schedule.T + 1
        np.testing.assert_allclose(y, schedule.alpha_bar.sqrt())
        assert f"T = {schedule.T}" in line.get_label() and f"{schedule.alpha_bar[-1].sqrt():.4f}" in line.get_label()
    np.testing.assert_allclose(right.get_lines()[0].get_ydata(), linear(830).snr[1:])
    assert right.get_yscale() == "log"


# Measurements


def point(name: str, evaluations: int, value: float) -> Point:
    return Point(f"{name}-{evaluations}", name, evaluations, seconds=1.0, value=value, error=0.1 * value)


CURVE = Curve(
    checkpoint_sha256="0" * 64,
    images=2_000,
    seed=0,
    floor=0.9,
    versions={},
    points=tuple(
        point(name, steps, value)
        for name, steps, value in [
            *[("ddim", 20, 3.0), ("ddim", 10, 8.0), ("unipc", 10, 4.0)],
            *[("ddpm", 830, 2.5), ("dpm++sde", 20, 1.5)],
        ]
    ),
)


def test_the_fid_curve_has_a_line_for_each_sampler_and_the_floor():
    [axes] = figures.fid_curve_figure(CURVE).axes
    drawn = {c.get_label(): [a.tolist() for a in c.lines[0].get_data()] for c in axes.containers}
    expected = {"DDIM": [[10, 20], [8, 3]], "UniPC-2": [[10], [4]], "DDPM": [[830], [2.5]]}
    assert drawn == expected | {"SDE-DPM-Solver++(2M)": [[20], [1.5]]}
    assert [line.get_ydata()[0] for line in axes.get_lines() if line.get_linestyle() == "--"] == [0.9]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log") and "2,000" in axes.get_title()
    assert axes.get_xticks().tolist() == [10, 20, 830]


def test_the_histogram_shows_shares_with_counts_above():
    [axes] = figures.digit_histogram_figure([30] * 9 + [20, 10], [600] * 10 + [0]).axes
    ours, real = axes.containers
    assert [bar.get_height() for bar in ours] == [10.0] * 9 + [pytest.approx(20 / 3), pytest.approx(10 / 3)]
    assert [bar.get_height() for bar in real] == [10.0] * 10 + [0]
    assert [text.get_text() for text in axes.texts] == ["30"] * 9 + ["20", "10"]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "(300)" in labels[0] and "MNIST" in labels[1] and "(6,000)" in labels[1]


def test_a_histogram_of_nothing_is_drawn_too():
    [axes] = figures.digit_histogram_figure([0] * 11, [1] * 11).axes
    assert {bar.get_height() for bar in axes.containers[0]} == {0}


@pytest.fixture
def pairs(digits) -> Pairs:
    images = digits[:, 0].numpy()
    return Pairs(images[:3], images[3:6], np.array([0.0, 1.25, 2.5]), [17, 4, 99])


def test_closest_pairs_stand_one_above_the_other(pairs):
    figure = figures.memorisation_figure(pairs)
    sheet = shown(figure)
    for column in range(3):
        left = 2 + 30 * column
        assert np.array_equal(sheet[2:30, left : left + 28, 0], pairs.images[column])
        assert np.array_equal(sheet[32:60, left : left + 28, 2], pairs.nearest[column])
    texts = [(text.get_text(), text.get_position()) for text in figure.axes[0].texts]
    assert [text for text, _ in texts] == ["00017", "00004", "00099", "0.00", "1.25", "2.50"]
    assert all(y < 0 for _, (_, y) in texts[:3]) and all(y > 60 for _, (_, y) in texts[3:])
    assert len(save_sizes(figures.memorisation_figure(Pairs(*(part[:1] for part in pairs))))) == 2, "one pair will do"


def save_sizes(figure) -> tuple:
    return tuple(figure.get_size_inches())


# Resolution


def striped(count: int) -> np.ndarray:
    """Images uint8 (count, 3, 28, 28), darker than any text, in which no pixel equals the one beside it or below it."""
    down, right = np.mgrid[:28, :28]
    return np.tile((down + 2 * right) % 30, (count, 3, 1, 1)).astype(np.uint8)


def runs(line: np.ndarray) -> list[int]:
    """The lengths of equal neighbours."""
    return [len(list(group)) for _, group in groupby(line.tolist())]


def striped_grid():
    return diffusion_grid([Frame(t, torch.from_numpy(striped(8)) / 127.5 - 1, None) for t in range(8)], "title")


def striped_pairs():
    return figures.memorisation_figure(Pairs(striped(3)[:, 0], striped(3)[:, 0], np.zeros(3), [1, 2, 3]))


SHEETS = {
    "grid": (striped_grid, 8),
    "sheet": (lambda: sample_sheet(striped(20)), 10),
    "wide sheet": (lambda: sample_sheet(striped(40), columns=20, title="A title"), 20),
    "narrow sheet": (lambda: sample_sheet(striped(2), columns=1), 1),
    "pairs": (striped_pairs, 3),
}


@pytest.mark.parametrize("name", SHEETS)
@pytest.mark.parametrize("dpi", [30, 50, 72, 96.5, 100, 150, 300])
def test_every_pixel_of_an_image_is_saved_in_one_size(tmp_path, name, dpi):
    """Its size in dots is read off the file, along the first row of the images and down their first column."""
    make, columns = SHEETS[name]
    picture = np.asarray(Image.open(save(make(), tmp_path / "sheet.png", dpi)).convert("RGB"))[..., 0]
    top, left = (np.flatnonzero((picture < 30).any(axis=axis))[0] for axis in (1, 0))
    unit = left // 2  # the gap has two
    assert unit >= 1
    assert runs(picture[top]) == [2 * unit] + ([unit] * 28 + [2 * unit]) * columns
    assert runs(picture[top : top + 28 * unit, left]) == [unit] * 28


@pytest.mark.parametrize("dpi", [50, 96.5, 150])
def test_rows_have_their_names_at_their_left_and_pixels_of_one_size(tmp_path, dpi):
    rows = {"one": striped(4), "a longer name": torch.from_numpy(striped(4)) / 127.5 - 1}
    figure = figures.labelled_rows(rows, "title", ["a", "b", "c", "d"])
    names = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts[4:]}
    assert list(names) == list(rows) and 2 < names["one"] < 30 < 32 < names["a longer name"] < 60
    picture = np.asarray(Image.open(save(figure, tmp_path / "rows.png", dpi)).convert("RGB"))[..., 0]
    top, left = (np.flatnonzero((picture < 30).any(axis=axis))[0] for axis in (1, 0))
    unit = runs(picture[top, left:])[0]
    assert unit >= 1 and left > 20 * unit, "there is room for the names"
    assert runs(picture[top, left:]) == ([unit] * 28 + [2 * unit]) * 4


@pytest.mark.parametrize("name", ["original", "cpu", "smoke"])
def test_the_parts_of_the_network_are_those_of_the_network(name):
    config = RECIPES[name].model
    parts, model = figures.network_parts(config), UNet(config)
    counts = {part: count for part, _, _, count in parts}
    total = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.time.parameters())
    assert sum(counts.values()) == total
    assert [part for part, *_ in parts] == ["Stem", "Down 1", "Down 2", "Middle", "Up 2", "Up 1", "Head"]
    side = 28 // config.patch
    assert [side_out for _, _, side_out, _ in parts] == [side, side, side // 2, side // 2, side, side, side]
    words = " ".join(text.get_text() for text in figures.network_diagram(config).findobj(Text))
    assert all(f"{count:,}" in words for count in counts.values())
    assert f"{sum(p.numel() for p in model.time.parameters()):,}" in words


@pytest.mark.parametrize("dpi", [50, 150, 300])
def test_a_sheet_has_at_least_the_resolution_that_was_asked_for(tmp_path, dpi, digits):
    figure = sample_sheet(digits[:40].expand(-1, 3, -1, -1))
    with Image.open(save(figure, tmp_path / "new" / "sheet.png", dpi)) as image:
        assert image.format == "PNG" and image.info["dpi"][0] >= dpi - 0.1  # as a program for print reads it
        assert image.width / image.info["dpi"][0] == pytest.approx(6.0, abs=0.1), "inches"


def test_a_sheet_shown_in_a_notebook_is_even_too(tmp_path):
    figure = sample_sheet(striped(20))
    figure.savefig(tmp_path / "shown.png", dpi=figure.dpi)
    figure.savefig(tmp_path / "default.png")
    save(figure, tmp_path / "saved.png", figure.dpi)
    a, b, c = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("shown", "default", "saved"))
    assert np.array_equal(a, b) and np.array_equal(a, c)


@pytest.mark.parametrize("dpi", [150, 300])
def test_a_curve_is_saved_at_its_resolution(tmp_path, dpi):
    figure, _ = plot("x", "y", size=(4, 3))
    with Image.open(save(figure, tmp_path / "new" / "curve.png", dpi)) as image:
        assert image.size == (4 * dpi, 3 * dpi)


@pytest.mark.parametrize("dpi", [0, -1, 1, 29, 1201, 20_000, float("nan"), float("inf")])
def test_a_resolution_that_cannot_work_is_refused_before_anything_is_sampled(tmp_path, dpi):
    with pytest.raises(ValueError, match=rf"--dpi is {dpi}.*30.*1,200"):
        next(draw_figures(tmp_path, tmp_path / "no-weights-are-looked-for.pt", tmp_path, dpi=dpi))
    with pytest.raises(ValueError, match="--dpi"):
        save(plot("x")[0], tmp_path / "figure.png", dpi)
    assert not list(tmp_path.iterdir())


def contrast_with_white(color) -> float:
    """As WCAG 2 defines it."""
    linear_light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 1.05 / (np.dot([0.2126, 0.7152, 0.0722], linear_light) + 0.05)


def test_all_words_are_dark_enough_to_be_read(pairs, digits):
    everything = [
        *(diffusion_grid([frame(1, [0])], "a"), sample_sheet(digits[:2], title="a"), loss_curve(HISTORY, "a")),
        *(figures.schedule_curves([linear(10), cosine(10)]), figures.memorisation_figure(pairs)),
        *(figures.digit_histogram_figure([1] * 11, [1] * 11), figures.fid_curve_figure(CURVE), plot("a", "b", "c")[0]),
    ]
    for figure in everything:
        for text in figure.findobj(Text):
            assert not text.get_text() or contrast_with_white(text.get_color()) >= 4.5, text


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


def test_a_run_is_drawn_in_six_figures(trained_run, tmp_path, capsys):
    paths = list(draw_figures(trained_run, trained_run / "ema_latest.pt", tmp_path / "figures"))
    names = ["network", "diffusion_grid_ddpm", "diffusion_grid_ddim", "loss_curve", "samples", "schedule"]
    assert [path.name for path in paths] == [f"{name}.png" for name in names]
    for path in paths:
        with Image.open(path) as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 10
    said = capsys.readouterr().out
    assert "ema_latest.pt" in said and "√ᾱ_T" in said and "192 images seen" in said


def test_the_grids_of_a_run_are_of_their_own_sampler_and_seed(trained_run, denoise, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(report, "save", lambda figure, path, dpi: (drawn.update({path.stem: figure}), path)[1])
    monkeypatch.setattr(report, "images", lambda *_: np.zeros((100, 3, 28, 28), np.uint8))
    list(draw_figures(trained_run, trained_run / "ema_latest.pt", tmp_path, seed=5))
    for name in ("ddpm", "ddim"):
        figure = drawn[f"diffusion_grid_{name}"]
        assert np.array_equal(shown(figure), shown(diffusion_grid(grid_frames(denoise, Sampler(name), 5))))
        assert f"{name.upper()}, 40 steps" in [text.get_text() for text in figure.texts]
    assert drawn["loss_curve"].axes[0].get_title().startswith("192 images, ")
    assert all("T = 40" in line.get_label() for line in drawn["schedule"].axes[0].get_lines())


@pytest.fixture
def made(monkeypatch) -> list:
    """Sampling, which takes time, is left out: the arguments of calls for images, which are all of one colour then."""
    calls = []
    monkeypatch.setattr(report, "grid_frames", lambda *_: [frame(1, [0])])
    monkeypatch.setattr(report, "images", lambda *given: calls.append(given) or np.full((100, 3, 28, 28), 77, np.uint8))
    return calls


def test_without_a_history_there_is_no_loss_curve(vivid_checkpoint, tmp_path, made):
    paths = draw_figures(vivid_checkpoint.parent, vivid_checkpoint, tmp_path)
    assert [path.name for path in paths if path.name in ("loss_curve.png", "samples.png")] == ["samples.png"]


def hundred(figure: Path) -> np.ndarray:
    """The images of a samples.png, (100, 28, 28, 3), read off the file."""
    picture = np.asarray(Image.open(figure).convert("RGB"))
    unit = picture.shape[1] // 302
    sheet = picture[unit // 2 :: unit, unit // 2 :: unit]
    return np.stack([sheet[2 + 30 * i : 30 + 30 * i, 2 + 30 * j : 30 + 30 * j] for i in range(10) for j in range(10)])


def test_the_sample_sheet_shows_what_was_generated(vivid_checkpoint, tmp_path, made):
    def samples() -> np.ndarray:
        [path] = [p for p in draw_figures(tmp_path, vivid_checkpoint, tmp_path, seed=3) if p.name == "samples.png"]
        return hundred(path)

    assert (samples() == 77).all() and made[0][1:4] == (Sampler("dpm++sde"), 3, range(1, 101)), "fresh ones"
    (tmp_path / "generate").mkdir()
    for k in range(1, 102):
        Image.new("RGB", (28, 28), (k, 0, 0)).save(tmp_path / "generate" / f"{k:05d}.png")
    (tmp_path / "generate" / "._00001.png").write_bytes(b"\0\5\x16\7")  # as macOS leaves them
    there = samples()
    assert there[:, 5, 5, 0].tolist() == list(range(1, 101)) and not there[..., 1:].any()
    for k in range(41, 102):
        (tmp_path / f"generate/{k:05d}.png").unlink()
    [path] = [p for p in draw_figures(tmp_path, vivid_checkpoint, tmp_path, seed=3) if p.name == "samples.png"]
    assert Image.open(path).size[1] < Image.open(path).size[0] / 2 and len(made) == 1, "the forty that are there"


# Previews


def drawn(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "previews")) if (folder / "previews").is_dir() else []


def end_epochs(folder: Path, recipe, seconds: list[float]) -> list[int]:
    """Calls the hook as training does, for epochs that end at these seconds; the numbers of those that it drew."""
    ema, hook = vivid_unet(recipe.model), preview(folder, recipe)
    (folder / "history.jsonl").unlink(missing_ok=True)
    for epoch, end in enumerate(seconds, 1):
        record = Record(epoch, 0.1, True, 96 * epoch, end, 1e-3, 100.0, [[96 * epoch, 0.1]])
        with (folder / "history.jsonl").open("a") as history:
            history.write(json.dumps(record._asdict()) + "\n")
        hook(record, ema)
        hook = preview(folder, recipe)  # an interruption and a resume change nothing
    return [int(name.removeprefix("epoch_").removesuffix(".png")) for name in drawn(folder)]


def test_previews_come_every_half_minute_where_epochs_are_short_and_always_at_both_ends(tmp_path):
    recipe = replace(TINY, T=8, epochs=9)
    assert end_epochs(tmp_path, recipe, [11.0 * epoch for epoch in range(1, 10)]) == [1, 3, 6, 9]


def test_previews_come_after_every_epoch_where_epochs_are_long(tmp_path):
    assert end_epochs(tmp_path, replace(TINY, T=8, epochs=9), [40.0, 80.0, 120.0]) == [1, 2, 3]


def test_a_run_that_ends_by_its_minutes_ends_with_a_preview(tmp_path):
    recipe = replace(TINY, T=8, epochs=1000, minutes=0.25)
    assert end_epochs(tmp_path, recipe, [7.0, 14.0, 15.1]) == [1, 3]


def test_training_leaves_previews(digits, tmp_path):
    recipe = replace(TINY, epochs=3)
    for _ in train(recipe, digits, tmp_path, device="cpu", quiet=True, after_epoch=preview(tmp_path, recipe)):
        pass
    assert {"epoch_0001.png", "epoch_0003.png"} <= set(drawn(tmp_path))


def test_a_preview_shows_the_ema_weights_at_the_nodes_from_one_noise(tmp_path, monkeypatch):
    """Against a grid that is sampled here, by hand."""
    ema = vivid_unet(TINY.model)
    steps = times(TINY.T, TINY.T, through=nodes(TINY.T))
    alpha_bar = TINY.make_schedule().alpha_bar
    way = sample(TINY.denoiser(ema), ImageNoise(TINY.seed, range(1, 9))(), steps, alpha_bar)
    expected = shown(diffusion_grid([frame for frame in way if frame.t in nodes(TINY.T)]))
    seen = []
    monkeypatch.setattr(figures, "save", lambda figure, path, dpi: seen.append(figure))
    for epoch in (1, 2):
        preview(tmp_path, TINY)(Record(epoch, 0.1, True, 96, 40.0 * epoch, 1e-3, 100.0, []), ema)
    assert len(seen) == 2 and all(np.array_equal(shown(figure), expected) for figure in seen)
    assert [figure.texts[0].get_text() for figure in seen] == ["epoch 1, 96 images seen", "epoch 2, 96 images seen"]
