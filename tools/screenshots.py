"""Take the pictures of the pages that the documents show: a real studio, Debian's Chromium, fixed seeds.

Usage: python tools/screenshots.py [--out docs/images]
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def main() -> None:
    """Serve, shoot, stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("Chromium is missing: apt-get install chromium")
    with tempfile.TemporaryDirectory() as data:
        process, address = serve(Path(data))
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
                shoot(browser, address, out)
                browser.close()
        finally:
            process.terminate()
            process.wait(timeout=30)


if __name__ == "__main__":
    main()
