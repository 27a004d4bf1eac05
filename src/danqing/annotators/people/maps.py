"""The maps of people: which networks each annotator asks, and how its answer is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from danqing.annotators.people.body import Body, find_bodies, openpose_joints
from danqing.annotators.people.drawing import draw_face_points, draw_hands, draw_outlines
from danqing.annotators.people.face import find_faces
from danqing.annotators.people.hands import find_hands
from danqing.annotators.people.regions import Region, bounds
from danqing.annotators.pose_drawing import draw_poses
from danqing.annotators.sheet import Bytes, Sheet

_HEAD = range(11)  # nose, eyes, ears and mouth among the body's points
_HEAD_SIDE = 3.0


def run(key: str, sheet: Sheet, folder: Path) -> Bytes:
    """The map of an annotator `[h, w, 3]`; black where nobody was found."""
    height_px, width_px = sheet.rgb.shape[:2]
    sure = sheet.number("sureness")
    if key == "mediapipe_face":
        faces = find_faces(sheet.rgb, folder, sure)[: int(sheet.number("max_faces"))]
        return draw_outlines(faces, height_px, width_px)
    part = key.removeprefix("mediapipe_pose").removeprefix("_")
    faces = find_faces(sheet.rgb, folder, sure)
    bodies: list[Body] = [] if part == "faceonly" else find_bodies(sheet.rgb, folder, sure, faces)
    least = sheet.number("joint_sureness") if bodies else 0.0
    people = [openpose_joints(body, (height_px, width_px), least) for body in bodies]
    drawn = draw_poses(people, width_px, height_px)
    if part in {"hand", "full"}:
        draw_hands(drawn, [hand.points for hand in find_hands(sheet.rgb, folder, sure, bodies)])
    if part in {"face", "faceonly", "full"}:
        heads = tuple(_head(body) for body in bodies)
        draw_face_points(drawn, find_faces(sheet.rgb, folder, sure, heads) if heads else faces)
    return drawn


def _head(body: Body) -> Region:
    """A square around a person's head, to look for a small face."""
    box = bounds(body.points[list(_HEAD)])
    middle = (box[:2] + box[2:]) / 2
    return Region(float(middle[0]), float(middle[1]), max(8.0, float(np.max(box[2:] - box[:2])) * _HEAD_SIDE))
