"""What a person does on the page, and sees there; and what Python makes of the same noise."""

import time

import numpy as np
import torch
from conftest import KIT
from playwright.sync_api import Browser, Page, expect

from hwkit.mnist.batches import to_uint8
from hwkit.runs import checkpoint
from hwkit.runs.checkpoint import load_denoiser
from hwkit.sampling import Sampler, trajectory

MINUTE = 60_000  # milliseconds; a busy machine may need several of them
expect.set_options(timeout=MINUTE)


def opened(browser: Browser, address: str, **options) -> Page:
    """The page, when its first images are there; `page.errors` and `page.asked` go on being filled."""
    context = browser.new_context(**{"viewport": {"width": 1600, "height": 1000}, **options})
    page = context.new_page()
    page.set_default_timeout(2 * MINUTE)
    page.errors, page.asked = [], []
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    context.on("request", lambda request: page.asked.append(request.url))  # of the worker too
    page.goto(address)
    return page


def pictures(page: Page, selector: str) -> list[np.ndarray]:
    """What canvases show: uint8 (28, 28, 3) each."""
    script = "canvases => canvases.map(c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data])"
    drawn = page.locator(f"{selector} canvas" if not selector.endswith("canvas") else selector).evaluate_all(script)
    return [np.array(data, np.uint8).reshape(28, 28, 4)[..., :3] for data in drawn]


def same(a: np.ndarray, b: np.ndarray, levels: int = 0) -> bool:
    return bool((np.abs(a.astype(int) - b.astype(int)) <= levels).all())


def until(found, what: str, seconds: float = 180):
    """The first truthy thing that found() gives."""
    deadline = time.monotonic() + seconds
    while not (it := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return it


def move(page: Page, slider: str, value) -> None:
    page.locator(slider).fill(str(value))


def sampled(page: Page, **choices) -> None:
    """Samples with these choices, to the end."""
    for name, value in choices.items():
        field = page.locator(f"#sample-{name.replace('_', '-')}")
        (field.select_option if field.evaluate("e => e.tagName") == "SELECT" else field.fill)(str(value))
    page.locator("#sample-run").click()
    expect(page.locator("#sample-pause")).to_be_enabled()
    expect(page.locator("#sample-pause")).to_be_disabled(timeout=3 * MINUTE)


def of_python(name: str, steps: int, number: int, eta: float | None = None, seed: int = 0) -> list:
    """The same image's frames by the kit: (x_t, x̂_0) as the canvases show them. The page has no guide."""
    denoise = load_denoiser(KIT / "data" / "pretrained" / checkpoint.EXPORTED)
    with torch.no_grad():
        frames = list(trajectory(denoise, Sampler(name, steps, eta, guidance=1.0), seed, [number]))
    return [[to_uint8(x)[0].permute(1, 2, 0).numpy() for x in (frame.x_t, frame.x0_hat)] for frame in frames]
