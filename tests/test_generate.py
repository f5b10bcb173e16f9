"""Images into a folder: each of its own seed, whatever the batch, however often interrupted; never two runs in one."""

import hashlib
import json
import os
import shutil

import hwkit.generate
import numpy as np
import pytest
import torch
from conftest import TINY, vivid_unet
from PIL import Image

from hwkit.runs.checkpoint import load_denoiser, save
from hwkit.runs.generate import generate, images
from hwkit.sampling import Sampler, trajectory

SAMPLERS = [
    Sampler("ddim", 6),
    Sampler("ddim", 6, eta=0.7),
    Sampler("ddpm"),
    Sampler("ddpm", 6, variance="beta"),
    Sampler("dpm++", 6),
    Sampler("unipc", 6),
]
FAST = Sampler("ddim", 3)


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def pixels(folder) -> np.ndarray:
    return np.stack([np.asarray(Image.open(folder / name)) for name in files(folder)]).astype(int)


@pytest.fixture
def make(vivid_checkpoint, tmp_path):
    """`make(name, n, …)` generates into the folder `name` and returns it."""

    def make(name: str, n: int = 20, sampler: Sampler = FAST, batch: int = 7, seed: int = 0, path=vivid_checkpoint):
        generate(path, tmp_path / name, n, sampler, seed, batch, progress=False)
        return tmp_path / name

    return make


# The images


def test_images_are_numbered_28x28_rgb_pngs_in_a_flat_folder(vivid_checkpoint, tmp_path):
    assert generate(vivid_checkpoint, tmp_path / "generate", 12, FAST, batch=5, progress=False) == 12
    names = sorted(os.listdir(tmp_path / "generate"))
    assert names == [f"{k:05d}.png" for k in range(1, 13)]
    for name in names:
        with Image.open(tmp_path / "generate" / name) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (28, 28))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_an_image_does_not_depend_on_its_batch(make, sampler):
    one, seven, many = (make(f"by {batch}", batch=batch, sampler=sampler) for batch in (1, 7, 64))
    assert np.abs(pixels(one) - pixels(many)).max() <= 1
    assert np.abs(pixels(seven) - pixels(many)).max() <= 1
    assert pixels(many).std() > 20, "these are not all black or white"
    assert len(set(files(many).values())) == 20


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_same_command_gives_the_same_bytes(make, sampler):
    assert files(make("once", 8, sampler)) == files(make("again", 8, sampler))


def test_another_seed_gives_other_images(make):
    assert not set(files(make("seed 0")).values()) & set(files(make("seed 1", seed=1)).values())


def test_samplers_and_their_options_differ(make):
    contents = [files(make(str(sampler) + sampler.variance, 2, sampler))["00001.png"] for sampler in SAMPLERS]
    assert len(set(contents)) == len(SAMPLERS)


def test_images_are_the_end_of_their_trajectory(vivid_checkpoint, make):
    denoise = load_denoiser(vivid_checkpoint)
    *_, last = trajectory(denoise, FAST, 0, range(1, 8))
    expected = ((last.x_t.clamp(-1, 1) + 1) * 127.5).round()
    assert np.array_equal(images(denoise, FAST, 0, range(1, 8)), expected)
    assert np.array_equal(pixels(make("g", 7)).transpose(0, 3, 1, 2), expected)


@pytest.mark.parametrize(
    "sampler, expected",
    [(Sampler(), 50), (Sampler("dpm++"), 15), (Sampler("unipc"), 15), (Sampler("ddpm"), 830), (Sampler("ddim", 7), 7)],
)
def test_steps_not_named_are_those_of_the_sampler(sampler, expected):
    assert sampler.resolve(830).steps == expected
    assert sampler.resolve(10).steps == min(expected, 10)


@pytest.mark.parametrize("name, eta", [("ddpm", 0.0), ("ddim", 0.5)])
def test_every_step_adds_noise_of_its_own(vivid_checkpoint, monkeypatch, name, eta):
    """Not that of another step, of another image, or that from which the image began."""
    real, drawn = getattr(hwkit.generate, f"{name}_step"), []

    def step(x_t, *arguments, noise, **options):
        drawn.append(noise)
        return real(x_t, *arguments, noise=noise, **options)

    monkeypatch.setattr(hwkit.generate, f"{name}_step", step)
    frames = list(trajectory(load_denoiser(vivid_checkpoint), Sampler(name, 6, eta), 0, [1, 2]))
    drawn = torch.cat([frames[0].x_t, *drawn]).flatten(1)
    assert len(drawn) == 2 * 7
    assert drawn.corrcoef().triu(1).abs().max() < 0.15


@pytest.mark.parametrize("sampler", [Sampler("ddpm", 6), Sampler("ddim", 6, eta=0.5), Sampler("ddim", 6)], ids=str)
def test_a_trajectory_passes_the_nodes_that_are_asked_for(vivid_checkpoint, sampler):
    denoise = load_denoiser(vivid_checkpoint)
    frames = list(trajectory(denoise, sampler, 3, [1, 2], through=[30, 17, 4, 0]))
    assert len(frames) == 7 and {30, 17, 4, 0} <= {frame.t for frame in frames}


# Interrupted, and called again


def test_missing_images_are_made_again_and_the_others_left_alone(make, tmp_path, vivid_checkpoint):
    whole, folder = make("whole"), make("damaged")
    for k in (1, 2, 9, 20):
        (folder / f"{k:05d}.png").unlink()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert generate(vivid_checkpoint, folder, 20, FAST, batch=7, progress=False) == 4
    assert files(folder) == files(whole)
    assert all((folder / name).stat().st_mtime_ns == time for name, time in kept.items())
    assert generate(vivid_checkpoint, folder, 20, FAST, batch=7, progress=False) == 0


def test_an_interrupted_folder_ends_with_the_same_bytes(make, monkeypatch, tmp_path):
    whole = make("whole")
    real, calls = hwkit.generate.images, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(hwkit.generate, "images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make("interrupted")
    assert len(files(tmp_path / "interrupted")) == 7
    assert files(make("interrupted")) == files(whole)
    assert len(calls) == 2 + 2, "the first block is not made again"


def test_only_blocks_with_missing_images_are_made(make, monkeypatch):
    folder, blocks = make("g"), []
    real = hwkit.generate.images
    monkeypatch.setattr(hwkit.generate, "images", lambda *a: blocks.append(list(a[3])) or real(*a))
    (folder / "00010.png").unlink()
    make("g")
    assert blocks == [list(range(8, 15))]


def test_more_images_may_be_asked_for_later(make):
    few = files(make("g", 10))
    more = make("g", 20)
    assert len(files(more)) == 20 and all(files(more)[name] == content for name, content in few.items())
    assert np.abs(pixels(more) - pixels(make("at once", 20))).max() <= 1


def test_a_folder_that_cannot_be_written_is_left_without_rubbish(make, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(hwkit.workspace.Path, "write_bytes", full)
        with pytest.raises(OSError, match="disk is full"):
            make("g")
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == [".g.lock"]
    assert len(files(make("g"))) == 20


# One folder, one run


def test_the_manifest_says_what_made_the_images(make, vivid_checkpoint):
    folder = make("g", 8, Sampler("ddim", 3, eta=0.5), seed=4)
    manifest = json.loads((folder.parent / "g.json").read_text())
    assert manifest["checkpoint_sha256"] == hashlib.sha256(vivid_checkpoint.read_bytes()).hexdigest()
    assert manifest["sampler"] == {"name": "ddim", "steps": 3, "eta": 0.5, "variance": "posterior"}
    assert manifest["seed"] == 4 and {"hwkit", "torch"} <= set(manifest["versions"])


@pytest.fixture
def other_checkpoint(tmp_path):
    path = tmp_path / "other.pt"
    recipe = TINY
    save(path, recipe, vivid_unet(recipe.model, seed=1).state_dict())
    return path


@pytest.mark.parametrize(
    "options, named",
    [
        ({"seed": 1}, "seed"),
        ({"sampler": Sampler("ddim", 4)}, "sampler"),
        ({"sampler": Sampler("ddim", 3, eta=0.1)}, "sampler"),
        ({"sampler": Sampler("dpm++", 3)}, "sampler"),
        ({"batch": 8}, "batch"),
        ({"path": "other"}, "checkpoint"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(next(iter(value.values()))),
)
def test_images_of_another_run_are_not_mixed_in(make, other_checkpoint, options, named):
    folder = make("g")
    before = files(folder)
    (folder / "00003.png").unlink()
    if "path" in options:
        options = {"path": other_checkpoint}
    with pytest.raises(ValueError, match=f"g holds images of another run \\(other {named}"):
        make("g", **options)
    assert "00003.png" not in files(folder)
    assert files(make("g")) == before


def test_images_that_nobody_vouches_for_are_not_taken_over(make, tmp_path):
    folder = make("g")
    (tmp_path / "g.json").unlink()
    with pytest.raises(ValueError, match="g holds images of another run"):
        make("g")
    for content in ("{", "[]", ""):
        (tmp_path / "g.json").write_text(content)
        with pytest.raises(ValueError, match=f"{tmp_path}/g"):
            make("g")
    shutil.rmtree(folder)
    assert len(files(make("g"))) == 20


@pytest.mark.parametrize(
    "name", ["notes.txt", "1.png", "000001.png", "00001.PNG", "00001.jpg", "00000.png", ".DS_Store", "more/"]
)
def test_a_folder_with_anything_else_in_it_is_refused(make, name):
    folder = make("g", 3)
    (folder / name).mkdir() if name.endswith("/") else (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"g also holds {name.rstrip('/')}: choose an empty --folder"):
        make("g", 3)
    with pytest.raises(ValueError):
        make("g", 4)
    assert len(files_of_run := [n for n in os.listdir(folder) if n != name.rstrip("/")]) == 3, files_of_run


def test_fewer_images_than_there_are_is_refused(make):
    make("g", 8)
    with pytest.raises(ValueError, match=r"up to 00008\.png, but n is 5"):
        make("g", 5)


def test_a_file_is_no_folder(make, tmp_path):
    (tmp_path / "g").write_text("")
    with pytest.raises(ValueError, match="g is a file, not a folder"):
        make("g")


@pytest.mark.parametrize("n", [0, -1, 100_000])
def test_a_count_that_file_names_cannot_hold_is_refused(make, n):
    with pytest.raises(ValueError, match=f"n is {n}, but must be between 1 and 99,999"):
        make("g", n)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: Sampler("euler"), "sampler is 'euler', but must be 'ddim', 'ddpm', 'dpm\\+\\+' or 'unipc'"),
        (lambda: Sampler("ddim", eta=1.5), "eta is 1.5, but must be between 0 and 1"),
        (lambda: Sampler("ddpm", eta=0.5), "only the sampler ddim has an eta"),
        (lambda: Sampler("ddim", 31).resolve(30), "31 sampling steps do not fit a schedule of T = 30"),
        (lambda: Sampler("ddim", 0).resolve(30), "0 sampling steps do not fit"),
    ],
)
def test_an_impossible_sampler_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_batch_of_nothing_is_refused(make):
    with pytest.raises(ValueError, match="batch is 0, but must be at least 1"):
        make("g", batch=0)
