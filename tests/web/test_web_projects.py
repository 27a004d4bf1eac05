"""The Projects page in Chromium, over the real server with a fake painter: tree, links, live reviews, export."""

from __future__ import annotations

import io
import re
import uuid
import zipfile

import httpx
import pytest
from page_hands import BRIEF, SETTLED, TIMEOUT_MS, drawn, toast
from page_projects import serving
from page_studio import until
from playwright.sync_api import expect

from danqing.spec.errors import WorkerError
from danqing.spec.painting import Img2ImgRequest, Txt2ImgRequest
from danqing.store.projects_base import Tie
from danqing.web.i18n import words
from danqing.workers.pool import FakePool

pytestmark = pytest.mark.browser
BOX = {"left_px": 8, "top_px": 12, "right_px": 56, "bottom_px": 52}  # the fake painter's pictures are 64 × 64


class Desk:
    """A running studio and what a designer and a client do to it without a page."""

    def __init__(self, studio, address):
        self.studio = studio
        self.address = address
        self.client = httpx.Client(base_url=address, timeout=30)

    def paint(self, project=None, **request):
        kind = Img2ImgRequest if "image" in request else Txt2ImgRequest
        tie = Tie(project=project.id) if project else None
        job = self.studio.submit(kind(**{"seed": 1, "prompt": "red apple, 3d", **request}), tie=tie)
        return self.studio.wait(job.id, timeout_s=60).records

    def project(self, name, **request):
        """A project with one version, and the version."""
        made = self.studio.create_project(name)
        return made, self.paint(made, **request)[0]

    def versions(self, project_id):
        return self.studio.version_tree(project_id).versions

    def review(self, token, record, **said):
        body = {"key": str(uuid.uuid4()), "record": record, "reviewer": "Mei", **said}
        answer = self.client.post(f"share/{token}/api/reviews", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("projects"), FakePool()) as (studio, address):
        made = Desk(studio, address)
        yield made
        made.client.close()


@pytest.fixture
def open_projects(tabs, desk):
    """Opens an address of the studio; afterwards: nothing left this machine, nothing was wrong in the console."""
    wrong = []

    def start(path="projects", ready=".dp-list.ready, .dp-project.ready", **options):
        page = tabs.open(**{"locale": "en-US", **options})
        stays = (desk.address, "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(stays) else wrong.append(f"request to {r.url}"))
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type == "error" else None)
        page.goto(desk.address + path)
        page.wait_for_selector(ready, timeout=2 * TIMEOUT_MS)
        return page

    yield start
    tabs.wipe()
    assert wrong == []


def node(page, record):
    return page.locator(f'.dp-node[data-record="{record}"]')


def new_project(page):
    page.locator("[data-act=new]:visible").first.click()
    page.fill("dialog [name=name]", "Tea house")
    page.fill("dialog [name=words]", "A poster for a tea house")
    page.fill("dialog [name=do]", "room for the date\n\n warm light ")
    page.click("dialog .dp-add-colour")
    page.click("dialog .dp-ok")
    page.wait_for_selector(".dp-project.none")


def share_chosen(page, name):
    """Make a link for the version looked at; gives its address."""
    page.click(".dp-bar [data-act=share]")
    page.fill("dialog [name=name]", name)
    page.click("dialog .dp-ok")
    link = page.input_value("dialog .dp-link")
    page.click("dialog .dp-sheet-foot button")
    expect(page.locator(".dp-share").first).to_contain_text(name)
    return link


def test_a_brief_becomes_a_project_with_versions(open_projects, desk):
    first, second = desk.paint(count=2)
    page = open_projects()
    new_project(page)
    project = desk.studio.project(page.url.rpartition("/")[2])
    assert (project.name, project.brief.words) == ("Tea house", "A poster for a tea house")
    assert project.brief.do == ("room for the date", "warm light")
    assert project.brief.palette == ("#c8372d",)
    page.click(".dp-empty button")
    page.click(f'.dp-pick[data-id="{first}"]')
    page.click(f'.dp-pick[data-id="{second}"]')
    page.click("dialog .dp-ok")
    expect(page.locator(".dp-node")).to_have_count(2)
    page.click('[data-tab="brief"]')
    page.fill(".dp-panel [name=dont]", "no people")
    page.fill(".dp-panel [name=width]", "1024")
    page.click("[data-act=save-brief]")
    expect(page.locator(".dp-brief-foot")).to_contain_text("Saved.")
    brief = desk.studio.project(project.id).brief
    assert (brief.dont, brief.size.width_px, brief.size.height_px) == (("no people",), 1024, 1024)


def test_a_review_comes_live_and_is_painted_with_one_click(open_projects, desk):
    project, first = desk.project("For Mei")
    page = open_projects(f"projects/{project.id}")
    link = share_chosen(page, "Drafts")
    token = link.rpartition("/")[2]
    assert link == f"{desk.address}share/{token}"
    assert token not in page.content()
    page.click('[data-tab="reviews"]')
    desk.review(token, first, starred=True, suggestions=[{"box": BOX, "prompt": "green <b>apple</b>", "strength": 0.7}])
    line = page.locator(".dp-suggestion")
    expect(line).to_contain_text("green <b>apple</b>")
    expect(page.locator(".dp-review")).to_contain_text("Mei")
    expect(page.locator("rect.dp-mark.open")).to_have_attribute("width", "48")
    expect(page.locator(".dp-mark-numbers button")).to_have_text("1")
    expect(node(page, first).locator(".dp-badge")).to_have_text("1")

    line.locator("[data-act=apply]").click()
    result = page.locator(".dp-result")
    expect(result).to_be_visible()
    painted = result.get_attribute("data-record")
    expect(node(page, painted)).to_have_attribute("aria-level", "2")
    assert page.locator(".dp-block path").count() == 1
    assert [(v.record, v.parent) for v in desk.versions(project.id)] == [(first, None), (painted, first)]
    state = desk.client.get(f"share/{token}/api/state").json()
    assert [(v["id"], v["parent"]) for v in state["versions"]] == [(first, None), (painted, first)]
    assert state["reviews"][0]["suggestions"][0]["results"] == [painted]
    expect(page.locator('.dp-suggestion[data-state="applied"]')).to_have_count(1)


def test_compares_two_versions_and_exports_them(open_projects, desk):
    project, first = desk.project("Compared")
    second = desk.paint(project, image=f"record:{first}", seed=9)[0]
    page = open_projects(f"projects/{project.id}#{second}")
    expect(page.locator('.dp-changes dd[data-field="kind"]')).to_contain_text("Painted over a picture")
    page.click(".dp-picture-bar [data-act=compare]")
    page.click(f'[data-menu="{first}"]')
    handle = page.locator(".dq-compare-handle")
    expect(handle).to_have_attribute("aria-valuenow", "50")
    handle.focus()
    page.keyboard.press("ArrowRight")
    expect(handle).to_have_attribute("aria-valuenow", "55")
    measured = desk.studio.compare(project.id, first, second)
    expect(page.locator(".dp-numbers")).to_contain_text(f"{measured.mean_difference * 100:.1f}%")
    page.click('[data-compare="difference"]')
    expect(page.locator(".dq-compare.difference")).to_be_visible()
    page.click("[data-act=close]")
    expect(page.locator(".dp-picture")).to_be_visible()

    page.click("[data-act=export]")
    with page.expect_download() as download:
        page.click('[data-menu="zh-Hans"]')
    names = zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())).namelist()
    assert sum(name.endswith(".png") for name in names) >= 2


def test_changed_first_dismissed_and_opened_again(open_projects, desk):
    project, record = desk.project("Changed first")
    lasso = [[10, 10], [60, 12], [40, 50]]
    said = {"record": record, "suggestions": [{"lasso": lasso, "prompt": "a leaf"}, {"prompt": "brighter"}]}
    desk.client.post(f"api/v1/projects/{project.id}/reviews", json={"key": uuid.uuid4().hex, "reviewer": "I", **said})
    page = open_projects(f"projects/{project.id}")
    leaf, brighter = page.locator(".dp-suggestion").all()
    expect(page.locator("polygon.dp-mark")).to_have_attribute("points", "10,10 60,12 40,50")

    brighter.locator("[data-act=dismiss]").click()
    expect(page.locator('.dp-suggestion[data-state="dismissed"]')).to_contain_text("brighter")
    page.check("[data-filter=open]")
    page.locator("[data-act=reopen]").click()
    expect(page.locator('.dp-suggestion[data-state="open"]')).to_have_count(2)

    leaf.locator("[data-act=edit]").click()
    prompt = page.locator("dialog [name=prompt]")
    assert "leaf" in prompt.input_value()
    prompt.fill("a golden leaf")
    page.fill("dialog [name=seed]", "18446744073709551615")
    page.fill("dialog [name=count]", "2")
    page.locator("dialog [name=strength]").fill("0.85")
    page.click("dialog .dp-ok")
    page.uncheck("[data-filter=open]")
    expect(page.locator(".dp-result")).to_have_count(2)
    child = desk.versions(project.id)[0].children[0]
    plan = desk.studio.record(child).plan
    assert (plan.base.text.prompt, plan.base.strength, plan.seeds.seed) == ("a golden leaf", 0.85, 2**64 - 1)


def test_a_job_that_fails_says_why_and_is_tried_again(open_projects, desk):
    project, record = desk.project("Fails")
    said = {"record": record, "reviewer": "Mei", "suggestions": [{"box": BOX, "prompt": "a pear"}]}
    desk.client.post(f"api/v1/projects/{project.id}/reviews", json={"key": uuid.uuid4().hex, **said})
    page = open_projects(f"projects/{project.id}", locale="zh-CN")
    desk.studio.pool.error = WorkerError("the painter stopped")
    page.click("[data-act=apply]")
    expect(page.locator(".dp-suggestion .dq-wrong")).to_have_text(words("zh-Hans")["e.code.worker"])
    desk.studio.pool.error = None
    late = desk.client.get(f"api/v1/projects/{project.id}/reviews?limit=100").text
    page.route("**/reviews?limit=100", lambda route: route.fulfill(body=late, content_type="application/json"), times=1)
    with page.expect_event("requestfinished", lambda request: request.url.endswith("/reviews?limit=100")):
        page.click("[data-act=apply]")
    # Where the job ended at once, that was the only question: another one, of now, follows in any case.
    assert desk.client.patch(f"api/v1/projects/{project.id}", json={"name": "Fails no more"}).status_code == 200
    expect(page.locator(".dp-result")).to_be_visible()
    expect(page.locator(".dp-suggestion .dq-wrong")).to_have_count(0)  # an answer on its way named the job that failed


def test_walks_the_tree_and_writes_on_versions(open_projects, desk):
    project, root = desk.project("Tree")
    left, right = (
        desk.paint(project, image=f"record:{root}", prompt=f"{word} apple, 3d")[0] for word in ("green", "old")
    )
    below = desk.paint(project, image=f"record:{left}", prompt="green pear, 3d")[0]
    page = open_projects(f"projects/{project.id}#{root}")
    for record in (root, left, right, below):
        expect(node(page, record)).to_be_visible()
    # All at one moment: the tree is drawn anew whenever something of it arrives.
    places = "all => Object.fromEntries(all.map((one) => [one.dataset.record, one.getBoundingClientRect().toJSON()]))"
    box = page.locator(".dp-node").evaluate_all(places)
    assert box[root]["x"] == box[left]["x"] == box[below]["x"] < box[right]["x"]
    assert box[root]["y"] < box[left]["y"] == box[right]["y"] < box[below]["y"]
    assert page.locator(".dp-block path").count() == 3

    node(page, root).focus()
    for key, record in (
        ("Down", left),
        ("Right", right),
        ("Left", left),
        ("Down", below),
        ("Up", left),
        ("Home", root),
    ):
        page.keyboard.press(key if key == "Home" else f"Arrow{key}")
        expect(node(page, record)).to_have_attribute("aria-selected", "true")
        expect(node(page, record)).to_be_focused()
    node(page, left).click()
    assert page.url.endswith(f"#{left}")
    diff = page.locator('.dp-changes dd[data-field="prompt"]')
    expect(diff.locator("del")).to_have_text("red")
    expect(diff.locator("ins")).to_have_text("green")

    page.fill(".dp-label-new", "hero")
    page.press(".dp-label-new", "Enter")
    expect(page.locator(".dp-labels .dp-chip")).to_contain_text("hero")
    page.fill(".dp-note", "the client likes it")
    page.click(".dp-star")
    page.click("[data-act=current]")
    expect(node(page, left)).to_have_class(re.compile("current"))
    version = next(v for v in desk.versions(project.id) if v.record == left)
    assert (version.labels, version.note, version.starred, version.current) == (
        ("hero",),
        "the client likes it",
        True,
        True,
    )

    page.click("[data-act=version-more]")
    page.click('[data-menu="p.take"]')
    expect(page.locator(".dp-node")).to_have_count(3)
    expect(node(page, below)).to_have_attribute("aria-level", "2")  # its nearest ancestor that is left
    page.click(".dq-toast button")
    expect(page.locator(".dp-node")).to_have_count(4)
    expect(node(page, left)).to_contain_text("hero")


def test_renames_archives_and_deletes_with_a_way_back(open_projects, desk):
    project, _ = desk.project("To be kept")
    page = open_projects()
    card = page.locator(f'[data-project="{project.id}"]')

    def choose(name):
        card.locator(".dp-card-more").click()
        page.click(f'[data-menu="{name}"]')

    choose("p.rename")
    page.fill("dialog input", "Kept")
    page.press("dialog input", "Enter")
    expect(card.locator(".dp-card-name")).to_have_text("Kept")
    for act in ("p.archive", "p.delete"):
        choose(act)
        expect(card).to_have_count(0)
        page.click(".dq-toast button")
        expect(card).to_be_visible()
    choose("p.archive")
    expect(card).to_have_count(0)
    page.click('[data-state="archived"]')
    expect(card).to_be_visible()
    choose("p.unarchive")
    expect(card).to_have_count(0)
    live = desk.studio.project(project.id)
    assert (live.name, live.archived_at, live.deleted_at) == ("Kept", None, None)


def test_a_card_that_says_the_same_stays_where_it_is(open_projects, desk):
    """One that is drawn anew while it is pressed loses the press, and its menu."""
    project, _ = desk.project("Pressed")
    page = open_projects()
    card = page.locator(f'[data-project="{project.id}"]')
    with page.expect_response("**/projects?*"):
        page.click('[data-state="active"]')
    drawn(page)
    held = card.element_handle()
    with page.expect_response("**/projects?*"):
        page.click('[data-state="active"]')
    drawn(page)
    assert held.evaluate("(node) => node.isConnected")
    desk.studio.change_project(project.id, name="Renamed")
    page.click('[data-state="active"]')
    expect(card.locator(".dp-card-name")).to_have_text("Renamed")


def test_links_are_changed_renewed_and_closed(open_projects, desk):
    project, record = desk.project("Links")
    page = open_projects(f"projects/{project.id}")
    page.click('[data-tab="shares"]')
    page.click(".dp-panel [data-act=share]")
    page.fill("dialog [name=password]", "spring rain")
    page.select_option("dialog [name=expiry]", "never")
    page.select_option("dialog [name=language]", "zh-Hant")
    page.click("dialog .dp-ok")
    old = page.input_value("dialog .dp-link")
    page.click("dialog .dp-sheet-foot button")
    (share,) = desk.studio.shares(project.id)
    assert (share.has_password, share.expires_at, share.language, share.records) == (True, None, "zh-Hant", (record,))

    more = page.locator(".dp-share .dq-icon")
    more.click()
    page.click('[data-menu="p.share.token"]')
    page.click("dialog .dp-ok")
    new = page.input_value("dialog .dp-link")
    page.click("dialog .dp-sheet-foot button")
    assert httpx.get(f"{old}/api/state").status_code == 404
    assert httpx.get(f"{new}/api/state").json()["locked"]

    page.uncheck(f'[data-share="{share.id}"]')
    until(lambda: desk.studio.share(share.id).records == (), "the version is still shown")
    more.click()
    page.click('[data-menu="p.share.revoke"]')
    page.click("dialog .dp-ok")
    expect(page.locator(".dp-share.closed")).to_be_visible()
    assert httpx.get(f"{new}/api/state").status_code == 404


@pytest.mark.parametrize(("locale", "language"), [("zh-TW", "zh-Hant"), ("zh-CN", "zh-Hans")])
def test_a_phone_shows_it_whole_and_in_its_language(open_projects, desk, locale, language):
    project, record = desk.project("圖")
    desk.paint(project, image=f"record:{record}", prompt="圖")
    said = {"record": record, "reviewer": "梅", "suggestions": [{"box": BOX, "prompt": "換"}]}
    desk.client.post(f"api/v1/projects/{project.id}/reviews", json={"key": uuid.uuid4().hex, **said})
    page = open_projects(f"projects/{project.id}", locale=locale, viewport={"width": 390, "height": 844})
    first, second = (entry.bounding_box() for entry in page.locator(".dp-node").all())
    assert first["y"] == second["y"]  # the tree grows to the right
    assert first["x"] < second["x"]
    english, chinese = words("en"), words(language)
    translated = {english[key] for key in english if english[key] != chinese[key]}
    shown = set()
    for tab in ("reviews", "shares", "brief"):
        page.click(f'[data-tab="{tab}"]')
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        shown |= set(page.locator("body").inner_text().splitlines())
    page.click("[data-act=add]")
    shown |= set(page.locator(".dp-menu").inner_text().splitlines())
    page.keyboard.press("Escape")
    shown |= set(
        page.evaluate(
            """['aria-label', 'title', 'placeholder'].flatMap((name) =>
                 [...document.querySelectorAll(`[${name}]`)].map((node) => node.getAttribute(name)))"""
        )
    )
    assert {text.strip() for text in shown} & translated == set()


def test_the_language_is_switched_in_place(open_projects):
    page = open_projects("projects", locale="zh-CN")
    page.evaluate("window.before = document.querySelector('.dp-list')")
    assert page.inner_text(".dp-bar h2") == "项目"
    page.select_option(".dq-language", "en")
    expect(page.locator(".dp-bar h2")).to_have_text("Projects")


def test_the_paint_page_joins_a_project_and_takes_a_version(open_projects, desk):
    project, record = desk.project("Paints", prompt="a rocket, 3d")
    page = open_projects(f"?record={record}&project={project.id}", ready=SETTLED)
    page.wait_for_function(f"document.querySelector('.dq-base')?.src.includes('{record}')")
    expect(page.locator(".dq-joins")).to_have_value(project.id)
    assert page.evaluate("document.documentElement.scrollHeight") == 720
    page.fill(BRIEF, "a rocket that joins")
    page.click("#dq-paint")
    until(lambda: len(desk.versions(project.id)) == 2, "the new picture did not join")
    page.wait_for_selector("body:not(.dq-running)")
    other = desk.studio.create_project("Other")
    page.evaluate("dispatchEvent(new Event('focus'))")
    page.wait_for_function(f"document.querySelector('.dq-joins option[value=\"{other.id}\"]')")
    page.locator(".dq-thumb").last.click()
    page.select_option(".dq-joins", "")
    page.select_option(".dq-join select", other.id)
    assert "Other" in toast(page)
    until(lambda: len(desk.versions(other.id)) == 1, "the picture was not added")
    page.click(".dq-nav a >> nth=1")
    page.wait_for_selector(".dp-list.ready")
    expect(page.locator(".dp-card-name").first).to_have_text("Other")


def test_a_comparison_joins_the_project_of_the_header(open_projects, desk):
    project, record = desk.project("Compared on the page", prompt="a lantern, 3d")
    page = open_projects(f"?record={record}&to=img2img&project={project.id}", ready=SETTLED)
    page.wait_for_function(f"window.danqing.stage.value.image?.ref === 'record:{record}'")
    expect(page.locator(".dq-joins")).to_have_value(project.id)
    page.fill(BRIEF, "a lantern, 3d")
    page.click("#sec-explore > button")
    page.select_option('[id="f-explore.x"] select', "strength")
    page.fill('[id="f-explore.x"] input', "0.3, 0.6, 0.9")
    page.click(".dq-explore-all")
    expect(page.locator("dialog.dq-sheet[open] .dq-cell[data-record]:not([data-record=''])")).to_have_count(3)
    found = desk.studio.explorations()[0]
    painted = {one.id for one in desk.studio.exploration_records(found.id).values()}
    versions = {one.record: one.parent for one in desk.versions(project.id)}
    assert versions == {record: None} | dict.fromkeys(painted, record)
