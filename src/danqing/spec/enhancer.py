"""Files that retouching uses besides models and upscalers: face restorers and detectors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from danqing.spec.base import Data
from danqing.spec.model import ModelRef

EnhancerKind = Literal["restorer", "detector"]


class EnhancerFile(Data):
    """A face restorer or a detector in the catalogue."""

    kind: EnhancerKind
    name: str = Field(description="what a person types: the file's name without suffix")
    path: str
    sha256: str = Field(description="content hash of the file")

    @property
    def ref(self) -> ModelRef:
        """How a Plan names it; what stands for the family is its kind."""
        return ModelRef(name=self.name, sha256=self.sha256, family=self.kind)
