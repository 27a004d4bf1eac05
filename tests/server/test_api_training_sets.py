"""Training sets by the API."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from door_studio import API, MODEL, problem, submit

sys.path.append(str(Path(__file__).parents[1] / "sets"))
from set_makers import pack, picture

SETS = f"{API}/training/sets"


def begin(client, **more):
    return client.post(SETS, json={"name": "Starry", **more})


def send(client, *files, **params):
    return client.post(f"{SETS}/Starry/files", files=[("files", file) for file in files], params=params)


def ended(client, work):
    for _ in range(500):
        state = client.get(f"{API}/training/set-works/{work['id']}").json()
        if state["state"] != "running":
            return state
        time.sleep(0.01)
    raise AssertionError(state)


def test_a_set_from_a_recipe_to_its_grid(client):
    made = begin(client, recipe="hokusai")
    assert made.status_code == 201, made.text
    assert made.json()["trigger"] == "dqhokusai"
    report = send(
        client, ("a b.png", picture(1)), ("a b.txt", "a wave"), ("c.png", picture(2)), ("x.png", b"bad")
    ).json()
    assert (report["added"], report["captions"]) == (["a b.png", "c.png"], 1)
    assert report["skipped"][0]["file"] == "x.png"
    page = client.get(f"{SETS}/Starry/pictures", params={"limit": 1}).json()
    (row,) = page["pictures"]
    assert (page["total"], page["next"], row["reads"]) == (2, "a b.png", "dqhokusai, a wave")
    shown = client.get(row["thumbnail"])
    assert (shown.headers["content-type"], shown.content[:4]) == ("image/webp", b"RIFF")
    assert "immutable" in shown.headers["cache-control"]
    assert client.get(row["image"]).content == picture(1)
    rest = client.get(f"{SETS}/Starry/pictures", params={"after": page["next"]}).json()
    assert [one["picture"]["file"] for one in rest["pictures"]] == ["c.png"]
    for query, count in (({"search": "WAVE"}, 1), ({"only": "no_caption"}, 1), ({"only": "subject"}, 2)):
        assert client.get(f"{SETS}/Starry/pictures", params=query).json()["total"] == count
    listed = client.get(SETS).json()
    assert (listed["sets"][0]["pictures"], listed["sets"][0]["cover"]) == (2, "a b.png")


def test_sizes_are_those_of_the_model_that_is_named(client, studio, monkeypatch):
    small = MODEL.model_copy(
        update={"block_widths": (192, 224, 256), "defaults": MODEL.defaults.model_copy(update={"size_px": 128})}
    )
    monkeypatch.setattr(studio, "models", lambda: [small, MODEL.model_copy(update={"name": "other"})])
    begin(client)
    send(client, ("a.png", picture(1)), ("b.png", picture(2)))

    def sizes(**asked):
        answer = client.get(f"{SETS}/Starry/buckets", params=asked).json()
        sides = [row[side] for row in answer["buckets"] for side in ("width_px", "height_px")]
        assert sides
        assert all(side % answer["step_px"] == 0 for side in sides)
        return answer["size_px"], answer["step_px"]

    assert sizes(model="danqing-mini") == (128, 32)
    assert sizes(model="danqing-mini", size_px=256) == (256, 32)
    assert sizes(model="danqing-mini", step_px=16) == (128, 16)
    assert sizes(model="other") == sizes() == (512, 64)  # its levels are not known
    problem(client.get(f"{SETS}/Starry/buckets", params={"model": "nobody"}), 404)


def test_edits_by_many_and_back(client):
    begin(client)
    send(client, ("a.png", picture(1)), ("b.png", picture(2)))
    edit = {"edit": {"action": "add", "text": "oil, night"}}
    assert client.post(f"{SETS}/Starry/captions", json=edit).json()["changed"] == 2
    assert client.get(f"{SETS}/Starry/tags").json()["tags"][0] == {"tag": "night", "count": 2}
    changes = {"changes": {"crop_way": "centre", "aspect": 1.0, "regularisation": True}, "files": ["a.png"]}
    assert client.patch(f"{SETS}/Starry/pictures", json=changes).json()["changed"] == 1
    one = client.get(f"{SETS}/Starry/pictures/a.png").json()["picture"]
    assert (one["regularisation"], one["crop"]["left_px"]) == (True, 8)
    rows = client.get(f"{SETS}/Starry/buckets", params={"size_px": 128, "step_px": 16}).json()["buckets"]
    assert sum(row["pictures"] for row in rows) == 2
    assert {row["alone"] for row in rows} == {"a.png", "b.png"}  # the one is square now, the other is not
    assert client.post(f"{SETS}/Starry/pictures/remove", json={"files": ["a.png"]}).json()["changed"] == 1
    for _ in range(3):
        assert client.post(f"{SETS}/Starry/undo").status_code == 200
    assert client.get(f"{SETS}/Starry/tags").json()["tags"] == []
    changed = client.patch(f"{SETS}/Starry", json={"name": "Night", "trigger": "sks", "mirror": True}).json()
    assert (changed["summary"]["name"], changed["trigger"], changed["mirror"]) == ("Night", "sks", True)
    assert client.delete(f"{SETS}/Night").status_code == 204
    assert client.get(SETS).json()["removed"] == ["Night"]
    assert client.post(f"{SETS}/Night/restore").json()["summary"]["pictures"] == 2


def test_masks_go_up_and_come_down(client):
    begin(client)
    send(client, ("a.png", picture(1)))
    place = f"{SETS}/Starry/pictures/a.png"
    for part in ("mask", "conditioning"):
        problem(client.get(f"{place}/{part}"), 404)
        row = client.put(f"{place}/{part}", files={"file": ("m.png", picture(3))}).json()
        only = {"mask": "masked", "conditioning": "mapped"}[part]
        assert client.get(f"{SETS}/Starry/pictures", params={"only": only}).json()["total"] == 1
        assert client.get(row[part]).headers["content-type"] == "image/png"
        assert client.delete(f"{place}/{part}").json()[part] is None
        assert client.get(f"{SETS}/Starry/pictures", params={"only": "unmapped"}).json()["total"] == 1
        assert problem(client.put(f"{place}/{part}", files={"file": ("m.png", b"bad")}), 415)


def test_works_captions_and_pictures_of_the_gallery(client):
    begin(client)
    job = submit(client, seed=3).json()["id"]
    record = client.get(f"{API}/jobs/{job}").json()["records"][0]
    report = client.post(f"{SETS}/Starry/records", json={"records": [record]}).json()
    assert (report["added"], report["captions"]) == ([f"{record}.png"], 1)
    send(client, ("z.png", picture(1)))
    work = client.post(f"{SETS}/Starry/captions/auto", json={"captions": {"form": "tags"}})
    assert work.status_code == 202, work.text
    assert ended(client, work.json())["state"] == "done"
    assert client.get(f"{SETS}/Starry/pictures", params={"only": "no_caption"}).json()["total"] == 0
    checked = ended(client, client.post(f"{SETS}/Starry/check", json={"size_px": 512}).json())
    assert checked["state"] == "done"
    assert client.get(f"{SETS}/Starry").json()["works"][0]["id"] == checked["id"]
    assert client.get(f"{SETS}/Starry/pictures", params={"only": "small"}).json()["total"] == 2


def test_a_zip_comes_in_and_limits_hold(client):
    begin(client)
    report = send(client, ("s.zip", pack({"4_sks dog/1.png": picture(1)}).getvalue())).json()
    assert (report["layout"], report["added"]) == ("kohya", ["1.png"])
    refused = problem(send(client, ("s.zip", pack({"../1.png": picture(1)}).getvalue())), 415)
    assert refused["value"] == "../1.png"
    problem(send(client, ("s.zip", b"PK"), ("a.png", picture(1))), 415)
    problem(send(client, ("huge.png", bytes(2 * 1024 * 1024))), 413)  # 16 × 64 KiB


def test_recipes_and_refusals(client):
    recipes = client.get(f"{API}/training/recipes").json()["recipes"]
    assert {one["key"]: one["free"] for one in recipes}["zhang-daqian"] is False
    assert all(one["recommended"] and one["rights"]["zh-Hant"] for one in recipes)
    problem(begin(client, recipe="nobody"), 422)
    problem(client.post(SETS, json={"name": "../x"}), 422)
    begin(client)
    problem(begin(client), 409)
    for path in (
        "none",
        "none/pictures",
        "none/tags",
        "Starry/pictures/none.png",
        "Starry/pictures/none.png/thumbnail",
    ):
        problem(client.get(f"{SETS}/{path}"), 404)
    problem(client.get(f"{SETS}/%2e%2e"), 404 if client.get(f"{SETS}/%2e%2e").status_code == 404 else 422)
    problem(client.post(f"{SETS}/Starry/undo"), 409)
    problem(client.post(f"{SETS}/Starry/files", content=b"x"), 415)
    problem(client.post(f"{SETS}/Starry/captions", json={"edit": {"action": "burn"}}), 422)
    problem(client.get(f"{SETS}/Starry/buckets", params={"size_px": 32}), 422)
