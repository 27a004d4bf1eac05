"""What routes are given: the studio, and ids that were checked."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Path
from fastapi import Request as HttpRequest

from danqing.studio.service import Studio


def get_studio(request: HttpRequest) -> Studio:
    """The studio that `create_app` was given."""
    return cast("Studio", request.app.state.studio)


StudioDep = Annotated[Studio, Depends(get_studio)]
Id = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="an id as the API gave it")]
