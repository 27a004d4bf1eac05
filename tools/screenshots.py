"""Take the pictures of the pages that the documents show: a real studio, Debian's Chromium, fixed seeds.

Usage: python tools/screenshots.py [--out docs/images] [--tools-only | --compare-only]
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-quic"]
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
PAINT_TIMEOUT_MS = 180_000
SHOTS = (
    # file, locale, dark, width, height, brief
    ("paint-en", "en-US", False, 1280, 720, "red apple, 3d"),
    ("paint-zh-Hans", "zh-CN", False, 1280, 720, "红苹果，3D"),
    ("paint-zh-Hant", "zh-TW", True, 1280, 720, "紅心，3D"),
    ("paint-mobile", "en-US", False, 390, 844, "cat face, flat"),
)


def serve(data: Path) -> tuple[subprocess.Popen[str], str]:
    """A studio on a free port and its address."""
    command = [sys.executable, "-m", "danqing.cli.main", "serve", "--port", "0", "--no-browser", "--data", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = iter(process.stdout or ())
    for line in lines:
        if found := ADDRESS.search(line):
            return process, found[0]
    raise SystemExit("the studio did not start")


def paint(page: Page, brief: str, count: int, seed: int) -> None:
    """Fill the form, paint, wait for the pictures."""
    before = page.locator(".dq-thumb").count()
    page.fill("#f-prompt textarea", brief)
    page.fill("#f-count input", str(count))
    page.click("#sec-sampling > button")
    page.fill("#f-seed textarea, #f-seed input", str(seed))
    page.click("#sec-sampling > button")
    page.click("#dq-paint")
    deadline_s = time.monotonic() + PAINT_TIMEOUT_MS / 1000
    while page.locator(".dq-thumb").count() < before + count and time.monotonic() < deadline_s:
        page.wait_for_timeout(250)
    page.wait_for_selector("#dq-paint", state="visible", timeout=PAINT_TIMEOUT_MS)
    page.wait_for_timeout(1500)


def shoot(browser: Browser, address: str, out: Path) -> None:
    """All the pictures."""
    for name, locale, dark, width, height, brief in SHOTS:
        context = browser.new_context(
            viewport={"width": width, "height": height}, locale=locale, color_scheme="dark" if dark else "light"
        )
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("#dq-paint", state="visible", timeout=60_000)
        page.wait_for_timeout(1000)
        paint(page, brief, 4, 0)
        page.screenshot(path=out / f"{name}.png")
        print(out / f"{name}.png")
        context.close()


def _pull(page: Page, start: tuple[float, float], *ends: tuple[float, float]) -> None:
    """Press at a share of the picture on the board, go through others, let go."""
    box = page.locator(".dq-world").bounding_box()
    if box is None:
        raise SystemExit("there is no picture on the board")
    spots = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in (start, *ends)]
    page.mouse.move(*spots[0])
    page.mouse.down()
    for spot in spots[1:]:
        page.mouse.move(*spot, steps=5)
    page.mouse.up()


def _save(page: Page, path: Path) -> None:
    page.mouse.move(2, 2)
    page.wait_for_selector(".dq-toast", state="detached")
    page.wait_for_timeout(500)
    Image.open(io.BytesIO(page.screenshot())).save(path, "WEBP", quality=88, method=6)
    print(path)


def shoot_tools(browser: Browser, address: str, out: Path) -> None:
    """Regions over a picture that was painted from them, and pulls with their preview."""
    page = browser.new_context(viewport={"width": 1280, "height": 720}, locale="en-US").new_page()
    page.goto(address)
    page.wait_for_selector("#dq-paint", state="visible", timeout=60_000)
    page.wait_for_timeout(1000)
    page.click("#sec-composition > button")
    page.click("[data-region-tool=box]")
    page.wait_for_selector(".dq-board[data-editing=region]")
    _pull(page, (0.03, 0.2), (0.47, 0.8))
    page.keyboard.type("a red apple, flat")
    page.click("[data-tool=region-lasso]")
    _pull(page, (0.56, 0.3), (0.75, 0.18), (0.94, 0.3), (0.96, 0.7), (0.75, 0.84), (0.55, 0.7))
    page.keyboard.type("a sunflower, flat")
    paint(page, "two stickers, flat", 1, 3)
    page.click(".dq-sides [data-view=regions]")
    page.wait_for_selector(".dq-board[data-editing=region]")
    page.locator(".dq-region-section h3").scroll_into_view_if_needed()
    _save(page, out / "page-regions.webp")
    page.reload()
    page.wait_for_selector("#dq-paint", state="visible", timeout=60_000)
    page.wait_for_timeout(1000)
    paint(page, "cat face, flat", 1, 0)
    page.click("[data-act=drag]")
    page.wait_for_selector(".dq-board[data-editing=drag]")
    page.wait_for_timeout(1000)
    _pull(page, (0.13, 0.22), (0.26, 0.08))
    _pull(page, (0.87, 0.22), (0.74, 0.08))
    _pull(page, (0.5, 0.72), (0.5, 0.72))
    page.wait_for_timeout(1500)
    _save(page, out / "page-drag.webp")


def shoot_compare(browser: Browser, address: str, out: Path) -> None:
    """A comparison along two axes, as its dialog shows it."""
    page = browser.new_context(viewport={"width": 1280, "height": 720}, locale="en-US").new_page()
    page.goto(address)
    page.wait_for_selector("#dq-paint", state="visible", timeout=60_000)
    page.wait_for_timeout(1000)
    page.fill("#f-prompt textarea", "red apple, 3d")
    page.click("#sec-sampling > button")
    page.fill("#f-seed textarea, #f-seed input", "7")
    page.click("#sec-sampling > button")
    page.click("#sec-explore > button")
    page.fill('[id="f-explore.x"] input', "1-9 (+2)")
    page.select_option('[id="f-explore.y"] select', "replace")
    page.fill('[id="f-explore.y"] input', "red apple, penguin, sunflower")
    page.click(".dq-explore-all")
    page.wait_for_function(
        "document.querySelectorAll('.dq-sheet .dq-cell img').length === 15", timeout=PAINT_TIMEOUT_MS
    )
    page.wait_for_timeout(1000)
    _save(page, out / "page-explore.webp")


def main() -> None:
    """Serve, shoot, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--tools-only", action="store_true", help="only page-regions.webp and page-drag.webp")
    parser.add_argument("--compare-only", action="store_true", help="only page-explore.webp")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("Chromium is missing: apt-get install chromium")
    with tempfile.TemporaryDirectory() as data:
        process, address = serve(Path(data))
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
                if not (arguments.tools_only or arguments.compare_only):
                    shoot(browser, address, out)
                if not arguments.compare_only:
                    shoot_tools(browser, address, out)
                if not arguments.tools_only:
                    shoot_compare(browser, address, out)
                browser.close()
        finally:
            process.terminate()
            process.wait(timeout=30)


if __name__ == "__main__":
    main()
