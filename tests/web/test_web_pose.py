"""The pose editor in Chromium: its map is the one of `annotators.pose_drawing`; mouse, keys, touch, files."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from page_hands import drawn, drop, fingers, paint, png_of, stage_value, start, toast
from page_studio import FOREIGN, LINE, POSE, picture
from PIL import Image
from playwright.sync_api import expect

from danqing.annotators.pose_drawing import COLORS, LIMBS, POINTS, draw_poses, people_from_openpose
from danqing.web.i18n import words

pytestmark = pytest.mark.browser
CARD = ".dq-cards .dq-card"
EASEL = "dialog.dq-easel-pose"


@pytest.fixture(autouse=True)
def nets(served):
    served.studio.nets = [LINE, POSE, FOREIGN]
    yield
    served.studio.nets = [LINE, FOREIGN]


def card(page, kind="draw_pose"):
    page.click("#sec-composition > button")
    page.click(".dq-add >> nth=0")
    page.select_option(f"{CARD} [id='f-controls.0.annotator'] select", kind)


def easel(page):
    page.click(".dq-draw")
    page.wait_for_selector(f"{EASEL}[open]")
    drawn(page)


def use(page):
    page.click(f"{EASEL} .dq-use")
    page.wait_for_selector(EASEL, state="detached")


def kept(page):
    """The unit and what was drawn for it."""
    value = stage_value(page)
    unit = value["controls"][0]
    return unit, value["drawings"].get(unit["image"])


def joints(people):
    return [[(x, y) if on else None for x, y, on in person] for person in people]


def on_screen(page, joint, person=0):
    """Where a joint is in the window."""
    return page.evaluate(
        """([person, joint]) => {
          const circles = document.querySelectorAll('.dq-easel-pose .dq-layer circle');
          const box = circles[person * 18 + joint].getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        }""",
        [person, joint],
    )


def drag(page, start_at, by):
    page.mouse.move(*start_at)
    page.mouse.down()
    page.mouse.move(start_at[0] + by[0], start_at[1] + by[1], steps=4)
    page.mouse.up()


def test_the_browser_draws_the_map_that_python_draws(open_page):
    page = open_page()
    rng = np.random.default_rng(4)
    people = [np.column_stack([rng.uniform(-30, 350, 18), rng.uniform(-30, 290, 18)]).tolist() for _ in range(3)]
    people = [[[*joint, int(rng.random() > 0.15)] for joint in person] for person in people]
    found = page.evaluate(
        """async (people) => {
          const skeleton = await import('/web/canvas/skeleton.js');
          const image = skeleton.drawPeople([...people, skeleton.figure('walking', 320, 256)], 320, 256);
          const figure = skeleton.figure('walking', 320, 256);
          let text = '';
          for (const byte of image.data) text += String.fromCharCode(byte);
          const { POINTS, LIMBS, COLORS } = skeleton;
          return { data: btoa(text), figure, POINTS, LIMBS, COLORS };
        }""",
        people,
    )
    assert tuple(found["POINTS"]) == POINTS
    assert tuple(map(tuple, found["LIMBS"])) == LIMBS
    assert tuple(map(tuple, found["COLORS"])) == COLORS
    browser = np.frombuffer(base64.b64decode(found["data"]), np.uint8).reshape(256, 320, 4)
    python = draw_poses(joints([*people, found["figure"]]), 320, 256)
    assert (browser[..., 3] == 255).all()
    assert np.abs(browser[..., :3].astype(float) - python).mean() < 0.5
    assert np.any(browser[..., :3] != python, axis=2).mean() < 0.01


def test_a_drawn_pose_is_the_units_own_map_and_can_be_changed_again(open_page, served):
    page = open_page()
    page.fill("#f-width_px input", "96")
    page.keyboard.press("Tab")
    card(page)
    easel(page)
    drag(page, on_screen(page, 4), (30, -60))
    use(page)
    unit, drawing = kept(page)
    assert (unit["annotator"], unit["model"]) == ("none", POSE.name)
    assert drawing["kind"] == "pose"
    assert (drawing["width"], drawing["height"]) == (512, 683)  # the painting's 96 × 128, 512 px at least
    stored = Image.open(io.BytesIO(served.studio.picture_bytes(unit["image"].removeprefix("sha256:")))).convert("RGB")
    wanted = draw_poses(joints(drawing["people"]), *stored.size)
    assert np.abs(np.asarray(stored).astype(float) - wanted).mean() < 0.3
    start(page)
    (asked,) = list(served.studio.all_jobs.values())[-1].request.controls
    assert (asked.annotator, asked.image, asked.model) == ("none", unit["image"], POSE.name)
    before = drawing["people"]
    easel(page)
    page.click(f"{EASEL} [data-t-aria='c.pose.mirror']")
    use(page)
    unit, drawing = kept(page)
    assert unit["image"] != asked.image
    assert drawing["people"][0][4][0] == pytest.approx(
        min(p[0] for p in before[0]) + max(p[0] for p in before[0]) - before[0][7][0]
    )


def test_joints_bodies_corners_and_undo_by_mouse(open_page):
    page = open_page()
    card(page)
    easel(page)
    wrist, nose, hip = on_screen(page, 4), on_screen(page, 0), on_screen(page, 8)
    drag(page, wrist, (-40, -80))
    moved = on_screen(page, 4)
    assert moved == pytest.approx([wrist[0] - 40, wrist[1] - 80], abs=1.5)
    assert on_screen(page, 0) == pytest.approx(nose, abs=0.5)
    drag(page, [hip[0] + 15, hip[1] - 30], (60, 0))  # between the hips: the whole body
    assert on_screen(page, 0) == pytest.approx([nose[0] + 60, nose[1]], abs=1.5)
    box = page.locator(f"{EASEL} rect.corner >> nth=3").bounding_box()
    drag(page, [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2], (-60, -100))
    assert on_screen(page, 10)[1] < on_screen(page, 0)[1] + 350
    undo, redo = f"{EASEL} [data-t-aria='s.undo']", f"{EASEL} [data-t-aria='s.redo']"
    for _ in range(3):
        page.click(undo)
    assert on_screen(page, 4) == pytest.approx(wrist, abs=0.5)
    expect(page.locator(undo)).to_be_disabled()
    page.click(redo)
    assert on_screen(page, 4) == pytest.approx(moved, abs=0.5)
    page.mouse.dblclick(*on_screen(page, 4))
    expect(page.locator(f"{EASEL} .dq-layer circle.off")).to_have_count(1)
    use(page)
    assert kept(page)[1]["people"][0][4][2] == 0


def test_by_keyboard_alone(open_page):
    page = open_page()
    card(page)
    page.focus(".dq-draw")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{EASEL}[open]")
    drawn(page)
    expect(page.locator(f"{EASEL} .dq-board")).to_be_focused()
    nose = on_screen(page, 0)
    page.keyboard.press("PageDown")
    assert page.input_value(f"{EASEL} select >> nth=1") == "0"
    assert "nose" in page.inner_text(f"{EASEL} [role=status]")
    page.keyboard.press("Shift+ArrowRight")
    assert on_screen(page, 0)[0] > nose[0] + 10
    page.keyboard.press("PageUp")
    page.keyboard.press("Delete")
    expect(page.locator(f"{EASEL} .dq-layer circle.off")).to_have_count(1)
    page.keyboard.press("Control+z")
    expect(page.locator(f"{EASEL} .dq-layer circle.off")).to_have_count(0)
    page.keyboard.press("m")
    page.keyboard.press("[")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("Escape")
    page.wait_for_selector(EASEL, state="detached")
    assert toast(page).startswith(words("en")["c.easel.dropped"])
    page.click(".dq-toast button")  # nothing is lost
    page.wait_for_selector(f"{EASEL}[open]")
    drawn(page)
    assert on_screen(page, 0)[0] > nose[0] + 10
    page.keyboard.press("Control+Enter")  # under the sheet nothing is painted
    use(page)
    assert kept(page)[1]["people"][0][17][2] == 1
    assert not page.locator("body.dq-running").count()


def test_several_people_and_starting_poses(open_page):
    page = open_page()
    card(page)
    easel(page)
    expect(page.locator(f"{EASEL} .dq-layer circle")).to_have_count(18)
    page.click(f"{EASEL} .dq-pose-add")
    expect(page.locator(f"{EASEL} .dq-layer circle")).to_have_count(36)
    first = on_screen(page, 0, 0)
    for name in ("sitting", "walking", "arms_up", "standing"):
        page.click(f"{EASEL} [data-pose={name}]")
        drawn(page)
    page.click(f"{EASEL} [data-pose=arms_up]")
    assert on_screen(page, 4, 1)[1] < on_screen(page, 0, 1)[1]
    assert on_screen(page, 0, 0) == pytest.approx(first, abs=0.5)
    page.select_option(f"{EASEL} select >> nth=0", "0")
    page.click(f"{EASEL} .dq-pose-add + button")
    expect(page.locator(f"{EASEL} .dq-layer circle")).to_have_count(18)
    page.click(f"{EASEL} .dq-pose-add + button")
    page.click(f"{EASEL} .dq-use")
    expect(page.locator(f"{EASEL} .dq-wrong")).to_have_text(words("en")["c.pose.none"])
    page.click(f"{EASEL} .dq-pose-add")
    use(page)
    assert len(kept(page)[1]["people"]) == 1


def test_json_of_openpose_in_and_out(open_page):
    page = open_page()
    card(page)
    easel(page)
    body = [v for n in range(18) for v in ((100 + 10 * n, 50 + 20 * n, 0.9) if n != 7 else (0, 0, 0))]
    data = {"people": [{"pose_keypoints_2d": body}], "canvas_width": 1024, "canvas_height": 1024}
    put = {"name": "pose.json", "mimeType": "application/json", "buffer": json.dumps(data).encode()}
    page.set_input_files(f"{EASEL} input[type=file]", put)
    expect(page.locator(f"{EASEL} .dq-layer circle.off")).to_have_count(1)
    with page.expect_download() as caught:
        page.click(f"{EASEL} .dq-pose-export")
    assert caught.value.suggested_filename == "danqing-pose.json"
    saved = json.loads(Path(caught.value.path()).read_text(encoding="utf-8"))
    assert (saved["canvas_width"], saved["canvas_height"]) == (512, 512)
    (found,) = people_from_openpose(saved)
    assert found[7] is None
    assert found[2] == pytest.approx((60, 45))
    page.set_input_files(f"{EASEL} input[type=file]", {**put, "buffer": b'{"people": 3}'})
    expect(page.locator(f"{EASEL} .dq-wrong")).to_have_text(words("en")["c.pose.bad"])


def test_a_picture_lies_under_the_pose_and_comes_back_with_its_kind(open_page, served):
    page = open_page()
    paint(page, "someone")
    page.wait_for_selector(".dq-record-bar:not([hidden])")
    card(page, "canny")
    page.click(f"{CARD} .dq-link >> nth=0")
    photo = stage_value(page)["controls"][0]["image"]
    page.select_option(f"{CARD} [id='f-controls.0.annotator'] select", "draw_pose")
    easel(page)
    assert photo.removeprefix("record:") in page.get_attribute(f"{EASEL} .dq-under", "src")
    use(page)
    unit, drawing = kept(page)
    assert drawing["base"] == photo
    assert unit["image"] != photo
    page.select_option(f"{CARD} [id='f-controls.0.annotator'] select", "canny")
    assert stage_value(page)["controls"][0]["image"] == photo
    page.select_option(f"{CARD} [id='f-controls.0.annotator'] select", "draw_pose")
    assert stage_value(page)["controls"][0]["image"] == unit["image"]


def test_a_pose_that_is_not_drawn_is_asked_for(open_page):
    page = open_page(locale="zh-TW")
    card(page)
    page.click("#dq-paint")
    said = page.locator("[id='f-controls.0.image'] .dq-field-error > span")
    expect(said).to_have_text(words("zh-Hant")["e.control.image"])


@pytest.mark.parametrize("kind", ["draw_pose", "draw_sketch"])
def test_fingers_draw_at_390_px_and_no_english_is_left(open_page, kind):
    page = open_page(width=390, height=844, locale="zh-CN", touch=True)
    card(page, kind)
    page.click(".dq-draw")
    page.wait_for_selector("dialog[open]")
    drawn(page)
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= 390
    send = fingers(page)
    board = page.locator("dialog .dq-board").bounding_box()
    x, y = on_screen(page, 7) if kind == "draw_pose" else (board["x"] + 100, board["y"] + 100)
    for name, places in (("touchStart", [(x, y)]), ("touchMove", [(x + 40, y - 40)]), ("touchEnd", [])):
        send(name, *places)
    expect(page.locator("dialog [data-t-aria='s.undo']")).to_be_enabled()
    english, chinese = words("en"), words("zh-Hans")
    translated = {english[key] for key in english if english[key] != chinese[key]}
    shown = page.evaluate(
        """() => [...document.querySelectorAll('dialog, dialog *')].flatMap((node) => [
          ...[...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data.trim()),
          ...['aria-label', 'title', 'placeholder', 'label'].map((name) => node.getAttribute(name) ?? '')])"""
    )
    assert sorted(set(shown) & translated) == []
    assert page.evaluate(
        "[...document.querySelectorAll('dialog button, dialog select, dialog input:not([type=file])')]"
        ".every((node) => node.getAttribute('aria-label') || node.textContent.trim() || node.closest('label'))"
    )
    page.click("dialog .dq-use")
    page.wait_for_selector("dialog", state="detached")
    assert stage_value(page)["controls"][0]["image"].startswith("sha256:")


def test_a_photo_dropped_on_a_drawn_card_goes_under_the_drawing(open_page):
    page = open_page()
    card(page)
    drop(page, png_of(picture("photo", 2, 64, 96)), "control")
    page.wait_for_selector(f"{CARD} .dq-slot img")
    expect(page.locator(CARD)).to_have_count(1)
    easel(page)
    use(page)
    _, drawing = kept(page)
    assert (drawing["width"], drawing["height"]) == (512, 768)
