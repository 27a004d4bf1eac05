"""Request + catalogue → Plans, one for each picture. Pure: the same input gives the same Plans."""

from __future__ import annotations

import math
import random
import secrets
from dataclasses import dataclass
from typing import Any, Protocol

from danqing.planning import drag, few_steps, foreign, pictures, sizes, words_edit
from danqing.planning.controls import ControlFinder, plan_controls, plan_region_controls
from danqing.planning.image_prompts import ImageAdapterFinder, adapter_for, plan_image_prompts
from danqing.planning.networks import NetworkFinder, NetworkPlanner
from danqing.planning.regions import check_networks, engine_for, engine_notes, plan_regions, region_words
from danqing.planning.retouch import Ground, RetouchFinder, plan_retouch
from danqing.planning.sampling import guidance_for, sampling_for, seeds_for
from danqing.planning.shortcuts import left_out
from danqing.planning.upscaling import chosen_upscaler
from danqing.planning.words import PromptLibrary, Words, words_of
from danqing.spec.drag import DragRequest
from danqing.spec.errors import InvalidRequestError, UnsupportedError
from danqing.spec.geometry import SizePx
from danqing.spec.model import ModelInfo
from danqing.spec.painting import Hires, InitRequest, InpaintRequest, OutpaintRequest
from danqing.spec.plan import (
    ControlPlan,
    ImageAdapterPlan,
    PassPlan,
    Plan,
    RefinerPlan,
    RegionWords,
    SeedPlan,
    TextPlan,
)
from danqing.spec.region import RegionEngine
from danqing.spec.request import Request
from danqing.spec.retouch import RetouchRequest

MAX_SEED = 2**32 - 1
MAX_STAGES = 3
"""How many models may follow each other by themselves: DeepFloyd IF has two after its first."""


class ModelFinder(ControlFinder, ImageAdapterFinder, NetworkFinder, RetouchFinder, Protocol):
    """What planning needs of the catalogue."""

    def find(self, name: str | None) -> ModelInfo:
        """The model with this name, or the built-in one for None.

        Raises:
            NotFoundError: There is none.
        """
        ...

    def find_vae(self, name: str) -> ModelInfo:
        """The autoencoder with this name: a file of its own, or the one of a model.

        Raises:
            NotFoundError: There is none.
        """
        ...


@dataclass(frozen=True)
class Inputs:
    """What planning knows of the world besides the Request.

    Attributes:
        image_size: Size of the init picture.
        mask_size: Size of the mask.
        rng_seed: Where random seeds come from; the operating system if not given.
        library: Styles and wildcards.
    """

    image_size: SizePx | None = None
    mask_size: SizePx | None = None
    rng_seed: int | None = None
    library: PromptLibrary | None = None


def plan(
    request: Request,
    catalog: ModelFinder,
    *,
    image_size: SizePx | None = None,
    mask_size: SizePx | None = None,
    rng_seed: int | None = None,
    library: PromptLibrary | None = None,
) -> tuple[Plan, ...]:
    """Resolve every default of a Request.

    Args:
        request: What a person asks for, with pictures named by content hash.
        catalog: Where models are found.
        image_size: Size of the init picture, if the Request has one.
        mask_size: Size of the mask, if it has one.
        rng_seed: Where random seeds come from; the operating system if not given.
        library: Styles and wildcards.

    Raises:
        InvalidRequestError: A value that makes no sense.
        NotFoundError: A model or style that is not there.
        UnsupportedError: Something this model cannot do.
    """
    prepared = words_edit.prepared(request, catalog)
    plans = _Planner(prepared, catalog, Inputs(image_size, mask_size, rng_seed, library)).plans()
    return words_edit.finished(request, prepared, plans, catalog, library)


class _Planner:
    def __init__(self, request: Request, catalog: ModelFinder, inputs: Inputs) -> None:
        self.request = request
        self.catalog = catalog
        self.inputs = inputs
        self.model = catalog.find(request.model)
        self.request = drag.prepared(request, self.model)
        self.random = random.Random(inputs.rng_seed if inputs.rng_seed is not None else secrets.randbits(64))  # noqa: S311
        self.seed = request.seed if request.seed is not None else self.random.randint(0, MAX_SEED)
        self.words = words_of(request, self.seed, inputs.library)
        if request.seed is None and self.words[0].seed is not None:
            self.seed = self.words[0].seed
        self.controls: tuple[ControlPlan, ...] = ()
        self.region_controls: tuple[ControlPlan | None, ...] = ()
        self.networks = NetworkPlanner(catalog)
        self.notes: list[str] = list(dict.fromkeys(note for words in self.words for note in words.notes))
        said = [(words.prompt, words.negative_prompt) for words in self.words]
        self.region_engine: RegionEngine = engine_for(request, self.model) if request.regions else "attention"
        self.notes += [*drag.notes(request), *engine_notes(request, self.model)]
        self.notes += foreign.check_base(request, self.model, said)

    def plans(self) -> tuple[Plan, ...]:
        request, sides = self.request, [self._base_size(words) for words in self.words]
        variation_seed = self._variation_seed()
        self._plan_controls()
        return tuple(
            self._plan(words, size, seeds_for(request, self.seed, index, variation_seed, self.model))
            for index, (words, size) in enumerate(zip(self.words, sides, strict=True))
        )

    def _plan(self, words: Words, size: SizePx, seeds: SeedPlan) -> Plan:
        request = self.request
        base = self._base_pass(words, size)
        base = base.model_copy(update={"regions": self._regions(base.text, self.model, seeds.seed)})
        passes = [base]
        if request.hires is not None:
            passes.append(self._hires_pass(request.hires, base, words))
            regions = self._regions(passes[-1].text, self._hires_model(request.hires), seeds.seed)
            passes[-1] = passes[-1].model_copy(update={"regions": regions})
        passes += self._next_stages(passes[-1], words)
        retouched = plan_retouch(self._ground(passes, seeds.seed))
        done, left = left_out(request, (*passes, *retouched.passes))
        return Plan(
            kind=request.kind,
            seeds=seeds,
            passes=done,
            vae=self.catalog.find_vae(request.vae).ref if request.vae else None,
            init=pictures.init_plan(request),
            mask=pictures.mask_plan(request),
            outpaint=pictures.outpaint_plan(request),
            drag=drag.drag_plan(request, size, self.inputs.image_size, self.inputs.mask_size),
            retouch=retouched.plan,
            controls=self.controls,
            regions=plan_regions(request, self._drawn_on(base), self.region_controls),
            region_engine=self.region_engine,
            image_prompts=plan_image_prompts(request),
            image_mix=request.image_mix,
            precision=request.precision,
            quality=request.quality,
            output=request.output,
            parent=request.parent,
            notes=tuple(dict.fromkeys((*self.notes, *retouched.notes, *left))),
        )

    def _ground(self, passes: list[PassPlan], seed: int) -> Ground:
        """What retouching stands on: the words of the base pass, and the picture as it is before."""
        retouches = isinstance(self.request, RetouchRequest)
        last = self._base_result(passes[0]) if retouches or len(passes) == 1 else passes[-1].size
        library = self.inputs.library
        return Ground(self.request, passes[0], self.model, self.catalog, library, seed, self._loaded, last, len(passes))

    def _regions(self, whole: TextPlan, model: ModelInfo, seed: int) -> tuple[RegionWords, ...]:
        def load(text: TextPlan) -> dict[str, Any]:
            return self._loaded(text, model)

        found = region_words(self.request, whole, seed, self.inputs.library, load)
        check_networks(found, self.region_engine)
        return found

    def _plan_controls(self) -> None:
        """Find the units of the whole and of regions, and see that they fit every model that paints."""
        request = self.request
        models = [("base", self.model)]
        if request.refiner is not None and request.refiner.switch_at < 1.0:
            models.append(("base", self.catalog.find(request.refiner.model)))
        if request.hires is not None:
            models.append(("hires", self._hires_model(request.hires)))
        self.controls = plan_controls(request, self.catalog, models)
        self.region_controls = plan_region_controls(request, self.region_engine, self.catalog, models)

    def _base_size(self, words: Words) -> SizePx:
        request, picture = self.request, self.inputs.image_size
        if isinstance(request, InitRequest) and picture is None:
            raise InvalidRequestError("the init picture is missing", field="image", next_step="upload a picture first")
        if isinstance(request, OutpaintRequest) and picture is not None:
            return sizes.outpaint_size(picture, request.margins, self.model)
        if isinstance(request, InpaintRequest):
            pictures.check_mask(self.inputs.mask_size, picture)
        if isinstance(request, RetouchRequest) or (isinstance(request, InpaintRequest) and request.only_masked):
            picture = None
        width_px, height_px = request.width_px, request.height_px
        if width_px is None and height_px is None and words.aspect is not None and picture is None:
            width_px, height_px = words.sides(self.model.defaults.size_px, self.model.latent_scale)
        size, notes = sizes.asked_size(width_px, height_px, self.model, picture)
        self.notes.extend(note for note in notes if note not in self.notes)
        return size

    def _variation_seed(self) -> int:
        variation = self.request.variation
        if variation is None:
            return 0
        return variation.seed if variation.seed is not None else self.random.randint(0, MAX_SEED)

    def _base_pass(self, words: Words, size: SizePx) -> PassPlan:
        request = self.request
        init = request if isinstance(request, InitRequest) else None
        text = self._text(words.prompt, words.negative_prompt)
        loaded = self._loaded(text, self.model)
        model = self._fitted(self.model, loaded)
        sampling = sampling_for(request.sampling, model)
        return PassPlan(
            kind="base",
            model=model.ref,
            size=size,
            text=text,
            sampling=sampling,
            guidance=guidance_for(request.guidance, model),
            size_hints=request.size_hints,
            guidance_scale=self._guidance_scale(words, model),
            strength=init.strength if init else None,
            exact_steps=init.exact_steps if init else False,
            refiner=self._refiner(sampling.steps, text),
            pipeline=foreign.class_for(request, model),
            image_adapter=self._adapter(model),
            **loaded,
        )

    def _fitted(self, model: ModelInfo, loaded: dict[str, Any]) -> ModelInfo:
        """A model that likes what a LoRA for few steps is made for, where the words load one."""
        networks = loaded.get("networks", ())
        model, found, name = few_steps.fitted(model, networks, [self.networks.names_of(one) for one in networks])
        self.notes.extend(note for note in few_steps.notes_of(self.request, found, name) if note not in self.notes)
        return model

    def _adapter(self, model: ModelInfo) -> ImageAdapterPlan | None:
        """What reads image prompts; a pipeline that paints as a whole reads them by itself."""
        return None if model.foreign is not None else adapter_for(self.request, self.catalog, model)

    def _text(self, prompt: str, negative_prompt: str) -> TextPlan:
        request = self.request
        return TextPlan(
            prompt=prompt, negative_prompt=negative_prompt, emphasis=request.emphasis, clip_skip=request.clip_skip
        )

    def _loaded(self, text: TextPlan, model: ModelInfo, *, refiner: bool = False) -> dict[str, Any]:
        """The fields of a pass that name what its words load besides the model."""
        if model.foreign is not None:
            return {}
        resolve = self.networks.of_refiner if refiner else self.networks.of_pass
        found = resolve(text.prompt, text.negative_prompt, model)
        self.notes.extend(note for note in found.notes if note not in self.notes)
        return {"networks": found.networks, "embeddings": found.embeddings}

    def _guidance_scale(self, words: Words, model: ModelInfo) -> float:
        asked, own = self.request.guidance.scale, model.defaults.guidance_scale
        if asked is not None:
            return asked
        # A distilled model wants no guidance at all, however strongly the words ask for style.
        return own if own <= 1.0 else own * (words.guidance_factor or 1.0)

    def _hires_pass(self, hires: Hires, base: PassPlan, words: Words) -> PassPlan:
        model = self._hires_model(hires)
        if model.foreign is not None:
            return self._foreign_hires(hires, model, base, words)
        if hires.width_px is not None or hires.height_px is not None:
            size, notes = sizes.asked_size(hires.width_px, hires.height_px, model, self._base_result(base))
        else:
            scale = hires.scale or 1.0
            before = self._base_result(base)
            wanted = (round(before.width_px * scale), round(before.height_px * scale))
            size, notes = sizes.checked_size(*wanted).rounded(model.latent_scale), ()
        self.notes.extend(note for note in notes if note not in self.notes)
        text = self._hires_text(hires, words)
        loaded = self._loaded(text, model)
        same, model = model == self.model, self._fitted(model, loaded)
        # What the Request leaves open follows the model that does the pass.
        inherited = base.sampling if same else sampling_for(self.request.sampling, model)
        own_sampler = hires.sampler is not None or hires.schedule is not None
        wanted_sampling = self.request.sampling.model_copy(
            update={
                "sampler": hires.sampler or inherited.sampler,
                "schedule": hires.schedule or (None if hires.sampler else inherited.schedule),
                "steps": hires.steps or inherited.steps,
            }
        )
        scale = hires.guidance_scale
        upscaler, upscaler_file = chosen_upscaler(hires.upscaler, self.catalog, "hires.upscaler")
        return PassPlan(
            kind="hires",
            model=model.ref,
            size=size,
            text=text,
            sampling=sampling_for(wanted_sampling, model)
            if own_sampler
            else inherited.model_copy(update={"steps": wanted_sampling.steps}),
            guidance=guidance_for(self.request.guidance, model),
            size_hints=self.request.size_hints,
            guidance_scale=self._guidance_scale(words, model) if scale is None else scale,
            strength=hires.strength,
            exact_steps=True,
            upscaler=upscaler,
            upscaler_file=upscaler_file,
            image_adapter=self._adapter(model),
            **loaded,
        )

    def _hires_model(self, hires: Hires) -> ModelInfo:
        """The one that was asked for, the next stage of the model, or the model itself."""
        following = None if self.model.foreign is None else self.model.foreign.next_stage
        name = hires.model or following
        return self.catalog.find(name) if name else self.model

    def _hires_text(self, hires: Hires, words: Words) -> TextPlan:
        negative = words.negative_prompt if hires.negative_prompt is None else hires.negative_prompt
        return self._text(hires.prompt or words.prompt, negative)

    def _foreign_hires(self, hires: Hires, model: ModelInfo, base: PassPlan, words: Words) -> PassPlan:
        text = self._hires_text(hires, words)
        self.notes += [note for note in foreign.check_hires(hires, model, text) if note not in self.notes]
        before = self._base_result(base) if base.kind == "base" else base.size
        return foreign.hires_pass(hires, model, before, text, self.request)

    def _next_stages(self, last: PassPlan, words: Words) -> list[PassPlan]:
        """Further passes by the models that a model's own folder names as its next stages."""
        found: list[PassPlan] = []
        while len(found) < MAX_STAGES:
            model = self.catalog.find(last.model.sha256) if last.pipeline is not None else None
            if model is None or model.foreign is None or model.foreign.next_stage is None:
                break
            last = self._foreign_hires(Hires(), self.catalog.find(model.foreign.next_stage), last, words)
            found.append(last)
        return found

    def _base_result(self, base: PassPlan) -> SizePx:
        """Size of the picture that the base pass hands on: inpainting pastes back, outpainting crops its canvas."""
        request, picture = self.request, self.inputs.image_size
        if picture is None:
            return base.size
        if isinstance(request, OutpaintRequest):
            return sizes.extended_size(picture, request.margins)
        if isinstance(request, (DragRequest, RetouchRequest)):
            return picture
        keeps = isinstance(request, InpaintRequest) and (request.only_masked or pictures.keeps_size(request))
        return picture if keeps else base.size

    def _drawn_on(self, base: PassPlan) -> SizePx:
        """Size of what regions are drawn on: the picture as the person sees it."""
        picture = self.inputs.image_size
        if picture is not None and isinstance(self.request, OutpaintRequest):
            return sizes.extended_size(picture, self.request.margins)
        return picture or base.size

    def _refiner(self, steps: int, text: TextPlan) -> RefinerPlan | None:
        refiner = self.request.refiner
        if refiner is None or refiner.switch_at >= 1.0:
            return None
        model = self.catalog.find(refiner.model)
        if (model.latent_channels, model.latent_scale) != (self.model.latent_channels, self.model.latent_scale):
            raise UnsupportedError(
                "the refiner's latents are of another kind than the model's",
                field="refiner.model",
                value=model.name,
                allowed=f"a model with {self.model.latent_channels} latent channels, as {self.model.name} has",
                next_step="choose a refiner of the same family",
            )
        return RefinerPlan(
            model=model.ref,
            switch_step=max(1, math.ceil(refiner.switch_at * steps - 1e-9)),
            image_adapter=self._adapter(model),
            **self._loaded(text, model, refiner=True),
        )
