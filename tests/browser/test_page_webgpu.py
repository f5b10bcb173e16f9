"""The page by WebGPU, which Chromium computes on the processor here: right, but slowly. No graphics card is needed."""

import json
import shutil
from functools import partial

import pytest
from conftest import served
from person import MINUTE, move, of_python, opened, pictures, same, sampled, until
from playwright.sync_api import Browser, Page, Route, expect

from hwkit.show.page import runtime

FLAGS = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]  # of the browser


@pytest.fixture(scope="module")
def address(site, tmp_path_factory):
    """The site with the runtime for WebGPU too, as `python -m hwkit page --webgpu` makes it."""
    folder = tmp_path_factory.mktemp("webgpu") / "site"
    shutil.copytree(site, folder)
    files, facts = runtime(webgpu=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    path = folder / "data" / "site.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | facts))
    with served(folder) as address:
        yield address


def opened_with(browser: Browser, address: str, changes: dict[str, tuple[str, str]]) -> Page:
    """The page with other words in some of its scripts, as if the browser were another."""
    page = opened(browser, "about:blank")
    for name, words in changes.items():
        page.context.route(f"**/{name}", partial(change, *words))
    page.goto(address)
    return page


def change(old: str, new: str, route: Route) -> None:
    text = route.fetch().text()
    assert old in text
    route.fulfill(body=text.replace(old, new), content_type="text/javascript")


def runtimes(page: Page) -> set[str]:
    """The files of runtimes that were asked for."""
    return {url.split("/")[-1] for url in page.asked if "/runtime/" in url}


def test_a_card_computes_the_same_pictures(browser, address):
    page = opened_with(browser, address, {"network.js": ("!adapter.info.isFallbackAdapter", "true")})
    if not page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())"):
        pytest.skip("this Chromium gives no WebGPU adapter, not even one that the processor computes")
    expect(page.locator("#status")).to_contain_text("graphics card (WebGPU)", timeout=5 * MINUTE)
    until(lambda: int(page.locator("#sample-t").input_value()) >= 2, "no frames come", 600)
    for side, name in (("#sample-a", "ddim"), ("#sample-b", "ddpm")):
        for at, its in enumerate(of_python(name, 15, 1)[:3]):
            move(page, "#sample-t", at)
            assert all(same(a, b, 2) for a, b in zip(pictures(page, side), its, strict=True)), f"{name}, frame {at}"
    assert all("jspi" in name for name in runtimes(page)) and page.errors == []
    page.context.close()


def test_a_processor_in_a_cards_place_is_not_used(browser, address):
    page = opened(browser, address)
    expect(page.locator("#status")).to_contain_text("in one thread", timeout=2 * MINUTE)
    assert not any("jspi" in name for name in runtimes(page))
    page.context.close()


@pytest.mark.parametrize("fault", ['throw new Error("lost")', "return new Float32Array(2352).fill(NaN)"])
def test_a_card_that_does_not_work_is_not_used(browser, address, fault):
    """The browser promises one, but it fails, or computes nonsense: WebAssembly does the work."""
    run = "const outputs = await this.runtime.next"
    fails = run, f'if (this.runtime.provider === "webgpu") {fault}\n{run}'
    promises = "(await has_webgpu())", "true"
    page = opened_with(browser, address, {"network.js": fails, "worker.js": promises})
    expect(page.locator("#status")).to_contain_text("in one thread", timeout=3 * MINUTE)
    assert any("jspi" in name for name in runtimes(page)), "it was tried"
    sampled(page, steps="5")
    assert pictures(page, "#sample-a")[0].max() > 128
    page.context.close()
