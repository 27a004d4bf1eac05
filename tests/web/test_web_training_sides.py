"""The Training page in Chromium, in one tab: masks and maps, sizes, gallery pictures, a project's settings, words."""

from __future__ import annotations

import io
import re

import httpx
import numpy as np
import pytest
from page_hands import TIMEOUT_MS
from page_training import png, serving
from PIL import Image
from playwright.sync_api import expect

from danqing.sets.importing import ImportOptions
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.training_edit import SetChanges
from danqing.web.i18n import say

pytestmark = pytest.mark.browser
READY = "html.dq-settled"
REFUSED = re.compile("status of 4(15|22)")  # a browser tells of each refusal that the page shows


class Tab:
    """A running studio and the one page before it."""

    def __init__(self, studio, address, page):
        self.studio = studio
        self.address = address
        self.page = page

    def show(self, place, ready):
        """Another part of the page; what stood there before is gone."""
        if "/training#" not in self.page.url:
            self.page.goto(f"{self.address}training#runs")
            self.page.wait_for_selector(READY)
        self.page.evaluate("(place) => { location.hash = 'runs'; location.hash = place; }", place)
        self.page.wait_for_selector(f".dt-body {ready}")
        return self.page

    def picture(self, name, file):
        return self.studio.training_sets.picture(name, file)


@pytest.fixture(scope="module")
def tab(all_tabs, tmp_path_factory):
    wrong = []
    with serving(tmp_path_factory.mktemp("sides")) as (studio, address):
        studio.training_sets.create("Sides")
        studio.training_sets.import_files("Sides", {f"{i}.png": png(f"side {i}") for i in range(2)}, ImportOptions())
        page = all_tabs.open(locale="en-US", still=True)
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" and not REFUSED.search(m.text) else None)
        page.on("request", lambda r: None if r.url.startswith((address, "data:")) else wrong.append(r.url))
        page.goto(f"{address}training#runs")
        page.wait_for_selector(READY, timeout=2 * TIMEOUT_MS)
        yield Tab(studio, address, page)
        all_tabs.wipe()
    assert wrong == []


def bytes_of(image):
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def test_a_mask_is_painted_a_map_is_chosen_and_both_are_badges(tab):
    page = tab.show("set/Sides", ".dt-set.ready .dt-tile")
    page.click('[data-file="0.png"] .dt-face')
    expect(page.locator("[data-side=mask] .dt-side-face")).to_have_text(say("en", "tr.side.none"))
    page.click("[data-side=mask] [data-act=paint]")
    page.click(".dq-easel .dq-use")
    expect(page.locator(".dq-easel .dq-wrong")).to_have_text(say("en", "tr.side.mask.empty"))
    page.focus(".dq-easel .dq-board")
    page.keyboard.press("Enter")  # a dab in the middle, by the keyboard alone
    page.keyboard.press("i")
    page.click(".dq-easel .dq-use")
    expect(page.locator("[data-side=mask] .dt-side-face img")).to_be_visible()
    expect(page.locator(".dt-veil")).to_be_visible()
    mask = httpx.get(f"{tab.address}api/v1/training/sets/Sides/pictures/0.png/mask").content
    white = np.asarray(Image.open(io.BytesIO(mask)).convert("L"))
    assert (white.shape, white[48, 48], white[2, 2]) == ((96, 96), 0, 255)

    map_file = {"name": "map.png", "mimeType": "image/png", "buffer": bytes_of(Image.new("RGB", (60, 20)))}
    page.set_input_files("[data-purpose=conditioning]", map_file)
    told = page.locator("[data-side=conditioning] [role=status]")
    expect(told).to_have_text(say("en", "tr.side.shape", width=60, height=20))
    page.set_input_files("[data-purpose=conditioning]", {**map_file, "buffer": b"no picture"})
    expect(told).to_contain_text("no picture, or a damaged one")
    page.click("dialog .dp-ok")
    expect(page.locator('[data-file="0.png"] [data-badge]')).to_have_text(["Mask", "Map"])
    page.select_option("[name=only]", "unmapped")
    expect(page.locator(".dt-tile")).to_have_count(1)
    page.select_option("[name=only]", "mapped")
    page.click('[data-file="0.png"] .dt-face')
    page.click("[data-side=mask] [data-act=remove]")
    expect(page.locator("[data-side=mask]")).to_contain_text(say("en", "tr.side.removed"))
    page.click("dialog .dp-ok")
    expect(page.locator("[data-badge]")).to_have_text(["Map"])
    page.click(".dt-bar [data-act=undo]")
    expect(page.locator("[data-badge]")).to_have_text(["Mask", "Map"])


def test_sizes_are_counted_and_the_picture_that_is_alone_is_cropped(tab):
    studio = tab.studio
    studio.training_sets.create("Shapes")
    shapes = {"a.png": (96, 96), "b.png": (90, 90), "c.png": (180, 60)}
    files = {name: bytes_of(Image.new("RGB", shape, (i * 90, 0, 0))) for i, (name, shape) in enumerate(shapes.items())}
    studio.training_sets.import_files("Shapes", files, ImportOptions())
    page = tab.show("set/Shapes", ".dt-set.ready .dt-tile")
    page.click("[data-act=buckets]")
    page.fill("[name=size_px]", "20")
    expect(page.locator(".dt-bucket-view [role=status]")).to_have_text(
        say("en", "tr.buckets.wrong", least=32, most=2048)
    )
    expect(page.locator("dialog [name=model]")).to_have_value("danqing-mini")
    page.select_option("dialog [name=model]", ":sdxl")
    expect(page.locator("[name=size_px]")).to_have_value("1024")
    expect(page.locator(".dt-bucket-step")).to_have_text(say("en", "tr.buckets.step", step=64))
    page.select_option("dialog [name=model]", "danqing-mini")
    expect(page.locator("[name=size_px]")).to_have_value("128")
    expect(page.locator(".dt-bucket-step")).to_have_text(say("en", "tr.buckets.step", step=32))
    expect(page.locator("[data-bucket='128x128']")).to_contain_text("2 pictures")
    expect(page.locator(".dt-bucket")).to_have_count(2)
    page.click("[data-alone='c.png']")
    page.click("dialog [data-way=centre]")
    expect(page.locator(".dt-cropper [role=status]")).to_contain_text("60 × 60")
    page.locator("dialog .dp-ok").last.click()
    expect(page.locator(".dt-bucket")).to_have_count(1)
    expect(page.locator(".dt-bucket-view [role=status]")).to_contain_text("3 pictures in 1 size; 0 %")
    page.keyboard.press("Escape")
    expect(page.locator('[data-file="c.png"] .dt-badges')).to_contain_text(say("en", "tr.cropped"))


def test_sizes_begin_with_the_model_that_was_last_chosen_to_train_on(tab):
    page = tab.show("train/style?set=Sides", ".dt-form [name=model]")
    page.select_option(".dt-form [name=model]", "danqing-mini-4step")
    tab.show("set/Sides", ".dt-set.ready .dt-tile")
    with page.expect_response(re.compile("/buckets")) as answered:
        page.click("[data-act=buckets]")
    expect(page.locator("dialog [name=model]")).to_have_value("danqing-mini-4step")
    assert "model=danqing-mini-4step" in answered.value.url
    page.keyboard.press("Escape")


def test_pictures_of_the_gallery_join_a_set(tab):
    studio = tab.studio
    jobs = [studio.submit(Txt2ImgRequest(prompt=f"(red:1.2) apple {seed}", seed=seed)) for seed in (1, 2)]
    records = [studio.wait(job.id, timeout_s=60).records[0] for job in jobs]
    studio.training_sets.create("Taken")
    page = tab.show("set/Taken", ".dt-set.ready")
    page.click("[data-act=gallery]")
    for record in records:
        page.click(f".dp-pick[data-id='{record}']")
    page.click("dialog .dp-ok")
    expect(page.locator(".dt-tile")).to_have_count(2)
    assert [one.caption for one in studio.training_sets.get("Taken").pictures] == ["red apple 1", "red apple 2"]

    project = studio.create_project("Apples: all?").id
    studio.add_to_project(project, records)
    page.goto(f"{tab.address}projects/{project}#{records[0]}")
    page.click(f"{READY} [data-act=version-more]")
    page.click("[data-menu='tr.join.more']")
    page.select_option("dialog [name=set]", "Taken")
    page.click("dialog .dp-ok")
    expect(page.locator("dialog .dt-skipped")).to_contain_text("The same picture is there already")
    page.click("dialog [aria-label=Close]")
    page.click("[data-act=project-more]")
    page.click("[data-menu='tr.join.all']")
    page.select_option("dialog [name=set]", "+")
    expect(page.locator("dialog [name=name]")).to_have_value("Apples all")
    page.click("dialog .dp-ok")
    expect(page.locator(".dq-toast")).to_contain_text(say("en", "tr.join.done", name="Apples all", count=2))
    assert len(studio.training_sets.get("Apples all").pictures) == 2


def test_the_settings_of_a_style_project_stand_in_the_form(tab):
    studio = tab.studio
    studio.training_sets.create("Gogh", recipe="van-gogh", changes=SetChanges(trigger="zgogh"))
    studio.training_sets.import_files("Gogh", {"a.png": png("gogh")}, ImportOptions())
    page = tab.show("train/style?set=Gogh", ".dt-preset[data-preset=van-gogh]")

    def values(*names):
        return [page.locator(f".dt-form [name='{name}']").input_value() for name in names]

    expect(page.locator(".dt-preset")).to_contain_text(
        "Settings of the project Vincent van Gogh: 400 steps of 4, rank 16"
    )
    assert values("trigger", "steps", "batch", "learning_rate", "network.alpha", "size_px", "max_timestep") == [
        "zgogh", "400", "4", "0.002", "16", "128", "550",
    ]  # fmt: skip
    assert values("sample_prompts")[0].splitlines()[0] == "zgogh, a village street under a night sky"
    page.fill(".dt-form [name=trigger]", "dqg")
    page.evaluate("document.querySelector('.dt-fold').open = true")
    page.fill(".dt-form [name=batch]", "3")
    page.click("[data-quality=quick]")
    assert values("steps", "batch") == ["160", "3"]
    assert values("sample_prompts")[0].startswith("dqg, a village")
    page.click("[data-act=preset]")
    expect(page.locator(".dt-preset")).to_contain_text(say("en", "tr.preset.off"))
    assert values("steps", "batch", "learning_rate", "network.alpha", "sample_prompts") == ["", "3", "", "", ""]
    assert values("max_timestep", "network.text_encoder") == ["999", ""]  # the method chooses
    expect(page.locator("[name='network.text_encoder'] option")).to_have_text(
        [say("en", key) for key in ("tr.chosen.by", "tr.yes", "tr.no")]
    )
    page.click("[data-act=preset]")
    assert values("steps", "batch", "learning_rate") == ["160", "3", "0.002"]
    page.select_option(".dt-form [name=dataset]", "Sides")
    expect(page.locator(".dt-preset")).to_be_hidden()
    assert values("steps", "sample_prompts") == ["", ""]
    tab.show("train/word?set=Gogh", ".dt-form [name=vectors]")
    expect(page.locator(".dt-preset")).to_be_hidden()


def test_what_the_trainer_says_is_said_in_the_pages_language(tab):
    page = tab.page
    page.select_option(".dq-language", "zh-Hans")
    page.wait_for_selector("html[lang=zh-Hans]")
    reasons = [
        "prior preservation needs to know what the subject is an instance of · field: dataset · next: write it",
        "sd3-medium cannot be trained: models of the family sd3 are not trained here · field: model · got: 'sd3'",
        "float16 needs a GPU · field: precision · allowed: auto, float32",
        "who knows this? · next: nobody",
    ]
    notes = ["round 1, pair 2 of 9 (tea) is kept: prompt +0.020, aesthetic -0.001", "something new"]
    said = page.evaluate(
        """([reasons, notes]) => import(new URL('told.js', document.querySelector('script[type=module]').src).href)
          .then(({ readReason, toldLine }) =>
            [reasons.map(readReason), notes.map((one) => toldLine(one, 'x').outerHTML)])""",
        [reasons, notes],
    )
    why = say("zh-Hans", "tr.told.why.family", family="sd3")
    gain = say("zh-Hans", "tr.told.gain", prompt="+0.020", aesthetic="-0.001")
    verdict = say("zh-Hans", "tr.told.kept")
    note = say("zh-Hans", "tr.told.pair", round=1, pair=2, all=9, brief="tea", verdict=verdict, gain=gain)
    assert said == [
        [
            {"field": "dataset", "text": say("zh-Hans", "tr.told.noclass")},
            {"field": "model", "text": say("zh-Hans", "tr.told.untrainable", name="sd3-medium", why=why)},
            {"field": "precision", "text": say("zh-Hans", "tr.told.gpu16", allowed="auto, float32")},
            {"field": None, "text": say("zh-Hans", "tr.reason.other", reason="Who knows this? Nobody.")},
        ],
        [f'<p class="x">{note}</p>', '<p class="x" lang="en">Something new.</p>'],
    ]
    tab.studio.training_sets.create("Empty")
    tab.show("train/style?set=Empty", ".dt-estimate[data-state=refused]")
    expect(page.locator("[data-field=dataset] .dq-wrong")).to_have_text(say("zh-Hans", "tr.told.emptyset"))
    card = page.evaluate(
        """(text) => import(new URL('result.js', document.querySelector('script[type=module]').src).href)
          .then(({ markdown }) => markdown(text).map((one) => one.outerHTML).join(''))""",
        "# ink\n\n| | |\n|---|---|\n| base model | danqing-mini |\n| round 2 prompt gain | 0.1 |\n\n## Figures\n",
    )
    assert say("zh-Hans", "tr.card.figures") in card
    assert f"{say('zh-Hans', 'tr.card.round', round=2)} · {say('zh-Hans', 'tr.card.prompt_gain')}" in card
    assert ">danqing-mini</td>" in card
    page.select_option(".dq-language", "en")
