"""The end of a run that gained nothing, on the Training page: it ends well, says in each language what was tried."""

from __future__ import annotations

import json

import pytest
from page_hands import TIMEOUT_MS
from page_studio import until
from page_training import add_set, serving, trainer
from playwright.sync_api import expect

from danqing.spec.training import parse_training
from danqing.web.i18n import say

WHY = "no round gained anything (round 1: the mean of 6 of 9 LoRAs scored prompt -0.021, aesthetic +0.002)"
FIGURES = {
    "pairs": 9, "held_back_briefs": 8, "round_1_kept": 6, "round_1_strength": 0,
    "round_1_prompt_gain": -0.0212, "round_1_aesthetic_gain": 0.002,
}  # fmt: skip


@pytest.fixture(scope="module")
def nothing(tmp_path_factory):
    """Two runs that gained nothing: one tells figures of its rounds, the other only why."""
    with serving(tmp_path_factory.mktemp("nothing")) as (studio, address):
        add_set(studio, "Ink")
        runs = []
        for figures in (FIGURES, {}):
            studio.trainer = trainer(nothing=WHY, figures=json.dumps(figures))
            asked = parse_training({"method": "lora", "name": "better", "dataset": "Ink", "background": False})
            run = studio.submit_training(asked).id
            until(lambda run=run: studio.training_run(run).state == "done", "the run never ends")
            runs.append(run)
        yield address, *runs


@pytest.mark.browser
@pytest.mark.parametrize(("locale", "language"), [("en-US", "en"), ("zh-CN", "zh-Hans"), ("zh-TW", "zh-Hant")])
def test_the_page_says_that_nothing_was_published_and_what_was_tried(tabs, nothing, locale, language):
    address, told, bare = nothing
    page = tabs.open(locale=locale, still=True)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{address}training#run/{told}")
    page.wait_for_selector("html.dq-settled .dt-run-page.ready", timeout=2 * TIMEOUT_MS)
    result = page.locator(".dt-result")
    expect(result.locator("h2")).to_have_text(say(language, "tr.nothing"))
    expect(result).to_contain_text(say(language, "tr.nothing.text"))
    scored = say(language, "tr.figure.round.lost", round="1", kept="6", pairs="9", prompt="-0.021", aesthetic="+0.002")
    expect(result.locator(".dt-figures li")).to_have_text(scored)
    expect(result.locator("[data-act], .dq-act, .dt-compare")).to_have_count(0)
    page.evaluate(f"location.hash = 'run/{bare}'")
    why = f"{WHY[0].upper()}{WHY[1:]}." if language == "en" else say(language, "tr.told.nogain")
    expect(page.locator(".dt-result")).to_contain_text(why)
    page.evaluate("location.hash = 'runs'")
    expect(page.locator(f"[data-run='{told}'] .dt-run-way")).to_have_text(say(language, "tr.nothing"))
    assert wrong == []
