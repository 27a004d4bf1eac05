"""Captions as the trainer reads them, and edits of many captions at once. Torch-free, no I/O."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from danqing.spec.errors import InvalidRequestError
from danqing.spec.training_edit import CaptionEdit, TagCount
from danqing.spec.training_set import MAX_CAPTION_CHARS, TrainingPicture, TrainingSet

PLACEHOLDERS = ("trigger", "caption", "class")
_PLACE = re.compile(r"\{([^{}]*)\}")
_COMMA = re.compile(r"\s*[,，]\s*")
_DOUBLE = re.compile(r"(?:\s*[,，]){2,}")


def check_template(template: str, field: str = "caption_template") -> str:
    """The template, if every place in it is known.

    Raises:
        InvalidRequestError: It names another one, or none at all.
    """
    unknown = [name for name in _PLACE.findall(template) if name not in PLACEHOLDERS]
    if unknown or not _PLACE.search(template):
        raise InvalidRequestError(
            "the caption template has an unknown place" if unknown else "the caption template has no place",
            field=field,
            value=template,
            allowed="words with {trigger}, {caption} and {class}",
            next_step="for example {trigger}, {caption}",
        )
    return template


def trainer_caption(training_set: TrainingSet, picture: TrainingPicture) -> str:
    """What the trainer reads for a picture; one of the class (regularisation) is not called by the trigger."""
    trigger = "" if picture.regularisation else training_set.trigger
    return fill(training_set.caption_template, picture.caption, trigger, training_set.class_words)


def fill(template: str, caption: str, trigger: str = "", class_words: str = "") -> str:
    """A template with its places filled; the trigger and the class are not said twice, empty places leave no commas.

    >>> fill("{trigger}, {caption}", "a red apple", "sks style")
    'sks style, a red apple'
    >>> fill("{trigger}, {caption}", "a red apple, sks style", "sks style")
    'a red apple, sks style'
    >>> fill("a {class} of {trigger}", "", "sks", "painting")
    'a painting of sks'
    """
    keeps_caption = "{caption}" in template
    words = {
        "trigger": "" if keeps_caption and says(caption, trigger) else trigger,
        "class": "" if keeps_caption and says(caption, class_words) else class_words,
        "caption": caption,
    }
    filled = _PLACE.sub(lambda place: words.get(place[1], place[0]), template)
    return _tidy(filled)


def says(caption: str, words: str) -> bool:
    """Whether a caption holds these words as words, in any case; Chinese ones need no blanks around them.

    >>> says("a hat, Sks", "sks"), says("asks", "sks"), says("一幅丹青画", "丹青")
    (True, False, True)
    """
    words = words.strip()
    if not words:
        return False
    before = r"(?<![A-Za-z0-9_])" if _is_latin(words[0]) else ""
    after = r"(?![A-Za-z0-9_])" if _is_latin(words[-1]) else ""
    return re.search(before + re.escape(words) + after, caption, re.IGNORECASE) is not None


def tags_of(caption: str) -> list[str]:
    """The parts of a caption between commas, western or Chinese, without empty ones.

    >>> tags_of("1girl,  hat，, 猫")
    ['1girl', 'hat', '猫']
    """
    return [tag for tag in (part.strip() for part in _COMMA.split(caption)) if tag]


def join_tags(tags: Iterable[str]) -> str:
    """Tags as a caption."""
    return ", ".join(tags)


def count_tags(pictures: Sequence[TrainingPicture]) -> list[TagCount]:
    """In how many captions each tag stands, most frequent first; spellings that differ in case count together."""
    counts: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    for picture in pictures:
        seen = {tag.casefold(): tag for tag in reversed(tags_of(picture.caption))}
        counts.update(seen.keys())
        for key, tag in seen.items():
            spelled.setdefault(key, tag)
    return [TagCount(tag=spelled[key], count=n) for key, n in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]


def edited(caption: str, edit: CaptionEdit) -> str:
    """A caption after an edit.

    Raises:
        InvalidRequestError: It becomes too long.
    """
    result = _edited(caption, edit)
    if len(result) > MAX_CAPTION_CHARS:
        raise InvalidRequestError(
            "a caption becomes too long",
            field="text",
            value=f"{len(result)} characters",
            allowed=f"{MAX_CAPTION_CHARS} characters",
            next_step="say it in fewer words; a model reads the first 75 tokens, some 50 words",
        )
    return result


def _edited(caption: str, edit: CaptionEdit) -> str:
    if edit.action == "set":
        return edit.text.strip()
    if edit.action == "replace_text":
        return _tidy(caption.replace(edit.text, edit.by)) if edit.text in caption else caption
    tags = tags_of(caption)
    named = {tag.casefold(): tag for tag in tags_of(edit.text)}
    if edit.action == "add":
        here = {tag.casefold() for tag in tags}
        new = [tag for key, tag in named.items() if key not in here]
        if not new:
            return caption
        return join_tags([*new, *tags] if edit.where == "start" else [*tags, *new])
    if not any(tag.casefold() in named for tag in tags):
        return caption
    if edit.action == "remove":
        return join_tags(tag for tag in tags if tag.casefold() not in named)
    put: list[str] = []
    for tag in tags:
        put.extend(tags_of(edit.by) if tag.casefold() in named else [tag])
    return join_tags(
        {tag.casefold(): tag for tag in reversed(put)}[key] for key in dict.fromkeys(map(str.casefold, put))
    )


def _tidy(text: str) -> str:
    text = _DOUBLE.sub(",", text)
    return re.sub(r"[ \t]{2,}", " ", text).strip(" \t\n,，")


def _is_latin(letter: str) -> bool:
    return letter.isascii() and (letter.isalnum() or letter == "_")
