"""Projects and shares over HTTP, on the real Studio with fake workers: what opens, to whom, and what stays shut."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta

import pytest
from door_studio import API, plans_of, png, problem
from fastapi.testclient import TestClient
from PIL import Image

from danqing.server import limits, share
from danqing.server.app import create_app
from danqing.server.limits import Buckets, Rate, ShareLimits
from danqing.spec.plan import InitPlan, MaskPlan
from danqing.store.metadata import read_metadata
from danqing.studio import locks, sharing
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.workers.pool import FakePool

WORD = "秘密 word"
KEY = "key-00000001"
BOX = {"left_px": 8, "top_px": 8, "right_px": 24, "bottom_px": 24}


def planner(request, catalog, **facts):
    changes = {"parent": request.parent, "kind": request.kind}
    if request.kind != "txt2img":
        changes["init"] = InitPlan(image=request.image.removeprefix("sha256:"))
    if request.kind == "inpaint":
        changes["mask"] = MaskPlan(mask=request.mask.removeprefix("sha256:"))
    return tuple(plan.model_copy(update=changes) for plan in plans_of(request))


class House:
    """A studio that asks for a password, a designer who knows it, and a client who does not."""

    def __init__(self, folder):
        settings = load_settings(data_dir=folder, host="192.0.2.1", password=WORD)
        self.studio = Studio(settings, FakePool(), planner=planner)
        self.studio.start(eager=True)
        self.app = create_app(self.studio, settings)
        own = {"Authorization": f"Bearer {WORD}".encode()}
        self.designer = TestClient(self.app, base_url="http://studio.example", headers=own)
        self.client = TestClient(self.app, base_url="http://tunnel.example")
        self.project = self.ok(self.designer.post(f"{API}/projects", json={"name": "Tea house"}), 201)["id"]

    def ok(self, answer, status=200):
        assert answer.status_code == status, answer.text
        return answer.json()

    def paint(self, prompt="red apple, 3d, studio light", project=True, **body):
        place = f"{API}/jobs?project={self.project}" if project else f"{API}/jobs"
        job = self.ok(self.designer.post(place, json={"prompt": prompt, "seed": 7, **body}), 202)
        return self.studio.wait(job["id"], timeout_s=20).records[0]

    def link(self, **order):
        made = self.ok(
            self.designer.post(f"{API}/projects/{self.project}/shares", json={"name": "Drafts", **order}), 201
        )
        return made["share"], f"{made['path']}/api"

    def post(self, path, **body):
        return self.designer.post(f"{API}/{path}", json=body)

    def patch(self, path, **body):
        return self.designer.patch(f"{API}/{path}", json=body)

    def get(self, path):
        return self.ok(self.designer.get(f"{API}/{path}"))


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    yield house
    house.studio.close()


def review(version, **changes):
    said = [{"box": BOX, "prompt": "make the apple green", "strength": 0.7}]
    return {"key": KEY, "record": version, "reviewer": "Mei", "starred": True, "suggestions": said, **changes}


def test_a_project_from_its_brief_to_the_bin(house):
    brief = {"words": "春天的茶馆", "palette": ["#c8372d"], "do": ["room"], "references": []}
    changed = house.ok(house.patch(f"projects/{house.project}", name="  Tea   house 2 ", brief=brief))
    assert (changed["name"], changed["brief"]["palette"]) == ("Tea house 2", ["#c8372d"])
    assert house.get("projects?search=春天")["projects"][0]["project"]["id"] == house.project
    other = house.ok(house.post("projects", name="Other"), 201)["id"]
    page = house.get("projects?limit=1")
    assert [page["projects"][0]["project"]["id"], page["next"]] == [other, other]
    assert house.get(f"projects?before={other}")["next"] is None
    house.ok(house.post(f"projects/{other}/archive"))
    problem(house.post(f"projects/{other}/archive"), 409)
    assert [one["project"]["id"] for one in house.get("projects?state=archived")["projects"]] == [other]
    house.ok(house.post(f"projects/{other}/unarchive"))
    assert house.ok(house.designer.delete(f"{API}/projects/{other}"))["deleted_at"]
    problem(house.patch(f"projects/{other}", name="x"), 409)
    problem(house.post(f"projects/{other}/records", records=["R"]), 409)
    house.ok(house.post(f"projects/{other}/restore"))
    problem(house.post(f"projects/{other}/restore"), 409)
    assert house.get(f"projects/{other}") == {
        "project": house.get(f"projects/{other}")["project"],
        "versions": 0,
        "reviews": 0,
        "open_suggestions": 0,
        "shares": 0,
        "cover": None,
    }


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("projects", {"name": "  "}, 422, "name"),
        ("projects", {"name": "x" * 121}, 422, "name"),
        ("projects", {"name": "x", "brief": {"palette": ["red"]}}, 422, "brief.palette.0"),
        ("projects", {"name": "x", "brief": {"references": ["sha256:" + "0" * 64]}}, 404, "brief.references.0"),
        ("projects", {"name": "x", "brief": {"references": ["/etc/passwd"]}}, 422, "brief.references.0"),
        ("projects", {"name": "x", "colour": 1}, 422, "colour"),
        ("projects/{p}/records", {"records": []}, 422, "records"),
        ("projects/{p}/records", {"records": ["nobody"]}, 404, None),
        ("projects/{p}/current", {"record": "nobody"}, 404, "record"),
        ("projects/nobody/records", {"records": ["x"]}, 404, None),
        ("projects/{p}/shares", {"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, 422, "expires_at"),
        ("projects/{p}/shares", {"name": "x", "expires_at": "2099-01-01T00:00:00"}, 422, "expires_at"),
        ("projects/{p}/shares", {"name": "x", "password": "abc"}, 422, "password"),
        ("projects/{p}/shares", {"name": "x", "records": ["nobody"]}, 404, None),
        ("projects/{p}/shares", {"name": "x", "language": "fr"}, 422, "language"),
        ("projects/{p}/reviews", {"key": "short", "record": "R", "reviewer": "M"}, 422, "key"),
        ("projects/{p}/reviews", {"key": KEY, "record": "R", "reviewer": " "}, 422, "reviewer"),
        ("suggestions/nobody/apply", {}, 404, None),
        ("suggestions/nobody/draft", {}, 404, None),
        ("shares/nobody/revoke", {}, 404, None),
    ],
)
def test_wrong_input_is_a_plain_problem(house, path, body, status, field):
    told = problem(house.post(path.format(p=house.project), **body), status)
    assert told.get("field") == field
    assert "abc" not in json.dumps(told) or field != "password"


def test_versions_form_a_tree_with_what_changed(house):
    first = house.paint()
    second = house.paint("green apple, 3d", parent=first, sampling={"steps": 9})
    outside = house.paint("x", project=False, parent=second)
    third = house.paint("blue apple", parent=outside)
    place = f"projects/{house.project}"
    house.ok(house.patch(f"{place}/records/{second}", labels=["hero", "红", "hero"], note="warm", starred=True))
    assert house.ok(house.post(f"{place}/current", record=second))["current"] == second
    tree = house.get(f"{place}/tree")
    assert (tree["roots"], tree["current"]) == ([first], second)
    nodes = {node["record"]: node for node in tree["versions"]}
    assert list(nodes) == [first, second, third]
    assert [nodes[one]["depth"] for one in nodes] == [0, 1, 2]
    assert [nodes[one]["parent"] for one in nodes] == [None, first, second]
    assert nodes[first]["children"] == [second]
    assert (nodes[second]["labels"], nodes[second]["note"], nodes[second]["starred"]) == (["hero", "红"], "warm", True)
    changes = {one["field"]: (one["old"], one["new"]) for one in nodes[second]["changes"]}
    assert changes == {
        "prompt": ("red apple, 3d, studio light", "green apple, 3d"),
        "sampling.steps": (4, 9),
    }
    taken = house.ok(house.designer.delete(f"{API}/{place}/records/{second}"))
    assert taken["removed_at"]
    tree = house.get(f"{place}/tree")
    assert (tree["current"], [node["parent"] for node in tree["versions"]]) == (None, [None, first])
    back = house.ok(house.post(f"{place}/records", records=[second]))["items"][0]
    assert back["labels"] == ["hero", "红"]


def test_two_versions_are_compared(house):
    first, second = house.paint(seed=1), house.paint(seed=200, prompt="green apple")
    place = f"projects/{house.project}/compare"
    same = house.get(f"{place}?a={first}&b={first}")
    assert (same["identical"], same["mean_difference"], same["changed_box"], same["changes"]) == (True, 0, None, [])
    told = house.get(f"{place}?a={first}&b={second}")
    assert told["same_size"]
    assert not told["identical"]
    assert 0 < told["mean_difference"] <= told["max_difference"] <= 1
    assert told["changed_box"] == [0, 0, told["a"]["width_px"], told["a"]["height_px"]]
    assert {"prompt", "seed"} <= {one["field"] for one in told["changes"]}
    problem(house.designer.get(f"{API}/{place}?a={first}&b=nobody"), 404)


def test_a_client_sees_the_chosen_versions_and_nothing_else(house):
    first, second, outside = house.paint(), house.paint(), house.paint(project=False)
    shared, place = house.link(records=[first])
    assert "token" not in shared
    state = house.ok(house.client.get(f"{place}/state"))
    assert (state["title"], state["locked"], state["brief"]) == ("Drafts", False, None)
    (version,) = state["versions"]
    assert (version["id"], version["number"], version["prompt"], version["labels"]) == (first, 1, None, [])
    assert "apple" not in json.dumps(state)
    assert str(house.studio.settings.data_dir) not in json.dumps(state)
    picture = house.client.get(version["picture"])
    assert picture.headers["content-type"] == "image/png"
    told = read_metadata(picture.content)
    assert (told.infotext, told.plan, told.texts) == ("", None, {})
    with Image.open(io.BytesIO(picture.content)) as image:
        image.load()
        assert image.size == (version["width_px"], version["height_px"])
        assert "parameters" not in image.info
    again = house.client.get(version["picture"], headers={"If-None-Match": picture.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert house.client.get(version["picture"] + "?download=true").headers["content-disposition"].startswith("attach")
    assert house.client.get(version["thumbnail"]).headers["content-type"] == "image/webp"
    for hidden in (second, outside, "nobody"):
        for kind in ("picture", "thumbnail"):
            problem(house.client.get(f"{place}/versions/{hidden}/{kind}"), 404)
    house.ok(house.post(f"shares/{shared['id']}/records", records=[second]))
    problem(house.post(f"shares/{shared['id']}/records", records=[outside]), 404)
    assert house.client.get(f"{place}/versions/{second}/picture").status_code == 200
    house.ok(house.designer.delete(f"{API}/shares/{shared['id']}/records/{first}"))
    problem(house.client.get(version["picture"]), 404)
    house.designer.delete(f"{API}/records/{second}")
    problem(house.client.get(f"{place}/versions/{second}/picture"), 404)


def test_what_the_designer_allows_is_shown(house):
    first = house.paint()
    house.patch(
        f"projects/{house.project}", brief={"words": "春天", "dont": ["people"], "references": [f"record:{first}"]}
    )
    house.patch(f"projects/{house.project}/records/{first}", labels=["hero"], note="private")
    shared, place = house.link(shown={"prompts": True, "brief": True, "labels": True}, language="zh-Hant")
    state = house.ok(house.client.get(f"{place}/state"))
    assert state["language"] == "zh-Hant"
    assert state["brief"] == {"words": "春天", "palette": [], "do": [], "dont": ["people"]}
    assert state["versions"][0]["prompt"].startswith("red apple")
    assert state["versions"][0]["labels"] == ["hero"]
    assert "private" not in json.dumps(state)
    house.ok(house.patch(f"shares/{shared['id']}", shown={"prompts": False}, name="Second"))
    state = house.ok(house.client.get(f"{place}/state"))
    assert (state["title"], state["versions"][0]["prompt"]) == ("Second", None)


def test_dead_links_all_look_the_same(house, monkeypatch):
    house.paint()
    answers = [house.client.get("/share/nobody-knows-this-token/api/state")]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    shared, place = house.link(expires_at=later)
    assert house.client.get(f"{place}/state").status_code == 200
    monkeypatch.setattr(sharing, "utc_now", lambda: datetime.now(UTC) + timedelta(hours=2))
    answers.append(house.client.get(f"{place}/state"))
    monkeypatch.undo()
    house.ok(house.post(f"projects/{house.project}/archive"))
    answers.append(house.client.get(f"{place}/state"))
    house.ok(house.post(f"projects/{house.project}/unarchive"))
    renewed = house.ok(house.post(f"shares/{shared['id']}/token"))
    answers.append(house.client.get(f"{place}/state"))
    place = f"{renewed['path']}/api"
    house.designer.delete(f"{API}/projects/{house.project}")
    answers.append(house.client.get(f"{place}/state"))
    house.post(f"projects/{house.project}/restore")
    assert house.client.get(f"{place}/state").status_code == 200
    house.ok(house.post(f"shares/{shared['id']}/revoke"))
    answers += [house.client.get(f"{place}/state"), house.client.post(f"{place}/reviews", json=review("x"))]
    problem(house.post(f"shares/{shared['id']}/revoke"), 409)
    problem(house.post(f"shares/{shared['id']}/token"), 409)
    problem(house.patch(f"shares/{shared['id']}", follow=True), 409)
    told = [problem(answer, 404) for answer in answers]
    assert all(one == told[0] for one in told)


def test_only_hashes_of_token_and_password_are_kept(house):
    house.paint()
    _, place = house.link(password="spring 春天")  # noqa: S106
    token = place.split("/")[2]
    assert len(token) >= 32
    house.studio._store.database.engine.dispose()
    files = b"".join(path.read_bytes() for path in house.studio.settings.data_dir.glob("danqing.db*"))
    assert locks.token_hash(token).encode() in files
    assert token.encode() not in files
    assert "spring 春天".encode() not in files


def test_a_password_opens_a_share_for_this_browser_alone(house):
    first = house.paint()
    shared, place = house.link(password="spring 春天")  # noqa: S106
    locked = house.ok(house.client.get(f"{place}/state"))
    assert (locked["locked"], locked["versions"], locked["reviews"], locked["last_event"]) == (True, [], [], 0)
    for answer in (
        house.client.get(f"{place}/versions/{first}/picture"),
        house.client.get(f"{place}/versions/{first}/thumbnail"),
        house.client.post(f"{place}/reviews", json=review(first)),
        house.client.get(f"{place}/events"),
        house.client.post(f"{place}/unlock", json={"password": "Spring"}),
    ):
        assert problem(answer, 401)["code"] == "share_locked"
        assert "basic" not in answer.headers["www-authenticate"].lower()
    opened = house.client.post(f"{place}/unlock", json={"password": "spring 春天"})
    assert len(house.ok(opened)["versions"]) == 1
    cookie = opened.headers["set-cookie"].lower()
    assert all(part in cookie for part in ("httponly", "samesite=strict", f"path={place[:-4].lower()}"))
    assert house.client.get(f"{place}/versions/{first}/picture").status_code == 200
    other = TestClient(house.app, base_url="http://tunnel.example")
    problem(other.get(f"{place}/versions/{first}/picture"), 401)
    value = opened.cookies[share.COOKIE]
    for forged in (
        value[:-1] + "0" + value[-1],
        f"9{value}",
        "",
        ".",
        "x.y",
        "9" * 40 + ".x",
        "٣.x",
        value.split(".")[1],
    ):
        sent = {"Cookie": f"{share.COOKIE}={forged}".encode()}
        problem(other.get(f"{place}/versions/{first}/picture", headers=sent), 401)
    assert (
        other.get(f"{place}/versions/{first}/picture", headers={"Cookie": f"{share.COOKIE}={value}"}).status_code == 200
    )
    _, second = house.link(password="spring 春天")  # noqa: S106
    problem(other.get(f"{second}/versions/{first}/picture", headers={"Cookie": f"{share.COOKIE}={value}"}), 401)
    house.ok(house.patch(f"shares/{shared['id']}", password="summer"))  # noqa: S106
    problem(house.client.get(f"{place}/versions/{first}/picture"), 401)
    assert house.get(f"shares/{shared['id']}")["has_password"]
    house.ok(house.patch(f"shares/{shared['id']}", password=None))
    assert house.client.get(f"{place}/versions/{first}/picture").status_code == 200


def test_a_pass_runs_out(house, monkeypatch):
    first = house.paint()
    _, place = house.link(password="spring")  # noqa: S106
    house.ok(house.client.post(f"{place}/unlock", json={"password": "spring"}))
    monkeypatch.setattr(sharing, "utc_now", lambda: datetime.now(UTC) + timedelta(hours=13))
    problem(house.client.get(f"{place}/versions/{first}/picture"), 401)


def test_passwords_cannot_be_guessed_fast(house, monkeypatch):
    monkeypatch.setattr(locks, "_COST", 2)
    shared, place = house.link(password="spring")  # noqa: S106
    for _ in range(sharing.MAX_GUESSES):
        problem(house.client.post(f"{place}/unlock", json={"password": "no"}), 401)
    answer = house.client.post(f"{place}/unlock", json={"password": "spring"})
    assert problem(answer, 429)["code"] == "too_many"
    assert 500 < int(answer.headers["retry-after"]) <= 600
    monkeypatch.setattr(sharing, "utc_now", lambda: datetime.now(UTC) + timedelta(minutes=11))
    assert house.client.post(f"{place}/unlock", json={"password": "spring"}).status_code == 200
    house.patch(f"shares/{shared['id']}", password="again")  # noqa: S106


def test_a_review_goes_in_once_and_comes_out_as_a_version(house):
    first = house.paint()
    shared, place = house.link(records=[first])
    sent = house.client.post(f"{place}/reviews", json=review(first))
    told = house.ok(sent, 201)
    again = house.client.post(f"{place}/reviews", json=review(first))
    assert (again.status_code, again.json()) == (200, told)
    problem(house.client.post(f"{place}/reviews", json=review(first, note="other")), 409)
    (kept,) = house.get(f"projects/{house.project}/reviews?share={shared['id']}&state=open")["reviews"]
    assert (kept["reviewer"], kept["starred"], kept["share"]) == ("Mei", True, shared["id"])
    said = kept["suggestions"][0]
    draft = house.ok(house.post(f"suggestions/{said['id']}/draft"))["request"]
    assert (draft["kind"], draft["prompt"], draft["strength"]) == ("inpaint", "green apple, 3d, studio light", 0.7)
    assert (draft["image"], draft["parent"], draft["only_masked"]) == (f"record:{first}", first, True)
    job = house.ok(house.post(f"suggestions/{said['id']}/apply", changes={"seed": 11, "sampling": {"steps": 6}}), 202)
    assert (job["request"]["seed"], job["request"]["sampling"]["steps"]) == (11, 6)
    problem(house.post(f"suggestions/{said['id']}/apply"), 409)
    (result,) = house.studio.wait(job["id"], timeout_s=20).records
    assert house.studio.record(result).parent == first
    state = house.ok(house.client.get(f"{place}/state"))
    assert [(one["id"], one["parent"]) for one in state["versions"]] == [(first, None), (result, first)]
    shown = state["reviews"][0]["suggestions"][0]
    assert (shown["state"], shown["results"]) == ("applied", [result])
    assert "job" not in shown
    tree = house.get(f"projects/{house.project}/tree")["versions"]
    assert (tree[1]["record"], tree[1]["parent"], tree[1]["kind"]) == (result, first, "inpaint")
    assert tree[0]["open_suggestions"] == 0
    summary = house.get(f"projects/{house.project}")
    assert (summary["versions"], summary["reviews"], summary["shares"], summary["cover"]) == (2, 1, 1, result)
    quiet = house.ok(house.patch(f"suggestions/{said['id']}", state="open"))
    assert (quiet["state"], quiet["job"]) == ("open", None)
    job = house.ok(house.post(f"suggestions/{said['id']}/apply", show=False), 202)
    (hidden,) = house.studio.wait(job["id"], timeout_s=20).records
    assert hidden not in house.get(f"shares/{shared['id']}")["records"]
    problem(house.post(f"suggestions/{said['id']}/apply", changes={"strength": 7}), 422)


def test_reviews_of_clients_are_checked(house):
    first, second = house.paint(), house.paint()
    _, place = house.link(records=[first])
    wrong = [
        (review(second), 404),
        (review(first, suggestions=[{"box": {**BOX, "left_px": 4000, "right_px": 4001}, "prompt": "x"}]), 422),
        (review(first, suggestions=[{"lasso": [[1, 1], [2, 2], [3, 3]], "prompt": "x"}]), 422),
        (review(first, suggestions=[{"lasso": [[1, 1], [2, 2]], "prompt": "x"}]), 422),
        (review(first, suggestions=[{"prompt": "x", "state": "applied"}]), 422),
        (review(first, suggestions=[{"prompt": "x", "strength": float("inf")}]), 422),
        (review(first, suggestions=[{"prompt": "x"}] * 51), 422),
        (review(first, note="x" * 4001), 422),
        (review(first, language="english please"), 422),
        (review(first, record="../../etc"), 422),
    ]
    for body, status in wrong:
        raw = json.dumps(body).encode()
        answer = house.client.post(f"{place}/reviews", content=raw, headers={"Content-Type": "application/json"})
        problem(answer, status)
    problem(house.client.post(f"{place}/reviews", content=b"{", headers={"Content-Type": "application/json"}), 400)
    problem(house.client.post(f"{place}/reviews", data={"key": KEY}), 415)
    problem(house.client.post(f"{place}/reviews", json=review(first, note="x" * 300_000)), 413)
    problem(house.client.post(f"{place}/reviews", json=review(first), headers={"Origin": "http://evil.example"}), 403)
    assert house.get(f"projects/{house.project}/reviews")["reviews"] == []
    odd = review(
        first, reviewer="  <b>Mei</b>  ", suggestions=[{"box": {**BOX, "right_px": 60_000}, "prompt": "汉字 🦊"}]
    )
    told = house.ok(house.client.post(f"{place}/reviews", json=odd), 201)
    assert told["reviewer"] == "<b>Mei</b>"
    assert told["suggestions"][0]["box"]["right_px"] == house.studio.record(first).width_px


def test_limits_of_a_share(tmp_path, house, monkeypatch):
    first = house.paint()
    _, place = house.link(records=[first])
    door = house.app.state.share_app.state.doorkeeper
    door.writes = Buckets(Rate(2, 0.001))
    for number in range(2):
        house.ok(house.client.post(f"{place}/reviews", json=review(first, key=f"key-{number:08}")), 201)
    answer = house.client.post(f"{place}/reviews", json=review(first, key="key-00000009"))
    assert problem(answer, 429)["code"] == "too_many"
    assert int(answer.headers["retry-after"]) >= 1
    door.reads = Buckets(Rate(1, 0.001))
    assert house.client.get(f"{place}/state").status_code == 200
    problem(house.client.get(f"{place}/state"), 429)
    _, other = house.link(records=[first])
    assert house.client.get(f"{other}/state").status_code == 200
    door.streams = limits.Seats(0)
    problem(house.client.get(f"{other}/events"), 429)


def test_a_bucket_fills_again():
    now = [0.0]
    bucket = Buckets(Rate(2, 0.5), clock=lambda: now[0])
    bucket.take("a")
    bucket.take("a")
    bucket.take("b")
    with pytest.raises(sharing.TooManyError) as caught:
        bucket.take("a")
    assert caught.value.wait_s == 2
    now[0] = 2.0
    bucket.take("a")
    with pytest.raises(sharing.TooManyError):
        bucket.take("a")
    assert ShareLimits().writes.burst >= 100  # a hundred people may press at once


def test_nothing_but_shares_opens_without_the_password(house):
    first = house.paint()
    _, place = house.link(records=[first])
    token = place.split("/")[2]
    api = house.ok(house.designer.get(f"{API}/openapi.json"))
    stranger = house.client
    for path, item in api["paths"].items():
        filled = path.replace("{", "x").replace("}", "")
        for method in item:
            if path != "/health":
                problem(stranger.request(method, f"{API}{filled}"), 401)
    for path in (
        "/",
        "/web/static/danqing.css",
        "/config",
        "/share",
        "/sharex/y",
        "/Share/x",
        "//share/x",
        "/api/share/x",
    ):
        assert stranger.get(path).status_code == 401, path
    for path in (
        f"/share/../api/v1/records/{first}",
        f"/share/%2e%2e/api/v1/records/{first}",
        f"/share/{token}/../../api/v1/records",
        f"/share/{token}/api/../../../api/v1/jobs",
        f"/share/{token}/api/v1/records",
        f"/share/{token}/api/records/{first}/picture",
        f"/share/{token}/api/versions/..%2f..%2fdanqing.db/picture",
        f"/share//api/v1/records/{first}",
        "/share/",
        "/share/x",
        "/share/openapi.json",
        "/share/docs",
        "/share/static/danqing.css",
    ):
        answer = stranger.get(path)
        assert answer.status_code in {401, 404, 422}, path
        assert "text/html" not in answer.headers["content-type"]
    problem(stranger.post(f"{API}/jobs", json={"prompt": "x"}), 401)
    for method in ("PUT", "PATCH", "DELETE"):
        problem(stranger.request(method, f"{place}/reviews"), 405)


def test_the_headers_of_shares(house):
    first = house.paint()
    _, place = house.link(records=[first])
    for path in (f"{place}/state", f"{place}/versions/{first}/picture", f"{place}/nothing", "/share/x"):
        headers = house.client.get(path).headers
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert "noindex" in headers["x-robots-tag"]
        assert headers["content-security-policy"].startswith("default-src 'none'")
    assert house.client.get(f"{place}/state").headers["cache-control"] == "no-store"
    assert "private" in house.client.get(f"{place}/versions/{first}/picture").headers["cache-control"]


def test_a_share_also_works_through_a_tunnel_to_a_studio_of_this_machine(tmp_path):
    settings = load_settings(data_dir=tmp_path)
    studio = Studio(settings, FakePool(), planner=planner)
    with studio, TestClient(create_app(studio, settings), base_url="http://abc.tunnel.example") as stranger:
        project = studio.create_project("x")
        made = studio.create_share(project.id, sharing.ShareOrder(name="x"))
        assert stranger.get(f"{made.path}/api/state").status_code == 200
        problem(stranger.get(f"{API}/projects"), 421)
        problem(stranger.get("/"), 421)


def test_an_export_holds_everything(house):
    first = house.paint("春天的 茶馆/../<script>")
    second = house.paint("x", parent=first, output={"format": "jpeg"})
    house.patch(f"projects/{house.project}", name="Tea/../house <b>", brief={"words": "<i>brief</i>"})
    _, place = house.link(records=[first])
    house.client.post(f"{place}/reviews", json=review(first, note="<img src=x onerror=alert(1)>"))
    answer = house.designer.get(f"{API}/projects/{house.project}/export?language=zh-Hant")
    assert answer.headers["content-type"] == "application/zip"
    assert 'filename="tea-house-b.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert packed.testzip() is None
        names = packed.namelist()
        assert all(name.startswith("tea-house-b/") and ".." not in name for name in names)
        pictures = [name for name in names if "/pictures/" in name]
        assert [name.rpartition(".")[2] for name in pictures] == ["png", "jpg"] or len(pictures) == 2
        assert packed.read(pictures[0]) == house.studio.picture_bytes(house.studio.record(first).picture)
        plans = [json.loads(packed.read(name)) for name in names if "/plans/" in name]
        assert plans[0] == house.studio.record(first).plan.model_dump(mode="json")
        facts = json.loads(packed.read("tea-house-b/project.json"))
        assert [one["record"] for one in facts["versions"]] == [first, second]
        assert json.loads(packed.read("tea-house-b/reviews.json"))["reviews"][0]["reviewer"] == "Mei"
        assert json.loads(packed.read("tea-house-b/brief.json"))["words"] == "<i>brief</i>"
        page = packed.read("tea-house-b/index.html").decode()
    assert 'lang="zh-Hant"' in page
    for hostile in ("<script>", "<img src=x", "<i>brief", "<b>Tea"):
        assert hostile not in page
    problem(house.designer.get(f"{API}/projects/nobody/export"), 404)
    problem(house.designer.get(f"{API}/projects/{house.project}/export?language=fr"), 422)


def test_an_upload_in_a_brief(house):
    stored = house.ok(house.designer.post(f"{API}/uploads", files={"file": png()}), 201)["ref"]
    made = house.ok(house.post("projects", name="y", brief={"references": [stored]}), 201)
    assert made["brief"]["references"] == [stored]
