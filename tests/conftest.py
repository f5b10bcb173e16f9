"""What the tests share: real digits, small networks, a trained run, and a fence around the kit's data/ and runs/."""

import contextlib
import functools
import http.server
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from hwkit import language
from hwkit.course import selfcheck
from hwkit.mnist import sources
from hwkit.mnist.sources import SAMPLE
from hwkit.recipe import SMOKE
from hwkit.runs import checkpoint
from hwkit.runs.run import train
from hwkit.unet import UNet, UNetConfig

# The networks here are so small that a second thread costs more than it brings.
torch.set_num_threads(1)

hypothesis.settings.register_profile("hwkit", deadline=None, derandomize=True, database=None, max_examples=200)
hypothesis.settings.load_profile("hwkit")

# The whole of MNIST where the environment names it, else the 5,000 digits that come with the kit.
MNIST = os.environ.get("HWKIT_MNIST") or SAMPLE

KIT = Path(__file__).resolve().parent.parent
ARTEFACTS = KIT / "tests" / "artefacts"  # screenshots

# The files that take longest. They come first, so that in the end no core waits for one of them.
LONGEST = (
    "test_evening",
    "test_nbval_solutions",
    "test_nbval",
    "test_notebooks",
    "test_grade",
    "test_processes",
    "test_cli",
)

# As `smoke`, but smaller still: twelve steps an epoch of 96 digits, in less than a second.
TINY = replace(SMOKE, model=UNetConfig(base=16, multipliers=(1,), patch=2), T=40, batch_size=8, warmup=2)


def copy_of_kit(folder: Path, *names: str) -> Path:
    """These folders of the kit in `folder`, of data/ only what the kit brings: notebooks write into theirs."""
    made = shutil.ignore_patterns("mnist", "sample", "download")
    for name in names:
        shutil.copytree(KIT / name, folder / name, ignore=made if name == "data" else None)
    return folder


def pytest_collection_modifyitems(items) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def fenced(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Inside, nothing finds MNIST by the environment, or the kit's own weights, or writes into its data/ or runs/.

    All begin in English, also on a machine that speaks Chinese.
    """
    for name in ("HWKIT_MNIST", "HWKIT_DEBUG", "HWKIT_LANG", "LC_ALL", "LC_MESSAGES", "LANGUAGE"):
        patch.delenv(name, raising=False)
    patch.setenv("LANG", "C.UTF-8")
    patch.setattr(language, "chosen", None)
    patch.setenv("HWKIT_RUNS", str(folder / "runs"))
    patch.setattr(sources, "PREPARED", folder / "data")
    patch.setattr(checkpoint, "PRETRAINED", folder / "pretrained")
    # The ticks of the self-check, and the folder on Drive that a notebook's first cell tells it to keep them in.
    for name in ("also_kept", "ticks", "failures"):
        patch.setattr(selfcheck, name, type(getattr(selfcheck, name))())


@pytest.fixture
def threads():
    """Sets the number of torch's threads, and puts it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def fence_around_what_is_shared(tmp_path_factory):
    """For the fixtures that tests share, which are made before a test's own fence stands."""
    with pytest.MonkeyPatch.context() as patch:
        fenced(patch, tmp_path_factory.mktemp("fence"))
        yield


@pytest.fixture(autouse=True)
def fence(monkeypatch, tmp_path):
    fenced(monkeypatch, tmp_path)


@pytest.fixture(scope="session")
def digits() -> torch.Tensor:
    """The first 96 digits of the embedded sample, uint8 (96, 1, 28, 28)."""
    with np.load(SAMPLE) as arrays:
        return torch.from_numpy(arrays["images"][:96, None].copy())


@pytest.fixture
def digits_npz(digits, tmp_path) -> Path:
    """The same digits as course staff hand them out: 64 in `x_train`, 32 in `x_test`."""
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=digits[:64, 0].numpy(), x_test=digits[64:, 0].numpy())
    return path


@pytest.fixture(scope="session")
def trained_run(digits, tmp_path_factory) -> Path:
    """A run of two epochs; tests only read from it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    for _ in train(TINY, digits, run, device="cpu", quiet=True):
        pass
    return run


@pytest.fixture(scope="session")
def vivid_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint with random weights in every layer, so that its images are neither empty nor clipped."""
    path = tmp_path_factory.mktemp("vivid") / "ema_latest.pt"
    recipe = replace(TINY, T=30)
    checkpoint.save(path, recipe, vivid_unet(recipe.model).state_dict(), epoch=1, images_seen=96)
    return path


def vivid_unet(config: UNetConfig, seed: int = 0) -> UNet:
    """A network in which the layers that start at zero are random too."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = UNet(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def in_float64(scheduler):
    """A scheduler of diffusers with its own β, but in float64: float32 holds 1 − ᾱ_1 = 1e-4 to four digits only."""
    scheduler.alphas_cumprod = (1 - scheduler.betas.double()).cumprod(0)
    return scheduler


# For the tests in a browser


@pytest.fixture(scope="module")
def browser(request):
    """The system's Chromium; without a GPU, unless the module of the tests has other FLAGS."""
    from playwright.sync_api import sync_playwright

    ARTEFACTS.mkdir(exist_ok=True)
    path = shutil.which("chromium")
    assert path, "these tests need the command chromium: make test-browser installs it"
    flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    flags += ["--disable-sync", "--no-first-run", "--disable-quic"]
    flags += getattr(request.module, "FLAGS", ["--disable-gpu"])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder of the page on which the kit's own network runs, made once."""
    from hwkit.show.page import write_page

    folder = tmp_path_factory.mktemp("page") / "site"
    write_page(checkpoint.load(KIT / "data" / "pretrained" / checkpoint.EXPORTED), folder, "pretrained")
    return folder


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder: Path):
    """The address at which a plain static host, on this machine, shows a folder."""
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def address(site):
    """Where that page is shown."""
    with served(site) as address:
        yield address
