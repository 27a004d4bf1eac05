"""Pipelines of diffusers that paint as a whole: each equals diffusers called directly, with the engine around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from danqing.engine import Engine, EngineOptions, Progressed
from danqing.pipelines import expected_calls, paint
from danqing.prompt.infotext import parse_infotext, request_from_infotext, to_infotext
from danqing.spec.errors import BadFileError, CancelledError, InvalidRequestError, OutOfMemoryError, UnsupportedError
from danqing.spec.plan import Plan
from easel import Easel, box_mask, into, numbers, photo
from tiny_models import build
from tiny_pipelines import make

ROOT = "Stable-diffusion"
SEED = 7
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    home = tmp_path_factory.mktemp("foreign")
    folder = home / ROOT
    make(folder / "pixart", "PixArtSigmaPipeline", call={"use_resolution_binning": False})
    make(folder / "kandinsky", "KandinskyV22Pipeline", call={"prior_num_inference_steps": 2})
    make(folder / "kandinsky-prior", "KandinskyV22PriorPipeline", seed=1)
    make(folder / "unclip", "StableUnCLIPImg2ImgPipeline")
    make(folder / "variations", "StableDiffusionImageVariationPipeline")
    small = {"size_px": 16, "steps": 2}
    make(folder / "if-1", "IFPipeline", next_stage="if-2", defaults=small)
    make(folder / "if-2", "IFSuperResolutionPipeline", seed=1, defaults=small)
    build(folder / "tiny", seed=1)
    return Easel(home)


def pipeline(studio: Easel, name: str, folder: str, **parts: Any) -> Any:
    kind: Any = getattr(diffusers, name)
    found = kind.from_pretrained(studio.models_dir / ROOT / folder, local_files_only=True, **parts)
    found.set_progress_bar_config(disable=True)
    return found


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def kandinsky(studio: Easel, name: str) -> Any:
    prior = pipeline(studio, "KandinskyV22PriorPipeline", "kandinsky-prior")
    decoder = pipeline(studio, "KandinskyV22Pipeline", "kandinsky")
    found = getattr(diffusers, name)(**decoder.components, **{f"prior_{k}": v for k, v in prior.components.items()})
    found.set_progress_bar_config(disable=True)
    return found


def same(ours: Image.Image, theirs: Image.Image) -> bool:
    return bool(np.array_equal(numbers(ours), numbers(theirs))) and numbers(ours).std() > 1


def test_words_to_a_picture(studio: Easel):
    ours = studio.one(model="pixart", prompt="a (red:1.2) cat", negative_prompt="dog", width_px=32, height_px=48)
    theirs = pipeline(studio, "PixArtSigmaPipeline", "pixart")(
        prompt="a red cat",
        negative_prompt="dog",
        width=32,
        height=48,
        num_inference_steps=3,
        guidance_scale=4.5,
        use_resolution_binning=False,
        generator=noise(),
    )
    assert same(ours, theirs.images[0])


def test_a_decoder_finds_its_prior(studio: Easel):
    info = studio.catalog.find("kandinsky")
    assert info.foreign is not None
    assert Path(str(info.foreign.prior_path)).name == "kandinsky-prior"
    assert "kandinsky-prior" not in {one.name for one in studio.catalog.list()}
    ours = studio.one(model="kandinsky", prompt="a cat", negative_prompt="a dog", sampling={"steps": 2})
    theirs = kandinsky(studio, "KandinskyV22CombinedPipeline")(
        prompt="a cat",
        negative_prompt="a dog",
        prior_num_inference_steps=2,
        num_inference_steps=2,
        guidance_scale=4.0,
        height=32,
        width=32,
        generator=noise(),
    )
    assert same(ours, theirs.images[0])


def test_a_picture_to_a_picture(studio: Easel):
    image = photo(32, 32)
    asked = {"model": "kandinsky", "kind": "img2img", "image": studio.picture(image), "strength": 0.6}
    ours = studio.one(prompt="a cat", sampling={"steps": 4}, **asked)
    theirs = kandinsky(studio, "KandinskyV22Img2ImgCombinedPipeline")(
        prompt="a cat",
        image=image,
        strength=0.6,
        prior_num_inference_steps=2,
        num_inference_steps=4,
        guidance_scale=4.0,
        height=32,
        width=32,
        generator=noise(),
    )
    assert same(ours, theirs.images[0])


def test_what_is_not_masked_stays(studio: Easel):
    image, mask = photo(32, 32), box_mask(32, 32, (8, 8, 24, 24))
    ours = studio.pixels(
        model="if-1",
        kind="inpaint",
        image=studio.picture(image),
        mask=studio.picture(mask),
        mask_blur_px=0,
        strength=1.0,
        hires={"model": "tiny", "scale": 1, "strength": 0},
    )
    kept = np.asarray(mask) == 0
    assert ours.shape == (32, 32, 3)
    assert not np.array_equal(ours[~kept], numbers(image)[~kept])


def test_a_blend_of_pictures_and_texts(studio: Easel):
    one, other = photo(40, 32, seed=1), photo(32, 32, seed=2)
    prompts = [
        {"image": studio.picture(one), "weight": 0.6},
        {"image": studio.picture(other), "weight": 0.2},
    ]
    ours = studio.one(model="kandinsky", prompt="a cat :0.4 AND the dog :0.8", image_prompts=prompts)
    whole = kandinsky(studio, "KandinskyV22CombinedPipeline")
    generator = noise()
    between = whole.prior_pipe.interpolate(
        [one, other, "a cat", "the dog"],
        [0.3, 0.1, 0.2, 0.4],
        num_inference_steps=2,
        guidance_scale=4.0,
        generator=generator,
    )
    theirs = whole.decoder_pipe(
        image_embeds=between.image_embeds,
        negative_image_embeds=between.negative_image_embeds,
        height=32,
        width=32,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=generator,
    )
    assert np.abs(numbers(ours) - numbers(theirs.images[0])).max() <= 1


def test_variations_of_a_picture(studio: Easel):
    image = photo(48, 48)
    prompts = [{"image": studio.picture(image)}]
    ours = studio.one(model="unclip", prompt="a cat", image_prompts=prompts)
    paints = pipeline(studio, "StableUnCLIPImg2ImgPipeline", "unclip")
    options = {"height": 32, "width": 32, "num_inference_steps": 3}
    theirs = paints(image, "a cat", guidance_scale=10.0, generator=noise(), **options)
    assert same(ours, theirs.images[0])
    # Half the weight hides half of the picture's vector behind noise.
    ours = studio.one(model="unclip", prompt="a cat", image_prompts=[{**prompts[0], "weight": 0.5}])
    theirs = paints(image, "a cat", guidance_scale=10.0, noise_level=500, generator=noise(), **options)
    assert same(ours, theirs.images[0])
    # Without words too, by a pipeline that reads none.
    ours = studio.one(model="variations", prompt="", image_prompts=prompts)
    paints = pipeline(studio, "StableDiffusionImageVariationPipeline", "variations", safety_checker=None)
    assert same(ours, paints(image, guidance_scale=7.5, generator=noise(), **options).images[0])


def test_a_blend_lies_between(studio: Easel):
    one, other = ({"image": studio.picture(photo(32, 32, seed=seed))} for seed in (1, 2))
    alone = studio.pixels(model="unclip", prompt="", image_prompts=[one])
    near = studio.pixels(model="unclip", prompt="", image_prompts=[one, {**other, "weight": 0.01}])
    half = studio.pixels(model="unclip", prompt="", image_prompts=[one, other])
    assert 0 < np.abs(near - alone).mean() < np.abs(half - alone).mean()


def test_a_cascade_enlarges_by_its_next_stage(studio: Easel):
    (planned,) = studio.plans(model="if-1", prompt="a cat")
    assert [(step.pipeline, step.size.width_px) for step in planned.passes] == [
        ("IFPipeline", 16),
        ("IFSuperResolutionPipeline", 64),
    ]
    ours = studio.one(model="if-1", prompt="a cat")
    options: dict[str, Any] = {"num_inference_steps": 2, "prompt": "a cat"}
    first = pipeline(studio, "IFPipeline", "if-1")
    small = first(height=16, width=16, guidance_scale=7.0, generator=noise(), **options).images[0]
    second = pipeline(studio, "IFSuperResolutionPipeline", "if-2")
    theirs = second(image=small, height=64, width=64, guidance_scale=4.0, generator=noise(), **options)
    assert same(ours, theirs.images[0])


def test_a_pipeline_enlarges_what_another_engine_painted(studio: Easel):
    ours = studio.one(model="tiny", prompt="a cat", width_px=16, height_px=16, hires={"model": "if-2"})
    small = studio.one(model="tiny", prompt="a cat", width_px=16, height_px=16)
    theirs = pipeline(studio, "IFSuperResolutionPipeline", "if-2")(
        image=small, prompt="a cat", height=64, width=64, num_inference_steps=2, generator=noise()
    )
    assert same(ours, theirs.images[0])


def test_others_get_their_turn_between_steps_and_change_nothing(studio: Easel):
    long = studio.plans(model="pixart", prompt="a cat", sampling={"steps": 9})[0]
    like = studio.plans(model="unclip", prompt="", image_prompts=[{"image": studio.picture(photo(32, 32))}])[0]
    short = [*studio.plans(model="pixart", prompt="a dog"), *studio.plans(model="tiny", sampling={"steps": 2}), like]
    engine = Engine(studio.executor, EngineOptions(preview_every=0))
    ended: dict[str, Any] = {}

    def submit(name: str, planned: Plan) -> None:
        engine.submit(name, paint(planned, studio.pictures), into(ended), expected_calls=expected_calls(planned))

    submit("long", long)
    for _ in range(3):
        engine.tick()
    for at, planned in enumerate(short):
        submit(str(at), planned)
    engine.run_until_idle()
    assert list(ended)[-1] == "long"
    for name, planned in zip((*"012", "long"), (*short, long), strict=True):
        assert same(ended[name].result, studio.paint_plans([planned])[0])


def test_progress_and_cancel_within_a_step(studio: Easel):
    (planned,) = studio.plans(model="kandinsky", prompt="a cat", sampling={"steps": 5})
    engine = Engine(studio.executor, EngineOptions(preview_every=0))
    seen: list[Any] = []

    def sink(event: Any) -> None:
        seen.append(event)
        if isinstance(event, Progressed) and event.step == 2:
            engine.cancel("one")

    engine.submit("one", paint(planned, studio.pictures), sink)
    engine.run_until_idle()
    steps = [event.step for event in seen if isinstance(event, Progressed)]
    assert steps == [0, 1, 2]
    assert isinstance(seen[-1].error, CancelledError)


def test_too_little_memory_begins_again(studio: Easel, monkeypatch: pytest.MonkeyPatch):
    (planned,) = studio.plans(model="pixart", prompt="a cat")
    expected = studio.paint_plans([planned])[0]
    studio.one(model="tiny")
    kind = type(studio.loader.foreign(planned.base.model, "float32").parts["transformer"])
    plain, tries = kind.forward, [0]

    def failing(self: Any, *args: Any, **options: Any) -> Any:
        tries[0] += 1
        if tries[0] == 2:
            raise torch.OutOfMemoryError("no room")
        return plain(self, *args, **options)

    monkeypatch.setattr(kind, "forward", failing)
    assert same(studio.paint_plans([planned])[0], expected)
    monkeypatch.setattr(kind, "forward", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError("no room")))
    with pytest.raises(OutOfMemoryError):
        studio.paint_plans([planned])


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"prompt": "a cat <lora:style:1>"}, "prompt"),
        ({"prompt": "a [red:blue:0.5] cat"}, "prompt"),
        ({"prompt": "a cat AND a dog"}, "prompt"),
        ({"sampling": {"sampler": "DPM++ 2M"}}, "sampling.sampler"),
        ({"sampling": {"eta": 0.5}}, "sampling.eta"),
        ({"guidance": {"pag_scale": 3}}, "guidance.pag_scale"),
        ({"variation": {"strength": 0.2}}, "variation"),
        ({"clip_skip": 2}, "clip_skip"),
        ({"precision": "float8"}, "precision"),
        ({"refiner": {"model": "tiny"}}, "refiner"),
        (
            {"regions": [{"prompt": "a dog", "box": {"left_px": 0, "top_px": 0, "right_px": 8, "bottom_px": 8}}]},
            "regions",
        ),
        ({"hires": {"scale": 2}}, "hires.model"),
        ({"controls": [{"model": "canny", "image": "sha256:" + "0" * 64}]}, "controls"),
        ({"image_prompts": [{"image": "sha256:" + "0" * 64}]}, "image_prompts"),
        ({"kind": "img2img"}, "model"),
        ({"model": "if-2"}, "model"),
        ({"model": "variations", "prompt": "a cat"}, "image_prompts"),
    ],
)
def test_what_a_pipeline_cannot_do_is_refused_before_it_starts(studio: Easel, asked: dict[str, Any], field: str):
    if asked.get("kind") == "img2img":
        asked = {**asked, "image": studio.picture(photo(32, 32))}
    with pytest.raises(InvalidRequestError) as caught:
        studio.plans(**{"model": "pixart", "prompt": "a cat", **asked})
    assert caught.value.field == field
    assert caught.value.next_step


def test_code_in_a_folder_is_never_run(studio: Easel, tmp_path: Path):
    folder = make(tmp_path / ROOT / "bad", "PixArtSigmaPipeline")
    (folder / "transformer" / "mine.py").write_text("raise SystemExit", encoding="utf-8")
    with pytest.raises(BadFileError, match="code of its own"):
        Easel(tmp_path).one(model="bad", prompt="a cat")
    (folder / "transformer" / "mine.py").unlink()
    index = folder / "model_index.json"
    index.write_text(index.read_text(encoding="utf-8").replace('"diffusers",', '"mine",', 1), encoding="utf-8")
    with pytest.raises(BadFileError, match="library that is not loaded"):
        Easel(tmp_path).one(model="bad", prompt="a cat")


def test_an_argument_that_the_pipeline_has_not(tmp_path: Path):
    make(tmp_path / ROOT / "odd", "PixArtSigmaPipeline", call={"eta_of_mine": 1})
    with pytest.raises(UnsupportedError, match="eta_of_mine"):
        Easel(tmp_path).one(model="odd", prompt="a cat")


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "if-1", "seed": 11},
        {"model": "pixart", "guidance": {"scale": 3}, "hires": {"model": "tiny", "scale": 1.5}},
        {"model": "kandinsky", "hires": {"scale": 2, "strength": 0.4}},
    ],
)
def test_an_infotext_tells_the_pipeline_and_gives_the_plan_again(studio: Easel, asked: dict[str, Any]):
    (planned,) = studio.plans(**asked)
    text = to_infotext(planned)
    assert str(planned.base.pipeline) in parse_infotext(text).fields["Pipeline"]
    assert "Sampler: pipeline" not in text
    read = request_from_infotext(text)
    assert not read.notes
    assert "Pipeline" not in (read.rest or {})
    again = studio.plans(**read.request.model_dump(exclude={"precision"}, exclude_none=True))
    ours, theirs = ([one.model_dump(exclude={"guidance"}) for one in two.passes] for two in (again[0], planned))
    assert ours == theirs
