"""The trainer's configuration: bases, defaults, and messages for mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from danqing.spec.errors import InvalidRequestError, NotFoundError
from danqing.training.builtin.config import load_config, parse_config, parse_data, read_toml


@pytest.mark.parametrize("name", ["builtin-tiny", "builtin-cpu", "builtin-control", "builtin-gpu"])
def test_shipped_configurations_load(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert len(config.digest()) == 64
    assert all(s.integrity.startswith("sha512-") for s in config.data.sources)


def test_the_data_of_the_family_name_licence_and_author_of_every_package() -> None:
    data = parse_data(read_toml("data-builtin"))
    assert [s.kind for s in data.sources].count("labels") == 1
    assert len(data.sources) == 12
    assert {s.licence for s in data.sources} <= {"MIT", "Apache-2.0", "CC-BY-4.0"}
    assert all(s.attribution and s.version.count(".") == 2 for s in data.sources)
    styles = [s.style for s in data.sources if s.kind != "labels"]
    assert len(set(styles)) == len(styles)


def test_a_base_is_laid_under_the_table(tiny: dict[str, Any]) -> None:
    base = parse_data(read_toml("data-builtin"))
    merged = parse_config(tiny | {"data": {"base": "data-builtin", "size_px": 64, "subgroups": ["heart"]}}).data
    assert merged.sources == base.sources
    assert merged.exclude == base.exclude
    assert (merged.size_px, merged.subgroups) == (64, ("heart",))
    assert parse_data({"data": {"base": "data-builtin"}}) == base
    assert load_config("builtin-cpu").data == base


def test_a_configuration_is_laid_over_another() -> None:
    base, over = load_config("builtin-cpu"), load_config("builtin-control")
    assert (over.unet.stage, over.vae, over.data) == (base.unet.stage, base.vae, base.data)
    assert over.control.stage.max_samples > base.control.stage.max_samples
    assert over.control.hint_channels == base.control.hint_channels
    assert (over.unet.labels, over.unet.styles) == ((), base.unet.styles)
    assert over.digest() != base.digest()


def test_reading_a_configuration_does_not_change_the_document(tiny: dict[str, Any]) -> None:
    raw = tiny | {"data": {"base": "data-builtin"}}
    assert parse_config(raw).digest() == parse_config(raw).digest()
    assert raw["data"] == {"base": "data-builtin"}


def test_a_base_that_is_not_there_is_named(tiny: dict[str, Any]) -> None:
    with pytest.raises(NotFoundError, match="data-none"):
        parse_config(tiny | {"data": {"base": "data-none"}})


def test_bad_configurations_are_refused(tmp_path: Path, tiny: dict[str, Any]) -> None:
    with pytest.raises(NotFoundError, match="builtin-cpu"):
        load_config("nothing-like-it")
    (tmp_path / "x.toml").write_text("name = ")
    with pytest.raises(InvalidRequestError, match="TOML"):
        load_config(tmp_path / "x.toml")
    with pytest.raises(InvalidRequestError, match=r"unet\.stage\.bach"):
        parse_config(tiny | {"unet": tiny["unet"] | {"stage": {"bach": 3}}})
    with pytest.raises(InvalidRequestError, match=r"scenes\.flatt"):
        parse_config(tiny | {"scenes": {"flatt": 0.3}})
    with pytest.raises(InvalidRequestError, match="incomplete"):
        parse_config({k: v for k, v in tiny.items() if k != "seed"})


def test_the_digest_follows_what_reaches_the_weights(tiny: dict[str, Any]) -> None:
    assert parse_config(tiny).digest() != parse_config(tiny | {"seed": 8}).digest()
    assert parse_config(tiny).digest() != parse_config(tiny | {"scenes": {"flat": 0.5}}).digest()


def test_notice_names_every_package_with_author_and_licence() -> None:
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    entries = notice.split("\n- ")[1:]
    names = {"MIT": "MIT licence", "Apache-2.0": "Apache License 2.0", "CC-BY-4.0": "CC BY 4.0"}
    for source in parse_data(read_toml("data-builtin")).sources:
        entry = " ".join(next(e for e in entries if e.startswith(f"{source.package} {source.version}")).split())
        assert source.attribution in entry
        assert names[source.licence] in entry
