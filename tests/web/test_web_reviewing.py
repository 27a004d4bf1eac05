"""Reviews by models and refining on the Projects page, in Chromium, over the real server with a fake worker."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from page_critic import CONTENT, KEY, MORE, Critic, Endpoint, with_endpoint
from page_hands import TIMEOUT_MS
from page_projects import serving
from page_studio import until
from playwright.sync_api import expect

from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.project import Brief
from danqing.store.projects_base import ReviewQuery, Tie
from danqing.store.refinements import RefinementQuery
from danqing.web.i18n import words
from danqing.workers.pool import FakePool

pytestmark = pytest.mark.browser


class Desk:
    """A running studio, its critic, and its vision endpoint."""

    def __init__(self, studio, address, critic, endpoint):
        self.studio, self.address, self.critic, self.endpoint = studio, address, critic, endpoint

    def project(self, name, brief="a cat in a red hat"):
        """A project with one version, and the version."""
        made = self.studio.create_project(name, Brief(words=brief))
        job = self.studio.submit(Txt2ImgRequest(prompt="a cat, 3d", seed=1), tie=Tie(made.id))
        return made, self.studio.wait(job.id, timeout_s=60).records[0]

    def reviews(self, project):
        return self.studio.reviews(ReviewQuery(project=project.id))

    def refined(self, project):
        return self.studio.refinements(RefinementQuery(project=project.id))


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    critic, endpoint = Critic(), Endpoint()
    with serving(tmp_path_factory.mktemp("reviewing"), FakePool(sight=critic.answer)) as (studio, address):
        yield Desk(studio, address, critic, endpoint)
        critic.gate.set()
        endpoint.close()


@pytest.fixture
def open_project(tabs, desk):
    """Opens a project; afterwards: nothing left this machine, nothing was wrong, the key was never told."""
    wrong = []

    def heard(answer):
        kind = answer.headers.get("content-type", "")
        if "json" in kind and KEY in answer.text():
            wrong.append(f"the key is in {answer.url}")

    def start(project, **options):
        page = tabs.open(**{"locale": "en-US", "still": True, **options})
        stays = (desk.address, "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(stays) else wrong.append(f"request to {r.url}"))
        page.on("requestfinished", lambda request: heard(request.response()))
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type == "error" else None)
        page.goto(f"{desk.address}projects/{project.id}")
        page.wait_for_selector(".dp-project.ready", timeout=2 * TIMEOUT_MS)
        return page

    yield start
    tabs.wipe()
    desk.critic.gate.set()
    desk.endpoint.gate.set()
    assert wrong == []


def press(page, act):
    page.click(f".dp-version-acts [data-act={act}]")
    page.wait_for_selector("dialog [data-reviewer=builtin]")


def node(page, record):
    return page.locator(f'.dp-node[data-record="{record}"]')


def test_the_builtin_reviewer_is_asked_and_its_word_is_painted(open_project, desk):
    desk.critic.reset([MORE, CONTENT])
    project, record = desk.project("Asked")
    page = open_project(project)
    press(page, "ask")
    expect(page.locator("dialog [data-reviewer=openai] input")).to_be_disabled()
    expect(page.locator("dialog [data-reviewer=openai] .dp-lacks")).to_contain_text("DANQING_REVIEW_URL")
    expect(page.locator("dialog [data-reviewer=qwen] .dp-lacks")).to_contain_text("models/VLM")
    expect(page.locator("dialog .dp-brief-words")).to_have_text("a cat in a red hat")
    page.click("dialog .dp-ok")
    card = page.locator(".dp-review.by-model")
    expect(card).to_contain_text("built in")
    expect(card).to_contain_text("a red hat")
    assert desk.critic.asked[-1].brief == "a cat in a red hat"
    expect(page.locator("rect.dp-mark.open.by-model")).to_have_attribute("width", "48")
    (review,) = desk.reviews(project)
    assert (review.source, review.reviewer, review.record_id) == ("builtin", "Danqing", record)

    card.locator("[data-act=apply]").click()
    result = page.locator(".dp-result")
    expect(result).to_be_visible()
    expect(node(page, result.get_attribute("data-record"))).to_have_attribute("aria-level", "2")

    press(page, "ask")
    page.click("dialog .dp-ok")
    expect(page.locator(".dp-review.by-model").first.locator(".dp-review-note")).to_contain_text("Nothing to change.")


def test_an_endpoint_that_fails_says_so_and_one_that_hangs_is_left(open_project, desk):
    with_endpoint(desk.studio, desk.endpoint)
    project, _ = desk.project("Far away")
    page = open_project(project, locale="zh-CN")
    desk.endpoint.status = 404
    press(page, "ask")
    expect(page.locator("dialog [data-reviewer=openai]")).to_contain_text(desk.endpoint.url)
    page.check("dialog [data-reviewer=openai] input")
    page.click("dialog .dp-ok")
    wrong = page.locator(".dp-asking.failed .dq-wrong")
    expect(wrong).to_have_text(words("zh-Hans")["e.reviewer.worker"])

    desk.endpoint.status = 200
    desk.endpoint.gate.clear()
    page.click("[data-act=ask-again]")
    expect(page.locator(".dp-asking.running")).to_be_visible()
    page.reload()
    page.click("[data-act=cancel-asking]")  # it is known after a reload
    expect(page.locator(".dp-asking")).to_have_count(0)
    desk.endpoint.words = json.dumps([{"bbox_2d": [8, 8, 40, 40], "prompt": "一顶红帽子", "reason": "没有帽子"}])
    desk.endpoint.gate.set()

    press(page, "ask")
    page.check("dialog [data-reviewer=openai] input")
    page.click("dialog .dp-ok")
    expect(page.locator(".dp-review.by-model")).to_have_count(1)
    expect(page.locator(".dp-review.by-model")).to_contain_text("qwen2.5-vl-7b")
    (review,) = desk.reviews(project)  # what came of the cancelled one was dropped
    assert (review.source, review.suggestions[0].prompt) == ("model", "一顶红帽子")
    assert set(desk.endpoint.keys) == {f"Bearer {KEY}"}


def test_refining_grows_the_tree_and_survives_a_reload(open_project, desk):
    desk.critic.reset([MORE, CONTENT], [0.2, 0.5], open_gate=False)
    project, first = desk.project("Refined")
    page = open_project(project)
    press(page, "refine")
    page.locator("dialog [name=rounds]").fill("2")
    page.locator("dialog [name=gain]").fill("0.05")
    page.click("dialog .dp-ok")
    card = page.locator('.dp-refinement[data-state="running"]')
    expect(card).to_contain_text("The reviewer looks…")
    page.reload()
    page.click("[data-tab=refine]")
    expect(card).to_contain_text("The reviewer looks…")
    desk.critic.gate.set()
    done = page.locator('.dp-refinement[data-state="done"]')
    expect(done).to_contain_text("1 accepted, 1 of 2 rounds tried")
    expect(done.locator(".dp-scores")).to_contain_text("0.20 → 0.50")
    expect(done.locator('.dp-round.yes[data-round="1"]')).to_contain_text("Place repainted: a red hat")
    expect(done.locator(".dp-end")).to_contain_text("The reviewer has nothing to change.")
    (kept,) = desk.refined(project)
    assert (kept.options.rules.prompt_gain, kept.first) == (0.05, first)
    expect(node(page, kept.best)).to_have_attribute("aria-level", "2")
    expect(done.locator(".dp-round .dq-link")).to_have_text("Version 2")

    with page.expect_download() as download:
        page.click("[data-act=pairs]")
    packed = zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes()))
    (pair,) = packed.read("refined-pairs/pairs.jsonl").decode().splitlines()
    for name in ("before", "after"):
        assert f"refined-pairs/{json.loads(pair)[name]}" in packed.namelist()


def test_refining_is_stopped_and_goes_on(open_project, desk):
    desk.critic.reset([MORE], [0.2, 0.1], open_gate=False)
    project, first = desk.project("Stopped")
    page = open_project(project)
    press(page, "refine")
    page.click("dialog .dp-ok")
    page.click("[data-act=cancel-refining]")
    card = page.locator('.dp-refinement[data-state="cancelled"]')
    expect(card).to_contain_text("You stopped it.")
    desk.critic.reset([MORE], [0.2, 0.1])
    card.locator("[data-act=go-on]").click()
    done = page.locator('.dp-refinement[data-state="done"]')
    expect(done.locator(".dp-round.no")).to_have_count(3)
    expect(done.locator(".dp-end")).to_contain_text("Nothing improves the picture any more.")
    expect(card.locator("[data-act=go-on]")).to_have_count(0)
    assert [version.record for version in desk.studio.version_tree(project.id).versions] == [first]


@pytest.mark.parametrize(("locale", "language"), [("zh-TW", "zh-Hant"), ("zh-CN", "zh-Hans")])
def test_a_phone_shows_all_of_it_in_its_language(open_project, desk, locale, language):
    with_endpoint(desk.studio, desk.endpoint)
    desk.critic.reset([MORE, MORE, CONTENT], [0.2, 0.5, 0.5, 0.6])
    project, _ = desk.project("帽", brief="红帽")
    page = open_project(project, locale=locale, viewport={"width": 390, "height": 844})
    english, chinese = words("en"), words(language)
    translated = {english[key] for key in english if english[key] != chinese[key]}
    shown = set()
    for act, done in (("ask", ".dp-review.by-model"), ("refine", '[data-state="done"]')):
        press(page, act)
        shown |= set(page.locator("dialog").inner_text().splitlines())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.click("dialog .dp-ok")
        expect(page.locator(done)).to_be_visible()
        shown |= set(page.locator("body").inner_text().splitlines())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    until(lambda: desk.refined(project)[0].state == "done", "it goes on")
    assert {text.strip() for text in shown} & translated == set()
    assert not any("logits" in text or "chance" in text for text in shown)
