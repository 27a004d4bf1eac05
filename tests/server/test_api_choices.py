"""Networks with previews, and control types, through the native API."""

from __future__ import annotations

import io

import numpy as np
import pytest
from door_studio import API, CONTROLNET
from PIL import Image
from safetensors.numpy import save_file

from danqing.spec.registry.control_filters import CONTROL_FILTERS, find_control_filter
from danqing.spec.registry.controls import CONTROL_TYPES


@pytest.fixture
def ink(studio):
    """A LoRA with a picture beside it in the studio's models folder."""
    path = studio.folder / "Lora" / "ink.safetensors"
    path.parent.mkdir()
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    shapes = {"lora_down.weight": (2, 768), "lora_up.weight": (320, 2)}
    save_file({f"{layer}.{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}, path)
    Image.new("RGB", (900, 600), "blue").save(path.with_suffix(".png"))
    return path


def test_networks_are_listed_with_their_previews(client, ink):
    answer = client.get(f"{API}/networks").json()
    assert answer["model"] == "danqing-mini"
    (card,) = answer["networks"]
    assert (card["kind"], card["written"], card["misfit"]) == ("lora", "ink", None)
    shown = client.get(f"{API}/networks/preview", params={"kind": "lora", "name": "ink"})
    assert shown.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(shown.content)) as image:
        assert max(image.size) <= 256
    assert client.get(f"{API}/networks", params={"kind": "embedding"}).json()["networks"] == []


@pytest.mark.parametrize("name", ["../ink", "nobody", "ink.safetensors"])
def test_no_other_picture_is_served(client, ink, name):
    refused = client.get(f"{API}/networks/preview", params={"kind": "lora", "name": name})
    assert refused.status_code == 404


def test_a_picture_that_is_none_is_refused(client, ink):
    ink.with_suffix(".png").write_bytes(b"<html>")
    refused = client.get(f"{API}/networks/preview", params={"kind": "lora", "name": "ink"})
    assert refused.status_code == 415


def test_control_types_as_the_extension_has_them(client):
    types = client.get(f"{API}/control-types").json()["control_types"]
    assert next(iter(types)) == "All"
    assert "canny" in types["All"]["module_list"]
    canny = types["Canny"]
    assert (canny["default_option"], canny["module_list"][:1]) == ("canny", ["canny"])
    assert {"none", "invert"} <= set(canny["module_list"])
    assert types["Tile/Blur"]["default_option"] == "tile_resample"
    assert types["InstructP2P"]["default_option"] == "none"
    assert types["All"]["model_list"] in ([], [CONTROLNET.name])


def test_an_unknown_model_is_refused_by_name(client):
    for path in ("networks", "control-types"):
        refused = client.get(f"{API}/{path}", params={"model": "nobody"})
        assert (refused.status_code, refused.json()["field"]) == (404, "model")


def test_every_kind_of_map_has_a_control_type():
    covered = {key for info in CONTROL_FILTERS for key in info.types}
    assert {info.key for info in CONTROL_TYPES} - covered <= {"style"}
    for info in CONTROL_FILTERS:
        assert find_control_filter(info.name) is info
        assert find_control_filter(info.key) is info
