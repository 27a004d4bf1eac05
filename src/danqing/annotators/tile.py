"""The picture with less in it: coarser, blurred, in flat cells."""

from __future__ import annotations

import cv2
import numpy as np

from danqing.annotators.sheet import Bytes, Sheet
from danqing.annotators.sizes import resize_picture

_KEEPS_ALL = 1.1


def tile_resample(sheet: Sheet) -> Bytes:
    """The picture averaged down and brought back, `[h, w, 3]`; a rate below 1.1 leaves it as it is (A1111)."""
    rate = sheet.number("down_sampling_rate")
    if rate < _KEEPS_ALL:
        return sheet.rgb
    height_px, width_px = sheet.rgb.shape[:2]
    small = resize_picture(sheet.rgb, max(1, int(height_px / rate)), max(1, int(width_px / rate)))
    return resize_picture(small, height_px, width_px)


def blur_gaussian(sheet: Sheet) -> Bytes:
    """The picture under a Gaussian blur, `[h, w, 3]`."""
    return np.asarray(cv2.GaussianBlur(sheet.rgb, (0, 0), sheet.number("sigma_px")), np.uint8)


def color_grid(sheet: Sheet) -> Bytes:
    """The mean colour of each cell, `[h, w, 3]`."""
    height_px, width_px = sheet.rgb.shape[:2]
    cell_px = sheet.number("cell_px")
    rows, columns = max(1, round(height_px / cell_px)), max(1, round(width_px / cell_px))
    cells = cv2.resize(sheet.rgb, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cells, (width_px, height_px), interpolation=cv2.INTER_NEAREST), np.uint8)
