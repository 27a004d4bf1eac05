"""What the browser tests do again and again."""

from __future__ import annotations

import base64
import io

from PIL import Image

BRIEF = "#f-prompt textarea"
SETTLED = "html.dq-settled .dq-board"
TIMEOUT_MS = 60_000


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


def place(page, x, y):
    """Where a share of the picture on the board lies on the screen."""
    box = page.locator(".dq-world").bounding_box()
    return box["x"] + box["width"] * x, box["y"] + box["height"] * y


def pull(page, start, *ends, hold=None):
    """Press at a share of the picture, go through others, let go; `hold` is a key held meanwhile."""
    page.mouse.move(*place(page, *start))
    if hold:
        page.keyboard.down(hold)
    page.mouse.down()
    for end in ends:
        page.mouse.move(*place(page, *end), steps=4)
    page.mouse.up()
    if hold:
        page.keyboard.up(hold)


def on_board(page, kind):
    """Wait until the tools for a 'region' or a 'drag' lie on the board and everything is drawn."""
    page.wait_for_selector(f".dq-board[data-editing={kind}]")
    drawn(page)


def near(found, wanted, within=2):
    return all(abs(a - b) <= within for a, b in zip(found, wanted, strict=True))


def reuse(page, record):
    """Load the page anew and bring the settings of a finished picture into its form."""
    page.reload()
    page.wait_for_selector(f"html.dq-settled [data-id='{record.id}'] button")
    page.click(f"[data-id='{record.id}'] button")
    page.click("[data-act=all]")


def last_request(served):
    return list(served.studio.all_jobs.values())[-1].request


def fingers(page):
    """Sends touch events through the browser's own protocol: `send(kind, *places)` with the fingers that are down."""
    session = page.context.new_cdp_session(page)

    def send(kind, *places):
        points = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    return send
