"""What looks at pictures on the Paint page, in Chromium: control, looking alike, describing, searching, enlarging."""

from __future__ import annotations

import re

import pytest
from page_hands import BRIEF, drop, newest, paint, png_of, stage_value, start, toast
from page_studio import DETAIL, FOREIGN, LINE, SEEN, UPSCALER, picture
from playwright.sync_api import expect

from danqing.spec.errors import MissingWeightsError
from danqing.web.i18n import words

pytestmark = pytest.mark.browser
CARD = ".dq-cards .dq-card"
RECORD = ".dq-record-bar:not([hidden])"


@pytest.fixture(autouse=True)
def whole(served):
    """Every test finds a studio with all its models."""
    served.studio.nets, served.studio.blind = [LINE, DETAIL, FOREIGN], None
    adapters = served.studio.adapters
    yield
    served.studio.adapters = adapters


def last_request(served):
    return list(served.studio.all_jobs.values())[-1].request


def composition(page):
    page.click("#sec-composition > button")


def slide(page, selector, value):
    page.evaluate(
        """([selector, value]) => {
          const input = document.querySelector(selector);
          input.value = value;
          input.dispatchEvent(new Event('input', { bubbles: true }));
        }""",
        [selector, str(value)],
    )


def test_a_control_follows_the_picture_on_the_canvas(open_page, served):
    page = open_page()
    paint(page, "to be followed")
    page.wait_for_selector(RECORD)
    record = newest(served)
    composition(page)
    page.click(".dq-add >> nth=0")
    page.click(f"{CARD} .dq-link")
    page.click(f"{CARD} .dq-slot:nth-child(2) button")
    shown = page.wait_for_selector(f"{CARD} .dq-slot:nth-child(2) img").get_attribute("src")
    assert served.studio.picture_bytes(shown.rpartition("/")[2]).startswith(b"\x89PNG")
    slide(page, "[id='f-controls.0.weight'] input", 0.7)
    start(page)
    (unit,) = last_request(served).controls
    assert (unit.model, unit.annotator, unit.weight) == (LINE.name, "canny", 0.7)
    assert unit.image == f"record:{record.id}"


def test_the_model_follows_the_kind_and_the_foreign_one_is_not_offered(open_page):
    page = open_page()
    composition(page)
    page.click(".dq-add >> nth=0")
    page.select_option(f"{CARD} [id='f-controls.0.annotator'] select", "tile_resample")
    assert stage_value(page)["controls"][0]["model"] == DETAIL.name
    names = page.locator("[id='f-controls.0.model'] option").all_text_contents()
    assert LINE.name in names
    assert FOREIGN.name not in names
    page.select_option(f"{CARD} [id='f-controls.0.annotator'] select", "normal_relief")
    assert stage_value(page)["controls"][0]["model"] == ""
    expect(page.locator(f"{CARD} .dq-hint")).to_have_text(words("en")["c.missing.kind"])


def test_a_dropped_picture_fills_the_first_control_and_three_are_the_most(open_page, served):
    page = open_page()
    page.wait_for_function("window.danqing.stage.controls.available")
    for number in range(4):
        drop(page, png_of(picture("control", number, 64, 64)), "control")
        wanted = f"window.danqing.stage.value.controls.filter((unit) => unit.image).length === {min(number + 1, 3)}"
        page.wait_for_function(wanted)
    expect(page.locator(CARD)).to_have_count(3)
    page.wait_for_selector(".dq-add >> nth=0", state="hidden")
    page.click(f"{CARD} >> nth=1 >> .dq-card-head .dq-icon")
    expect(page.locator(CARD)).to_have_count(2)
    start(page)
    assert len(last_request(served).controls) == 2


def test_errors_stand_in_the_card_and_nothing_is_lost(open_page):
    page = open_page(locale="zh-TW")
    page.fill(BRIEF, "留著")
    composition(page)
    page.click(".dq-add >> nth=0")
    page.click("#sec-composition > button")
    page.click("#dq-paint")
    page.wait_for_selector("[id='f-controls.0.image'] .dq-field-error")
    expect(page.locator(".dq-field-error > span")).to_have_text(words("zh-Hant")["e.control.image"])
    slide(page, "[id='f-controls.0.start'] input", 0.9)
    slide(page, "[id='f-controls.0.end'] input", 0.2)
    page.click("#dq-paint")
    said = page.locator(f"{CARD} > .dq-field-error > span")
    expect(said).to_have_text(words("zh-Hant")["e.control.window"])
    page.select_option(".dq-language", "en")
    page.wait_for_function("document.querySelector('#dq-paint').textContent.trim() === 'Paint'")
    assert page.input_value(BRIEF) == "留著"
    unit = stage_value(page)["controls"][0]
    assert (unit["start"], unit["end"]) == (0.9, 0.2)
    assert page.locator("[id='f-controls.0.start'] output").text_content() == "0.90"


def test_a_map_that_cannot_be_made_says_why(open_page, served):
    page = open_page(locale="zh-CN")
    page.wait_for_function("window.danqing.stage.controls.available")
    drop(page, png_of(picture("busy", 3, 64, 64).effect_spread(40)), "control")
    page.wait_for_selector(CARD)
    page.select_option(f"{CARD} [id='f-controls.0.annotator'] select", "depth_relief")
    page.click(f"{CARD} .dq-slot:nth-child(2) button")
    expect(page.locator(f"{CARD} > .dq-wrong")).to_have_text(words("zh-Hans")["e.map"])
    open_page.wrong.clear()  # Chromium reports the refusal in its console, as it should


def test_without_weights_the_cards_say_what_to_do(open_page, served):
    served.studio.nets, served.studio.adapters = [FOREIGN], []
    page = open_page(locale="zh-TW")
    composition(page)
    chinese = words("zh-Hant")
    for section, key in (("controls", "c.missing"), ("image_prompts", "l.missing")):
        hint = page.locator(f"#f-{section} > .dq-hint")
        expect(hint).to_have_text(chinese[key].replace("{model}", "danqing-mini"))
    assert not page.locator(".dq-add >> nth=0").is_visible()


def test_settings_of_a_picture_bring_its_cards(open_page, served):
    page = open_page()
    paint(page, "the first")
    page.wait_for_selector(RECORD)
    first = newest(served).id
    composition(page)
    page.click(".dq-add >> nth=0")
    page.click(f"{CARD} .dq-link")
    slide(page, "[id='f-controls.0.end'] input", 0.5)
    for _ in range(2):
        page.click("#f-image_prompts .dq-row button >> nth=1")
    slide(page, "[id='f-image_prompts.1.weight'] input", 0.4)
    page.select_option("#f-image_mix select", "average")
    paint(page, "the second")
    made = last_request(served)
    assert [prompt.weight for prompt in made.image_prompts] == [1.0, 0.4]
    assert made.image_mix == "average"
    page.reload()
    page.wait_for_selector(".dq-thumb")
    page.click(".dq-thumb >> nth=0")
    page.wait_for_selector(RECORD)
    page.click("[data-act=all]")
    page.wait_for_function("window.danqing.stage.value.controls.length === 1")
    start(page)
    again = last_request(served)
    assert (again.controls, again.image_prompts) == (made.controls, made.image_prompts)
    assert again.controls[0].image == f"record:{first}"


@pytest.mark.parametrize(("locale", "language"), [("en-US", "en"), ("zh-TW", "zh-Hant")])
def test_a_description_waits_for_a_yes(open_page, locale, language):
    page = open_page(locale=locale)
    page.fill(BRIEF, "mine,")
    drop(page, png_of(picture("seen", 1, 64, 64)), "describe")
    caption, tags = SEEN[language]
    expect(page.locator(".dq-caption")).to_have_text(caption)
    assert page.input_value(BRIEF) == "mine,"
    page.click(f".dq-tag >> nth={len(tags) - 1}")
    page.click(".dq-proposal .dq-row button >> nth=0")
    comma = ", " if language == "en" else "，"
    assert page.input_value(BRIEF) == comma.join(["mine", caption, tags[-1]])
    page.click(".dq-toast button")
    assert page.input_value(BRIEF) == "mine,"


def test_who_describes_can_be_chosen_where_more_than_one_can(open_page, served, monkeypatch):
    monkeypatch.setattr("danqing.web.looking.is_ready", lambda info, models: info.key in {"builtin", "wd14"})
    asked = []
    look = served.studio.interrogate
    monkeypatch.setattr(
        served.studio, "interrogate", lambda image, **how: asked.append(how.get("asked")) or look(image, **how)
    )
    page = open_page()
    page.click(".dq-describe")
    chosen = page.locator(".dq-proposal select")
    expect(chosen.locator("option")).to_have_text(["Danqing", "WD tagger"])
    chosen.select_option("wd14")
    drop(page, png_of(picture("seen", 1, 64, 64)), "describe")
    expect(page.locator(".dq-caption")).to_have_text(SEEN["en"][0])
    assert asked[0].interrogator == "wd14"


def test_without_eyes_a_description_says_so(open_page, served):
    served.studio.blind = MissingWeightsError("mini-CLIP is not installed", field="model")
    page = open_page(locale="zh-CN")
    page.fill(BRIEF, "我的")
    page.click(".dq-describe")
    page.click(".dq-proposal .dq-act >> nth=1")
    assert toast(page) == words("zh-Hans")["s.canvas.none"]
    drop(page, png_of(picture("seen", 1, 64, 64)), "describe")
    expect(page.locator(".dq-proposal .dq-wrong > span")).to_have_text(words("zh-Hans")["e.sight"])
    assert page.input_value(BRIEF) == "我的"
    open_page.wrong.clear()  # Chromium reports the 424 in its console, as it should


def test_history_is_searched_by_words_and_by_look(open_page, served):
    page = open_page()
    for brief in ("a phoenix", "a teapot"):
        paint(page, brief)
        page.wait_for_selector(RECORD)
    phoenix = next(r.id for r in served.studio.kept.values() if r.plan.base.text.prompt == "a phoenix")
    everything = len(served.studio.records(limit=40))
    page.fill(".dq-search", "phoenix")
    expect(page.locator(".dq-thumb")).to_have_count(1)
    page.fill(".dq-search", "nothing like it")
    expect(page.locator(".dq-history .dq-note")).to_contain_text(words("en")["s.history.none.words"])
    page.fill(".dq-search", "a phoenix")
    page.click("[data-by=look]")
    expect(page.locator(".dq-thumbs > div").first).to_have_attribute("data-id", phoenix)
    expect(page.locator(".dq-thumb")).to_have_count(everything)
    page.click(".dq-search-clear")
    expect(page.locator(".dq-thumbs > div").first).not_to_have_attribute("data-id", phoenix)
    assert page.input_value(".dq-search") == ""


def test_enlarges_a_picture_and_gives_it_to_download(open_page, served):
    page = open_page()
    paint(page, "to be enlarged")
    page.wait_for_selector(RECORD)
    record = newest(served)
    page.click("[data-act=upscale]")
    page.wait_for_selector(".dq-loose-bar:not([hidden])")
    assert "512 × 512" in page.inner_text(".dq-loose-title")
    page.wait_for_function("document.querySelector('.dq-base').naturalWidth === 512")
    with page.expect_download() as caught:
        page.click(".dq-save")
    assert caught.value.suggested_filename == f"danqing-{record.id}-x4.png"
    page.click(".dq-loose-bar .dq-icon")
    page.wait_for_selector(RECORD)
    page.wait_for_function(f"document.querySelector('.dq-base').src.includes('{record.id}')")


def test_upscaler_files_stand_among_the_upscalers(open_page, served):
    page = open_page(locale="zh-TW")
    page.click("#sec-finish > button")
    page.click("#f-hires input")
    page.wait_for_selector("body.on-hires")
    page.click("#f-hires_upscaler input")
    page.click(f"#f-hires_upscaler li[aria-label='{UPSCALER.name}']")
    start(page)
    request = last_request(served)
    assert request.hires.upscaler == UPSCALER.name
    assert (request.hires.steps, request.sampling.eta) == (None, None)  # what is left empty is not 0


def test_the_cards_fit_390_px_and_hold_no_english(open_page):
    page = open_page(width=390, height=844, locale="zh-TW", touch=True)
    paint(page, "行動裝置")
    page.wait_for_selector(RECORD)
    composition(page)
    page.click(".dq-add >> nth=0")
    page.click(".dq-describe")
    page.click(".dq-more > summary")
    page.click("#f-image_prompts .dq-row button >> nth=1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    english, chinese = words("en"), words("zh-Hant")
    translated = {english[key] for key in english if english[key] != chinese[key]}
    shown = page.evaluate(
        """() => [...document.querySelectorAll('.dq-extra *, .dq-proposal *, .dq-history *')].flatMap((node) => [
          ...[...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data.trim()),
          ...['aria-label', 'title', 'placeholder', 'label'].map((name) => node.getAttribute(name) ?? '')])"""
    )
    assert sorted(set(shown) & translated) == []
    assert not any(re.fullmatch(r"[a-z]\.[a-z_.]+", text) for text in shown)  # a key that no file has
