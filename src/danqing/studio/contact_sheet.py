"""A contact sheet as one HTML page: no script, no font, no address outside its folder; made to be printed too."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote

from danqing.spec.project import Brief, Change, Project, Version
from danqing.spec.review import Review, Suggestion
from danqing.spec.share import ShareLanguage
from danqing.studio.sheet_words import SHEET_WORDS

_SHOWN_CHANGES = 12
_SHOWN_CHARS = 160
_STYLE = """
:root{--paper:#faf8f3;--ink:#1e1b18;--soft:#6d665d;--line:#e2dccf;--card:#fffdf8;--red:#c8372d;--blue:#2a6f97;--green:#5e7a63}
@media (prefers-color-scheme:dark){:root{--paper:#1a1816;--ink:#f1ece2;--soft:#a79f93;--line:#38332d;--card:#23201c;
--red:#e0655b;--blue:#74b3d8;--green:#93b398}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.6 system-ui,-apple-system,"Segoe UI","Noto Sans",
"PingFang SC","PingFang TC","Microsoft YaHei","Noto Sans CJK SC",sans-serif}
main{max-width:1180px;margin:0 auto;padding:48px 28px 72px}
header{border-bottom:2px solid var(--red);padding-bottom:20px;margin-bottom:28px}
h1{font-size:34px;line-height:1.2;margin:0 0 4px;letter-spacing:.01em;overflow-wrap:anywhere}
h2{font-size:13px;letter-spacing:.12em;text-transform:uppercase;color:var(--soft);margin:0 0 8px;font-weight:600}
.sub{color:var(--soft)}
.brief{display:grid;grid-template-columns:minmax(0,2fr) minmax(0,1fr) minmax(0,1fr);gap:28px;margin-bottom:40px}
.brief p{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
.brief ul{margin:0;padding-left:18px}
.swatches{display:flex;flex-wrap:wrap;gap:10px;margin-top:16px}
.swatch{font:12px/1.3 ui-monospace,Menlo,Consolas,monospace;color:var(--soft)}
.swatch i{display:block;width:56px;height:40px;border-radius:6px;border:1px solid var(--line);margin-bottom:4px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:26px;align-items:start}
article{background:var(--card);border:1px solid var(--line);border-radius:12px;overflow:hidden;break-inside:avoid}
article.current{border-color:var(--red);box-shadow:0 0 0 1px var(--red)}
figure{margin:0;position:relative;background:repeating-conic-gradient(#0000 0 25%,#8881 0 50%) 0/18px 18px}
figure img{display:block;width:100%;height:auto}
figure svg{position:absolute;inset:0;width:100%;height:100%}
figure svg *{fill:#c8372d22;stroke:var(--red);stroke-width:2;vector-effect:non-scaling-stroke}
figure svg text{fill:#fff;stroke:none;font-weight:700;font-family:system-ui,sans-serif}
figure svg .spot{fill:var(--red);stroke:none}
.gone{padding:60px 20px;text-align:center;color:var(--soft)}
.text{padding:14px 18px 18px}
.top{display:flex;align-items:baseline;gap:10px;flex-wrap:wrap}
.top b{font-size:18px}
.from{color:var(--soft);font-size:13px}
.chip{font-size:12px;line-height:1;padding:4px 8px;border-radius:99px;border:1px solid var(--line);color:var(--soft)}
.chip.red{background:var(--red);border-color:var(--red);color:#fff}
.chip.green{border-color:var(--green);color:var(--green)}
.chip.blue{border-color:var(--blue);color:var(--blue)}
.words{margin:8px 0 10px;overflow-wrap:anywhere}
.facts{color:var(--soft);font-size:13px;margin:0}
details{margin-top:10px;font-size:13px}
summary{cursor:pointer;color:var(--blue)}
table{border-collapse:collapse;width:100%;margin-top:6px;table-layout:fixed}
td{border-top:1px solid var(--line);padding:4px 6px 4px 0;vertical-align:top;overflow-wrap:anywhere}
td:first-child{color:var(--soft);width:34%}
.review{border-top:1px solid var(--line);margin-top:12px;padding-top:10px}
.review p{margin:4px 0 0;white-space:pre-wrap;overflow-wrap:anywhere}
ol{margin:6px 0 0;padding-left:22px}
li{overflow-wrap:anywhere}
a{color:var(--blue)}
footer{margin-top:48px;color:var(--soft);font-size:13px}
@media (max-width:760px){.brief{grid-template-columns:1fr}.grid{grid-template-columns:1fr}main{padding:28px 16px}}
@media print{details{display:block}main{max-width:none;padding:0}.grid{grid-template-columns:repeat(2,1fr)}}
"""


@dataclass(frozen=True)
class Sheet:
    """What a contact sheet shows.

    Args:
        project: Name, brief, current version.
        versions: In the order in which they are numbered.
        reviews: Of the project, oldest first.
        files: Paths of (picture, Plan) within the folder, by Record; no picture where its file is missing.
        made_at: The date below it.
    """

    project: Project
    versions: Sequence[Version]
    reviews: Sequence[Review]
    files: Mapping[str, tuple[str | None, str]]
    made_at: str


def contact_sheet(sheet: Sheet, language: ShareLanguage) -> str:
    """The page."""
    return _Writer(sheet, SHEET_WORDS[language]).page()


class _Writer:
    def __init__(self, sheet: Sheet, words: Mapping[str, str]) -> None:
        self.sheet = sheet
        self.words = words
        self.numbers = {version.record: number for number, version in enumerate(sheet.versions, 1)}
        self.reviews: defaultdict[str, list[Review]] = defaultdict(list)
        for review in sheet.reviews:
            self.reviews[review.record_id].append(review)

    def page(self) -> str:
        name, words = escape(self.sheet.project.name), self.words
        cards = "".join(self._card(version) for version in self.sheet.versions) or f"<p>{words['empty']}</p>"
        count = f"{len(self.sheet.versions)} {words['versions'].lower()}"
        return (
            f'<!doctype html><html lang="{words["html"]}"><head><meta charset="utf-8"><title>{name}</title>'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src 'self' file:; "
            "style-src 'unsafe-inline'\">"
            f"<style>{_STYLE}</style></head><body><main>"
            f'<header><h1>{name}</h1><div class="sub">{count} · {escape(self.sheet.made_at)}</div></header>'
            f'{self._brief(self.sheet.project.brief)}<section class="grid">{cards}</section>'
            f"<footer>{words['made']} · {escape(self.sheet.made_at)}</footer></main></body></html>"
        )

    def _brief(self, brief: Brief) -> str:
        parts: list[str] = []
        if brief.words or brief.palette:
            swatches = "".join(
                f'<span class="swatch"><i style="background:{colour}"></i>{colour}</span>' for colour in brief.palette
            )
            swatches = f'<div class="swatches">{swatches}</div>' if swatches else ""
            parts.append(f"<div><h2>{self.words['brief']}</h2><p>{escape(brief.words)}</p>{swatches}</div>")
        for key, rules in (("do", brief.do), ("dont", brief.dont)):
            if rules:
                listed = "".join(f"<li>{escape(rule)}</li>" for rule in rules)
                parts.append(f"<div><h2>{self.words[key]}</h2><ul>{listed}</ul></div>")
        return f'<section class="brief">{"".join(parts)}</section>' if parts else ""

    def _card(self, version: Version) -> str:
        words, number = self.words, self.numbers[version.record]
        reviews = self.reviews[version.record]
        chips = [f'<span class="chip red">{words["current"]}</span>'] if version.current else []
        chips += [f'<span class="chip green">{words["approved"]}</span>'] if version.approved else []
        chips += [f'<span class="chip green">{words["picked"]}</span>'] if version.picked else []
        chips += ['<span class="chip">★</span>'] if version.starred else []
        chips += [f'<span class="chip blue">{escape(label)}</span>' for label in version.labels]
        parent = self.numbers.get(version.parent or "")
        origin = f'<span class="from">{words["from"]} {parent}</span>' if parent else ""
        note = f'<p class="facts">{words["note"]}: {escape(version.note)}</p>' if version.note else ""
        facts = (
            f"{words['size']} {version.width_px}×{version.height_px} · {words['seed']} {version.seed} · "
            f"{words['model']} {escape(version.model)}"
        )
        said = "".join(self._review(review, start) for review, start in _numbered(reviews))
        return (
            f'<article class="{"current" if version.current else ""}">{self._figure(version, reviews)}'
            f'<div class="text"><div class="top"><b>{number}</b>{origin}{"".join(chips)}</div>'
            f'<p class="words">{escape(version.prompt)}</p><p class="facts">{facts}</p>{note}'
            f"{self._changes(version.changes)}{said}</div></article>"
        )

    def _figure(self, version: Version, reviews: Sequence[Review]) -> str:
        picture, plan = self.sheet.files[version.record]
        if picture is None:
            return f'<figure><div class="gone">{self.words["missing"]}</div></figure>'
        marks = "".join(
            _mark(suggestion, start + place, max(version.width_px, version.height_px))
            for review, start in _numbered(reviews)
            for place, suggestion in enumerate(review.suggestions)
        )
        overlay = f'<svg viewBox="0 0 {version.width_px} {version.height_px}">{marks}</svg>' if marks else ""
        address, words = quote(picture), self.words
        return (
            f'<figure><a href="{address}" title="{words["zoom"]}"><img src="{address}" decoding="async" '
            f'width="{version.width_px}" height="{version.height_px}" alt="{escape(version.prompt)}">{overlay}</a>'
            f"</figure><!-- {escape(plan)} -->"
        )

    def _changes(self, changes: Sequence[Change]) -> str:
        if not changes:
            return ""
        rows = "".join(
            f"<tr><td>{escape(change.field)}</td><td>{self._value(change.old)}</td>"
            f"<td>{self._value(change.new)}</td></tr>"
            for change in changes[:_SHOWN_CHANGES]
        )
        return f"<details><summary>{self.words['changes']} ({len(changes)})</summary><table>{rows}</table></details>"

    def _value(self, value: Any) -> str:
        if value is None:
            return f"<i>{self.words['not_set']}</i>"
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return escape(text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…")

    def _review(self, review: Review, start: int) -> str:
        words = self.words
        marks = [words[name] for name in ("approved", "picked", "starred") if getattr(review, name)]
        chips = "".join(f'<span class="chip green">{mark}</span> ' for mark in marks)
        whole = f" <i>({words['whole']})</i>"
        said = "".join(
            f"<li>{escape(one.prompt)}{whole if one.bounds is None else ''} "
            f'<span class="chip">{words[one.state]}</span></li>'
            for one in review.suggestions
        )
        listed = f'<ol start="{start}">{said}</ol>' if said else ""
        note = f"<p>{escape(review.note)}</p>" if review.note else ""
        return f'<div class="review"><b>{escape(review.reviewer)}</b> {chips}{note}{listed}</div>'


def _numbered(reviews: Sequence[Review]) -> list[tuple[Review, int]]:
    """Each review with the number of its first suggestion: they count on over the reviews of one picture."""
    found: list[tuple[Review, int]] = []
    start = 1
    for review in reviews:
        found.append((review, start))
        start += len(review.suggestions)
    return found


def _mark(suggestion: Suggestion, number: int, side_px: int) -> str:
    """The place of a suggestion with its number, in the picture's own pixels."""
    bounds = suggestion.bounds
    if bounds is None:
        return ""
    left, top, right, bottom = bounds
    if suggestion.lasso is not None:
        corners = " ".join(f"{x},{y}" for x, y in suggestion.lasso)
        shape = f'<polygon points="{corners}"/>'
    else:
        shape = f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/>'
    radius = side_px / 28
    x, y = max(left, radius), max(top, radius)
    return (
        f'{shape}<circle class="spot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{radius * 1.25:.1f}" text-anchor="middle" '
        f'dominant-baseline="central">{number}</text>'
    )
