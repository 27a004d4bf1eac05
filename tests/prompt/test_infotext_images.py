"""Image prompts in an infotext, and in the Request that a Plan answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.planning import plan
from danqing.prompt.infotext import request_from_infotext, to_infotext
from danqing.prompt.infotext_plan import request_of_plan
from danqing.spec.errors import InvalidRequestError
from danqing.spec.model import ImageEncoderInfo, IpAdapterInfo, ModelInfo
from danqing.spec.request import parse_request

PICTURE = "sha256:" + "ab" * 32

prompts = st.lists(
    st.fixed_dictionaries(
        {"image": st.sampled_from([PICTURE, "record:01J8"])},
        optional={
            "weight": st.floats(0, 2).map(lambda x: round(x, 3)),
            "start": st.floats(0, 0.4).map(lambda x: round(x, 3)),
            "end": st.floats(0.5, 1).map(lambda x: round(x, 3)),
        },
    ),
    max_size=5,
)


class Shelf:
    """A catalogue of one model with one image adapter."""

    model = ModelInfo(name="tiny", family="sd1", path="", sha256="1" * 64, context_width=32, block_widths=(32, 64))
    adapter = IpAdapterInfo(
        name="like",
        path="",
        sha256="2" * 64,
        encoder=ImageEncoderInfo(path="", sha256="3" * 64, embedding_width=24),
        context_width=32,
        layer_widths=(32, 64),
    )

    def find(self, name: str | None) -> ModelInfo:
        return self.model

    def find_image_adapter(self, name: str) -> IpAdapterInfo:
        return self.adapter

    def image_adapter_for(self, model: ModelInfo) -> IpAdapterInfo:
        return self.adapter

    def embeddings(self) -> list[IpAdapterInfo]:
        return []

    def find_upscaler(self, name: str) -> None:
        return None


@settings(max_examples=50, deadline=None)
@given(prompts, st.sampled_from(["tokens", "average"]), st.sampled_from([None, "like"]))
def test_image_prompts_survive_their_infotext(given_prompts: list[dict[str, Any]], mix: str, adapter: str | None):
    request = parse_request({"image_prompts": given_prompts, "image_mix": mix, "image_adapter": adapter})
    read = request_from_infotext(to_infotext(request))
    assert read.request == request
    assert read.notes == ()


@pytest.mark.parametrize("text", ["{", "[1]", '{"image": 3}', '[{"image": "cat.png"}]', '[{"weight": 9}]'])
def test_unreadable_image_prompts_are_left_out_with_a_note(text: str):
    good = to_infotext(parse_request({"prompt": "a cat", "seed": 3, "image_prompts": [{"image": PICTURE}]}))
    import json

    spoilt = good.replace(json.dumps(f'[{{"image": "{PICTURE}"}}]'), json.dumps(text))
    assert spoilt != good
    read = request_from_infotext(spoilt)
    assert read.request.image_prompts == ()
    assert read.notes


def test_a_plan_tells_of_its_image_prompts():
    wanted = parse_request(
        {"seed": 1, "image_prompts": [{"image": PICTURE, "weight": 0.5}, {"image": PICTURE, "weight": 0}]}
    )
    (one,) = plan(wanted, Shelf())  # type: ignore[arg-type]
    assert [prompt.image for prompt in one.image_prompts] == ["ab" * 32]
    back = request_of_plan(one)
    assert (back.image_prompts, back.image_adapter) == (wanted.image_prompts[:1], "like")


def test_a_window_must_be_open():
    with pytest.raises(InvalidRequestError, match="ends before it begins") as caught:
        parse_request({"image_prompts": [{"image": PICTURE, "start": 0.5, "end": 0.5}]})
    assert caught.value.field == "image_prompts.0"
    with pytest.raises(InvalidRequestError):
        parse_request({"image_prompts": [{"image": PICTURE}] * 6})
