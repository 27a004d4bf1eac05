"""The Request that a Plan answers, for one picture: what "send to" and the infotext need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from danqing.prompt.infotext_fields import label
from danqing.spec.drag import DragPlan, DragRequest
from danqing.spec.model import ModelRef
from danqing.spec.plan import ControlPlan, PassPlan, Plan, RegionPlan, RegionWords
from danqing.spec.registry.samplers import find_sampler
from danqing.spec.registry.schedules import find_schedule
from danqing.spec.registry.upscalers import find_upscaler
from danqing.spec.request import REQUEST, Request
from danqing.spec.shortcuts import QUALITIES


def request_of_plan(plan: Plan) -> Request:
    """A Request for this one picture, with every field that the Plan knows."""
    base, seeds = plan.base, plan.seeds
    data: dict[str, Any] = {
        "kind": plan.kind,
        "prompt": base.text.prompt,
        "negative_prompt": base.text.negative_prompt,
        "emphasis": base.text.emphasis,
        "clip_skip": base.text.clip_skip,
        "model": base.model.name,
        "vae": plan.vae.name if plan.vae else None,
        "width_px": base.size.width_px,
        "height_px": base.size.height_px,
        "seed": seeds.seed,
        "seed_resize": seeds.resize_from,
        "noise": seeds.source,
        "eta_noise_seed_delta": seeds.eta_noise_seed_delta,
        "sampling": _sampling(base),
        "guidance": base.guidance.model_copy(update={"scale": base.guidance_scale}),
        "size_hints": base.size_hints,
        "controls": [_control(unit) for unit in plan.controls],
        "regions": [_region(*one) for one in zip(plan.regions, base.regions, strict=True)],
        "region_engine": plan.region_engine if plan.regions else None,
        "image_prompts": [one.model_dump() | {"image": f"sha256:{one.image}"} for one in plan.image_prompts],
        "image_mix": plan.image_mix,
        "image_adapter": _image_adapter(plan),
        "precision": plan.precision,
        "quality": plan.quality,
        "shortcuts": _shortcuts(plan),
        "output": plan.output,
        "parent": plan.parent,
    }
    if seeds.variation_strength:
        data["variation"] = {"seed": seeds.variation_seed, "strength": seeds.variation_strength}
    if base.refiner is not None:
        data["refiner"] = {
            "model": base.refiner.model.name,
            "switch_at": min(1.0, base.refiner.switch_step / base.sampling.steps),
        }
    if len(plan.painting) > 1:
        data["hires"] = _hires(base, plan.painting[1])
    if plan.retouch is not None:
        data["steps" if plan.kind == "retouch" else "finish"] = [one.step for one in plan.retouch.steps]
    return REQUEST.validate_python({**data, **_picture(plan)})


def model_fields(plan: Plan) -> dict[str, str]:
    """The hashes of the models in a Plan, as A1111 shows them."""
    fields = {"Model hash": _short(plan.base.model)}
    fields["Pipeline"] = ", ".join(one.pipeline for one in plan.passes if one.pipeline)
    if plan.vae is not None:
        fields["VAE hash"] = _short(plan.vae)
    found = [*plan.passes, *(part.refiner for part in plan.passes if part.refiner is not None)]
    lora = [network for part in found for network in part.networks if network.kind == "lora"]
    fields["Lora hashes"] = _hashes((network.model.name, network.short_hash) for network in lora)
    fields["TI hashes"] = _hashes((one.name, one.short_hash) for part in found for one in part.embeddings)
    return {key: value for key, value in fields.items() if value}


def _hashes(named: Iterable[tuple[str, str]]) -> str:
    """`name: hash` with commas between, as A1111 writes it; signs that would break the list are left out of names."""
    plain = {name.rpartition("/")[2].replace(":", "").replace(",", ""): short for name, short in named if short}
    return ", ".join(f"{name}: {short}" for name, short in plain.items())


def control_hashes(what: Request | Plan) -> list[str]:
    """The short hashes of a Plan's ControlNets; a Request knows none."""
    return [_short(unit.model) for unit in what.controls] if isinstance(what, Plan) else []


def _region(place: RegionPlan, words: RegionWords) -> dict[str, Any]:
    return {
        "prompt": words.text.prompt,
        "negative_prompt": words.text.negative_prompt if words.own_negative else None,
        "box": place.box,
        "mask": f"sha256:{place.mask}" if place.mask else None,
        "weight": place.weight,
        "feather_px": place.feather_px,
        "control": None if place.control is None else _control(place.control),
    }


def _control(unit: ControlPlan) -> dict[str, Any]:
    data = unit.model_dump(exclude={"cond_only"}) | {"model": unit.model.name}
    for name in ("image", "mask"):
        if data[name] is not None:
            data[name] = f"sha256:{data[name]}"
    return data


def _shortcuts(plan: Plan) -> dict[str, Any]:
    """The base pass's numbers that its quality does not stand for."""
    usual, own = QUALITIES[plan.quality].model_dump(), plan.base.shortcuts.model_dump()
    return {name: value for name, value in own.items() if value != usual[name]}


def _image_adapter(plan: Plan) -> str | None:
    """Its name; None where there is none, or where every model has its own."""
    found = [part.image_adapter for part in plan.passes]
    found += [part.refiner.image_adapter for part in plan.passes if part.refiner is not None]
    names = {adapter.model.name for adapter in found if adapter is not None}
    return names.pop() if len(names) == 1 else None


def _short(model: ModelRef) -> str:
    return model.sha256[:10]


def _sampling(step: PassPlan) -> dict[str, Any]:
    if step.pipeline is not None:
        return {"steps": step.sampling.steps}
    return {
        **step.sampling.model_dump(),
        "sampler": label(find_sampler, step.sampling.sampler),
        "schedule": label(find_schedule, step.sampling.schedule),
    }


def _hires(base: PassPlan, hires: PassPlan) -> dict[str, Any]:
    scale = hires.size.width_px / base.size.width_px
    by_scale = (
        round(base.size.height_px * scale) == hires.size.height_px and round(scale, 4) == scale and 1 <= scale <= 8
    )
    size = (
        {"scale": scale}
        if by_scale
        else {"scale": None, "width_px": hires.size.width_px, "height_px": hires.size.height_px}
    )
    differing: dict[str, Any] = {
        "prompt": (hires.text.prompt, base.text.prompt),
        "negative_prompt": (hires.text.negative_prompt, base.text.negative_prompt),
        "steps": (hires.sampling.steps, base.sampling.steps),
        "guidance_scale": (hires.guidance_scale, base.guidance_scale),
        "model": (hires.model.name, base.model.name),
        "sampler": (label(find_sampler, hires.sampling.sampler), label(find_sampler, base.sampling.sampler)),
        "schedule": (label(find_schedule, hires.sampling.schedule), label(find_schedule, base.sampling.schedule)),
    }
    if hires.pipeline is not None:
        differing |= {"steps": (hires.sampling.steps, None), "sampler": (None, None), "schedule": (None, None)}
    return {
        **size,
        "upscaler": label(find_upscaler, hires.upscaler) if hires.upscaler else "Latent",
        "strength": 0.6 if hires.strength is None else hires.strength,
        **{name: own for name, (own, first) in differing.items() if own != first},
    }


def _drag(drag: DragPlan, strength: float) -> dict[str, Any]:
    """The fields of a Request to drag; `strength` is the base pass's, which each mode calls by another name."""
    data: dict[str, Any] = {name: getattr(drag, name) for name in ("points", "mode", "method", "radius_px", "tuning")}
    if drag.mode == "fast":
        del data["method"], data["tuning"]
        data |= {"repair": strength, "strength": DragRequest.model_fields["strength"].default}
    return data | {
        "mask_feather_px": drag.mask_feather_px,
        "mask": f"sha256:{drag.mask}" if drag.mask else None,
    }


def _picture(plan: Plan) -> dict[str, Any]:
    """The fields of img2img, inpaint and outpaint Requests, and of changes of words."""
    if plan.words is not None:
        return plan.words.model_dump() | {"image": f"sha256:{plan.init.image}" if plan.init else None}
    if plan.init is None:
        return {}
    data: dict[str, Any] = {
        "image": f"sha256:{plan.init.image}",
        "strength": 1.0 if plan.base.strength is None else plan.base.strength,
        "exact_steps": plan.base.exact_steps,
        "resize_mode": plan.init.resize_mode,
        "initial_noise_multiplier": plan.init.initial_noise_multiplier,
        "colour_correction": plan.init.colour_correction,
    }
    if plan.kind == "inpaint" and plan.mask is not None:
        data |= {
            "mask": f"sha256:{plan.mask.mask}",
            "mask_blur_px": plan.mask.blur_px,
            "mask_inverted": plan.mask.inverted,
            "fill": plan.mask.fill,
            "only_masked": plan.mask.only_masked,
            "padding_px": plan.mask.padding_px,
            "soft": plan.mask.soft,
        }
    if plan.drag is not None:
        data |= _drag(plan.drag, data["strength"])
    if plan.kind == "outpaint" and plan.outpaint is not None:
        data |= {
            "margins": plan.outpaint.margins,
            "feather_px": plan.outpaint.feather_px,
            "fill": plan.outpaint.fill,
        }
    return data
