"""Comparisons on the Paint page: their axes, how many, the errors beside them, the grid, the sheet."""

from __future__ import annotations

import io

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from page_hands import BRIEF, drawn
from page_studio import FakeStudio, until
from PIL import Image

from danqing.spec.errors import DanqingError, InvalidRequestError
from danqing.spec.explore import Axis, ExploreRequest
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.registry.axes import AXES
from danqing.web.exploring import GROUPS, add_exploring, count_of, explain_axes
from danqing.web.i18n import LANGUAGES, say

PAGE = {"X-Danqing": "page"}
STEPS = "1-5 (+2)"
SHEET = "dialog.dq-sheet[open]"


def axes(**given):
    return {letter: Axis(axis=axis, values=values) for letter, (axis, values) in given.items()}


def test_every_axis_stands_in_one_group_and_has_words():
    listed = [key for keys in GROUPS.values() for key in keys]
    assert sorted(listed) == sorted(info.key for info in AXES)
    for info in AXES:
        assert (say("en", f"ax.{info.key}"), say("en", f"ax.{info.key}.tip")) == (info.name, info.hint)
    for language in LANGUAGES:
        assert len({say(language, f"ax.{info.key}") for info in AXES}) == len(AXES)
        assert all(say(language, f"x.group.{name}") for name in GROUPS)
        assert all(say(language, f"x.axis.{letter}") for letter in "xyz")


def test_counts_what_the_axes_make():
    assert count_of(axes(x=("guidance", STEPS), y=("replace", "cat, dog")), "en") == {"count": 6, "errors": {}}
    assert count_of(axes(x=("guidance", STEPS), y=("seed", " ")), "en") == {"count": None, "errors": {}}
    assert count_of({}, "en")["count"] is None
    wrong = count_of(axes(x=("guidance", "1, two"), y=("seed", "1-30"), z=("steps", "1-30")), "zh-Hans")
    assert set(wrong["errors"]) == {"x"}
    assert "two" in wrong["errors"]["x"]["text"]
    many = count_of(axes(x=("seed", "1-30"), y=("steps", "1-30")), "en")
    assert many["errors"]["y"]["text"] == "That would be 900 pictures; at most 400 are possible."


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"x": ("nothing like it", "1")}, "e.axis.axis"),
        ({"x": ("guidance", "")}, "e.axis.empty"),
        ({"x": ("guidance", "1, two")}, "e.axis.values"),
        ({"x": ("guidance", "1-500")}, "e.axis.values"),
        ({"x": ("steps", "0")}, "e.axis.allowed"),
        ({"x": ("replace", "walrus, cat")}, "e.axis.replace"),
        ({"x": ("order", "one")}, "e.axis.order"),
        ({"x": ("control_weight", "1")}, "e.axis.absent"),
        ({"x": ("model", "no-such-model")}, "e.axis.value"),
        ({"x": ("sampler", "Eulr")}, "e.axis."),
    ],
)
def test_an_error_of_an_axis_stands_beside_it(given, key, language):
    asked = axes(**given)
    with pytest.raises(DanqingError) as caught:
        FakeStudio().explore(ExploreRequest(request=Txt2ImgRequest(prompt="a red apple"), **asked))
    shown = explain_axes(caught.value, asked, language)
    assert (shown["field"], shown["section"]) == ("explore.x", "explore")
    start = say(language, key).partition("{")[0].partition(":")[0] if key != "e.axis." else ""
    assert start in shown["text"]
    assert shown["original"] == str(caught.value)


def test_an_error_of_the_form_stays_at_its_field():
    error = InvalidRequestError("no", field="sampling.steps", value=0)
    assert explain_axes(error, axes(x=("guidance", "1")), "en")["field"] == "steps"
    assert explain_axes(error, axes(x=("guidance", "1"), y=("steps", "1")), "en")["field"] == "explore.y"
    brief = InvalidRequestError("no", field="prompt", value="x")
    assert explain_axes(brief, axes(x=("replace", "a, b")), "en")["field"] == "prompt"
    none = explain_axes(InvalidRequestError("nothing is compared", field="x"), {}, "zh-Hant")
    assert (none["field"], none["text"]) == ("explore.x", say("zh-Hant", "e.axis.none"))


def test_routes_tell_a_comparison_and_give_its_sheet():
    studio = FakeStudio(step_s=0.001)
    app = FastAPI()
    add_exploring(app, studio)
    client = TestClient(app)
    assert client.post("/web/explore/count", json={}).status_code == 403
    body = {"x": {"axis": "guidance", "values": "1, 2"}, "z": None}
    assert client.post("/web/explore/count", json=body, headers=PAGE).json()["count"] == 2
    asked = axes(x=("guidance", "1, 2"), y=("replace", "cat, dog"))
    begun = studio.explore(ExploreRequest(request=Txt2ImgRequest(prompt="a cat"), **asked))
    until(lambda: studio.idle, "the pictures do not come")
    told = client.get(f"/web/explore/{begun.id}").json()
    assert (told["keys"], told["columns"], told["rows"]) == (["guidance", "replace"], ["1", "2"], ["cat", "dog"])
    assert (told["waiting"], len({cell["record"] for cell in told["cells"]} - {None})) == (0, 4)
    studio.delete_record(told["cells"][0]["record"])
    assert client.get(f"/web/explore/{begun.id}").json()["cells"][0]["state"] == "gone"
    assert [one["id"] for one in client.get("/web/explore").json()["explorations"]] == [begun.id]
    sheet = client.get(f"/web/explore/{begun.id}/sheet")
    assert "attachment" in sheet.headers["content-disposition"]
    with Image.open(io.BytesIO(sheet.content)) as picture:
        assert picture.format == "PNG"
    assert client.get("/web/explore/nothing/sheet").status_code == 404
    assert client.post(f"/web/explore/{begun.id}/cancel", headers=PAGE).json() == {"stopped": 0}


def choose(page, letter, key, values):
    page.select_option(f'[id="f-explore.{letter}"] select', key)
    page.fill(f'[id="f-explore.{letter}"] input', values)


def unfolded(page):
    page.click("#sec-explore > button")
    page.wait_for_selector('[id="f-explore.x"] select', state="visible")
    return page


@pytest.mark.browser
def test_a_comparison_is_painted_looked_at_and_opened_again(open_page, served):
    from playwright.sync_api import expect

    page = open_page()
    page.fill(BRIEF, "red apple, 3d")
    unfolded(page)
    expect(page.locator('[id="f-explore.z"]')).to_be_hidden()
    page.click('[id="f-explore.x"] .dq-link')
    assert page.input_value('[id="f-explore.x"] input') == "1-9 (+2)"
    expect(page.locator(".dq-axis-count")).to_have_text("5 pictures")
    choose(page, "x", "guidance", "1, 3, 5")
    choose(page, "y", "replace", "red apple, penguin")
    expect(page.locator(".dq-axis-count")).to_have_text("6 pictures")
    page.click(".dq-explore-all")
    page.wait_for_selector(SHEET)
    expect(page.locator(f"{SHEET} .dq-cell[data-record]:not([data-record=''])")).to_have_count(6)
    assert page.locator(f"{SHEET} thead th").all_inner_texts() == ["1", "3", "5"]
    assert page.locator(f"{SHEET} tbody th").all_inner_texts() == ["red apple", "penguin"]
    assert page.inner_text(f"{SHEET} h2") == "CFG Scale × Prompt S/R"
    requests = [job.request for job in served.studio.all_jobs.values()]
    assert sorted((one.guidance.scale, one.prompt) for one in requests) == sorted(
        (scale, f"{what}, 3d") for scale in (1, 3, 5) for what in ("red apple", "penguin")
    )
    assert len({one.seed for one in requests}) == 1
    with page.expect_download() as download:
        page.click(f"{SHEET} .dq-save")
    assert download.value.suggested_filename.startswith("danqing-compare-")
    record = page.get_attribute(f"{SHEET} tbody tr:nth-child(2) td:nth-child(4) .dq-cell", "data-record")
    page.click(f'{SHEET} [data-record="{record}"]')
    expect(page.locator(SHEET)).to_have_count(0)
    page.wait_for_function("(id) => window.danqing.stage.record?.id === id", arg=record)
    assert served.studio.record(record).plan.base.text.prompt == "penguin, 3d"
    expect(page.locator(f'.dq-thumbs [data-id="{record}"]')).to_have_count(1)
    page.reload()
    page.wait_for_selector("html.dq-settled .dq-board")
    unfolded(page)
    page.click(".dq-explore .dq-more summary")
    page.click(".dq-explore-past")
    expect(page.locator(f"{SHEET} .dq-cell img")).to_have_count(6)


@pytest.mark.browser
def test_wrong_values_are_said_beside_their_axis_and_the_rest_can_be_stopped(open_page, served):
    from playwright.sync_api import expect

    page = unfolded(open_page(locale="zh-CN"))
    page.fill(BRIEF, "a cat")
    page.click(".dq-explore-all")
    wrong = page.locator('[id="f-explore.x"] .dq-wrong')
    expect(wrong).to_contain_text("请在此填写取值")
    choose(page, "x", "steps", "10, ten")
    expect(wrong).to_contain_text("无法读取")
    choose(page, "x", "steps", "40, 41")
    expect(wrong).to_be_hidden()
    choose(page, "y", "replace", "walrus, dog")
    expect(page.locator(".dq-axis-count")).to_have_text("共 4 张")
    before = len(served.studio.all_jobs)
    page.click(".dq-explore-all")
    expect(page.locator('[id="f-explore.y"] .dq-wrong')).to_contain_text("画题中没有“walrus”")
    assert len(served.studio.all_jobs) == before
    page.fill('[id="f-explore.y"] input', "cat, dog")
    page.check(".dq-explore .dq-check input")
    page.click(".dq-explore-all")
    page.wait_for_selector(SHEET)
    assert len({job.request.seed for job in list(served.studio.all_jobs.values())[before:]}) == 4
    page.click(f"{SHEET} .dq-easel-head .dq-act:not(.dq-save)")
    until(lambda: served.studio.idle, "the rest is not stopped")
    expect(page.locator(f"{SHEET} .dq-cell[data-state=cancelled]")).to_have_count(4)
    page.keyboard.press("Escape")
    expect(page.locator(SHEET)).to_have_count(0)
    expect(page.locator(".dq-explore-stop")).to_be_hidden()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 844)])
def test_a_large_grid_scrolls_inside_with_its_labels_in_sight(open_page, served, width, height):
    request = Txt2ImgRequest(prompt="a cat", seed=1, width_px=64, height_px=64, sampling={"steps": 1})
    asked = axes(x=("seed", "1-9"), y=("eta", "0-1 [4]"), z=("guidance", "2, 4"))
    served.studio.explore(ExploreRequest(request=request, **asked))
    until(lambda: served.studio.idle, "the pictures do not come")
    page = unfolded(open_page(width, height))
    page.click(".dq-explore .dq-more summary")
    page.click(".dq-explore-past >> nth=0")
    page.wait_for_selector(f"{SHEET} .dq-cell img")
    assert page.locator(f"{SHEET} caption").all_inner_texts() == ["CFG Scale: 2", "CFG Scale: 4"]
    page.fill(f"{SHEET} input[type=range]", "384")
    page.evaluate("document.querySelector('.dq-sheet-body').scrollTo(9999, 9999)")
    drawn(page)
    seen = page.evaluate(
        """() => {
          const of = (what) => document.querySelector(what).getBoundingClientRect();
          const [body, row] = [of('.dq-sheet-body'), of('.dq-sheet table:last-child tbody th')];
          const cell = of('.dq-sheet table:last-child thead th');
          return [cell.top - body.top, row.left - body.left, document.documentElement.scrollWidth - innerWidth];
        }"""
    )
    assert [round(abs(one)) <= 2 for one in seen] == [True] * 3, seen
