"""The route that lists the model files of the studio's folders."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from danqing.server.deps import StudioDep
from danqing.spec.files import FileKind, ModelFile

router = APIRouter(tags=["catalogue"])


class ModelFileList(BaseModel):
    """Model files, by path."""

    files: list[ModelFile]
    total: int = Field(description="how many there are without `limit` and `offset`")
    kinds: dict[str, int] = Field(description="how many of each kind; `unreadable` for those that cannot be read")


@router.get("/models/files")
def model_files(
    studio: StudioDep,
    kind: Annotated[FileKind | None, Query(description="only this kind")] = None,
    family: Annotated[str | None, Query(max_length=64, description="only for this family: sd1, sdxl, flux, …")] = None,
    limit: Annotated[int, Query(ge=0, le=20_000)] = 1000,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> ModelFileList:
    """Every file of weights in the models folder, identified by its tensors' names and shapes.

    Files that cannot be read are there too, with the reason.
    """
    found = studio.scan_models()
    kinds: dict[str, int] = {}
    for file in found:
        name = file.identity.kind if file.identity is not None else "unreadable"
        kinds[name] = kinds.get(name, 0) + 1
    wanted = [file for file in found if _fits(file, kind, family)]
    return ModelFileList(files=wanted[offset : offset + limit], total=len(wanted), kinds=kinds)


def _fits(file: ModelFile, kind: FileKind | None, family: str | None) -> bool:
    if kind is None and family is None:
        return True
    identity = file.identity
    return identity is not None and kind in {None, identity.kind} and family in {None, identity.family}
