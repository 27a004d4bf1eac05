"""`danqing interrogate`: what a picture shows, in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from danqing.cli.options import WorkerOptions, takes
from danqing.cli.paint_request import read_file
from danqing.cli.session import open_studio, settings_of, terminal_of
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.interrogators import BUILTIN, check_threshold, find_interrogator
from danqing.spec.sight import LANGUAGES, Interrogation, Language
from danqing.studio.sight import Interrogating

app = typer.Typer(add_completion=False)
_FOLDED: dict[str, Language] = {language.lower(): language for language in LANGUAGES}
_FOLDED |= {"zh": "zh-Hans", "zh-cn": "zh-Hans", "zh-tw": "zh-Hant", "zh-hk": "zh-Hant"}


@dataclass(frozen=True, kw_only=True)
class InterrogateOptions(WorkerOptions):
    """What `danqing interrogate` takes."""

    picture: Annotated[str, typer.Argument(metavar="PICTURE", help="A file, or record:ID from the gallery.")]
    language: Annotated[str, typer.Option("--language", "-l", metavar="LANG", help="en, zh-Hans or zh-Hant.")] = "en"
    tags: Annotated[
        int | None, typer.Option("--tags", min=0, max=100, help="How many tags at most; 12, of a tagger 40.")
    ] = None
    by: Annotated[
        str, typer.Option("--with", metavar="NAME", help="Who looks: builtin, wd14, deepdanbooru or clip.")
    ] = BUILTIN
    threshold: Annotated[
        float | None, typer.Option("--threshold", min=0, max=1, help="Of a tagger: less likely tags are left out.")
    ] = None
    character_threshold: Annotated[
        float | None, typer.Option("--character-threshold", min=0, max=1, help="The same for names of characters.")
    ] = None


@app.command()
@takes(InterrogateOptions)
def interrogate(options: InterrogateOptions) -> None:
    """Say what a picture shows: a caption that is a prompt, ranked tags, style, measured colours and background."""
    language = language_of(options.language)
    picture = picture_argument(options.picture, "PICTURE", settings_of(options).upload_max_bytes)
    info = find_interrogator(options.by)
    check_threshold(info, options.threshold, "--threshold")
    check_threshold(info, options.character_threshold, "--character-threshold")
    asked = Interrogating(info.key, options.threshold, options.character_threshold)
    with open_studio(options) as studio:
        found = studio.interrogate(picture, tags=options.tags, asked=asked)
    words = found.wording(language)
    data = {"language": language, **words.model_dump(mode="json"), "interrogation": found.model_dump(mode="json")}
    terminal_of(options).result(data, _text(found, language))


def language_of(name: str) -> Language:
    """The language that a person means; `zh` is Simplified.

    Raises:
        InvalidRequestError: It is none of ours.
    """
    found = _FOLDED.get(name.strip().lower().replace("_", "-"))
    if found is None:
        raise InvalidRequestError(
            "there are no words in this language",
            field="--language",
            value=name,
            allowed=", ".join(LANGUAGES),
            next_step="choose one of these",
        )
    return found


def picture_argument(text: str, option: str, max_bytes: int) -> bytes | str:
    """A reference (`record:ID`, `sha256:HEX`) as it stands, or the bytes of a file.

    Raises:
        NotFoundError: No such file.
        BadFileError: It cannot be read, or is too large.
    """
    return text if text.startswith(("record:", "sha256:")) else read_file(Path(text), option, max_bytes)


def _text(found: Interrogation, language: Language) -> str:
    words = found.wording(language)
    lines = [words.caption, ""]
    label = [f"{words.label}\t{found.score:.3f}"] if found.interrogator == BUILTIN else []
    lines += [*label, *(f"{tag.text}\t{tag.score:.3f}" for tag in words.tags)]
    lines += [f"rating: {found.rating}"] if found.rating else []
    if words.style:
        lines.append(f"{words.style}\t{found.style_score:.3f}")
    shares = (f"{name} {share.share:.0%}" for name, share in zip(words.colors, found.colors, strict=True))
    return "\n".join([*lines, *([", ".join(shares)] if words.colors else []), *filter(None, [words.background])])
