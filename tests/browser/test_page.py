"""The page in Chromium, used as a person would: each thing is done, and the picture must change as it should.

Its pictures are compared with Python's where Python can make them. Screenshots: tests/artefacts/.
"""

import gzip
import io
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import ARTEFACTS, vivid_unet
from person import MINUTE, move, of_python, opened, pictures, same, sampled, until
from PIL import Image
from playwright.sync_api import Page, expect

from hwkit.mnist.batches import to_uint8
from hwkit.mnist.sources import SAMPLE, read_source
from hwkit.recipe import ORIGINAL
from hwkit.runs import checkpoint
from hwkit.runs.checkpoint import load_denoiser
from hwkit.sampling import Sampler, trajectory

DONE = re.compile(r"^(?!.*…)(?!t = \d+$).+")  # no "at work …", no time on the way


@pytest.fixture(scope="module")
def page(browser, address):
    """One page for the tests that do not mind what was done in it before."""
    page = opened(browser, address)
    expect(page.locator("body[data-first]")).to_be_attached(timeout=3 * MINUTE)
    yield page
    asked = [url for url in page.asked if not url.startswith("data:")]
    assert page.errors == [] and len(asked) > 20
    assert {url.split("/")[2] for url in asked} == {address.split("/")[2]}, "it asked another host"
    page.context.close()


# Sample


def test_two_samplers_side_by_side_make_pythons_pictures(page):
    sampled(page, sampler_a="ddim", sampler_b="dpm++sde", eta="1.0", steps="5", seed="0", image="3")
    ddim, sde = of_python("ddim", 5, 3, eta=1.0), of_python("dpm++sde", 5, 3)
    for at in range(6):
        move(page, "#sample-t", at)
        left, right = pictures(page, "#sample-a"), pictures(page, "#sample-b")
        for side, frames in ((left, ddim), (right, sde)):
            assert all(same(mine, its, 1) for mine, its in zip(side, frames[at], strict=True)), f"frame {at}"
        assert at not in (0, 5) or same(left[0], right[0]) == (at == 0), "one noise, two ways"


def test_the_numbers_and_the_dot_move_with_the_time(page):
    sampled(page, sampler_a="ddim", sampler_b="ddpm", steps="5")
    alpha_bar, dots = ORIGINAL.make_schedule().alpha_bar, []
    for at, t in enumerate((830, 664, 498, 332, 166, 0)):
        move(page, "#sample-t", at)
        said = page.locator("#sample-numbers").inner_text()
        assert f"t = {t} / 830" in said and f"{100 * alpha_bar[t].sqrt():.1f} %" in said
        snr = float(re.search(r"SNR = (\S+)", said)[1].replace("∞", "inf"))
        assert snr == pytest.approx(float(alpha_bar[t] / (1 - alpha_bar[t])), rel=0.05)
        dot = page.locator("#sample-curve circle")
        dots.append((float(dot.get_attribute("cx")), float(dot.get_attribute("cy"))))
    assert dots == sorted(dots, reverse=True), "from the lower right to the upper left"


def test_pause_stops_anywhere_and_goes_on(page):
    page.locator("#sample-steps").select_option("0")  # all T
    until(lambda: int(page.locator("#sample-t").input_value()) >= 2, "no frames come")
    page.locator("#sample-pause").click()
    expect(page.locator("#sample-pause")).to_have_text("Go on")
    page.wait_for_timeout(1500)
    before = page.locator("#sample-said").inner_text()
    page.wait_for_timeout(2000)
    assert page.locator("#sample-said").inner_text() == before, "it works on"
    move(page, "#sample-t", 0)
    first = pictures(page, "#sample-a")[0]
    page.locator("#sample-pause").click()
    until(lambda: int(page.locator("#sample-t").input_value()) >= 4, "it does not go on")
    assert not same(pictures(page, "#sample-a")[0], first)
    move(page, "#sample-t", 1)
    at, said = int(page.locator("#sample-t").input_value()), page.locator("#sample-said")
    until(lambda: int(re.search(r"step (\d+)", said.inner_text())[1]) > 12, "it does not work on")
    assert int(page.locator("#sample-t").input_value()) == at == 1, "what the reader looks at stays"
    sampled(page, steps="5")  # 830 steps are dropped at once
    expect(page.locator("#sample-numbers")).to_contain_text("t = 0 / 830")
    expect(said).to_have_text(re.compile(r"left one for: .+ \(\d+\s%\), and the right one for: .+ \(\d+\s%\)"))


# Fork


def forked(page: Page, at: int, sampler: str) -> tuple[int, list[np.ndarray]]:
    move(page, "#fork-t", at)
    page.locator("#fork-sampler").select_option(sampler)
    page.locator("#fork-steps").fill("12")
    page.locator("#fork-run").click()
    said = page.locator("#fork-said")
    expect(said).to_have_text(re.compile(r"From t = \d+: \d of 8"), timeout=3 * MINUTE)
    return int(re.search(r": (\d) of 8", said.inner_text())[1]), pictures(page, "#fork-pictures")


def test_a_fork_late_agrees_and_an_early_one_does_not(page):
    sampled(page, sampler_a="ddim", steps="10", image="1")
    state = pictures(page, "#fork-state")[0]
    late, images = forked(page, 7, "ddpm")
    assert not same(state, pictures(page, "#fork-state")[0]), "the state is the one that is chosen"
    assert late == 8 and not same(images[0], images[1]), "one digit, eight images"
    early, images = forked(page, 0, "ddpm")
    assert early < 8
    assert len({image.tobytes() for image in images}) == 8
    _, images = forked(page, 0, "ddim")
    assert len({image.tobytes() for image in images}) == 1, "without noise it is no fork"


# Draw, noise, denoise


def guess(page: Page) -> float:
    """The error of x̂_0 that the page names, once it has come to rest."""
    page.wait_for_timeout(1000)
    said = until(lambda: re.search(r"mean square\): (\d\.\d+)", page.locator("#draw-said").inner_text()), "no guess")
    return float(said[1])


def test_drawing_by_mouse_changes_all_four_pictures(page):
    move(page, "#draw-t", 100)
    page.locator("#draw-clear").click()
    guess(page)
    before = pictures(page, "#draw canvas")
    pad = page.locator("#pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.8, steps=10)
    page.mouse.up()
    guess(page)
    drawn = pictures(page, "#draw canvas")
    assert drawn[0][14, 14, 0] == 255 and drawn[0][14, 3, 0] == 0, "a stroke from top to bottom"
    for old, new in list(zip(before, drawn, strict=True))[:3]:
        assert not same(old, new)
    assert "takes x̂₀ for: 1 (" in page.locator("#draw-said").inner_text()


def test_drawing_by_keyboard(page):
    page.locator("#draw-clear").click()
    page.locator("#draw-clear").focus()
    pad = page.locator("#pad")
    for _ in range(4):  # by Tab alone: over file, t and noise
        if pad.evaluate("e => e === document.activeElement"):
            break
        page.keyboard.press("Tab")
    assert pad.evaluate("e => e === document.activeElement")
    for _ in range(5):
        page.keyboard.press("ArrowUp")
    for _ in range(10):
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("ArrowRight")
    page.locator("#draw-clear").focus()
    script = "c => [...c.getContext('2d').getImageData(14, 0, 1, 28).data].filter((_, i) => i % 4 === 0)"
    column = pad.evaluate(script)
    assert all(column[9:19]) and not any(column[:7]) and not any(column[22:])


def test_noise_hides_the_digit_and_the_error_grows(page):
    page.locator("#draw-digits button").nth(8).click()
    errors, shown = [], []
    for t in (0, 100, 400, 830):
        move(page, "#draw-t", t)
        errors.append(guess(page))
        shown.append(pictures(page, "#draw-xt")[0])
    assert errors[0] == 0 and errors == sorted(errors) and errors[-1] > 3 * errors[1] > 0
    digit = read_source(SAMPLE, "test").images
    assert any(same(shown[0][..., 0], image[0]) for image in digit), "at t = 0 it is MNIST's digit"
    move(page, "#draw-t", 400)
    guess(page)
    before = pictures(page, "#draw-xt")[0]
    page.locator("#draw-fresh").click()
    assert not same(before, pictures(page, "#draw-xt")[0])


def test_the_way_back_ends_in_the_digit_that_it_began_with(page):
    page.locator("#draw-digits button").nth(7).click()
    move(page, "#draw-t", 150)
    page.locator("#draw-run").click()
    expect(page.locator("#draw-result")).to_have_text(re.compile(r"Before: 7 .*After: 7 "), timeout=3 * MINUTE)
    move(page, "#draw-t", 830)
    before = pictures(page, "#draw-back")[0]
    page.locator("#draw-run").click()
    until(lambda: not same(before, pictures(page, "#draw-back")[0]), "nothing moves")
    expect(page.locator("#draw-result")).to_have_text(DONE, timeout=3 * MINUTE)
    page.screenshot(path=ARTEFACTS / "page_draw.png", full_page=True)


def test_a_picture_of_ones_own(page, tmp_path):
    x = np.full((200, 200), 255, np.uint8)  # ink on paper
    x[30:170, 90:110] = 0
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, "png")
    page.locator("#draw-file").set_input_files(
        [{"name": "one.png", "mimeType": "image/png", "buffer": buffer.getvalue()}]
    )
    move(page, "#draw-t", 0)
    until(lambda: pad_pixel(page, 14, 13) > 200, "the picture does not arrive")
    assert pad_pixel(page, 14, 3) < 20, "paper is taken for black"
    page.locator("#draw-file").set_input_files([{"name": "a.txt", "mimeType": "text/plain", "buffer": b"a text"}])
    expect(page.locator("#draw-said")).to_contain_text("a.txt cannot be read as a picture")


def test_a_picture_on_nothing_keeps_its_form(page):
    x = np.zeros((200, 300, 4), np.uint8)  # black and transparent
    x[10:190, 135:165, 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, "png")
    page.locator("#draw-file").set_input_files(
        [{"name": "ink.png", "mimeType": "image/png", "buffer": buffer.getvalue()}]
    )
    until(lambda: pad_pixel(page, 14, 13) > 200, "the picture does not arrive")
    assert pad_pixel(page, 14, 6) == pad_pixel(page, 14, 22) == 0, "ink, and no ground"
    assert pad_pixel(page, 7, 13) > 200 and pad_pixel(page, 2, 13) == pad_pixel(page, 25, 13) == 0, "180 of 300 high"


def pad_pixel(page: Page, row: int, column: int) -> int:
    return page.locator("#pad").evaluate(f"c => c.getContext('2d').getImageData({column}, {row}, 1, 1).data[0]")


# Bend


def test_a_bent_schedule_warns_and_shows_why(page):
    page.locator("#draw-digits button").nth(3).click()
    move(page, "#bend-T", 830)
    said = page.locator("#bend-said")
    expect(said).to_have_class(re.compile(r"said\s*$"))
    expect(said).to_contain_text("0.015")
    fine = pictures(page, "#bend-strip")
    assert same(fine[0][..., 0], pictures(page, "#draw-xt")[0][..., 0]) or fine[0].max() > 200
    curve = page.locator("#bend-curve .curve").get_attribute("points")
    move(page, "#bend-T", 50)
    expect(said).to_have_class(re.compile("warning"))
    assert page.locator("#bend-curve .curve").get_attribute("points") != curve
    clear = pictures(page, "#bend-strip")
    assert same(fine[0], clear[0]) and not same(fine[-1], clear[-1])
    like = [np.corrcoef(strip[0].ravel(), strip[-1].ravel())[0, 1] for strip in (fine, clear)]
    assert like[1] > 0.5 > 0.2 > like[0], "at T = 50 the digit is still there"
    page.locator("#bend-run").click()
    until(lambda: all("(" in text for text in page.locator("#bend-results figcaption").all_inner_texts()), "no end")
    own, bent = pictures(page, "#bend-results")
    assert not same(own, bent, 64)
    page.locator("#bend-name").select_option("cosine")
    expect(page.locator("#bend-end")).to_be_disabled()
    expect(said).to_have_class(re.compile(r"said\s*$"))


# Known mistakes


def test_each_known_mistake_does_something_of_its_own(page):
    page.locator("#mistakes-steps").fill("8")
    said, found = page.locator("#mistakes-said"), {}
    boxes = page.locator("#mistakes .checks input")
    for k in range(-1, boxes.count()):
        if k >= 0:
            boxes.nth(k).check()
        else:
            page.locator("#mistakes-run").click()
        expect(said).to_have_text(re.compile(r"right: \d"), timeout=3 * MINUTE)
        off = float(re.search(r"right: (\d\.\d+)", said.inner_text())[1])
        found[k] = off, [image.tobytes() for image in pictures(page, "#mistakes-wrong")]
        if k >= 0:
            boxes.nth(k).uncheck()
    right = [image.tobytes() for image in pictures(page, "#mistakes-right")]
    assert found[-1] == (0.0, right), "without a mistake both rows are one"
    noise, wrong_range, strides, clip, shift = (found[k][0] for k in range(5))
    assert noise > 0.05 and wrong_range > 0.3 and shift > 0.01 and clip < wrong_range and strides > 0.01
    assert len({tuple(images) for _, images in found.values()}) == 6


# Walk


def test_a_walk_goes_from_one_image_to_the_other(page):
    sampled(page, sampler_a="ddim", eta="0", steps="15", image="2")
    end = pictures(page, "#sample-a")[0]
    page.locator("#walk-run").click()
    expect(page.locator("#walk-said")).to_contain_text("Changes of the digit", timeout=3 * MINUTE)
    way = pictures(page, "#walk-strip")
    assert len(way) == 9 and same(way[-1], end, 1), "it ends in image 2 of the seed"
    steps = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(way)]
    assert min(steps) > 0 and max(steps) < np.abs(way[0].astype(int) - way[-1]).mean() * 1.2
    move(page, "#walk-at", 0)
    assert same(pictures(page, "#walk-picture")[0], way[0])
    move(page, "#walk-at", 8)
    assert same(pictures(page, "#walk-picture")[0], way[-1])
    page.locator("#walk-kind").select_option("linear")
    until(lambda: not same(pictures(page, "#walk-strip")[4], way[4], 8), "the other way is the same")
    expect(page.locator("#walk-said")).to_contain_text("Changes of the digit", timeout=3 * MINUTE)


# One's own export


@pytest.fixture(scope="module")
def other_export(tmp_path_factory) -> Path:
    """Weights of another recipe and shape, as `python -m hwkit export` writes them."""
    folder = tmp_path_factory.mktemp("other")
    recipe = replace(ORIGINAL, T=60, schedule="cosine")
    checkpoint.save(folder / "ema_latest.pt", recipe, vivid_unet(recipe.model).state_dict(), epoch=1)
    small = replace(recipe, model=replace(recipe.model, base=16))
    checkpoint.save(folder / "guide.pt", small, vivid_unet(small.model).state_dict(), images_seen=1)
    checkpoint.add_guide(folder / "ema_latest.pt", checkpoint.load(folder / "guide.pt"))  # as each run has one
    checkpoint.export(checkpoint.load(folder / "ema_latest.pt"), folder / checkpoint.EXPORTED)
    return folder / checkpoint.EXPORTED


def test_ones_own_export_takes_over_and_a_broken_one_does_not(browser, address, other_export, tmp_path):
    page = opened(browser, address)
    expect(page.locator("body[data-first]")).to_be_attached(timeout=3 * MINUTE)
    kits = pictures(page, "#sample-a")
    page.locator("#walk-run").click()
    until(lambda: pictures(page, "#walk-strip")[0].any(), "no walk begins")
    broken = {"name": "mine.safetensors", "mimeType": "", "buffer": other_export.read_bytes()[:100_000]}
    page.locator("#own-file").set_input_files([broken])
    expect(page.locator("#own-said")).to_contain_text("mine.safetensors is broken")
    drop(page, "#own-zone", "notes.txt", "a text that is long enough to have a header of eight bytes")
    expect(page.locator("#own-said")).to_contain_text("notes.txt is broken")
    sampled(page, steps="15")
    assert same(pictures(page, "#sample-a")[0], kits[0]), "the kit's network goes on"
    page.locator("#own-file").set_input_files(other_export)
    expect(page.locator("#own-said")).to_contain_text("is in use now")
    expect(page.locator("#status")).to_contain_text("1.5 million weights, predicts ε̂, cosine schedule with T = 60")
    sampled(page, steps="10")
    denoise = load_denoiser(other_export)
    *_, last = trajectory(denoise, Sampler("ddim", 10), 0, [1])
    assert same(pictures(page, "#sample-a")[0], to_uint8(last.x_t)[0].permute(1, 2, 0).numpy(), 2)
    assert page.locator("#draw-t").get_attribute("max") == "60"
    assert page.locator("#walk-said").inner_text() == "" and not pictures(page, "#walk-strip")[0].any(), "not its own"
    assert page.errors == []
    page.context.close()


def drop(page: Page, target: str, name: str, text: str) -> None:
    script = """([name, text]) => {
        const data = new DataTransfer()
        data.items.add(new File([text], name))
        return data
    }"""
    data = page.evaluate_handle(script, [name, text])
    page.locator(target).dispatch_event("dragover", {"dataTransfer": data})
    page.locator(target).dispatch_event("drop", {"dataTransfer": data})


# For everyone


@pytest.mark.parametrize("width", [360, 390, 1600, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window_in_both_languages(browser, address, width, scheme):
    """Without waiting for the network: the words and boxes stand before it has come."""
    page = opened(browser, address, viewport={"width": width, "height": 900}, color_scheme=scheme)
    for language in ("en", "zh-Hant-TW"):
        expect(page.locator("html")).to_have_attribute("lang", language)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=ARTEFACTS / f"page_{width}_{scheme}_{language[:2]}.png", full_page=True)
        page.locator("#language").click()
    boxes = [section.bounding_box() for section in page.locator("section").all()]
    beside = any(a["y"] < b["y"] + b["height"] and b["y"] < a["y"] + a["height"] for a, b in pairs(boxes))
    assert beside == (width > 1200), "a wide screen shows sections side by side"
    page.context.close()


def pairs(boxes: list) -> list:
    return [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]


def test_everything_has_a_name_and_can_be_reached(page):
    nameless = page.locator("input, select, button, canvas, svg").evaluate_all("""elements => elements
        .filter(e => !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim()))
        .map(e => e.outerHTML)""")
    assert nameless == []
    labels = page.locator("label").evaluate_all("labels => labels.filter(l => !l.innerText.trim()).length")
    assert labels == 0
    positive = page.locator("[tabindex]").evaluate_all("all => all.filter(e => e.tabIndex > 0).length")
    assert positive == 0, "Tab follows the page"
    for section in page.locator("section").all():
        assert section.get_attribute("aria-labelledby") and section.locator(".predict").inner_text()
        section.locator("summary").focus()
        page.keyboard.press("Enter")
        expect(section.locator("details p")).to_be_visible()
        page.keyboard.press("Enter")


def test_by_keyboard_alone_an_image_is_made_and_scrubbed(page):
    page.locator("#sample-steps").focus()
    page.keyboard.press("Home")  # 5 steps
    page.locator("#sample-run").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#sample-pause")).to_be_disabled(timeout=3 * MINUTE)
    last = pictures(page, "#sample-a")[0]
    page.locator("#sample-t").focus()
    page.keyboard.press("ArrowLeft")
    assert not same(pictures(page, "#sample-a")[0], last)
    assert page.locator("#sample-t").get_attribute("aria-valuetext").startswith("t = ")


def test_less_motion_shows_only_the_end(browser, address):
    page = opened(browser, address, reduced_motion="reduce")
    expect(page.locator("body[data-first]")).to_be_attached(timeout=3 * MINUTE)
    before, numbers = pictures(page, "#sample-a"), page.locator("#sample-numbers").inner_text()
    page.locator("#sample-steps").select_option("0")  # all T
    expect(page.locator("#sample-said")).to_contain_text(re.compile(r"step \d\d"), timeout=3 * MINUTE)
    assert page.locator("#sample-numbers").inner_text() == numbers and same(pictures(page, "#sample-a")[0], before[0])
    sampled(page, steps="5")
    assert not same(pictures(page, "#sample-a")[0], before[0])
    for section in ("walk", "fork", "mistakes"):
        if section == "fork":
            move(page, "#fork-t", 0)
        page.locator(f"#{section}-run").click()
        seen, said, canvases = set(), page.locator(f"#{section}-said"), f"#{section} .stage:last-of-type > :last-child"
        over = None
        while not over:
            shown, over = pictures(page, canvases)[-1], DONE.match(said.inner_text() or "…")
            seen |= set() if over else {shown.tobytes()}
        assert len(seen) <= 2, f"{section} moves"  # of the two rows of mistakes, one ends first
        assert pictures(page, canvases)[-1].any()
    page.context.close()


def test_on_a_phone_by_finger_and_without_a_network(browser, address):
    page = opened(browser, address, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    expect(page.locator("body[data-first]")).to_be_attached(timeout=3 * MINUTE)
    page.context.set_offline(True)
    page.locator("#draw-clear").tap()
    pad = page.locator("#pad")
    pad.scroll_into_view_if_needed()
    box, top = pad.bounding_box(), page.evaluate("scrollY")
    finger = page.context.new_cdp_session(page)
    for k in range(12):
        point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] * (0.2 + 0.05 * k)}
        kind = "touchMove" if k else "touchStart"
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    drawn = pictures(page, "#draw canvas")[0][..., 0]
    assert drawn[8:18, 13:15].min() == 255 and not drawn[:, :8].any(), "a stroke from top to bottom"
    assert page.evaluate("scrollY") == top, "the page does not scroll away under the finger"
    move(page, "#draw-t", 200)
    guess(page)
    page.locator("#draw-run").tap()
    expect(page.locator("#draw-result")).to_have_text(re.compile(r"Before: .*After: "), timeout=3 * MINUTE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360 and page.errors == []
    page.context.close()


# Where it cannot work


def test_without_webassembly_a_sentence_says_so(browser, address):
    context = browser.new_context()
    context.add_init_script("delete globalThis.WebAssembly")
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#status")).to_contain_text("no WebAssembly")
    page.locator("#language").click()
    expect(page.locator("#status")).to_contain_text("沒有 WebAssembly")
    context.close()


@pytest.mark.parametrize(
    "file",
    [
        "data/ema_latest.safetensors",
        "data/site.json",
        "runtime/ort-wasm-simd-threaded.wasm.gz",
        "runtime/ort.wasm.bundle.min.js",
        "worker.js",
    ],
)
def test_a_missing_file_is_named(browser, address, file):
    page = browser.new_context().new_page()
    page.context.route(f"**/{file}", lambda route: route.fulfill(status=404, body="none"))
    page.goto(address)
    expect(page.locator("#status")).to_contain_text(re.compile(re.escape(Path(file).name)), timeout=2 * MINUTE)
    page.context.close()


def test_broken_weights_of_the_site_are_named(browser, address, site):
    page = browser.new_context().new_page()
    half = (site / "data" / "ema_latest.safetensors").read_bytes()[:1_000_000]
    page.context.route("**/*.safetensors", lambda route: route.fulfill(body=half))
    page.goto(address)
    expect(page.locator("#status")).to_contain_text("ema_latest.safetensors is broken", timeout=2 * MINUTE)
    page.context.close()


def test_opened_as_a_file_it_says_how(browser, site):
    page = browser.new_context().new_page()
    page.goto((site / "index.html").as_uri())
    page.wait_for_timeout(1000)
    expect(page.locator("#not-started")).to_be_visible()
    expect(page.locator("#not-started")).to_contain_text("python -m http.server")
    page.context.close()


def test_the_site_is_small(site):
    """At most 20 MB, and 10 MB as a host that compresses sends it."""
    files = [path for path in site.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6
    assert sum(len(gzip.compress(path.read_bytes(), 6)) for path in files) < 10e6
    assert json.loads((site / "data" / "site.json").read_text("utf-8"))["networks"]
