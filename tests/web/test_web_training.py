"""The Training page in Chromium, over the real server with a small trainer: sets, captions, estimate, runs."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from page_hands import BRIEF, SETTLED, TIMEOUT_MS
from page_studio import until
from page_training import add_set, png, serving, trainer
from playwright.sync_api import expect

from danqing.spec.training import parse_training
from danqing.spec.training_run import SampleEvent
from danqing.studio.training_events import add_event
from danqing.web.i18n import say, words
from danqing.web.pages.training import training_page

READY = ".dp-list.ready, .dt-set.ready, .dt-train, .dt-run-page.ready"
NO_MEMORY = "it needs 9.0 GiB of memory, 2.0 GiB are free: take a smaller batch"
DROP = """([selector, files]) => {
  const transfer = new DataTransfer();
  for (const [name, data] of files) {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: name.endsWith('.txt') ? 'text/plain' : 'image/png' }));
  }
  document.querySelector(selector).dispatchEvent(
    new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: transfer }));
}"""


class Desk:
    """A running studio that trains."""

    def __init__(self, studio, address):
        self.studio = studio
        self.address = address

    def captions(self, name):
        return [one.caption for one in self.studio.training_sets.get(name).pictures]

    def run(self, name):
        """A run of a method that paints no sheet at its end."""
        return self.studio.submit_training(parse_training({"method": "ddpm", "name": name, "background": False}))

    def in_state(self, run_id, state):
        until(lambda: self.studio.training_run(run_id).state == state, f"the run is never {state}")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("training")) as (studio, address):
        add_set(studio, "Ink", trigger="dqink")
        yield Desk(studio, address)


@pytest.fixture
def gate(desk, tmp_path):
    """The trainer waits at step 12 until `open` is called."""
    go = tmp_path / "go"
    desk.studio.trainer = trainer(gate=12, go=go)
    yield go.touch
    go.touch()
    desk.studio.trainer = trainer()


@pytest.fixture
def open_training(tabs, desk):
    """Opens a part of the page; afterwards: nothing left this machine, nothing was wrong in the console."""
    wrong = []

    def start(place="", ready=READY, **options):
        page = tabs.open(**{"locale": "en-US", "still": True, **options})
        stays = (desk.address, "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(stays) else wrong.append(f"request to {r.url}"))
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("console", lambda m: wrong.append(f"console: {m.text}") if is_wrong(m) else None)
        page.goto(f"{desk.address}training#{place}")
        page.wait_for_selector(f"html.dq-settled :is({ready})", timeout=2 * TIMEOUT_MS)
        return page

    yield start
    tabs.wipe()
    assert wrong == []


def is_wrong(message):
    """An error of the page; a browser also tells of each refusal that the page shows beside its field."""
    return message.type == "error" and "status of 422" not in message.text


def drop(page, selector, files):
    page.evaluate(DROP, [selector, [[name, base64.b64encode(data).decode()] for name, data in files.items()]])


@pytest.mark.browser
def test_a_set_is_made_by_dropping_and_its_captions_edited_and_taken_back(open_training, desk):
    page = open_training("sets")
    drop(page, ".dt-sets", {f"{i}.png": png(f"dropped {i}") for i in range(3)} | {"0.txt": b"a boat"})
    page.click("[data-recipe=hokusai]")
    expect(page.locator(".dt-guide .dq-hint")).to_contain_text("public domain")
    page.fill("dialog [name=name]", "Waves")
    expect(page.locator(".dt-zone [role=status]")).to_have_text("3 pictures are ready to join.")
    page.click("dialog .dp-ok")
    page.wait_for_selector(".dt-set.ready .dt-tile")
    assert desk.captions("Waves") == ["a boat", "", ""]
    assert page.input_value("[name=trigger]") == "dqhokusai"
    expect(page.locator("[data-reads]")).to_have_text("dqhokusai, a boat")

    caption = page.locator('[data-file="1.png"] textarea')
    caption.fill("two boats")
    caption.press("Enter")
    until(lambda: desk.captions("Waves")[1] == "two boats", "the caption is not kept")
    page.check('[data-file="0.png"] .dt-pick')
    page.check('[data-file="1.png"] .dt-pick')
    expect(page.locator(".dt-who")).to_have_text("2 chosen")
    page.fill("[name=tags]", "sea")
    page.click("[data-act=apply]")
    expect(page.locator('[data-file="1.png"] textarea')).to_have_value("two boats, sea")
    assert desk.captions("Waves") == ["a boat, sea", "two boats, sea", ""]
    page.click(".dt-bar [data-act=undo]")
    expect(page.locator('[data-file="1.png"] textarea')).to_have_value("two boats")
    assert desk.captions("Waves") == ["a boat", "two boats", ""]

    page.click('[data-file="2.png"] .dt-face')
    page.focus(".dt-crop")
    page.keyboard.press("Shift+ArrowLeft")
    page.fill("dialog [name=repeats]", "3")
    page.click("dialog .dp-ok")
    expect(page.locator('[data-file="2.png"] .dt-badges')).to_contain_text("×3")
    third = desk.studio.training_sets.picture("Waves", "2.png")
    assert (third.repeats, third.crop.as_tuple()) == (3, (0, 0, 94, 96))


@pytest.mark.browser
def test_complaints_are_badges_with_a_filter(open_training, desk):
    add_set(desk.studio, "Small", count=2)
    page = open_training("set/Small")
    page.click("[data-act=check]")
    expect(page.locator("[data-complaint=small]")).to_have_count(2)
    page.select_option("[name=only]", "duplicate")
    expect(page.locator(".dp-none").first).to_have_text(say("en", "tr.grid.none"))
    page.select_option("[name=only]", "small")
    expect(page.locator(".dt-tile")).to_have_count(2)


@pytest.mark.browser
def test_a_reason_stands_beside_its_field_and_forbids_to_start(open_training, desk):
    desk.studio.trainer = trainer(reasons=f'["{NO_MEMORY}"]')
    try:
        page = open_training("train/style?set=Ink")
        page.wait_for_selector(".dt-estimate[data-state=refused]")
        assert page.input_value(".dt-form [name=trigger]") == "dqink"
        expect(page.locator("[data-field=batch] .dq-wrong")).to_contain_text("It needs 9.7 GB of memory")
        expect(page.locator("[data-act=start]")).to_be_disabled()
    finally:
        desk.studio.trainer = trainer()
    page.fill(".dt-form [name=batch]", "2")
    page.wait_for_selector(".dt-estimate[data-state=ready]")
    expect(page.locator(".dt-estimate")).to_contain_text("about 13 s")
    expect(page.locator("[data-act=start]")).to_be_enabled()
    page.fill(".dt-form [name=name]", "")
    expect(page.locator(".dt-estimate")).to_have_text(say("en", "tr.cost.missing", field="Name"))
    page.click("[data-quality=quick]")
    page.fill(".dt-form [name=name]", "a/b")
    page.wait_for_selector(".dt-estimate[data-state=refused]")
    expect(page.locator("[data-field=name] .dq-wrong")).to_be_visible()


@pytest.mark.browser
def test_a_run_shows_samples_while_it_learns_and_is_used_at_the_end(open_training, desk, gate):
    page = open_training("train/style?set=Ink")
    page.fill(".dt-form [name=name]", "inky")
    page.click(".dt-fold summary")
    page.uncheck(".dt-form [name=background]")
    page.wait_for_selector(".dt-estimate[data-state=ready]")
    page.click("[data-act=start]")
    page.wait_for_selector(".dt-run-page.ready .dt-sample img")
    expect(page.locator(".dt-sample-step")).to_have_text("Step 10 of 20")
    page.wait_for_selector(".dt-curve[data-curve=loss]")
    run_id = re.search(r"run/(\w+)", page.url)[1]
    assert not desk.studio.training_run(run_id).request.background
    folder = desk.studio.training_folder(run_id)
    (folder / "samples" / "000012.png").write_bytes(png("later"))
    add_event(folder, SampleEvent(step=12, file="samples/000012.png"))
    expect(page.locator(".dt-sample-step")).to_have_text("Step 12 of 20")
    page.focus(".dt-slider input")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".dt-sample-step")).to_have_text("Step 10 of 20")
    gate()
    use = page.locator("[data-act=use]")
    expect(use).to_be_visible()
    page.wait_for_selector(".dt-compare img")
    with page.expect_download() as saved:
        page.click("[data-act=download]")
    assert Path(saved.value.path()).read_bytes() == (folder / "model" / "inky.safetensors").read_bytes()
    page.click(".dt-result summary")
    expect(page.locator(".dt-card h3")).to_have_text("inky")
    for name in ("request.json", "model/../request.json", "model/none", "..%2f..%2frequest.json"):
        assert httpx.get(f"{desk.address}api/v1/training/runs/{run_id}/files/{name}").status_code == 404, name
    use.click()
    page.wait_for_selector(SETTLED, timeout=2 * TIMEOUT_MS)
    expect(page.locator(BRIEF)).to_have_value("dqink, <lora:inky:1>")


@pytest.mark.browser
def test_a_run_rests_and_goes_on_and_the_list_says_so(open_training, desk, gate):
    run = desk.run("resting")
    page = open_training(f"run/{run.id}")
    page.click("[data-act=pause]")
    expect(page.locator(".dt-told")).to_contain_text(say("en", "tr.tip.paused"))
    desk.in_state(run.id, "paused")
    page.click("button[aria-label=Runs]")
    expect(page.locator(f'[data-run="{run.id}"]')).to_have_attribute("data-state", "paused")
    page.click(f'[data-run="{run.id}"] a')
    gate()
    page.click("[data-act=resume]")
    page.wait_for_selector(".dt-run-page[data-state=done]")
    desk.studio.trainer = trainer(fail="the pictures cannot be read")
    failed = desk.run("broken")
    desk.in_state(failed.id, "failed")
    page.evaluate(f"location.hash = 'run/{failed.id}'")
    expect(page.locator(".dt-told .dq-wrong")).to_contain_text("The pictures cannot be read")


@pytest.mark.browser
def test_figures_are_said_in_sentences(open_training):
    page = open_training("runs")
    said = page.evaluate(
        """(figures) => import(new URL('result.js', document.querySelector('script[type=module]').src).href)
          .then(({ sentences }) => sentences(figures))""",
        {"mean_pairwise": 0.02, "mean_pairwise_real": 0.4, "frechet": 0.31, "frechet_real": 0.12, "clusters": 20},
    )
    assert said == [
        say("en", "tr.figure.frechet", value="0.31", real="0.12"),
        say("en", "tr.figure.collapsed", percent="5"),
    ]


@pytest.mark.browser
@pytest.mark.parametrize(("locale", "language"), [("zh-CN", "zh-Hans"), ("zh-TW", "zh-Hant")])
def test_every_part_speaks_the_language_and_fits_a_phone(open_training, desk, locale, language):
    page = open_training("sets", locale=locale, viewport={"width": 390, "height": 844})
    for place, ready in (
        ("set/Ink", ".dt-set.ready .dt-tile"),
        ("train", ".dt-methods"),
        ("train/ddpm", ".dt-form"),
        ("train/slider", ".dt-form [name=positive]"),
        ("runs", ".dt-runs"),
    ):
        page.evaluate(f"location.hash = '{place}'")
        page.wait_for_selector(ready)
        page.evaluate("document.querySelectorAll('.dt-form details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, place
        shown = page.inner_text(".dt-body")
        english = {text for key, text in words("en").items() if key.startswith("tr.") and len(text.split()) > 2}
        assert not [text for text in english if text in shown], place
    page.select_option(".dq-language", "en")
    expect(page.locator("[data-tab=runs]")).to_contain_text(words("en")["tr.tab.runs"])


@pytest.mark.parametrize(("path", "base"), [("training", "./"), ("training/", "../")])
def test_the_document_carries_nothing_inline(path, base):
    app = FastAPI()
    app.include_router(training_page())
    answer = TestClient(app).get(f"/{path}?lang=zh-Hans")
    assert f'<base href="{base}">' in answer.text
    assert f"<title>{say('zh-Hans', 'tr.title')}</title>" in answer.text
    assert not re.search(r"<script(?![^>]* src=)|\son\w+=|style=", answer.text)
    assert "unsafe" not in answer.headers["content-security-policy"]
