"""The list of networks in Chromium: what a click puts into the brief and takes out again, weights, filters, keys."""

from __future__ import annotations

import re

import pytest
from page_hands import BRIEF, start
from page_studio import NETWORKS, TOLD
from playwright.sync_api import expect

from danqing.spec.errors import DanqingError
from danqing.web.i18n import words

pytestmark = pytest.mark.browser
NEGATIVE = "#f-negative_prompt textarea"
FACE = ".dq-net-face"


@pytest.fixture(autouse=True)
def whole(served):
    """Every test finds the same networks."""
    yield
    served.studio.cards = NETWORKS


def networks(page):
    page.click(".dq-above button >> nth=0")
    page.wait_for_selector(FACE)


def test_a_click_puts_a_lora_in_at_the_caret_and_a_second_takes_it_out(open_page, served):
    page = open_page()
    page.fill(BRIEF, "a cat on a roof")
    page.evaluate(f"document.querySelector('{BRIEF}').setSelectionRange(5, 5)")
    networks(page)
    page.click(f"{FACE} >> nth=0")
    expect(page.locator(BRIEF)).to_have_value("a cat, ink wash painting <lora:ink wash:0.8> on a roof")
    expect(page.locator(NEGATIVE)).to_have_value("photo")
    expect(page.locator(f"{FACE} >> nth=0")).to_have_attribute("aria-pressed", "true")
    page.fill(".dq-net-weight input >> nth=0", "0.55")
    page.press(".dq-net-weight input >> nth=0", "Tab")
    expect(page.locator(BRIEF)).to_have_value("a cat, ink wash painting <lora:ink wash:0.55> on a roof")
    start(page)
    request = list(served.studio.all_jobs.values())[-1].request
    assert (request.prompt.count("<lora:ink wash:0.55>"), request.negative_prompt) == (1, "photo")
    page.wait_for_selector("body:not(.dq-running)")
    page.click(f"{FACE} >> nth=0")
    expect(page.locator(BRIEF)).to_have_value("a cat on a roof")
    expect(page.locator(NEGATIVE)).to_have_value("")
    assert not page.locator(".dq-net-weight >> nth=0").is_visible()


def test_what_a_person_types_is_seen_and_a_schedule_is_left_alone(open_page):
    page = open_page()
    networks(page)
    face = page.locator(FACE, has_text="paper-cut")
    page.fill(BRIEF, "x <lora:Papercut:0@0,1@0.5> y")  # by the name that its trainer gave it
    expect(face).to_have_attribute("aria-pressed", "true")
    assert page.locator(".dq-net", has=face).locator("input").is_disabled()
    face.click()
    expect(page.locator(BRIEF)).to_have_value("x y")


def test_an_embedding_goes_where_a_person_writes(open_page):
    page = open_page()
    page.fill(BRIEF, "a cat")
    page.fill(NEGATIVE, "blurred")
    networks(page)
    page.click("[data-kind=embedding]")
    expect(page.locator("[data-into=negative]")).to_have_attribute("aria-pressed", "true")
    page.click(FACE)
    expect(page.locator(NEGATIVE)).to_have_value("blurred, easy.negative")
    page.fill(".dq-net-weight input", "1.2")
    page.press(".dq-net-weight input", "Enter")
    expect(page.locator(NEGATIVE)).to_have_value("blurred, (easy.negative:1.2)")
    page.click(FACE)
    expect(page.locator(NEGATIVE)).to_have_value("blurred")
    page.click("[data-into=prompt]")
    page.click(FACE)
    expect(page.locator(BRIEF)).to_have_value("a cat, easy.negative")


def test_a_preview_is_shown_and_a_lost_one_becomes_a_letter(open_page, served):
    served.studio.cards = [card.model_copy(update={"preview": "1"}) for card in NETWORKS]
    page = open_page()
    networks(page)
    page.wait_for_function(f"document.querySelector('{FACE} img')?.naturalWidth > 0")
    expect(page.locator(FACE, has_text="broken").locator(".dq-net-letter")).to_have_text("B")
    open_page.wrong.clear()  # Chromium reports the 404 in its console, as it should


def test_filters_by_words_and_says_why_some_do_not_fit(open_page):
    page = open_page(locale="zh-TW")
    networks(page)
    expect(page.locator(FACE)).to_have_count(3)
    page.fill(".dq-nets .dq-search", "INK painting")
    expect(page.locator(FACE)).to_have_count(1)
    page.fill(".dq-nets .dq-search", "sdxl")
    expect(page.locator(".dq-net-others li")).to_have_count(1)
    said = words("zh-Hant")
    expect(page.locator(".dq-net-others")).to_contain_text(
        said["n.misfit.family"].replace("{family}", "Stable Diffusion XL")
    )
    page.fill(".dq-nets .dq-search", "")
    expect(page.locator(".dq-nets summary")).to_have_text(said["n.misfits"].replace("{count}", "2"))
    expect(page.locator(".dq-net-others")).to_contain_text(said["n.misfit.unreadable"])


def test_refreshing_finds_a_new_file_and_an_empty_folder_says_what_to_do(open_page, served):
    served.studio.cards = ()
    page = open_page(locale="zh-CN")
    page.click(".dq-above button >> nth=0")
    expect(page.locator(".dq-nets .dq-hint")).to_have_text(words("zh-Hans")["n.none.lora"])
    served.studio.cards = NETWORKS[:1]
    page.click(".dq-nets .dq-card-head button >> nth=0")
    expect(page.locator(FACE)).to_have_count(1)


def test_keys_alone_are_enough(open_page):
    page = open_page()
    page.focus(".dq-above button >> nth=0")
    page.keyboard.press("Enter")
    page.wait_for_selector(FACE)
    page.keyboard.press("ArrowDown")  # from the filter to the first card
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(BRIEF)).to_have_value("<lora:paper-cut_v2:1>")
    assert page.evaluate("document.activeElement.matches('.dq-net-face')")  # the focus stays
    page.focus("[data-kind=lora]")
    page.keyboard.press("ArrowRight")
    expect(page.locator("[data-kind=embedding]")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.matches('.dq-above button')")
    assert page.locator(FACE).count() == 0 or not page.locator(FACE).first.is_visible()


def test_a_failing_list_says_so_and_loses_nothing(open_page, served):
    page = open_page()
    page.fill(BRIEF, "mine")

    def refuse(_):
        raise DanqingError("no disk")

    honest, served.studio.network_cards = served.studio.network_cards, refuse
    page.click(".dq-above button >> nth=0")
    expect(page.locator(".dq-nets .dq-wrong")).to_be_visible()
    served.studio.network_cards = honest
    assert page.input_value(BRIEF) == "mine"
    open_page.wrong.clear()  # Chromium reports the refusal in its console, as it should


@pytest.mark.parametrize("dark", [False, True])
def test_fits_390_px_in_chinese(open_page, dark):
    page = open_page(width=390, height=844, locale="zh-TW", dark=dark, touch=True)
    networks(page)
    page.click(f"{FACE} >> nth=0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    english, chinese = words("en"), words("zh-Hant")
    translated = {english[key] for key in english if english[key] != chinese[key]}
    shown = page.evaluate(
        """() => [...document.querySelectorAll('.dq-nets *, .dq-above *')].flatMap((node) => [
          ...[...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data.trim()),
          ...['aria-label', 'title', 'placeholder'].map((name) => node.getAttribute(name) ?? '')])"""
    )
    assert sorted(set(shown) & translated) == []
    assert not any(re.fullmatch(r"n\.[a-z_.]+", text) for text in shown)
    box = page.locator("#dq-paint").bounding_box()
    assert box["y"] + box["height"] <= 844  # the one primary action is always at hand


def test_a_model_shows_what_it_has(open_page, served):
    page = open_page()
    page.click("#sec-model > button")
    page.click("#sec-sampling > button")
    assert not page.locator("#f-distilled").is_visible()
    expect(page.locator("#f-precision")).to_contain_text("Precision")
    page.click("#f-precision input")
    shown = page.locator("#f-precision li").all_text_contents()
    assert any("float8" in text for text in shown)
    assert not any("float16 (" in text.replace("bfloat16 (", "") for text in shown)  # the fake's workers have CPUs
    page.click("#f-precision li[aria-label='bfloat16 (bf16)']")
    page.click("#f-model input")
    page.click(f"#f-model li[aria-label='{TOLD.name}']")
    page.wait_for_selector("body.on-distilled")
    page.fill("#f-distilled input, #f-distilled textarea", "2.5")
    page.click("#f-precision input")
    expect(page.locator("#f-precision li")).to_have_count(3)  # a packed file stays as it is
    page.keyboard.press("Escape")
    start(page)
    request = list(served.studio.all_jobs.values())[-1].request
    assert (request.model, request.guidance.distilled, request.precision) == (TOLD.name, 2.5, "bfloat16")
    page.wait_for_selector("body:not(.dq-running)")


def test_the_control_type_narrows_kinds_and_networks(open_page, served):
    page = open_page()
    page.click("#sec-composition > button")
    page.click(".dq-add >> nth=0")
    field = "[id='f-controls.0.{}'] select"
    everything = page.locator(field.format("annotator") + " option").count()
    page.select_option(field.format("control_type"), "tile")
    unit = page.evaluate("window.danqing.stage.value.controls[0]")
    assert (unit["annotator"], unit["control_type"], unit["model"]) == (
        "tile_resample",
        "tile",
        "danqing-mini-detail",
    )
    kinds = page.locator(field.format("annotator") + " option").evaluate_all("all => all.map((one) => one.value)")
    assert kinds == ["tile_resample", "blur_gaussian", "none"]
    names = page.locator(field.format("model") + " option").evaluate_all("all => all.map((one) => one.value)")
    assert names == ["", "danqing-mini-detail"]
    page.select_option(field.format("control_type"), "depth")
    expect(page.locator(".dq-cards .dq-card .dq-hint")).to_have_text(words("en")["c.missing.kind"])
    page.select_option(field.format("control_type"), "")
    assert page.locator(field.format("annotator") + " option").count() == everything
    assert page.evaluate("window.danqing.stage.value.controls[0].control_type") is None


def test_the_texts_of_a_brief(tabs, served):
    """The rules by which tags and words come and go, as pure functions: they need no more than the script."""
    page = tabs.open()
    page.goto(f"{served.address}web/canvas/promptwords.js")
    done = page.evaluate(
        """async () => {
          const { find, put, take, weigh } = await import(document.baseURI);
          const lora = { kind: 'lora', name: 'a.b', names: ['a.b', 'x/a.b'], words: 'aw' };
          const word = { kind: 'embedding', name: 'neg', names: ['neg'], words: '' };
          const end = (text) => ({ start: text.length, end: text.length });
          const add = (text, what, weight = 1) => put(text, what, weight, end(text)).text;
          return {
            empty: add('', lora), comma: add('a cat, ', lora), there: add('AW at noon', lora),
            round: take(add('a cat', lora), lora), middle: take('a, aw <lora:a.b:1>, b', lora),
            replaced: put('a big cat', lora, 0.5, { start: 2, end: 5 }).text,
            kin: find('<lyco:X/A.B:te=0.5>', lora), other: find('<lora:a_b:1>', lora),
            word: add('bad', word, 1.1), bare: find('a negative, neg', word), weighed: weigh('a, neg', word, 0.9),
            back: weigh('(neg:0.9), a', word, 1), gone: take('a, (neg:1.2), b', word),
            minus: weigh('<lora:a.b>', lora, -0.5),
          };
        }"""
    )
    assert done == {
        "empty": "aw <lora:a.b:1>",
        "comma": "a cat, aw <lora:a.b:1>",
        "there": "AW at noon <lora:a.b:1>",
        "round": "a cat",
        "middle": "a, b",
        "replaced": "a, aw <lora:a.b:0.5> cat",
        "kin": {"start": 0, "end": 19, "weight": None},
        "other": None,
        "word": "bad, (neg:1.1)",
        "bare": {"start": 12, "end": 15, "weight": 1},
        "weighed": "a, (neg:0.9)",
        "back": "neg, a",
        "gone": "a, b",
        "minus": "<lora:a.b:-0.5>",
    }
