"""The page's list of networks behind a real Studio on a real models folder."""

from __future__ import annotations

import io
from urllib.parse import urlsplit

import numpy as np
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from safetensors.numpy import save_file

from danqing.web.routes import add_routes


def test_the_page_lists_networks_and_serves_their_pictures(open_studio, tmp_path):
    folder = tmp_path / "models" / "Lora" / "styles"
    folder.mkdir(parents=True)
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    shapes = {"lora_down.weight": (2, 2048), "lora_up.weight": (640, 2)}
    save_file(
        {f"{layer}.{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}, folder / "a&b.safetensors"
    )
    Image.new("RGB", (300, 900), "green").save(folder / "a&b.preview.png")
    app = FastAPI()
    studio = open_studio(models_dir=tmp_path / "models")
    add_routes(app, studio, upload_max_bytes=20_000)
    client = TestClient(app)
    cards = {one["name"]: one for one in client.get("/web/networks?model=danqing-mini").json()["networks"]}
    assert cards["van-gogh"]["made_for"] == "Danqing built-in"
    card = cards["styles/a&b"]
    assert (card["written"], card["made_for"]) == ("a&b", "Stable Diffusion XL")
    assert card["misfit"] in ("family", "width")  # the built-in model is narrower
    address = urlsplit(card["preview"])
    shown = client.get(f"/{address.path}?{address.query}")
    assert shown.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(shown.content)) as image:
        assert image.size == (85, 256)
    missing = client.get("/web/networks/preview?kind=lora&name=..%2Fsecret&lang=zh-Hans")
    assert missing.status_code == 404
    assert missing.json()["code"] == "not_found"
