"""The studio in a real browser: open a clip, click on hair, see the map change, run, review, download.

Slow: it needs Chromium, a running studio with the embedded weights, and a run of four frames.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import anonymotion
from anonymotion import video
from anonymotion.sample import make_sample

sync_api = pytest.importorskip("playwright.sync_api")
from axe_playwright_python.sync_playwright import Axe  # noqa: E402 - only there with playwright
from playwright.sync_api import Browser, BrowserContext, Page, expect  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

FRAMES = 4
WAIT = 600_000  # milliseconds, on a machine that has other things to do
HAIR = (0.5, 0.1)  # of the sample's width and height
VIEWS = ("open", "choose", "run", "review")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium; required where CI=true."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI=true, and there is no chromium: install the package chromium")
        pytest.skip("there is no chromium")
    with sync_api.sync_playwright() as playwright:
        expect.set_options(timeout=WAIT)
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


class Studio:
    """A studio that runs: its URL, and the folders that belong to it."""

    def __init__(self, root: Path, *, empty: bool = False) -> None:
        self.root = root
        self.videos, self.library, self.temporary = root / "videos", root / "library", root / "tmp"
        for folder in (self.videos, self.temporary):
            folder.mkdir(parents=True)
        self.clip = self.videos / "clip.mp4"
        if not empty:
            make_sample(self.clip, frames=FRAMES)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(Path(anonymotion.__file__).resolve().parents[1]),
            "TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
            "ANONYMOTION_LIBRARY": str(self.library),
            "XDG_CACHE_HOME": str(root / "cache"),
        }
        command = [sys.executable, "-m", "anonymotion", "studio", str(self.videos), "--no-browser", "--device", "cpu"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=self.environment, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:")

    def close(self) -> int:
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(300)
        finally:
            self.process.kill()
            if self.process.stdout is not None:
                self.process.stdout.close()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio on a folder with the sample clip; nothing of it may be left at the end."""
    running = Studio(tmp_path_factory.mktemp("studio"))
    yield running
    assert running.close() == 0
    assert list(running.temporary.iterdir()) == []


@pytest.fixture
def page(browser: Browser, studio: Studio) -> Iterator[Page]:
    """A page whose every request is to the studio, and that has no errors."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    yield from watched(context, studio.url)


def watched(context: BrowserContext, url: str) -> Iterator[Page]:
    requests: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    outside = [address for address in requests if not address.startswith((url, f"blob:{url.rsplit('/', 2)[0]}"))]
    assert requests
    assert outside == []
    assert errors == []
    context.close()


def opened(page: Page, studio: Studio, view: str = "") -> None:
    page.goto(f"{studio.url}#{view}")
    page.wait_for_selector("html[data-ready]")


def stage_click(page: Page, at: tuple[float, float]) -> None:
    box = page.locator("#choose-stage .stage").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"])


def heat_source(page: Page) -> str | None:
    return page.locator('#choose-stage img[data-layer="heat"]').get_attribute("src")


def layer(page: Page, name: str) -> None:
    """Toggle a layer by its label, as a person does."""
    page.locator(f'#layers label:has(input[data-layer="{name}"])').click()


def test_the_whole_way(page: Page, studio: Studio, tmp_path: Path) -> None:
    opened(page, studio)
    page.get_by_role("button", name="Open clip.mp4").click()
    page.wait_for_selector('#choose-stage img[data-layer="frame"][src]')
    # choose: the map appears, and changes with a click on hair
    page.locator("#chips").get_by_role("button", name="hair").click()
    page.wait_for_selector('.stage[data-heat="hair"]')
    page.wait_for_selector('#choose-stage img[data-layer="outline"][src]')
    before = heat_source(page)
    page.get_by_label("Mark", exact=True).check()
    stage_click(page, HAIR)
    expect(page.locator("#candidate-map")).to_contain_text("of this frame is like it")
    assert heat_source(page) != before
    assert page.locator('.stage[data-heat="hair"]').count() == 0
    # make it a template, and keep it
    page.get_by_label("What is it?").fill("hair")
    page.get_by_label("Keep in my library").check()
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#own li")).to_contain_text("hair · kept")
    page.wait_for_selector('.stage[data-heat="hair"]')
    # see: layers come and go
    layer(page, "noise")
    page.wait_for_selector('#choose-stage img[data-layer="noise"][src]')
    layer(page, "flow")
    page.wait_for_selector('#choose-stage img[data-layer="flow"][src]')
    layer(page, "result")
    page.wait_for_selector('#choose-stage img[data-layer="result"][src]')
    expect(page.locator("#wipe")).to_be_visible()
    layer(page, "noise")
    expect(page.locator('#choose-stage img[data-layer="noise"][src]')).to_have_count(0)
    # a threshold by keyboard, and why a pixel is hidden
    page.get_by_role("slider", name="hair").press("ArrowRight")
    expect(page.locator('output[for="threshold-hair"]')).to_have_text("0.41")
    page.wait_for_selector('.stage[data-settled="0:2"]')
    stage_click(page, HAIR)
    expect(page.locator("#pixel")).to_contain_text("hair matches with")
    with page.expect_download() as policy:
        page.get_by_role("link", name="Save").click()
    policy.value.save_as(tmp_path / "policy.toml")
    # run, review, download
    page.get_by_role("link", name="Continue to run").click()
    page.get_by_role("button", name="Start").click()
    page.wait_for_selector('.job[data-key="done"]')
    page.get_by_role("link", name="Review", exact=True).last.click()
    page.wait_for_selector("#plot polyline")
    page.wait_for_selector('#review-stage img[data-layer="frame"][src]')
    with page.expect_download() as result:
        page.get_by_role("link", name="Download the video").click()
    assert result.value.suggested_filename == "clip_hidden.mp4"
    result.value.save_as(tmp_path / "hidden.mp4")
    with page.expect_download() as report:
        page.get_by_role("link", name="Report as JSON").click()
    report.value.save_as(tmp_path / "report.json")
    check_as_the_command_line(studio, tmp_path)
    correct_and_run_again(page)


def check_as_the_command_line(studio: Studio, folder: Path) -> None:
    """The same policy on the command line: the same frames at the same times, and as much hidden in each."""
    arguments = ["-o", "cli.mp4", "--policy", "policy.toml", "--report", "cli.json", "--device", "cpu", "-q"]
    command = [sys.executable, "-m", "anonymotion", "hide", str(studio.clip), *arguments]
    subprocess.run(command, check=True, cwd=folder, env=studio.environment)
    ours, theirs = (json.loads((folder / name).read_text()) for name in ("report.json", "cli.json"))
    assert ours["frames"] == theirs["frames"] == FRAMES
    assert ours["attributes"] == theirs["attributes"] == ["hair"]
    assert ours["settings"] == theirs["settings"]
    assert ours["over_time"]["time_seconds"] == theirs["over_time"]["time_seconds"]
    assert ours["over_time"]["hidden_share"] == pytest.approx(theirs["over_time"]["hidden_share"], abs=2e-3)
    assert min(ours["over_time"]["hidden_share"]) > 0.05
    assert ours["not_for_release"] == []
    with video.open_source(folder / "hidden.mp4") as result, video.open_source(studio.clip) as source:
        pairs = list(zip(result, source, strict=True))
        assert result.info.width == source.info.width
    assert len(pairs) == FRAMES
    for hidden, clean in pairs:
        assert abs(hidden.time_seconds - clean.time_seconds) < 0.001
        assert (abs(hidden.image.astype(int) - clean.image).max(axis=2) > 40).mean() > 0.05


def correct_and_run_again(page: Page) -> None:
    """A region for a span, drawn on the result; the run after it computes no features."""
    box = page.locator("#review-stage .stage").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + box["height"] - 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 65, box["y"] + box["height"] - 10, steps=4)
    page.mouse.up()
    page.get_by_role("button", name="Hide this region").click()
    expect(page.get_by_text("The region is hidden in the next run.")).to_be_visible()
    page.get_by_role("button", name="Run again").click()
    expect(page.locator('.job[data-key="done"]')).to_have_count(2)
    expect(page.locator('.job[data-key="done"]').first).to_contain_text("no frame matched anew")


def test_a_reload_loses_nothing(page: Page, studio: Studio) -> None:
    opened(page, studio, "choose")
    page.locator("#chips").get_by_role("button", name="leg").click()
    expect(page.locator("#chips").get_by_role("button", name="leg")).to_have_attribute("aria-pressed", "true")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(page.locator("#chips").get_by_role("button", name="leg")).to_have_attribute("aria-pressed", "true")
    page.locator("#chips").get_by_role("button", name="leg").click()
    expect(page.locator("#chips").get_by_role("button", name="leg")).to_have_attribute("aria-pressed", "false")


def test_two_browsers_at_once(page: Page, browser: Browser, studio: Studio) -> None:
    other = browser.new_context()
    second = other.new_page()
    second.set_default_timeout(WAIT)
    for each in (page, second):
        opened(each, studio, "choose")
    page.locator("#chips").get_by_role("button", name="arm").click()
    expect(page.locator("#chips").get_by_role("button", name="arm")).to_have_attribute("aria-pressed", "true")
    second.locator("#chips").get_by_role("button", name="torso").click()
    expect(second.get_by_text("The choices were changed in another window")).to_be_visible()
    expect(second.locator("#chips").get_by_role("button", name="arm")).to_have_attribute("aria-pressed", "true")
    second.locator("#chips").get_by_role("button", name="arm").click()
    expect(second.locator("#chips").get_by_role("button", name="arm")).to_have_attribute("aria-pressed", "false")
    other.close()


def test_a_wrong_token_shows_nothing_in_a_browser(browser: Browser, studio: Studio) -> None:
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(studio.url[:-5] + "xxxx/")
    assert answer is not None
    assert answer.status == 403
    assert "clip" not in page.content()
    context.close()


def test_a_file_that_is_no_video_is_refused_in_words(page: Page, studio: Studio, tmp_path: Path) -> None:
    opened(page, studio)
    (tmp_path / "fake.mp4").write_bytes(b"no video" * 400)
    page.set_input_files("#upload", tmp_path / "fake.mp4")
    expect(page.locator(".notice.bad")).to_contain_text("fake.mp4")
    expect(page.locator("#clips .card")).to_have_count(1)


def test_the_keyboard_is_enough(page: Page, studio: Studio) -> None:
    opened(page, studio, "choose")
    page.wait_for_selector('#choose-stage img[data-layer="frame"][src]')
    page.get_by_label("Mark", exact=True).press("Space")
    stage = page.locator("#choose-stage .stage")
    stage.focus()
    for _ in range(8):
        stage.press("Shift+ArrowUp")
    stage.press("Enter")
    expect(page.locator("#candidate-map")).to_contain_text("of this frame is like it")
    page.get_by_role("button", name="Discard").press("Enter")
    expect(page.locator("#candidate")).to_be_hidden()
    page.get_by_role("slider", name="Frame", exact=True).press("ArrowRight")
    page.wait_for_selector('#choose-stage .stage[data-frame="1"]')


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 820])
def test_no_serious_findings_of_axe(browser: Browser, studio: Studio, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    for page in watched(context, studio.url):
        for view in VIEWS:
            opened(page, studio, view)
            expect(page.locator(f"#view-{view}")).to_be_visible()
            found = Axe().run(page).response["violations"]
            serious = [
                (each["id"], [node["html"][:120] for node in each["nodes"]])
                for each in found
                if each["impact"] in ("serious", "critical")
            ]
            assert serious == [], view
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view


def test_an_empty_folder_says_what_to_do(browser: Browser, tmp_path: Path) -> None:
    empty = Studio(tmp_path, empty=True)
    try:
        context = browser.new_context()
        for page in watched(context, empty.url):
            opened(page, empty)
            expect(page.locator("#clips")).to_contain_text("There is no video in the folder")
            for view, text in (("choose", "No video is open."), ("review", "No run has finished yet.")):
                opened(page, empty, view)
                expect(page.get_by_text(text)).to_be_visible()
    finally:
        assert empty.close() == 0
    assert list(empty.temporary.iterdir()) == []
