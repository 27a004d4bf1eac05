"""What the browser tests do again and again."""

from __future__ import annotations

import base64
import io

from PIL import Image

BRIEF = "#f-prompt textarea"
SETTLED = "html.dq-settled .dq-board"
TIMEOUT_MS = 30_000


def paint(page, brief, wait=True):
    page.fill(BRIEF, brief)
    start(page)
    if wait:
        page.wait_for_selector("body:not(.dq-running)")


def start(page, press=None):
    """Press Paint; returns when the page knows the new job, even one that is finished before the browser looks."""
    before = page.evaluate("document.body.dataset.job ?? ''")
    if press is None:
        page.click("#dq-paint")
    else:
        press()
    page.wait_for_function("(before) => (document.body.dataset.job ?? '') !== before", arg=before)


def drawn(page):
    """Wait until the browser has laid out and drawn what stands there now."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def toast(page):
    """The words of the toast, read in the moment it is there."""
    return page.wait_for_function("document.querySelector('.dq-toast')?.textContent").json_value()


def late_frames(page, late_ms=1000):
    """From now on the page's animation frames come late, as on a machine that is busy."""
    page.evaluate(
        """(ms) => {
          const next = window.requestAnimationFrame.bind(window);
          window.requestAnimationFrame = (call) => setTimeout(() => next(call), ms);
        }""",
        late_ms,
    )


def png_of(image):
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def stage_value(page):
    return page.evaluate("window.danqing.stage.value")


def newest(served):
    return list(served.studio.kept.values())[-1]


def mask_of(page):
    uri = stage_value(page)["mask"]
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("L")


def drop(page, data, zone):
    page.evaluate(
        """([data, zone]) => {
          const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], 'picture.png', { type: 'image/png' }));
          const fire = (target, name) =>
            target.dispatchEvent(new DragEvent(name, { bubbles: true, cancelable: true, dataTransfer: transfer }));
          fire(document.body, 'dragenter');
          fire(document.querySelector(`[data-zone=${zone}]`), 'drop');
        }""",
        [base64.b64encode(data).decode(), zone],
    )
