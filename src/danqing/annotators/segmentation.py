"""Regions of like colour: superpixels, merged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from danqing.annotators.lineart import blur
from danqing.annotators.palette import ADE20K
from danqing.annotators.sheet import Bytes, Floats, Sheet
from danqing.annotators.sizes import resize_picture

_WORK_PX = 512
_LEAST_SHARE = 0.002
_LIGHTNESS = 0.7
_SHADING, _NO_WALL = 3.0, 0.4
_SMOOTHED_REGIONS = 96
_DRAWN = 12
Labels = NDArray[np.int32]


@dataclass
class _Regions:
    """Regions under merging: a union-find with the mean Lab colour and the size of each."""

    parent: list[int]
    mean: list[tuple[float, float, float]]
    size: list[float]

    def root(self, region: int) -> int:
        while self.parent[region] != region:
            self.parent[region] = self.parent[self.parent[region]]
            region = self.parent[region]
        return region

    def distance(self, one: int, other: int) -> float:
        a, b = self.mean[one], self.mean[other]
        return math.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2)

    def join(self, one: int, other: int) -> None:
        total = self.size[one] + self.size[other]
        a, b, share = self.mean[one], self.mean[other], self.size[one] / total
        red, green, blue = (x * share + y * (1 - share) for x, y in zip(a, b, strict=True))
        self.mean[one], self.size[one] = (red, green, blue), total
        self.parent[other] = one


def seg_superpixels(sheet: Sheet) -> Bytes:
    """Flat colours, one for each region, `[h, w, 3]`.

    Watershed superpixels on a grid (Neubert and Protzel, 2014, without the compactness term), joined to their
    neighbours from the most alike on while their mean colours are near, or farther while no edge lies between them
    (so that shading does not divide a thing); then small ones into the most alike beside, and the borders smoothed.
    """
    height_px, width_px = sheet.rgb.shape[:2]
    scale = min(1.0, _WORK_PX / max(height_px, width_px))
    rgb = resize_picture(sheet.rgb, max(1, round(height_px * scale)), max(1, round(width_px * scale)))
    labels = _superpixels(rgb, sheet.number("superpixels"))
    labels = _merged(labels, rgb, sheet.number("merge_distance"))
    labels = _smoothed(labels)
    labels = np.asarray(cv2.resize(labels, (width_px, height_px), interpolation=cv2.INTER_NEAREST), np.int32)
    count = int(labels.max()) + 1
    if sheet.params["colors"] == "mean":
        return _means(labels, sheet.rgb.reshape(-1, 3).astype(np.float32), count).astype(np.uint8)[labels]
    return _palette(count, sheet.seed)[labels]


def _palette(count: int, seed: int) -> Bytes:
    """Colours of ADE20K at random `[count, 3]`, each the one of a few drawn that differs most from all before."""
    rng = np.random.default_rng(seed)
    every = np.unique(ADE20K, axis=0)
    apart = np.full(len(every), np.inf)
    chosen: list[int] = []
    for _ in range(count):
        drawn = rng.choice(len(every), _DRAWN, replace=False)
        chosen.append(int(drawn[np.argmax(apart[drawn])]))
        gaps = every.astype(np.float32) - every[chosen[-1]].astype(np.float32)
        apart = np.minimum(apart, np.linalg.norm(gaps, axis=1))
    return every[chosen]


def _superpixels(rgb: Bytes, count: float) -> Labels:
    """Labels 0 … n-1 `[h, w]`: basins around the points of a grid, borders on the strongest edges."""
    height_px, width_px = rgb.shape[:2]
    step_px = max(2.0, float(np.sqrt(height_px * width_px / count)))
    rows = np.arange(step_px / 2, height_px, step_px).astype(int)
    columns = np.arange(step_px / 2, width_px, step_px).astype(int)
    if rows.size * columns.size < 2:
        return np.zeros((height_px, width_px), np.int32)
    markers = np.zeros((height_px + 2, width_px + 2), np.int32)
    places = np.ix_(rows + 1, columns + 1)
    markers[places] = np.arange(1, rows.size * columns.size + 1, dtype=np.int32).reshape(rows.size, columns.size)
    # OpenCV marks the outermost pixels as border, so the picture gets a frame that is cut off again
    framed = cv2.copyMakeBorder(cv2.medianBlur(rgb, 3), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    found = cv2.watershed(framed, markers)[1:-1, 1:-1].astype(np.float32)
    while bool((found <= 0).any()):
        found = np.where(found <= 0, cv2.dilate(found, np.ones((3, 3), np.uint8)), found)
    return np.asarray(found, np.int32) - 1


def _merged(labels: Labels, rgb: Bytes, distance: float) -> Labels:
    lab = np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    lab[..., 0] *= _LIGHTNESS
    edges = _edges(lab)
    lab = lab.reshape(-1, 3)
    count = int(labels.max()) + 1
    sizes = np.bincount(labels.ravel(), minlength=count).astype(float)
    means = _means(labels, lab, count)
    regions = _Regions(list(range(count)), [tuple(row) for row in means.tolist()], sizes.tolist())
    pairs, walls = _neighbours(labels, count, edges)
    gaps = np.linalg.norm(means[pairs[:, 0]] - means[pairs[:, 1]], axis=1)
    order = np.argsort(gaps + walls, kind="stable")
    ordered = pairs[order].tolist()
    _join_near(regions, ordered, walls[order].tolist(), distance)
    _join_small(regions, ordered, _LEAST_SHARE * labels.size)
    roots = np.array([regions.root(region) for region in range(count)])
    return np.unique(roots, return_inverse=True)[1].reshape(-1).astype(np.int32)[labels]


def _join_near(regions: _Regions, pairs: list[list[int]], walls: list[float], distance: float) -> None:
    for (one, other), wall in zip(pairs, walls, strict=True):
        a, b = regions.root(one), regions.root(other)
        reach = distance * (_SHADING if wall < distance * _NO_WALL else 1.0)
        if a != b and regions.distance(a, b) < reach:
            regions.join(a, b)


def _join_small(regions: _Regions, pairs: list[list[int]], least: float) -> None:
    """Each region below `least` pixels goes to the neighbour most like it, smallest first, until none is left."""
    while True:
        beside: dict[int, set[int]] = {}
        for one, other in pairs:
            a, b = regions.root(one), regions.root(other)
            if a != b:
                beside.setdefault(a, set()).add(b)
                beside.setdefault(b, set()).add(a)
        small = sorted((regions.size[r], r) for r in beside if regions.size[r] < least)
        if not small:
            return
        for _, region in small:
            root = regions.root(region)
            near = {regions.root(other) for other in beside[region]} - {root}
            if near and regions.size[root] < least:
                best = min(near, key=lambda other: (regions.distance(root, other), other))
                regions.join(best, root)


def _neighbours(labels: Labels, count: int, edges: Floats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of labels that touch, each once, `[n, 2]`, and the mean strength of the edges between them, `[n]`."""
    sides = [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]
    low = np.concatenate([np.minimum(a, b).ravel() for a, b in sides]).astype(np.int64)
    high = np.concatenate([np.maximum(a, b).ravel() for a, b in sides]).astype(np.int64)
    between = [np.maximum(edges[:, :-1], edges[:, 1:]).ravel(), np.maximum(edges[:-1], edges[1:]).ravel()]
    touch = low != high
    codes, place = np.unique((low * count + high)[touch], return_inverse=True)
    walls = np.bincount(place, weights=np.concatenate(between)[touch]) / np.maximum(np.bincount(place), 1)
    return np.stack([codes // count, codes % count], axis=1), walls


def _edges(lab: Floats) -> Floats:
    """Colour change (ΔE) over two pixels, `[h, w]`."""
    total = np.zeros(lab.shape[:2], np.float32)
    for across, down in ((1, 0), (0, 1)):
        total += np.square(cv2.Sobel(lab, cv2.CV_32F, across, down)).sum(axis=2)
    return np.sqrt(total) / 4


def _smoothed(labels: Labels) -> Labels:
    """Each pixel with the label that holds most of its neighbourhood, `[h, w]`."""
    count = int(labels.max()) + 1
    if count > _SMOOTHED_REGIONS:
        return labels
    best = np.zeros(labels.shape, np.float32)
    out = labels.copy()
    for label in range(count):
        share = blur((labels == label).astype(np.float32), max(1.0, min(labels.shape) / 200))
        wins = share > best
        best[wins], out[wins] = share[wins], label
    return out


def _means(labels: Labels, values: Floats, count: int) -> Floats:
    """Mean of `values` `[h·w, 3]` over each label, `[count, 3]`."""
    flat = labels.ravel()
    sizes = np.maximum(np.bincount(flat, minlength=count), 1)
    sums = [np.bincount(flat, weights=values[:, place], minlength=count) for place in range(3)]
    return (np.stack(sums, axis=1) / sizes[:, None]).astype(np.float32)
