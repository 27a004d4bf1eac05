"""Pictures and sources for the tests of training sets."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int = 0, size: tuple[int, int] = (48, 32), kind: str = "PNG", mode: str = "RGB") -> bytes:
    """A picture that differs from those of other seeds, sharp."""
    rng = np.random.default_rng(seed)
    rough = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    rough.convert(mode).save(buffer, kind)
    return buffer.getvalue()


def sticker(size: tuple[int, int] = (40, 40)) -> bytes:
    """A picture that is opaque only in its left half."""
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    image.paste((200, 40, 40, 255), (0, 0, size[0] // 2, size[1]))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def lay(root: Path, files: dict[str, bytes | str]) -> Path:
    """Files below a folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def pack(files: dict[str, bytes | str]) -> io.BytesIO:
    """The same as a ZIP."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    buffer.seek(0)
    return buffer
