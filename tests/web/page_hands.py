"""What the browser tests do again and again."""

from __future__ import annotations

import base64
import io

from PIL import Image

BRIEF = "#f-prompt textarea"


def paint(page, brief, wait=True):
    page.fill(BRIEF, brief)
    page.click("#dq-paint")
    page.wait_for_selector("body.dq-running")
    if wait:
        page.wait_for_selector("body:not(.dq-running)")


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
