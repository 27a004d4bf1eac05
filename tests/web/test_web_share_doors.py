"""Whom the client's page lets in, in which language, and whether everybody can read and press what is there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from page_hands import drawn
from page_share import Fingers, Link, by_mouse, write
from playwright.sync_api import expect

from danqing.spec.share import ShareChanges, Shown

pytestmark = pytest.mark.browser
FIRST_WORDS, OTHER_WORDS = "spring-2027", "autumn-2027"  # passwords


def test_a_password(house, open_link):
    link = Link(house, password=FIRST_WORDS, name="For <i>Mei</i>", shown=Shown(brief=True))
    page = open_link(link, ready="#password")
    expect(page.locator("#password")).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#password-wrong")).to_contain_text("not the password")
    page.fill("#password", FIRST_WORDS)
    page.keyboard.press("Enter")
    page.wait_for_selector(".board:not(.coming)")
    expect(page.locator(".title")).to_have_text("For <i>Mei</i>")
    page.click(".brief summary")
    expect(page.locator(".brief .text")).to_have_text("a poster <b>for spring</b>")
    link.studio.change_share(link.share, ShareChanges(password=OTHER_WORDS))
    page.wait_for_selector("#password")  # another password: everybody is asked again


def test_an_expired_link(house, open_link):
    link = Link(house, expires_at=datetime.now(UTC) + timedelta(hours=1))
    page = open_link(link)
    by_mouse(page, "box", [(8, 8), (40, 40)])
    write(page, 1, "not sent in time")
    link.studio.change_share(link.share, ShareChanges(expires_at=datetime.now(UTC) + timedelta(seconds=1)))
    expect(page.locator(".gate h1")).to_have_text("This link does not open any more")
    expect(page.locator("#kept")).to_have_value("not sent in time")
    page.reload()
    expect(page.locator(".gate h1")).to_have_text("This link does not open any more")


def test_the_language_of_the_share_then_the_clients_choice(house, open_link):
    link = Link(house, language="zh-Hant")
    page = open_link(link, locale="en-US")
    expect(page.locator(".sendbar .primary")).to_have_text("送出")
    assert page.evaluate("document.documentElement.lang") == "zh-Hant"
    page.select_option(".language", "zh-Hans")
    expect(page.locator(".sendbar .primary")).to_have_text("发送")
    page.click(".theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    expect(page.locator(".sendbar .primary")).to_have_text("发送")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    gone = SimpleNamespace(address=f"{house.address}/share/{'x' * 32}")
    page = open_link(gone, locale="zh-TW", ready=".gate .card")
    expect(page.locator(".gate h1")).to_have_text("這個連結已經打不開了")


CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => [r, g, b].map((v) => linear(v / 255))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (node) => {
    for (let up = node; up; up = up.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(up).backgroundColor);
      if (a > 0.99) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const style = getComputedStyle(node);
    if (!own || !node.checkVisibility() || node.closest(':disabled, option') || style.opacity < 1) continue;
    const [a, b] = [light(parse(style.color)), light(ground(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${node.className || node.tagName}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""
NAMELESS = """() => [...document.querySelectorAll('button, a, select, textarea, input, [role=slider]')]
  .filter((node) => node.checkVisibility())
  .filter((node) => !(node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.length))
  .map((node) => node.outerHTML)"""


def test_contrast_names_and_size_of_what_is_pressed(house, open_link):
    link = Link(house, shown=Shown(brief=True, prompts=True, labels=True))
    page = open_link(link, width=390, height=844, touch=True)
    Fingers(page).draw("box", [(10, 12), (36, 40)])
    write(page, 1, "greener")
    page.click(".flag.starred")
    for _ in range(2):
        drawn(page)
        assert page.evaluate(CONTRAST) == []
        page.tap(".theme")
    assert page.evaluate(NAMELESS) == []
    small = page.evaluate(
        """() => [...document.querySelectorAll('.bar button, .flag, .thumb, .primary, .plain, .mark > .tool')]
          .filter((node) => node.checkVisibility())
          .filter((node) => Math.min(node.offsetWidth, node.offsetHeight) < 40).map((node) => node.className)"""
    )
    assert small == []
