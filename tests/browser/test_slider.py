"""The slider in a real browser: in JupyterLab with its kernel running and stopped, in a saved notebook, and as a page.

Chromium is the system's; JupyterLab runs on this machine's own address with a HOME of its own. Every step asks for
another *picture*: a hash of what the browser draws. Screenshots: tests/artefacts/.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import jupytext
import nbformat
import pytest
from conftest import ARTEFACTS, KIT
from playwright.sync_api import Browser, Page, expect

from hwkit.runs.checkpoint import load_denoiser
from hwkit.show.slider import slider_frames, slider_html

NOTEBOOK = KIT / "notebooks" / "04_visualization.py"
MINUTE = 60_000  # milliseconds: what a busy machine may need

# The only thing that a notebook wants from the network is its Colab badge.
BADGE = '<svg xmlns="http://www.w3.org/2000/svg" width="117" height="20"/>'

# ipywidgets says this, and goes on, whenever a widget moves whose kernel is gone.
WITHOUT_KERNEL = ("Could not send widget sync message", "Cannot send", "Kernel connection", "Failed to load resource")


class Errors(list):
    """The errors of a page: of its console, and those that nothing caught."""

    def __init__(self, page: Page):
        page.route(re.compile("^https:"), lambda route: route.fulfill(body=BADGE, content_type="image/svg+xml"))
        page.on("console", lambda message: self.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.append(str(error)))

    def beyond(self, known: tuple[str, ...]) -> list[str]:
        return [text for text in self if not any(part in text for part in known)]


# What a person does, and sees


def picture(page: Page) -> str:
    """What is drawn, once it has been the same, and in the same place, for a third of a second."""
    deadline = time.monotonic() + 30
    seen = None
    while (now := _look(page)) != seen:
        assert time.monotonic() < deadline, "the picture does not come to rest"
        seen = now
        page.wait_for_timeout(300)
    return seen[0]


def _look(page: Page) -> tuple[str, dict]:
    drawn = page.locator(".hwkit-picture")
    return hashlib.sha256(drawn.screenshot()).hexdigest(), drawn.bounding_box()


def label(page: Page):
    return page.locator(".hwkit-time .widget-readout, output")


def changed(page: Page, act, what: str) -> str:
    """Does `act` and waits until another picture is drawn."""
    before = picture(page)
    act()
    deadline = time.monotonic() + 30
    while _look(page)[0] == before:
        assert time.monotonic() < deadline, f"{what} did not change the picture"
        page.wait_for_timeout(100)
    return picture(page)


def drag(page: Page, part: float) -> None:
    """Drags the slider's handle to a part of its way."""
    track = page.locator(".hwkit-marks").bounding_box()
    handle = page.locator(".noUi-handle")
    if handle.count():
        start = handle.bounding_box()
        x, y = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
    else:  # the page's slider draws its handle itself
        t = page.locator("#t")
        box, value, last = t.bounding_box(), int(t.input_value()), int(t.get_attribute("max"))
        x, y = track["x"] + track["width"] * value / last, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] * part, y, steps=8)
    page.mouse.up()


def press(page: Page, key: str) -> None:
    page.locator(".noUi-handle, #t").focus()
    page.keyboard.press(key)


def choose(page: Page, group: str, name: str) -> None:
    page.locator(f".hwkit-{group}").get_by_text(name).click()


def try_everything(page: Page, T: int) -> None:
    """Drags, types, chooses and plays; each must change the picture, and what is undone must bring the old one back."""
    page.locator(".hwkit-picture").scroll_into_view_if_needed()
    changed(page, lambda: drag(page, 1.0), "dragging to the end")
    expect(label(page)).to_have_text(f"t = 0 of {T} · column 8 of 8")
    start = changed(page, lambda: press(page, "Home"), "the key Home")
    expect(label(page)).to_have_text(f"t = {T} of {T} · column 1 of 8")
    choose(page, "sampler", "DDPM")
    assert picture(page) == start, "DDIM and DDPM start from the same x_T"
    choose(page, "sampler", "DDIM")
    changed(page, lambda: drag(page, 0.7), "dragging back")
    ddim = changed(page, lambda: press(page, "ArrowRight"), "an arrow key")
    changed(page, lambda: choose(page, "sampler", "DDPM"), "DDPM")
    changed(page, lambda: choose(page, "kind", "network"), "x̂_0")
    changed(page, lambda: choose(page, "sampler", "DDIM"), "DDIM")
    assert changed(page, lambda: choose(page, "kind", "so far"), "x_t") == ddim
    try_play(page)


def try_play(page: Page) -> None:
    play = page.locator("#play, .hwkit-play button").first
    times, pictures = set(), set()
    play.click()
    deadline = time.monotonic() + 60
    while len(times) < 4 or len(pictures) < 4:
        assert time.monotonic() < deadline, f"play showed {len(pictures)} pictures, at {times}"
        times.add(label(page).inner_text())
        pictures.add(_look(page)[0])
    play.click()
    before = picture(page), label(page).inner_text()
    page.wait_for_timeout(1000)
    assert (picture(page), label(page).inner_text()) == before, "it plays on after pause"


# JupyterLab


class Lab:
    """A JupyterLab on loopback in a folder, with nothing of the user's settings and nothing left behind."""

    def __init__(self, folder: Path, home: Path, theme: str = "JupyterLab Light"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.token = secrets.token_hex(16)
        settings = home / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
        (settings / "notification.jupyterlab-settings").write_text(
            json.dumps({"fetchNews": "false", "checkForUpdates": False})  # both would ask the network
        )
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "PYTHONPATH": str(KIT),
            "HWKIT_RUNS": str(folder / "runs"),
            "OMP_NUM_THREADS": "1",
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "IPYTHONDIR": str(home / "ipython"),
        }
        self.log = home / "lab.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
                    *(f"--port={self.port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}"),
                    *("--expose-app-in-browser", f"--ServerApp.root_dir={folder}"),
                ],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def __enter__(self):
        deadline = time.monotonic() + 120
        while True:
            try:
                self.ask("GET", "/api/status")
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise AssertionError(f"JupyterLab did not start:\n{self.log.read_text()}") from None
                time.sleep(0.5)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, method: str, path: str):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def command(self, *arguments: str) -> None:
        """Runs `jupyter …` as the user of this JupyterLab."""
        subprocess.run([sys.executable, "-m", "jupyter", *arguments], env=self.environment, check=True)

    def open(self, browser: Browser, path: str) -> tuple[Page, Errors]:
        page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
        page.set_default_timeout(2 * MINUTE)
        errors = Errors(page)
        page.goto(f"http://127.0.0.1:{self.port}/lab/tree/{path}?token={self.token}")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        return page, errors

    def run_all(self, page: Page, minutes: int = 10) -> None:
        """Runs the notebook's cells, and waits until the last is done."""
        session = "jupyterapp.shell.currentWidget?.sessionContext?.session"
        page.wait_for_function(f"{session}?.kernel?.status == 'idle'")  # earlier, it would ask which kernel to run
        page.evaluate(
            "jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.allCellsAreDone = true }); 0"
        )
        page.wait_for_function("window.allCellsAreDone", timeout=minutes * MINUTE)
        failed = page.locator("[data-mime-type='application/vnd.jupyter.error']")
        assert failed.count() == 0, failed.first.inner_text()

    def stop_kernels(self, page: Page) -> None:
        for kernel in self.ask("GET", "/api/kernels"):
            self.ask("DELETE", f"/api/kernels/{kernel['id']}")
        assert self.ask("GET", "/api/kernels") == []
        expect(page.locator(".jp-Toolbar-kernelName").first).to_have_text("No Kernel", timeout=MINUTE)


@pytest.fixture
def notebook(tmp_path, vivid_checkpoint) -> str:
    """Notebook 4 in the folder tmp_path/kit, to be run with a small network."""
    run = tmp_path / "kit" / "runs" / "small"
    run.mkdir(parents=True)
    shutil.copy(vivid_checkpoint, run / "ema_latest.pt")
    content = jupytext.read(NOTEBOOK)
    [place] = [i for i, cell in enumerate(content.cells) if "parameters" in cell.metadata.get("tags", [])]
    content.cells.insert(place + 1, nbformat.v4.new_code_cell('RUN = "small"'))
    nbformat.write(content, tmp_path / "kit" / "04_visualization.ipynb")  # JupyterLab saves what it runs
    return "04_visualization.ipynb"


def smallest_notebook(checkpoint: Path):
    code = f"""
from hwkit.runs.checkpoint import load_denoiser
from hwkit.show.slider import slider_frames, timestep_slider
frames = slider_frames(load_denoiser({str(checkpoint)!r}))
timestep_slider(frames)
"""
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    cells = [nbformat.v4.new_code_cell(code.strip())]
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def last_time(page: Page) -> int:
    return int(page.locator(".hwkit-marks > *").first.text_content().removeprefix("t="))


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_the_slider_in_jupyterlab_with_and_without_its_kernel(browser, notebook, tmp_path, theme):
    with Lab(tmp_path / "kit", tmp_path / "home", f"JupyterLab {theme}") as lab:
        page, errors = lab.open(browser, notebook)
        lab.run_all(page)
        page.locator(".hwkit-picture .progress-bar").wait_for()
        T = last_time(page)
        try_everything(page, T)
        page.screenshot(path=ARTEFACTS / f"slider_lab_{theme.lower()}.png")
        assert errors.beyond(()) == []
        lab.stop_kernels(page)
        try_everything(page, T)
        page.screenshot(path=ARTEFACTS / f"slider_lab_{theme.lower()}_without_kernel.png")
        assert errors.beyond(WITHOUT_KERNEL) == []
        page.context.close()


def test_a_saved_notebook_moves_without_being_run(browser, vivid_checkpoint, tmp_path):
    """As it is when it is opened the next day: with the state that was saved, and a kernel that knows nothing of it.

    With no kernel at all, ipywidgets shows no saved widget (its issue 3773); the figure above the slider is for that.
    """
    folder = tmp_path / "kit"
    folder.mkdir()
    saved = folder / "slider.ipynb"
    nbformat.write(smallest_notebook(vivid_checkpoint), saved)
    with Lab(folder, tmp_path / "home") as lab:
        lab.command("nbconvert", "--to", "notebook", "--execute", "--inplace", str(saved))
        assert nbformat.read(saved, 4).metadata.widgets, "the state of the widgets is in the file"
        assert saved.stat().st_size < 1_500_000
        lab.command("trust", str(saved))  # else JupyterLab shows no widget
        page, errors = lab.open(browser, saved.name)
        page.locator(".hwkit-picture .progress-bar").wait_for()
        try_everything(page, 30)
        page.screenshot(path=ARTEFACTS / "slider_lab_saved.png")
        lab.stop_kernels(page)
        try_everything(page, 30)
        assert errors.beyond(WITHOUT_KERNEL) == []
        page.context.close()


# The page


@pytest.fixture(scope="module")
def page_file(vivid_checkpoint, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "slider.html"
    path.write_text(slider_html(slider_frames(load_denoiser(vivid_checkpoint)), "A <slider> & its page"), "utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_offline(browser, page_file, scheme):
    context = browser.new_context(color_scheme=scheme, viewport={"width": 900, "height": 760})
    asked = []
    context.route("**/*", lambda route: route.continue_() if route.request.url == page_file.as_uri() else route.abort())
    context.set_offline(True)
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url) if not request.url.startswith("data:") else None)
    errors = Errors(page)
    page.goto(page_file.as_uri())
    page.screenshot(path=ARTEFACTS / f"slider_page_{scheme}.png")
    assert page.locator("h1").inner_text() == "A <slider> & its page"
    try_everything(page, 30)
    page.locator("#t").press("End")  # it may have stopped at any frame
    changed(page, page.get_by_role("button", name="t=30", exact=True).click, "a mark")
    expect(label(page)).to_have_text("t = 30 of 30 · column 1 of 8")
    assert asked == [page_file.as_uri()]
    assert errors == []
    context.close()


@pytest.mark.parametrize("width", [320, 390, 600, 900])
def test_the_page_fits_its_window(browser, page_file, width):
    context = browser.new_context(viewport={"width": width, "height": 760})
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.screenshot(path=ARTEFACTS / f"slider_page_{width}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def frames_while_playing(page: Page, seconds: float) -> list[tuple[int, float]]:
    """Each frame that was shown while it played, and how long it was, in milliseconds."""
    watch = """seconds => new Promise(done => {
        const t = document.querySelector("#t"), seen = []
        const note = now => {
            if (!seen.length || seen.at(-1)[0] != +t.value) seen.push([+t.value, now, now])
            seen.at(-1)[2] = now
            if (now - seen[0][1] < 1000 * seconds) requestAnimationFrame(note)
            else done(seen.map(([frame, from, to]) => [frame, to - from]))
        }
        requestAnimationFrame(note)
    })"""
    return page.evaluate(watch, seconds)


def test_space_plays_and_stops_and_it_rests_at_the_ends(browser, page_file):
    page = browser.new_page()
    page.goto(page_file.as_uri())
    play = page.get_by_role("button", name="Play")
    expect(play).to_have_attribute("aria-pressed", "false")
    page.locator("#t").press("End")
    page.keyboard.press("Space")
    play = page.get_by_role("button", name="Pause")
    expect(play).to_have_attribute("aria-pressed", "true")
    seen = frames_while_playing(page, 3)
    last = int(page.locator("#t").get_attribute("max"))
    assert seen[0][0] == last and seen[1][0] == 0, "after the last frame comes the first"
    assert seen[1][1] > 3 * max(time for frame, time in seen[2:-1]), "the noise stays longer than a frame on the way"
    page.keyboard.press("Space")
    now = page.locator("#t").input_value()
    page.wait_for_timeout(1500)
    assert page.locator("#t").input_value() == now
    play = page.get_by_role("button", name="Play")
    play.focus()
    page.keyboard.press("Space")
    expect(play).to_have_count(0)  # pressed once, not twice: it says Pause now
    page.close()


def test_with_reduced_motion_it_goes_from_mark_to_mark(browser, page_file):
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.locator("#t").press("Home")
    page.get_by_role("button", name="Play").click()
    seen = [frame for frame, _ in frames_while_playing(page, 3.5)]
    marks = page.eval_on_selector_all("[data-frame]", "marks => marks.map(mark => +mark.dataset.frame)")
    assert len(seen) >= 2 and seen == marks[: len(seen)]
    context.close()


def test_with_the_systems_own_colors_one_sees_what_is_pressed_and_the_marks(browser, page_file):
    context = browser.new_context(forced_colors="active", viewport={"width": 600, "height": 760})
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.screenshot(path=ARTEFACTS / "slider_page_forced.png")
    look = "label => getComputedStyle(label).backgroundColor"
    ddim, ddpm = page.locator("label[for=ddim]"), page.locator("label[for=ddpm]")
    assert ddim.evaluate(look) != ddpm.evaluate(look)
    page.locator("#ddpm").check(force=True)
    assert ddim.evaluate(look) != ddpm.evaluate(look)
    mark = "mark => parseFloat(getComputedStyle(mark, '::before').borderLeftWidth)"
    assert page.locator("[data-frame]").first.evaluate(mark) == 2
    context.close()


def test_every_part_has_a_name_a_role_and_a_value(browser, page_file):
    page = browser.new_page()
    page.goto(page_file.as_uri())
    expect(page.get_by_role("slider", name="time")).to_have_attribute("aria-valuetext", re.compile(r"t = \d+ of 30"))
    expect(page.get_by_role("group", name="sampler").get_by_role("radio")).to_have_count(2)
    expect(page.get_by_role("group", name="what is shown").get_by_role("radio")).to_have_count(2)
    expect(page.get_by_role("img", name="eight samples")).to_be_visible()
    expect(page.get_by_role("radio", name="DDIM")).to_be_checked()
    page.close()
