"""The files of the client's page: headers, words in three languages, nothing from elsewhere."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from danqing.web.i18n import LANGUAGES
from danqing.web.share.page import FILES, add_share_page, digest

SCRIPTS = sorted(FILES.glob("*.js"))
WORDS = {tag: json.loads((FILES / "i18n" / f"{tag}.json").read_text(encoding="utf-8")) for tag in LANGUAGES}
LINK = "Zk3-0123456789abcdef_0123456789ab"


@pytest.fixture
def client():
    app, shared = FastAPI(), FastAPI(redirect_slashes=False)
    add_share_page(shared)
    app.mount("/share", shared)
    return TestClient(app)


# Gradio, where it is loaded, makes Python call scripts by their older name.
SHOWN = {"text/javascript", "application/javascript", "text/css", "image/svg+xml"}


def test_the_page_runs_only_its_own_files(client):
    answer = client.get(f"/share/{LINK}")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "noindex" in answer.headers["x-robots-tag"]
    assert answer.headers["cache-control"] == "no-cache"
    html = answer.text
    assert LINK not in html
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|https?:|//", html.split("<body>")[0])
    for name in re.findall(r'(?:href|src)="([^"]+)"', html):
        found = client.get(f"/share/{name}")
        assert found.status_code == 200, name
        assert "immutable" in found.headers["cache-control"]
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["content-type"].split(";")[0] in SHOWN
    for script in SCRIPTS:
        assert f"/{script.name}" in html


def test_addresses(client):
    moved = client.get(f"/share/{LINK}/", follow_redirects=False)
    assert moved.status_code == 308
    assert moved.headers["location"] == f"../{LINK}"
    assert client.get("/share/half%20a%20link").status_code == 200
    assert client.get(f"/share/static/{digest()}/none.js").status_code == 404
    assert client.get(f"/share/static/{digest()}/..%2fpage.html").status_code == 404


def test_the_whole_page_is_small_on_the_wire(client):
    names = [*(script.name for script in SCRIPTS), "share.css", "i18n/en.json"]
    answers = [client.get(f"/share/static/{digest()}/{name}", headers={"Accept-Encoding": "gzip"}) for name in names]
    assert {answer.headers["content-encoding"] for answer in answers} == {"gzip"}
    assert sum(len(gzip.compress(answer.content)) for answer in answers) < 64 * 1024


def test_three_languages_say_the_same_things():
    assert set(WORDS["en"]) == set(WORDS["zh-Hans"]) == set(WORDS["zh-Hant"])
    for key in WORDS["en"]:
        found = [set(re.findall(r"{(\w+)}", words[key])) for words in WORDS.values()]
        assert found[0] == found[1] == found[2], key
        assert all(words[key].strip() for words in WORDS.values()), key


@pytest.mark.parametrize(("language", "charset"), [("zh-Hans", "gb2312"), ("zh-Hant", "big5")])
def test_each_chinese_uses_its_own_characters(language, charset):
    for key, text in WORDS[language].items():
        for character in re.findall(r"[\u4e00-\u9fff]", text):
            assert character.encode(charset, "ignore"), f"{key}: {character}"


def code(script):
    return re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", script.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_every_word_is_used_and_every_used_word_is_there():
    text = "".join(code(script) for script in SCRIPTS)
    named = set(re.findall(r"\bt\(\s*'([\w.-]+)'", text))
    named |= set(re.findall(r"\bt(?:Aria|Title|Placeholder)?: '([\w.-]+)'", text))
    named |= set(re.findall(r"iconButton\('\w+', '([\w.]+)'", text))
    named |= {f"{key}.{end}" for key in re.findall(r"several\(\s*'([\w.-]+)'", text) for end in ("one", "many")}
    assert named - {"aria-label", "title", "placeholder"} <= set(WORDS["en"])
    built = (*re.findall(r"`([a-z.]+\.)\${", text), "starred", "picked")
    unused = {key for key in WORDS["en"] if key not in named and not key.startswith(built) and f"'{key}'" not in text}
    assert unused == set()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_write_no_words_of_their_own_and_no_html(script):
    text = code(script).replace("简体中文", "").replace("繁體中文", "").replace("丹青", "")
    assert not re.search(r"[\u4e00-\u9fff]", text)
    assert [one for one in re.findall(r"text: '([^']*)'", text) if re.search(r"[A-Za-z]", one)] == []
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert re.findall(r"https?://[^'\"]*", text) in ([], ["http://www.w3.org/2000/svg"])
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 400
