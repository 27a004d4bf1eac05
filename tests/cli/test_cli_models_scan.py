"""`danqing models scan`, `danqing models show`, and the same through the API."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

sys.path.append(str(Path(__file__).parents[1] / "models"))

from model_files import layouts

from danqing.server.app import create_api

LORA = layouts.kohya_lora(layouts.lora_modules(layouts.SD1), rank=2)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "models"
    layouts.write_sparse(root / "Lora/cat.safetensors", LORA, {"ss_output_name": "mycat"})
    layouts.write_sparse(root / "embeddings/bad.safetensors", {"emb_params": (2, 768)}, dtype="F32")
    layouts.write_sparse(root / "odd.safetensors", {"one.two": (3,), "four": (5, 6)})
    (root / "broken.ckpt").write_bytes(b"")
    (root / "Lora/cat.json").write_text(json.dumps({"activation text": "ohwx cat"}), encoding="utf-8")
    return root


def test_scan_lists_counts_and_explains(danqing, folder):
    answer = danqing("models", "scan", str(folder))

    assert answer.code == 0
    rows = [line.split("\t") for line in answer.out.splitlines()]
    assert rows[0] == ["name", "kind", "family", "variant", "layout", "precision", "MiB", "hash"]
    assert ["cat", "lora", "sd1", "lora", "kohya", "float16"] in [row[:6] for row in rows]
    assert "4 files: 1 " in answer.err
    assert "broken.ckpt is empty" in answer.err
    assert "seen: one.two [3], four [5, 6]" in answer.err


def test_scan_as_json_with_hashes(danqing, folder):
    data = danqing("models", "scan", str(folder), "--hash", "--json").json

    assert data["kinds"] == {"lora": 1, "embedding": 1, "unknown": 1, "unreadable": 1}
    cat = next(file for file in data["files"] if file["name"] == "cat")
    assert cat["title"] == f"cat [{cat['hashes']['autov2']}]"
    assert cat["identity"]["facts"]["rank"] == 2
    again = danqing("models", "scan", str(folder), "--json").json
    assert next(file for file in again["files"] if file["name"] == "cat")["hashes"] == cat["hashes"]


def test_show_explains_one_file(danqing, folder):
    text = danqing("models", "show", "mycat", "--in", str(folder), "--hash").out

    for words in (
        "kind",
        "lora",
        "family           sd1",
        "rank             2",
        "trigger words    ohwx cat",
        "hash autov2",
    ):
        assert words in text
    by_path = danqing("models", "show", str(folder / "odd.safetensors"), "--json").json
    assert by_path["file"]["identity"]["kind"] == "unknown"


def test_show_of_what_is_not_there(danqing, folder):
    answer = danqing("models", "show", "dog", "--in", str(folder), "--json")

    assert answer.code != 0
    assert answer.error["code"] == "not_found"
    assert danqing("models", "scan", str(folder / "none"), "--json").error["code"] == "not_found"


def test_listing_stays_as_it_is(danqing):
    assert "models" in danqing("models", "--json").json


def test_the_api_lists_the_studios_own_folders(studio):
    root = studio.settings.models_path
    layouts.write_sparse(root / "Lora/cat.safetensors", LORA)
    layouts.write_sparse(root / "embeddings/bad.safetensors", {"emb_params": (2, 768)}, dtype="F32")
    api = create_api(studio)
    client = TestClient(api)

    everything = client.get("/models/files").json()
    assert (everything["total"], everything["kinds"]) == (2, {"lora": 1, "embedding": 1})
    assert [file["name"] for file in client.get("/models/files?kind=lora").json()["files"]] == ["cat"]
    assert client.get("/models/files?family=sdxl").json()["total"] == 0
    assert client.get("/models/files?limit=1&offset=1").json()["files"][0]["name"] == "bad"
    assert client.get("/models/files?kind=nonsense").status_code == 422


def test_scanning_loads_no_torch(folder, tmp_path):
    code = (
        "import sys; from pathlib import Path; from danqing.models.scan import Scanner;"
        f"Scanner(Path({str(tmp_path / 's.sqlite')!r})).scan([Path({str(folder)!r})]);"
        "print([name for name in ('torch', 'numpy', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
