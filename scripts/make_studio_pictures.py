"""Pictures of the studio for the documentation: every step at 1280 and 820 pixels, and one of them dark.

    python scripts/make_studio_pictures.py [--frames 12]

Needs Chromium and Playwright.  The clip is that of `anonymotion sample`, a public-domain portrait.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

import anonymotion
from anonymotion.sample import make_sample

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
SIZES = {1280: 940, 820: 1180}
WAIT = 600_000  # milliseconds
HAIR = (0.5, 0.1)  # of the picture's width and height


@contextmanager
def studio(folder: Path, root: Path) -> Iterator[str]:
    """The URL of a studio on `folder`."""
    source = str(Path(anonymotion.__file__).resolve().parents[1])
    own = {"PYTHONPATH": source, "ANONYMOTION_LIBRARY": str(root / "library"), "XDG_CACHE_HOME": str(root / "cache")}
    command = [sys.executable, "-m", "anonymotion", "studio", str(folder), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **own})
    assert process.stdout is not None  # noqa: S101 - for type checkers
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(300)


@contextmanager
def page_of(browser: Browser, url: str, width: int, scheme: str = "light") -> Iterator[Page]:
    """A page of this width, with the studio open."""
    size = {"width": width, "height": SIZES[width]}
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(url)
    page.wait_for_selector("html[data-ready]")
    yield page
    context.close()


def view(page: Page, url: str, name: str) -> None:
    """Go to a step."""
    page.goto(f"{url}#{name}")
    expect(page.locator(f"#view-{name}")).to_be_visible()


def shoot(page: Page, name: str) -> None:
    """Take a picture of what is seen once nothing moves any more."""
    page.wait_for_timeout(700)
    page.screenshot(path=PICTURES / f"studio_{name}.jpg", type="jpeg", quality=72)
    print(name, flush=True)


def point_at(page: Page, at: tuple[float, float], *, click: bool = False) -> None:
    """Point at a place of the picture, or click there."""
    box = page.locator("#choose-stage .stage").bounding_box()
    assert box is not None  # noqa: S101 - for type checkers
    x, y = box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"]
    if click:
        page.mouse.click(x, y)
    else:
        page.mouse.move(x, y)


def choose(page: Page, url: str) -> None:
    """The step with the heat map of hair, pointed at."""
    view(page, url, "choose")
    page.wait_for_selector('.stage[data-heat="hair"]')
    page.wait_for_selector('#choose-stage img[data-layer="outline"][src]')
    point_at(page, HAIR)
    expect(page.locator("#pixel")).to_contain_text("hair matches with")


def steps(browser: Browser, url: str, scratch: Path) -> None:
    """Every step of one session."""
    with page_of(browser, url, 1280) as page:
        expect(page.locator("#clips img")).to_be_visible()
        shoot(page, "open_1280")
        (scratch / "notes.mp4").write_text("no video " * 300)
        page.set_input_files("#upload", scratch / "notes.mp4")
        expect(page.locator(".notice.bad")).to_be_visible()
        shoot(page, "error_1280")
        view(page, url, "choose")
        page.locator("#chips").get_by_role("button", name="hair").click()
        choose(page, url)
        shoot(page, "choose_1280")
        page.get_by_label("Mark", exact=True).check()
        point_at(page, (0.2, 0.9), click=True)
        expect(page.locator("#candidate-map")).to_contain_text("of this frame is like it")
        shoot(page, "mark_1280")
        page.get_by_role("button", name="Discard").click()
        page.locator('#layers label:has(input[data-layer="heat"])').click()
        page.locator('#layers label:has(input[data-layer="result"])').click()
        page.wait_for_selector('#choose-stage img[data-layer="result"][src]')
        shoot(page, "result_1280")
        view(page, url, "run")
        page.get_by_role("button", name="Start").click()
        expect(page.locator(".job .told")).to_contain_text("frames/s")
        shoot(page, "run_1280")
        page.wait_for_selector('.job[data-key="done"]')
        page.get_by_role("link", name="Review", exact=True).last.click()
        page.wait_for_selector("#plot polyline")
        page.wait_for_selector('#review-stage img[data-layer="frame"][src]')
        shoot(page, "review_1280")
    with page_of(browser, url, 820) as page:
        expect(page.locator("#clips img")).to_be_visible()
        shoot(page, "open_820")
        choose(page, url)
        shoot(page, "choose_820")
        view(page, url, "run")
        shoot(page, "run_820")
        view(page, url, "review")
        page.wait_for_selector('#review-stage img[data-layer="frame"][src]')
        shoot(page, "review_820")
    with page_of(browser, url, 1280, "dark") as page:
        choose(page, url)
        shoot(page, "choose_dark_1280")


def main() -> None:
    """Make the clip, start studios, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60, help="enough for a picture of a run under way")
    chosen = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    expect.set_options(timeout=WAIT)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        (root / "empty").mkdir()
        (root / "videos").mkdir()
        make_sample(root / "videos" / "portrait.mp4", frames=chosen.frames)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with studio(root / "empty", root) as url:
            for width in SIZES:
                with page_of(browser, url, width) as page:
                    expect(page.locator("#clips .empty")).to_be_visible()
                    shoot(page, f"empty_{width}")
                    view(page, url, "review")
                    shoot(page, f"empty_review_{width}")
        with studio(root / "videos", root) as url:
            steps(browser, url, root)
        browser.close()


if __name__ == "__main__":
    main()
