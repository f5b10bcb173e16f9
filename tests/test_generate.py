"""Images into a folder: each of its own seed, whatever the batch, however often interrupted; never two runs in one."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, vivid_unet
from PIL import Image

from hwkit.runs.checkpoint import load_denoiser, save
from hwkit.runs.generate import generate, images, read_manifest, side_by_side
from hwkit.runs.speed import quickest_precision
from hwkit.sampling import Sampler, trajectory
from hwkit.schedule import linear
from hwkit.unet import UNet

SAMPLERS = [
    Sampler("ddim", 6),
    Sampler("ddim", 6, eta=0.7),
    Sampler("ddpm"),
    Sampler("ddpm", 6, variance="beta"),
    Sampler("dpm++", 6),
    Sampler("dpm++sde", 6),
    Sampler("unipc", 6),
]
FAST = Sampler("ddim", 3)


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def pixels(folder) -> np.ndarray:
    return np.stack([np.asarray(Image.open(folder / name)) for name in files(folder)]).astype(int)


@pytest.fixture
def evaluations():
    """How many images each evaluation of a network is of, from now on."""
    seen = []
    watching = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: seen.append(len(inputs[0])) if isinstance(module, UNet) else None
    )
    yield seen
    watching.remove()


@pytest.fixture
def make(vivid_checkpoint, tmp_path):
    """`make(name, n, …)` generates into the folder `name` and returns it."""

    def make(name: str, n=20, sampler=FAST, batch=7, seed=0, path=vivid_checkpoint, **options):
        generate(path, tmp_path / name, n, sampler, seed, batch, progress=False, **options)
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


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_number_of_cores_changes_no_byte(make, sampler, threads):
    for count in (1, 3):
        threads(count)
        made = make(f"by {count}", 20, sampler, batch=3)
        assert torch.get_num_threads() == count, "as it was before"
    assert files(made) == files(made.with_name("by 1"))


def test_blocks_beside_each_other_come_in_order_and_end_soon_when_they_are_left(vivid_checkpoint, threads):
    threads(3)
    denoise, begun, calls = load_denoiser(vivid_checkpoint), [], []
    denoise.model.register_forward_hook(lambda *_: calls.append(1))

    def make(block):
        begun.append(block.start)
        return images(denoise, Sampler("ddim", 30), 0, block)

    blocks = [range(k, k + 1) for k in range(1, 400)]
    done = side_by_side(make, blocks, denoise)
    first, second = next(done), next(done)
    assert torch.equal(torch.cat([first, second]), torch.cat([make(range(1, 2)), make(range(2, 3))]))
    done.close()
    assert torch.get_num_threads() == 3 and len(begun) < 300, "the rest is not begun"
    before = len(calls)
    make(range(1, 2))
    assert len(calls) == before + 30, "the network works again"


def test_what_goes_wrong_in_a_block_is_told_as_it_was(vivid_checkpoint, threads):
    threads(2)

    def make(block):
        raise ValueError(f"block {block.start}")

    with pytest.raises(ValueError, match="block 5"):
        list(side_by_side(make, [range(5, 6), range(6, 7)], load_denoiser(vivid_checkpoint)))


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


def test_noise_of_the_device_is_for_a_whole_block(make, vivid_checkpoint):
    """Quicker on a GPU; the same command still gives the same bytes, and x_T stays each image's own."""
    sampler = Sampler("ddpm", 6)
    first, again = make("first", sampler=sampler, device_noise=True), make("again", sampler=sampler, device_noise=True)
    assert files(first) == files(again)
    assert not set(files(first).values()) & set(files(make("the images' own", sampler=sampler)).values())
    denoise = load_denoiser(vivid_checkpoint)

    def made(numbers, seed=0, sampler=sampler):
        return images(denoise, sampler, seed, numbers, device_noise=True)

    assert not torch.equal(made([1, 2])[0], made([1, 3])[0]) and not torch.equal(made([1, 2])[0], made([1, 2], 1)[0])
    silent = Sampler("ddim", 6)
    assert torch.equal(made([1, 2], sampler=silent), images(denoise, silent, 0, [1, 2]))


def test_the_checkpoint_may_be_a_runs_folder(make, trained_run):
    folder = make("g", 3, path=trained_run)
    assert read_manifest(folder)["checkpoint"] == "ema_latest.pt"
    assert files(folder) == files(make("by name", 3, path=trained_run / "ema_latest.pt"))


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


def test_an_interrupted_folder_ends_with_the_same_bytes(make, monkeypatch, tmp_path, evaluations):
    whole, real = make("whole"), os.replace

    def interrupted(source, path):
        if Path(path).name == "00010.png":
            raise KeyboardInterrupt
        real(source, path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make("interrupted")
    assert sorted(files(tmp_path / "interrupted")) == [f"{k:05d}.png" for k in range(1, 10)]
    evaluations.clear()
    assert files(make("interrupted")) == files(whole)
    assert evaluations == [7] * 3 + [6] * 3, "the first block is not made again"


def test_only_blocks_with_missing_images_are_made(make, evaluations):
    folder = make("g")
    (folder / "00010.png").unlink()
    evaluations.clear()
    make("g")
    assert evaluations == [7] * 3


def test_an_empty_file_is_a_missing_image(make, vivid_checkpoint):
    """After a power failure a name may be there without its content: nothing flushes image by image."""
    folder = make("g")
    before = files(folder)
    (folder / "00003.png").write_bytes(b"")
    assert generate(vivid_checkpoint, folder, 20, FAST, batch=7, progress=False) == 1
    assert files(folder) == before


def test_more_images_may_be_asked_for_later(make):
    few = files(make("g", 10))
    more = make("g", 20)
    assert len(files(more)) == 20 and all(files(more)[name] == content for name, content in few.items())
    assert np.abs(pixels(more) - pixels(make("at once", 20))).max() <= 1


def test_a_folder_that_cannot_be_written_is_left_without_rubbish(make, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="disk is full"):
            make("g")
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == [".g.lock"]
    assert len(files(make("g"))) == 20


# One folder, one run


def test_the_manifest_says_what_made_the_images(make, vivid_checkpoint):
    folder = make("g", 8, Sampler("ddim", 3, eta=0.5), seed=4)
    manifest = json.loads((folder.parent / "g.json").read_text())
    assert manifest["checkpoint_sha256"] == hashlib.sha256(vivid_checkpoint.read_bytes()).hexdigest()
    assert manifest["sampler"] == {
        "name": "ddim",
        "steps": 3,
        "eta": 0.5,
        "variance": "posterior",
        "guidance": 1.0,
        "power": 1.0,
    }
    assert manifest["seed"] == 4 and manifest["precision"] == "fp32" and {"hwkit", "torch"} <= set(manifest["versions"])


@pytest.fixture
def other_checkpoint(tmp_path):
    path = tmp_path / "other.pt"
    recipe = TINY
    save(path, recipe, vivid_unet(recipe.model, seed=1).state_dict())
    return path


DDPM, NOISY = Sampler("ddpm", 3), Sampler("ddim", 3, eta=0.1)


@pytest.mark.parametrize(
    "first, then, way",
    [
        ({}, {"seed": 1}, "seed 0: add --seed 0"),
        ({"seed": 7}, {}, "seed 7: add --seed 7"),
        ({}, {"sampler": Sampler("ddim", 4)}, "steps 3: add --steps 3"),
        (
            {},
            {"sampler": Sampler("dpm++", 4), "seed": 1},
            "sampler ddim, steps 3.*: add --sampler ddim --steps 3 --seed 0",
        ),
        ({"sampler": NOISY}, {}, "eta 0.1: add --eta 0.1"),
        ({}, {"sampler": Sampler("dpm++sde", 3)}, "sampler ddim, eta 0.0: add --sampler ddim --eta 0.0"),
        (
            {"sampler": DDPM},
            {"sampler": Sampler("ddpm", 3, variance="beta")},
            "variance posterior: add --variance post",
        ),
        ({"sampler": Sampler("ddpm", 3, variance="beta")}, {"sampler": DDPM}, "variance beta: add --variance beta"),
        ({"sampler": DDPM}, {"sampler": DDPM, "device_noise": True}, "device-noise False: leave --device-noise out"),
        ({"sampler": DDPM, "device_noise": True}, {"sampler": DDPM}, "device-noise True: add --device-noise"),
        (
            {"sampler": DDPM, "device_noise": True},
            {"sampler": DDPM, "device_noise": True, "batch": 8},
            "batch 7: add --batch 7",
        ),
        ({"precision": "bf16"}, {}, "precision bf16: add --precision bf16"),
        ({}, {"precision": "bf16", "seed": 1}, "seed 0, precision fp32: add --seed 0 --precision fp32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_images_of_another_run_are_not_mixed_in_and_the_way_on_is_said(make, first, then, way):
    folder = make("g", **first)
    before = files(folder)
    (folder / "00003.png").unlink()
    with pytest.raises(ValueError, match=f"images in .*g were made with {way}.* another --folder"):
        make("g", **then)
    assert "00003.png" not in files(folder)
    assert files(make("g", **first)) == before


def test_images_of_another_checkpoint_are_not_mixed_in(make, other_checkpoint):
    folder = make("g", 8)
    before = files(folder)
    with pytest.raises(ValueError, match=r"g holds images of another checkpoint .*ema_latest\.pt .*→ other\.pt"):
        make("g", path=other_checkpoint)
    assert files(folder) == before


def test_old_images_of_the_stochastic_solver_had_even_times(make, tmp_path):
    even, uneven = (Sampler("dpm++sde", 3, power=power) for power in (None, 1.25))
    make("g", 5, even)
    content = json.loads((tmp_path / "g.json").read_text())
    assert content["sampler"].pop("power") == 1.0
    (tmp_path / "g.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"power 1\.0: add --power 1\.0"):
        make("g", 8, uneven)
    assert len(files(make("g", 8, even))) == 8


def test_another_batch_goes_on(make):
    """Image k depends on (seed, k) alone: who runs out of memory may take a smaller one."""
    folder = make("g")
    for k in (2, 9, 20):
        (folder / f"{k:05d}.png").unlink()
    assert np.abs(pixels(make("g", batch=4)) - pixels(make("whole"))).max() <= 1


def test_images_that_nobody_vouches_for_are_not_taken_over(make, tmp_path):
    folder = make("g")
    (tmp_path / "g.json").unlink()
    assert read_manifest(folder) is None
    for content in (None, "[]", '"checkpoint"', '{"seed": 0}'):
        if content:
            (tmp_path / "g.json").write_text(content)
        with pytest.raises(ValueError, match=r"Nothing tells what made the images in .*g: .*another --folder"):
            make("g")
    shutil.rmtree(folder)
    assert len(files(make("g"))) == 20


@pytest.mark.parametrize("content", ["{", "", "\0\0", '{"seed": 0'])
def test_a_damaged_manifest_is_named(make, tmp_path, content):
    folder = make("g", 3)
    (tmp_path / "g.json").write_text(content)
    for ask in (lambda: make("g", 3), lambda: read_manifest(folder)):
        with pytest.raises(ValueError, match=r"g\.json is damaged"):
            ask()


def test_a_manifest_of_a_sampler_that_is_not_known_is_named(make, tmp_path):
    make("g", 3)
    manifest = json.loads((tmp_path / "g.json").read_text())
    for sampler in ({**manifest["sampler"], "churn": 3}, {"name": "heun", "steps": 3}, "ddim"):
        (tmp_path / "g.json").write_text(json.dumps({**manifest, "sampler": sampler}))
        with pytest.raises(ValueError, match=r"images in .*g.*another --folder"):
            make("g", 3)


@pytest.mark.parametrize("name", ["notes.txt", "1.png", "000001.png", "00001.PNG", "00001.jpg", "00000.png", "more/"])
def test_a_folder_with_anything_else_in_it_is_refused(make, name):
    folder = make("g", 3)
    (folder / name).mkdir() if name.endswith("/") else (folder / name).write_bytes(b"")
    for n in (3, 4):
        with pytest.raises(ValueError, match=f"g also holds {name.rstrip('/')}: choose an empty --folder"):
            make("g", n)
    assert len([n for n in os.listdir(folder) if n != name.rstrip("/")]) == 3


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", "._00001.png", ".ipynb_checkpoints/"])
def test_what_a_program_left_stops_nobody(make, name):
    folder = make("g", 3)
    (folder / name).mkdir() if name.endswith("/") else (folder / name).write_bytes(b"x")
    assert len(os.listdir(make("g", 5))) == 6


@pytest.mark.parametrize("name", [".directory", ".nfs000000001", ".syncthing.00012.png.tmp", "Icon\r"])
def test_what_a_person_cannot_see_in_the_folder_stops_nobody(make, name):
    folder = make("g", 5)
    (folder / name).write_bytes(b"x")
    assert len(files(make("g", 8))) == 9


def test_fewer_images_than_there_are_is_refused(make):
    make("g", 8)
    with pytest.raises(ValueError, match=r"up to 00008\.png, but --n is 5: give --n 8 or more"):
        make("g", 5)


def test_a_file_is_no_folder(make, tmp_path):
    (tmp_path / "g").write_text("")
    with pytest.raises(ValueError, match="g is a file, not a folder"):
        make("g")


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"n": 0}, "--n is 0, but must be between 1 and 99,999"),
        ({"n": -1}, "--n is -1"),
        ({"n": 100_000}, "--n is 100000"),
        ({"batch": 0}, "--batch is 0, but must be at least 1"),
        ({"seed": -1}, "--seed is -1, but must be at least 0"),
        ({"sampler": Sampler("ddim", 31)}, "31 sampling steps do not fit a schedule of T = 30"),
        ({"sampler": Sampler("ddim", 0)}, "0 sampling steps do not fit"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(make, tmp_path, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        make("g", **options)
    assert os.listdir(tmp_path) == []


# The precision


def test_what_is_there_decides_the_precision_and_else_the_speed(make, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("hwkit.runs.generate.quickest_precision", lambda *_: asked.append(1) or "bf16")
    for name, before, expected in (("new", None, "bf16"), ("old", "fp32", "fp32"), ("mine", "bf16", "bf16")):
        if before:
            (make(name, precision=before) / "00003.png").unlink()
        assert read_manifest(make(name, precision="auto"))["precision"] == expected
    assert len(asked) == 1, "only where no images are"
    assert files(tmp_path / "new") == files(tmp_path / "mine") != files(tmp_path / "old")


def test_bf16_changes_an_image_by_no_more_than_its_rounding(make):
    one, other = pixels(make("fp32")), pixels(make("bf16", precision="bf16"))
    assert 0 < np.abs(one - other).mean() < 8


@pytest.mark.parametrize(
    "seconds, expected", [(2.0, "fp32"), (1.0, "fp32"), (0.95, "fp32"), (0.85, "bf16"), (0.5, "bf16")]
)
def test_bf16_is_taken_where_it_is_quicker_by_a_tenth_at_least(monkeypatch, seconds, expected):
    clock, T = [0.0], 30

    def denoise(x, t):
        clock[0] += seconds if torch.is_autocast_enabled("cpu") else 1.0

    denoise.schedule = linear(T)
    monkeypatch.setattr("hwkit.runs.speed.time.monotonic", lambda: clock[0])
    assert quickest_precision(denoise, "cpu") == expected
    assert quickest_precision(None, "cuda") == "fp32", "there nobody has compared them yet"
