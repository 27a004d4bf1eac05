"""Records, pictures, uploads and the catalogue."""

from __future__ import annotations

import base64

from door_studio import API, png, problem, submit


def test_records_come_in_pages_newest_first(client):
    submit(client, count=5)
    first = client.get(f"{API}/records?limit=2").json()
    ids = [record["id"] for record in first["records"]]
    assert first["next"] == ids[-1]
    second = client.get(f"{API}/records?limit=2&before={first['next']}").json()
    third = client.get(f"{API}/records?limit=2&before={second['next']}").json()
    assert third["next"] is None
    every = ids + [record["id"] for page in (second, third) for record in page["records"]]
    assert every == sorted(every, reverse=True)
    assert len(set(every)) == 5
    assert client.get(f"{API}/records?search=pear").json()["records"] == []
    assert len(client.get(f"{API}/records?search=apple&kind=txt2img&model=danqing-mini").json()["records"]) == 5


def test_records_by_look(client):
    submit(client, count=3, seed=40)
    found = client.post(f"{API}/records/search", json={"like": "record:R00001", "limit": 2}).json()["found"]
    assert found[0]["record"]["id"] == "R00001"
    assert found[0]["score"] >= found[1]["score"]
    listed = client.get(f"{API}/records?search=a red apple&by=look&limit=2").json()
    assert (len(listed["records"]), listed["next"]) == (2, None)
    uri = "data:image/png;base64," + base64.b64encode(png((40, 60, 0))).decode()
    assert len(client.post(f"{API}/records/search", json={"search": "red", "like": uri}).json()["found"]) == 3
    assert client.post(f"{API}/records/search", json={"search": "red", "kind": "inpaint"}).json()["found"] == []
    assert problem(client.post(f"{API}/records/search", json={}), 422)["field"] == "search"
    assert problem(client.get(f"{API}/records?by=look"), 422)["field"] == "search"
    assert problem(client.get(f"{API}/records?by=smell&search=x"), 422)["field"] == "by"
    assert problem(client.post(f"{API}/records/search", json={"like": "../x"}), 422)["field"] == "like"
    assert problem(client.post(f"{API}/records/search", json={"search": "x", "limit": 0}), 422)["field"] == "limit"


def test_interrogate_and_score(client):
    submit(client)
    uri = "data:image/png;base64," + base64.b64encode(png((22, 42, 118))).decode()
    seen = client.post(f"{API}/interrogate", json={"image": uri}).json()
    assert seen["background"] == {"kind": "plain", "colors": ["dark blue"]}
    assert set(seen["words"]) == {"en", "zh-Hans", "zh-Hant"}
    assert client.post(f"{API}/interrogate", json={"image": "record:R00000"}).json()["concept"]
    problem(client.post(f"{API}/interrogate", json={"image": "record:nobody"}), 404)
    problem(client.post(f"{API}/interrogate", json={"image": "data:image/png;base64,eA=="}), 415)
    assert problem(client.post(f"{API}/interrogate", json={"image": "http://x/y.png"}), 422)["field"] == "image"
    assert problem(client.post(f"{API}/interrogate", json={"image": uri, "tags": 1000}), 422)["field"] == "tags"
    wrong = {"image": uri, "interrogator": "wd14", "threshold": 2}
    assert problem(client.post(f"{API}/interrogate", json=wrong), 422)["field"] == "threshold"
    large = {"image": "data:image/png;base64," + "A" * 2_000_000}
    problem(client.post(f"{API}/interrogate", json=large), 413)
    fits = client.post(f"{API}/score", json={"image": uri, "prompt": "dark blue"}).json()["score"]
    assert 0 <= fits <= 1
    assert problem(client.post(f"{API}/score", json={"image": uri, "prompt": ""}), 422)["field"] == "prompt"


def test_record_queries_are_checked(client):
    assert problem(client.get(f"{API}/records?limit=0"), 422)["field"] == "limit"
    assert problem(client.get(f"{API}/records?limit=abc"), 422)["value"] == "abc"
    assert problem(client.get(f"{API}/records?before=../x"), 422)["field"] == "before"
    assert problem(client.get(f"{API}/records?nonsense=1"), 422)["field"] == "nonsense"


def test_a_picture_is_cached_for_good(client, studio):
    submit(client)
    url = f"{API}/records/R00000/picture"
    answer = client.get(url)
    record = studio.record("R00000")
    assert answer.content == studio.picture_bytes(record.picture)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["etag"] == f'"{record.picture}"'
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-disposition"] == 'inline; filename="danqing-R00000.png"'
    assert client.get(f"{url}?download=true").headers["content-disposition"].startswith("attachment")
    assert client.get(url, headers={"If-None-Match": f'W/"x", "{record.picture}"'}).status_code == 304
    assert client.get(url, headers={"If-None-Match": '"x"'}).status_code == 200
    problem(client.get(f"{API}/records/nobody/picture"), 404)


def test_thumbnail_and_infotext(client):
    submit(client)
    small = client.get(f"{API}/records/R00000/thumbnail")
    assert small.headers["content-type"] == "image/png"
    assert (
        client.get(f"{API}/records/R00000/thumbnail", headers={"If-None-Match": small.headers["etag"]}).status_code
        == 304
    )
    assert client.get(f"{API}/records/R00000/infotext").text.startswith("a red apple\nSteps: 4")


def test_delete_and_restore(client):
    submit(client)
    assert client.delete(f"{API}/records/R00000").json()["deleted_at"]
    assert client.get(f"{API}/records").json()["records"] == []
    assert len(client.get(f"{API}/records?include_deleted=true").json()["records"]) == 1
    assert client.post(f"{API}/records/R00000/restore").json()["deleted_at"] is None
    assert len(client.get(f"{API}/records").json()["records"]) == 1
    problem(client.delete(f"{API}/records/nobody"), 404)


def test_uploads(client):
    stored = client.post(f"{API}/uploads", files={"file": ("a.png", png(size=(20, 10)))})
    assert stored.status_code == 201
    assert (stored.json()["width_px"], stored.json()["height_px"]) == (20, 10)
    assert stored.json()["ref"] == f"sha256:{stored.json()['sha256']}"
    problem(client.post(f"{API}/uploads", files={"file": b"no picture"}), 415)
    assert problem(client.post(f"{API}/uploads", files={"picture": png()}), 422)["field"] == "file"
    assert problem(client.post(f"{API}/uploads", data={"file": "text"}, files={"x": b"y"}), 422)["field"] == "file"
    problem(client.post(f"{API}/uploads", content=png(), headers={"Content-Type": "image/png"}), 415)
    broken = {"Content-Type": "multipart/form-data"}
    problem(client.post(f"{API}/uploads", content=b"x", headers=broken), 400)


def test_too_large_uploads_are_stopped_while_they_come(client):
    sent = 0

    def endless():
        nonlocal sent
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        for chunk in (head, *(b"x" * 16_384 for _ in range(1000))):
            sent += len(chunk)
            yield chunk

    told = problem(
        client.post(f"{API}/uploads", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=b"}),
        413,
    )
    assert "131072" in told["allowed"]
    known = problem(client.post(f"{API}/uploads", files={"file": b"x" * 200_000}), 413)
    assert known["next_step"]


def test_json_bodies_are_limited_too(client):
    told = problem(client.post(f"{API}/prompt/explain", json={"prompt": "x" * 2_000_000}), 413)
    assert "1048576" in told["allowed"]


def test_read_picture(client):
    answer = client.post(f"{API}/read-picture", files={"file": png()})
    assert answer.json()["request"]["seed"] == 7
    problem(client.post(f"{API}/read-picture", files={"file": b"no"}), 415)


def test_catalogue(client):
    assert client.get(f"{API}/models").json()["models"][0]["name"] == "danqing-mini"
    samplers = client.get(f"{API}/samplers").json()["samplers"]
    assert {"Euler a", "DPM++ 2M", "UniPC"} <= {sampler["name"] for sampler in samplers}
    assert "karras" in {entry["key"] for entry in client.get(f"{API}/schedules").json()["schedules"]}
    assert "Lanczos" in {entry["name"] for entry in client.get(f"{API}/upscalers").json()["upscalers"]}
    assert client.get(f"{API}/styles").json()["styles"][0]["prompt"] == "{prompt}, flat"
    assert client.get(f"{API}/health").json()["status"] == "ok"
    assert client.get(f"{API}/doctor").json()["device"] == "cpu"


def test_explain(client):
    body = client.post(f"{API}/prompt/explain", json={"prompt": "a [cat:dog:0.5]", "steps": 20}).json()
    assert body["schedules"] == [[10, "a cat"], [20, "a dog"]]
    assert problem(client.post(f"{API}/prompt/explain", json={"prompt": "x", "steps": 0}), 422)["field"] == "steps"
    assert problem(client.post(f"{API}/prompt/explain", json={}), 422)["field"] == "prompt"
