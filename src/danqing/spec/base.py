"""The base of every data model: frozen, strict about unknown keys, no NaN."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of a stored blob, lower-case hex")]
Seed = Annotated[int, Field(ge=0, le=2**64 - 1)]
PictureRef = Annotated[
    str,
    Field(
        pattern=r"^(sha256:[0-9a-f]{64}|record:[0-9A-Za-z_-]{1,64})$",
        description="`sha256:<hex>` of an uploaded picture, or `record:<id>` of a painted one",
    ),
]
MAX_SIDE_PX = 4096
MIN_SIDE_PX = 16
MAX_SCALE = 8.0
"""How many times larger a picture can be made at once."""
MAX_UPSCALED_SIDE_PX = 16_384


class Data(BaseModel):
    """Immutable plain data; unknown keys and non-finite numbers are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
