"""The axes of a comparison (A1111's X/Y/Z plot): what is tried out, and where it stands in a Request.

Names are A1111's where it has the axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from danqing.spec.registry.lookup import match, unknown

AxisValue = Literal["integer", "number", "text", "size", "order", "replace", "network"]
"""How values are read: whole numbers and numbers may be ranges, `replace` is the prompt's search and replace."""


@dataclass(frozen=True)
class AxisInfo:
    """Something that can be tried out.

    Attributes:
        key: Stable name.
        name: Label for people.
        path: The Request's field, dotted; lists by number.
        values: How the values are read.
        example: Values as a person may type them.
        hint: One plain sentence.
        slow: How much it costs to go from one value to the next: 0 nothing, 1 other weights beside, 2 another model.
        empty: A value that leaves the choice to the model, where there is one.
        aliases: Other accepted spellings.
    """

    key: str
    name: str
    path: str
    values: AxisValue
    example: str
    hint: str
    slow: int = 0
    empty: str = ""
    aliases: tuple[str, ...] = ()


AXES: tuple[AxisInfo, ...] = (
    AxisInfo("seed", "Seed", "seed", "integer", "1-4", "Other noise: other drawings of the same words."),
    AxisInfo("variation_seed", "Var. seed", "variation.seed", "integer", "1-4", "The second seed of a variation."),
    AxisInfo(
        "variation_strength",
        "Var. strength",
        "variation.strength",
        "number",
        "0-0.4 (+0.1)",
        "How much of the second seed is mixed in.",
    ),
    AxisInfo("steps", "Steps", "sampling.steps", "integer", "10, 20, 30", "More steps, more detail and more time."),
    AxisInfo("guidance", "CFG Scale", "guidance.scale", "number", "1-9 (+2)", "How strictly the words are followed."),
    AxisInfo(
        "distilled_guidance",
        "Distilled CFG Scale",
        "guidance.distilled",
        "number",
        "2, 3.5, 5",
        "What FLUX dev is told of its guidance.",
    ),
    AxisInfo("rescale", "CFG Rescale", "guidance.rescale", "number", "0-1 [3]", "Takes back burnt colours."),
    AxisInfo("pag", "PAG scale", "guidance.pag_scale", "number", "0, 2, 4", "Perturbed-attention guidance."),
    AxisInfo(
        "replace",
        "Prompt S/R",
        "prompt",
        "replace",
        "cat, dog, fox",
        "The first word is looked for in the prompts, each of the list stands in its place.",
        aliases=("Prompt search and replace", "S/R"),
    ),
    AxisInfo(
        "order",
        "Prompt order",
        "prompt",
        "order",
        "3d, dark blue background",
        "These parts of the prompt in every order.",
    ),
    AxisInfo(
        "strength",
        "Denoising",
        "strength",
        "number",
        "0.3-0.9 (+0.2)",
        "How far from the picture; of the second, larger pass where there is no picture.",
        aliases=("Denoising strength",),
    ),
    AxisInfo("sampler", "Sampler", "sampling.sampler", "text", "Euler a, DPM++ 2M", "How the noise is taken away."),
    AxisInfo("schedule", "Schedule type", "sampling.schedule", "text", "Karras, Exponential", "Where the steps lie."),
    AxisInfo(
        "sigma_min", "Schedule min sigma", "sampling.sigma_min", "number", "0.03, 0.1", "The smallest noise level."
    ),
    AxisInfo("sigma_max", "Schedule max sigma", "sampling.sigma_max", "number", "10, 14.6", "The largest noise level."),
    AxisInfo("rho", "Schedule rho", "sampling.rho", "number", "3, 7", "How the levels crowd towards the end."),
    AxisInfo("eta", "Eta", "sampling.eta", "number", "0, 0.5, 1", "Fresh noise of ancestral samplers."),
    AxisInfo("churn", "Sigma Churn", "sampling.s_churn", "number", "0, 10", "Fresh noise of Euler and Heun."),
    AxisInfo("churn_min", "Sigma min", "sampling.s_tmin", "number", "0, 0.1", "Churn above this level only."),
    AxisInfo("churn_max", "Sigma max", "sampling.s_tmax", "number", "1, 10", "Churn below this level only."),
    AxisInfo("s_noise", "Sigma noise", "sampling.s_noise", "number", "1, 1.01", "How strong fresh noise is."),
    AxisInfo("clip_skip", "Clip skip", "clip_skip", "integer", "1, 2", "Which layer of the text encoder is read."),
    AxisInfo(
        "model",
        "Checkpoint name",
        "model",
        "text",
        "danqing-mini, danqing-mini-4step",
        "Which model paints.",
        slow=2,
        aliases=("Model", "Checkpoint"),
    ),
    AxisInfo("vae", "VAE", "vae", "text", "None, anything.vae.pt", "Which autoencoder.", slow=1, empty="none"),
    AxisInfo("network", "LoRA weight", "prompt", "network", "ink: 0-1 (+0.25)", "A LoRA at several strengths.", slow=1),
    AxisInfo("style", "Styles", "styles", "text", "None, Ink, Watercolour", "A style of styles.csv.", empty="none"),
    AxisInfo("size", "Size", "width_px", "size", "128x128, 192x128", "Width and height in pixels."),
    AxisInfo("noise", "RNG source", "noise", "text", "cpu, gpu, nv", "Where noise is drawn."),
    AxisInfo("precision", "Precision", "precision", "text", "float32, bfloat16", "Number formats.", slow=2),
    AxisInfo("hires_steps", "Hires steps", "hires.steps", "integer", "5, 10, 20", "Steps of the second pass."),
    AxisInfo("hires_scale", "Hires scale", "hires.scale", "number", "1.5, 2", "How much larger the second pass is."),
    AxisInfo("hires_sampler", "Hires sampler", "hires.sampler", "text", "Euler a, DPM++ 2M", "Of the second pass."),
    AxisInfo("hires_upscaler", "Hires upscaler", "hires.upscaler", "text", "latent, lanczos", "Before that pass."),
    AxisInfo(
        "refiner", "Refiner checkpoint", "refiner.model", "text", "None, refiner", "Who paints the end.", 2, "none"
    ),
    AxisInfo("refiner_at", "Refiner switch at", "refiner.switch_at", "number", "0.6, 0.8", "When it takes over."),
    AxisInfo(
        "initial_noise",
        "Initial noise multiplier",
        "initial_noise_multiplier",
        "number",
        "0.9, 1, 1.1",
        "How strong the first noise over a picture is.",
    ),
    AxisInfo("control_weight", "Control weight", "controls.0.weight", "number", "0-1 [3]", "Of the first control."),
    AxisInfo("control_start", "Control start", "controls.0.start", "number", "0, 0.2", "Of the first control."),
    AxisInfo("control_end", "Control end", "controls.0.end", "number", "0.5, 1", "Of the first control."),
    AxisInfo(
        "image_weight", "Image prompt weight", "image_prompts.0.weight", "number", "0.3, 0.6, 1", "Of the first one."
    ),
)


def find_axis(name: str, field: str = "axis") -> AxisInfo:
    """The axis with this key, label or alias.

    Raises:
        InvalidRequestError: There is none; the nearest ones are named.
    """
    found = match(AXES, name)
    if found is None:
        raise unknown(AXES, name, field=field, what="axis")
    return found
