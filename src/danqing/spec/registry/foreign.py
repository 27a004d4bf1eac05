"""Pipelines of diffusers that paint as a whole: which classes may be loaded, and what each of them is for.

A diffusers folder names its class in `model_index.json`. Classes that are not here are not loaded. What a class takes
is read from its signature where it is run; here stands what no signature tells.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from danqing.spec.registry.foreign_info import ForeignInfo

PIPELINE_SAMPLER: Final = "pipeline"
"""Stands for sampler and schedule where a pipeline brings its own."""


def _kandinsky(index: str, family: str, name: str, version: str) -> tuple[ForeignInfo, ...]:
    """A decoder's folder, which needs its prior's, and a folder that has both."""
    combined = ForeignInfo(
        f"Kandinsky{version}CombinedPipeline",
        family,
        name,
        txt2img=f"Kandinsky{version}CombinedPipeline",
        img2img=f"Kandinsky{version}Img2ImgCombinedPipeline",
        inpaint=f"Kandinsky{version}InpaintCombinedPipeline",
        images=f"Kandinsky{version}CombinedPipeline",
        most_images=5,
        weighs=True,
        blends=True,
        steps=50,
        guidance=4.0,
        size_px=512,
        multiple_px=64,
    )
    prior = f"Kandinsky{version}PriorPipeline"
    indexes = (index, f"Kandinsky{version}Img2ImgPipeline", f"Kandinsky{version}InpaintPipeline")
    return (combined, *(replace(combined, index=one, prior=prior) for one in indexes))


def _cascade(family: str, name: str, start: str) -> tuple[ForeignInfo, ...]:
    """The same for the two cascades that paint in the space of pictures' small codes first."""
    combined = ForeignInfo(
        f"{start}CombinedPipeline",
        family,
        name,
        txt2img=f"{start}CombinedPipeline",
        steps=20,
        guidance=4.0,
        guidance_argument="prior_guidance_scale",
        steps_argument="prior_num_inference_steps",
        multiple_px=128,
    )
    if start == "StableCascade":
        combined = replace(combined, images=combined.txt2img, most_images=5)
    return combined, replace(combined, index=f"{start}DecoderPipeline", prior=f"{start}PriorPipeline")


FOREIGN: Final[tuple[ForeignInfo, ...]] = (
    ForeignInfo("PixArtAlphaPipeline", "pixart", "PixArt-α", "PixArtAlphaPipeline", steps=20),
    ForeignInfo("PixArtSigmaPipeline", "pixart", "PixArt-Σ", "PixArtSigmaPipeline", steps=20),
    ForeignInfo("SanaPipeline", "sana", "Sana", "SanaPipeline", steps=20, multiple_px=32),
    ForeignInfo(
        "SanaSprintPipeline",
        "sana",
        "Sana Sprint",
        "SanaSprintPipeline",
        "SanaSprintImg2ImgPipeline",
        steps=2,
        multiple_px=32,
    ),
    ForeignInfo(
        "QwenImagePipeline",
        "qwen_image",
        "Qwen-Image",
        "QwenImagePipeline",
        "QwenImageImg2ImgPipeline",
        "QwenImageInpaintPipeline",
        steps=50,
        guidance=4.0,
    ),
    ForeignInfo(
        "QwenImageEditPipeline",
        "qwen_image",
        "Qwen-Image-Edit",
        img2img="QwenImageEditPipeline",
        inpaint="QwenImageEditInpaintPipeline",
        whole=True,
        steps=50,
        guidance=4.0,
    ),
    ForeignInfo(
        "QwenImageEditPlusPipeline",
        "qwen_image",
        "Qwen-Image-Edit 2509",
        img2img="QwenImageEditPlusPipeline",
        images="QwenImageEditPlusPipeline",
        most_images=3,
        whole=True,
        steps=40,
        guidance=4.0,
    ),
    ForeignInfo(
        "ZImagePipeline",
        "z_image",
        "Z-Image",
        "ZImagePipeline",
        "ZImageImg2ImgPipeline",
        "ZImageInpaintPipeline",
        steps=50,
        guidance=5.0,
    ),
    *_kandinsky("KandinskyPipeline", "kandinsky21", "Kandinsky 2.1", ""),
    *_kandinsky("KandinskyV22Pipeline", "kandinsky22", "Kandinsky 2.2", "V22"),
    ForeignInfo(
        "Kandinsky3Pipeline",
        "kandinsky3",
        "Kandinsky 3",
        "Kandinsky3Pipeline",
        "Kandinsky3Img2ImgPipeline",
        steps=25,
        guidance=3.0,
        multiple_px=64,
    ),
    ForeignInfo(
        "StableUnCLIPPipeline",
        "unclip",
        "Stable unCLIP",
        "StableUnCLIPPipeline",
        steps=20,
        guidance=10.0,
        size_px=768,
        multiple_px=8,
    ),
    ForeignInfo(
        "StableUnCLIPImg2ImgPipeline",
        "unclip",
        "Stable unCLIP (SD-Reimagine)",
        images="StableUnCLIPImg2ImgPipeline",
        most_images=5,
        weighs=True,
        steps=20,
        guidance=10.0,
        size_px=768,
        multiple_px=8,
    ),
    ForeignInfo(
        "StableDiffusionImageVariationPipeline",
        "image_variation",
        "Stable Diffusion image variations",
        images="StableDiffusionImageVariationPipeline",
        most_images=1,
        words=False,
        steps=50,
        guidance=7.5,
        size_px=512,
        multiple_px=8,
    ),
    ForeignInfo(
        "StableDiffusionDepth2ImgPipeline",
        "depth2img",
        "Stable Diffusion 2 depth",
        img2img="StableDiffusionDepth2ImgPipeline",
        steps=50,
        guidance=7.5,
        size_px=512,
        multiple_px=8,
    ),
    ForeignInfo(
        "StableDiffusionUpscalePipeline",
        "sd_upscale",
        "Stable Diffusion ×4",
        enlarges=4,
        steps=50,
        guidance=9.0,
        size_px=512,
        multiple_px=8,
    ),
    ForeignInfo(
        "StableDiffusionLatentUpscalePipeline",
        "sd_upscale",
        "Stable Diffusion latent ×2",
        enlarges=2,
        steps=20,
        guidance=0.0,
        size_px=512,
        multiple_px=64,
    ),
    ForeignInfo(
        "IFPipeline",
        "deepfloyd_if",
        "DeepFloyd IF, first stage",
        "IFPipeline",
        "IFImg2ImgPipeline",
        "IFInpaintingPipeline",
        steps=100,
        guidance=7.0,
        size_px=64,
        multiple_px=8,
    ),
    ForeignInfo(
        "IFSuperResolutionPipeline",
        "deepfloyd_if",
        "DeepFloyd IF, second stage",
        enlarges=4,
        steps=50,
        guidance=4.0,
        size_px=256,
        multiple_px=8,
    ),
    *_cascade("stable_cascade", "Stable Cascade", "StableCascade"),
    *_cascade("wuerstchen", "Würstchen", "Wuerstchen"),
    ForeignInfo("HunyuanDiTPipeline", "hunyuan_dit", "Hunyuan-DiT", "HunyuanDiTPipeline", steps=50, guidance=5.0),
    ForeignInfo(
        "HunyuanImagePipeline",
        "hunyuan_image",
        "HunyuanImage 2.1",
        "HunyuanImagePipeline",
        steps=50,
        guidance=3.25,
        guidance_argument="distilled_guidance_scale",
        size_px=2048,
        multiple_px=32,
    ),
    ForeignInfo("LuminaPipeline", "lumina", "Lumina-Next", "LuminaPipeline", steps=30, guidance=4.0),
    ForeignInfo("Lumina2Pipeline", "lumina2", "Lumina 2", "Lumina2Pipeline", steps=30, guidance=4.0),
    ForeignInfo("AuraFlowPipeline", "aura_flow", "AuraFlow", "AuraFlowPipeline", steps=50, guidance=3.5),
    ForeignInfo(
        "ChromaPipeline",
        "chroma",
        "Chroma",
        "ChromaPipeline",
        "ChromaImg2ImgPipeline",
        "ChromaInpaintPipeline",
        steps=35,
        guidance=5.0,
        guidance_argument="guidance_scale",
    ),
    ForeignInfo(
        "CogView3PlusPipeline",
        "cogview3",
        "CogView 3 Plus",
        "CogView3PlusPipeline",
        steps=50,
        guidance=5.0,
        multiple_px=32,
    ),
    ForeignInfo(
        "CogView4Pipeline", "cogview4", "CogView 4", "CogView4Pipeline", steps=50, guidance=5.0, multiple_px=32
    ),
    ForeignInfo("HiDreamImagePipeline", "hidream", "HiDream", "HiDreamImagePipeline", steps=50, guidance=5.0),
    ForeignInfo("OvisImagePipeline", "ovis_image", "Ovis-Image", "OvisImagePipeline", steps=50, guidance=5.0),
    ForeignInfo("PRXPipeline", "prx", "PRX", "PRXPipeline", steps=28, guidance=4.0, size_px=512),
    ForeignInfo(
        "FluxFillPipeline",
        "flux-fill",
        "FLUX.1 fill",
        inpaint="FluxFillPipeline",
        steps=50,
        guidance=30.0,
        guidance_argument="guidance_scale",
    ),
    ForeignInfo(
        "FluxKontextPipeline",
        "flux-kontext",
        "FLUX.1 kontext",
        txt2img="FluxKontextPipeline",
        img2img="FluxKontextPipeline",
        inpaint="FluxKontextInpaintPipeline",
        whole=True,
        steps=28,
        guidance=3.5,
        guidance_argument="guidance_scale",
    ),
    ForeignInfo(
        "FluxControlPipeline",
        "flux-control",
        "FLUX.1 canny or depth",
        img2img="FluxControlPipeline",
        whole=True,
        steps=50,
        guidance=30.0,
        guidance_argument="guidance_scale",
    ),
    ForeignInfo(
        "Flux2Pipeline",
        "flux2",
        "FLUX.2",
        txt2img="Flux2Pipeline",
        img2img="Flux2Pipeline",
        images="Flux2Pipeline",
        most_images=5,
        whole=True,
        steps=50,
        guidance=4.0,
    ),
    ForeignInfo(
        "Flux2KleinPipeline",
        "flux2",
        "FLUX.2 klein",
        txt2img="Flux2KleinPipeline",
        img2img="Flux2KleinPipeline",
        inpaint="Flux2KleinInpaintPipeline",
        images="Flux2KleinPipeline",
        most_images=5,
        whole=True,
        steps=50,
        guidance=4.0,
    ),
    ForeignInfo(
        "OmniGenPipeline",
        "omnigen",
        "OmniGen",
        txt2img="OmniGenPipeline",
        steps=50,
        guidance=2.5,
    ),
)
_BY_INDEX = {info.index: info for info in FOREIGN}
FOREIGN_FAMILIES: Final = frozenset(info.family for info in FOREIGN)
PRIORS: Final = frozenset(info.prior for info in FOREIGN if info.prior)
"""Classes of folders that paint nothing by themselves: they are loaded with another folder."""


def find_foreign(index: str) -> ForeignInfo | None:
    """What the class in a `model_index.json` is for; None where Danqing's own engine paints it, or nothing does.

    >>> find_foreign("KandinskyV22Pipeline").prior
    'KandinskyV22PriorPipeline'
    """
    return _BY_INDEX.get(index)


def is_foreign(family: str) -> bool:
    """Whether models of a family are painted by their own pipeline."""
    return family in FOREIGN_FAMILIES
