"""The numbers that can be set on samplers: labels, limits and hints."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from danqing.spec.errors import InvalidRequestError


@dataclass(frozen=True)
class OptionInfo:
    """A number that can be set on a sampler.

    Attributes:
        key: Field of `SamplerOptions`.
        name: The label of AUTOMATIC1111's infotext, or a plain one where it has none.
        low: Lowest value allowed.
        high: Highest value allowed.
        hint: One plain sentence for the UI.
        whole: Whether only whole numbers make sense.
    """

    key: str
    name: str
    low: float
    high: float
    hint: str
    whole: bool = False

    def check(self, value: float) -> float:
        """The value, if it is allowed.

        Raises:
            InvalidRequestError: If it is out of range, not a number, or not whole where it must be.
        """
        inside = self.low <= value <= self.high
        if not inside or (self.whole and value != int(value)):
            kind = "a whole number" if self.whole else "a number"
            raise InvalidRequestError(
                f"{self.name} cannot have this value",
                field=f"sampler_options.{self.key}",
                value=value,
                allowed=f"{kind} from {self.low:g} to {self.high:g}",
                next_step="leave it empty for the sampler's own value",
            )
        return value


SAMPLER_OPTIONS: tuple[OptionInfo, ...] = (
    OptionInfo("eta", "Eta", 0.0, 2.0, "Share of fresh noise in each step: 0 is calm, 1 is full."),
    OptionInfo("s_churn", "Sigma churn", 0.0, 100.0, "Noise added before steps; a little gives texture."),
    OptionInfo("s_tmin", "Sigma tmin", 0.0, 10.0, "Noise level below which no churn is added."),
    OptionInfo("s_tmax", "Sigma tmax", 0.0, inf, "Noise level above which no churn is added."),
    OptionInfo("s_noise", "Sigma noise", 0.0, 1.1, "Strength of the fresh noise; just above 1 sharpens."),
    OptionInfo("r", "DPM++ SDE r", 0.1, 0.9, "Where in the step the second look is taken."),
    OptionInfo("order", "Order", 1, 4, "How many earlier steps count; lower is steadier at high guidance.", whole=True),
    OptionInfo("rtol", "Relative tolerance", 1e-4, 1.0, "How exact the adaptive sampler is; smaller is slower."),
    OptionInfo("atol", "Absolute tolerance", 1e-5, 1.0, "How exact the adaptive sampler is; smaller is slower."),
    OptionInfo("h_init", "First step", 1e-3, 1.0, "Length of the adaptive sampler's first step."),
    OptionInfo("pcoeff", "P coefficient", -1.0, 1.0, "Proportional part of the adaptive step control."),
    OptionInfo("icoeff", "I coefficient", 0.0, 2.0, "Integral part of the adaptive step control."),
    OptionInfo("dcoeff", "D coefficient", -1.0, 1.0, "Derivative part of the adaptive step control."),
    OptionInfo("accept_safety", "Accept safety", 0.1, 1.0, "How readily the adaptive sampler accepts a step."),
)
"""Limits of the numeric options; `variant` ("bh1", "bh2") and `lower_order_final` (yes or no) are UniPC's others."""
