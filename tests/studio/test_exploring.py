"""Comparisons in the studio: a job for each place, a sheet of what is painted."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danqing.spec.errors import ConflictError, InvalidRequestError, NotFoundError
from danqing.spec.explore import Axis, Cell, Exploration, ExploreRequest
from danqing.spec.request import parse_request
from danqing.store.owners import utc_now
from danqing.store.projects_base import Tie
from danqing.studio import sheet as sheets
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.studio.sheet import SheetLook, draw_sheet
from danqing.workers.pool import FakePool


def comparison(x: str = "1-3", y: str | None = "apple, pear", **more: object) -> ExploreRequest:
    request = parse_request({"prompt": "an apple, 3d", "seed": 7, "sampling": {"steps": 2}, **more})
    second = None if y is None else Axis(axis="Prompt S/R", values=y)
    return ExploreRequest(request=request, x=Axis(axis="CFG Scale", values=x), y=second)


def drawn(columns: int, rows: int, deep: int = 0, labels: tuple[str, ...] = ()) -> Exploration:
    return Exploration(
        id="1",
        asked=comparison(),
        names=("CFG Scale", "Prompt S/R", "Seed")[: 1 + (rows > 0) + (deep > 0)],
        columns=labels or tuple(str(i) for i in range(columns)),
        rows=tuple(f"row {i}" for i in range(rows)),
        sheets=tuple(f"sheet {i}" for i in range(deep)),
        cells=(Cell(x=0, labels=("0",), job="j"),),
        created_at=utc_now(),
    )


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[], Studio]]:
    """Studios on one data folder, with the real planner and workers that only pretend to paint."""
    opened: list[Studio] = []

    def start() -> Studio:
        opened.append(Studio(load_settings(data_dir=tmp_path), FakePool()))
        opened[-1].start()
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def studio(begin: Callable[[], Studio]) -> Studio:
    return begin()


COLOURS = {(x, y, z): (20 + 60 * x, 30 + 70 * y, 40 + 80 * z) for x in range(3) for y in range(2) for z in range(2)}


def test_pictures_lie_where_their_place_is() -> None:
    pictures = {place: Image.new("RGB", (64, 48), colour) for place, colour in COLOURS.items()}
    sheet = draw_sheet(drawn(3, 2, 2), pictures, SheetLook(gap_px=4, legend=False))
    assert sheet.size == (4 + 3 * 68, 2 * (4 + 2 * 52) + 4)
    for (x, y, z), colour in COLOURS.items():
        left, top = 4 + x * 68, z * (4 + 2 * 52) + 4 + y * 52
        assert sheet.getpixel((left, top)) == colour
        assert sheet.getpixel((left + 63, top + 47)) == colour
        assert sheet.getpixel((left + 64, top + 20)) != colour


def test_the_legend_is_written_and_nothing_of_it_is_cut() -> None:
    pictures = {place: Image.new("RGB", (64, 48), colour) for place, colour in COLOURS.items()}
    long = ("1", "a very long label that takes more than the width of a picture", "汉字汉字汉字汉字汉字汉字汉字汉字")
    with_words = draw_sheet(drawn(3, 2, 2, long), pictures)
    bare = draw_sheet(drawn(3, 2, 2, tuple("   ")), pictures)
    assert with_words.size == bare.size
    edge = [
        with_words.crop(box) for box in ((0, 0, with_words.width, 1), (with_words.width - 1, 0, with_words.width, 9))
    ]
    assert all(one.getcolors() == [(one.width * one.height, (250, 248, 243))] for one in edge)
    assert (np.asarray(with_words) != np.asarray(bare)).any(-1).sum() > 200


def test_missing_pictures_leave_a_field_and_small_ones_lie_in_the_middle() -> None:
    pictures = {(0, 0, 0): Image.new("RGB", (64, 64), "red"), (1, 0, 0): Image.new("RGB", (32, 32), "blue")}
    sheet = draw_sheet(drawn(3, 0), pictures, SheetLook(gap_px=0, legend=False))
    assert sheet.getpixel((64 + 32, 32)) == (0, 0, 255)
    assert sheet.getpixel((64 + 3, 32)) == (250, 248, 243)
    assert sheet.getpixel((128 + 32, 32)) == (237, 233, 223)


def test_a_sheet_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_SIDE_PX", 300)
    pictures = {(x, 0, 0): Image.new("RGB", (400, 200), "red") for x in range(3)}
    sheet = draw_sheet(drawn(3, 0), pictures, SheetLook(gap_px=0, legend=False))
    assert sheet.width <= 300
    assert sheet.getpixel((150, 10)) == (255, 0, 0)


def test_transparency_shows_the_paper() -> None:
    sheet = draw_sheet(drawn(1, 0), {(0, 0, 0): Image.new("RGBA", (64, 64), (0, 0, 0, 0))}, SheetLook(0, legend=False))
    assert sheet.getpixel((30, 30)) == (250, 248, 243)


def test_every_place_becomes_a_record(studio: Studio) -> None:
    found = studio.explore(comparison())
    for cell in found.cells:
        assert studio.wait(cell.job, timeout_s=60).state == "done"
    records = studio.exploration_records(found.id)
    assert set(records) == {(x, y, 0) for x in range(3) for y in range(2)}
    assert records[2, 1, 0].plan.base.guidance_scale == 3
    assert records[2, 1, 0].plan.base.text.prompt == "an pear, 3d"
    assert {r.plan.seeds.seed for r in records.values()} == {7}
    sheet = studio.exploration_sheet(found.id)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    assert sheet.width > 3 * records[0, 0, 0].width_px
    studio.delete_record(records[0, 0, 0].id)
    assert (0, 0, 0) not in studio.exploration_records(found.id)
    assert studio.explorations()[0] == studio.exploration(found.id) == found
    assert studio.cancel_exploration(found.id) == 0


def test_nothing_is_queued_if_one_place_cannot_be_painted(studio: Studio) -> None:
    before = len(studio.jobs())
    asked = comparison()
    asked = asked.model_copy(update={"y": Axis(axis="Checkpoint name", values="danqing-mini, nothing-like-it")})
    with pytest.raises(NotFoundError, match="nothing-like-it"):
        studio.explore(asked)
    with pytest.raises(InvalidRequestError):
        studio.explore(comparison(x="1, 1000"))
    assert len(studio.jobs()) == before
    with pytest.raises(NotFoundError):
        studio.exploration("nothing")


def test_every_picture_joins_the_project_below_what_it_starts_from(studio: Studio) -> None:
    project = studio.create_project("Tea house")
    origin = studio.submit(parse_request({"prompt": "an apple, 3d", "seed": 1}), tie=Tie(project.id))
    start = studio.wait(origin.id, timeout_s=60).records[0]
    asked = comparison(kind="img2img", image=f"record:{start}").model_copy(update={"project": project.id})
    found = studio.explore(asked)
    for cell in found.cells:
        studio.wait(cell.job, timeout_s=60)
    records = {record.id for record in studio.exploration_records(found.id).values()}
    versions = {one.record: one.parent for one in studio.version_tree(project.id).versions}
    assert len(records) == 6
    assert versions == {start: None} | dict.fromkeys(records, start)
    assert studio.exploration(found.id).asked.project == project.id


def test_a_project_that_is_gone_takes_no_comparison(studio: Studio) -> None:
    project = studio.create_project("Gone")
    studio.delete_project(project.id)
    for name, error in ((project.id, ConflictError), ("nobody", NotFoundError)):
        with pytest.raises(error):
            studio.explore(comparison().model_copy(update={"project": name}))
    assert studio.jobs() == []


def test_projects_are_called_by_name_or_id(studio: Studio) -> None:
    project = studio.create_project("Tea house 茶")
    assert studio.project_called(project.id) == studio.project_called(" tea  HOUSE 茶") == project
    with pytest.raises(NotFoundError, match="no such project"):
        studio.project_called("Tea")
    other = studio.create_project("tea house 茶")
    with pytest.raises(ConflictError) as told:
        studio.project_called("Tea house 茶")
    assert {project.id, other.id} == set((told.value.allowed or "").split(", "))
    studio.delete_project(other.id)
    assert studio.project_called("Tea house 茶") == project


def test_a_comparison_outlives_the_studio(begin: Callable[[], Studio]) -> None:
    first = begin()
    found = first.explore(comparison(y=None))
    first.close()
    assert begin().exploration(found.id) == found
