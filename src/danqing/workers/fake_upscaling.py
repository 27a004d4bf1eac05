"""Upscaling without a network, for `FakePool`: Pillow's nearest neighbour, at exactly the planned size."""

from __future__ import annotations

import io

from PIL import Image

from danqing.store.blobs import BlobStore
from danqing.store.metadata import encode_picture
from danqing.workers.protocol import UpscaleCommand, UpscaledMessage


def upscale_fake(command: UpscaleCommand, blobs: BlobStore) -> UpscaledMessage:
    """The answer to a command."""
    plan = command.plan
    with Image.open(io.BytesIO(blobs.read(plan.image))) as image:
        large = image.resize((plan.width_px, plan.height_px), Image.Resampling.NEAREST)
    encoded = encode_picture(large, plan.output)
    return UpscaledMessage(
        task_id=command.task_id,
        picture=blobs.put(encoded.data, encoded.media_type),
        media_type=encoded.media_type,
        width_px=plan.width_px,
        height_px=plan.height_px,
    )
