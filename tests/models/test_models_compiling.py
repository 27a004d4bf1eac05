"""A twin shares its network's weights, says what it says, and never sees what adapters do to the network."""

from __future__ import annotations

import copy
import shutil
import threading
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_models
from danqing.models.compiling import (
    allow_variants,
    can_have_twin,
    compile_blocks,
    fuse_projections,
    twin_of,
    why_not_compiled,
)

CPU = torch.device("cpu")


@pytest.fixture
def unet() -> Any:
    return tiny_models._unet(4).eval().requires_grad_(False)


def call(unet: Any, rows: int = 2, side: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 4, side, side, generator=generator)
    context = torch.randn(rows, 7, tiny_models.CONTEXT_WIDTH, generator=generator)
    with torch.inference_mode():
        answer: Tensor = unet(x, torch.arange(rows) + 400, encoder_hidden_states=context, return_dict=False)[0]
    return answer


def test_a_twin_holds_the_very_weights_in_modules_of_its_own(unet: Any):
    twin = twin_of(unet)
    assert all(a is b for a, b in zip(unet.parameters(), twin.parameters(), strict=True))
    assert not {id(one) for one in unet.modules()} & {id(one) for one in twin.modules()}
    assert torch.equal(call(unet), call(twin))


def test_a_hook_on_the_network_is_none_on_its_twin(unet: Any):
    twin, before = twin_of(unet), call(unet)
    unet.down_blocks[0].attentions[0].register_forward_hook(lambda *_: (torch.zeros(2, 32, 8, 8),))
    assert not torch.equal(call(unet), before)
    assert torch.equal(call(twin), before)


def test_fused_projections_say_the_same_and_take_no_memory(unet: Any):
    before, alone = call(unet), copy.deepcopy(unet)
    twin = twin_of(unet)
    count = fuse_projections(twin)
    assert count == 2 * sum(name.endswith("attn1.to_q") for name, _ in unet.named_modules())
    torch.testing.assert_close(call(twin), before, rtol=1e-5, atol=1e-6)
    # The network itself goes on with its own layers, whose weights are now parts of the joined ones.
    torch.testing.assert_close(call(unet), before, rtol=1e-5, atol=1e-6)
    for (name, one), other in zip(unet.named_parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other), name
    attn = unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1")
    joined = twin.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1").to_qkv.weight
    assert attn.to_k.weight.untyped_storage().data_ptr() == joined.untyped_storage().data_ptr()
    assert fuse_projections(twin) == 0, "what is fused is not fused again"


def test_a_network_on_the_move_gets_no_twin(unet: Any):
    assert can_have_twin(unet, None, CPU)
    assert can_have_twin(unet, "int8", CPU)
    assert not can_have_twin(unet, "float8", CPU)
    assert not can_have_twin(unet, None, torch.device("cuda"))
    unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert not can_have_twin(unet, None, CPU)


def test_compiled_blocks_say_the_same_for_any_shape(unet: Any):
    twin = twin_of(unet)
    fuse_projections(twin)
    # The middle has one block of each kind, and the least to trace.
    assert compile_blocks(twin.mid_block, "eager") == 3
    torch._dynamo.reset()
    with torch.inference_mode():
        allow_variants()
        for rows, side in ((2, 8), (3, 8), (2, 16)):
            torch.testing.assert_close(call(twin, rows, side), call(unet, rows, side), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor on a CPU needs a C++ compiler")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_what_a_thread_compiled_another_calls_without_compiling(unet: Any, backend: str):
    expected = call(unet)
    twin = twin_of(unet)
    fuse_projections(twin)
    compile_blocks(twin.mid_block, backend)
    torch._dynamo.reset()
    found: list[Any] = []

    def compile_it() -> None:
        try:
            allow_variants()
            found.append(call(twin))
        except Exception as error:  # noqa: BLE001
            found.append(error)

    thread = threading.Thread(target=compile_it)
    thread.start()
    thread.join()
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)
    with torch.compiler.set_stance("fail_on_recompile"):
        torch.testing.assert_close(call(twin), expected, rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


def test_what_is_missing_for_compiling_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/cc")
    assert why_not_compiled(CPU) is None
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "C compiler" in (why_not_compiled(CPU) or "")
