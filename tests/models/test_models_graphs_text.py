"""Text encoders as graphs: they read as transformers' modules do, and what cannot be written down is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers.activations import GELUActivation

import tiny_networks
from danqing.models.diffusers_folders import BUILTIN_DIR
from danqing.models.singlefile.facts import CLIP_TOKENIZER
from danqing.models.text import TextEncoder, TextOptions, TextState, WordVectors
from tiny_checkpoints import TEXT_WIDTH, text_tower

pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'danqing[openvino]'")

from danqing.models.graphs.compiled import GraphShelf, ShapedGraphs
from danqing.models.graphs.emit import NotExpressible
from danqing.models.graphs.text import WORDS, clip_layers_graph, layers_bytes

CLOSE = 1e-4
"""Relative distance in float32; 1e-6 is usual, but a state in the midst of large ones may lose two digits."""
LAYERS = 3
LONG = "a (red:1.3) cat [in the rain], " * 20


def tower(act: str = "quick_gelu", *, projection: bool = False, seed: int = 1) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = text_tower(act, projection=projection).eval().requires_grad_(False)
    # Trained encoders have no zero mean, which the emphasis mode "Original" divides by.
    norm = getattr(model, "text_model", model).final_layer_norm
    norm.bias.copy_(torch.linspace(-0.5, 1.0, TEXT_WIDTH))
    return model


def encoder_of(model: Any, **options: Any) -> TextEncoder:
    return TextEncoder(CLIP_TOKENIZER, model, torch.device("cpu"), TextOptions(**options))


class Layers:
    """A text encoder's layers by a graph, which notes what was asked for."""

    def __init__(self, encoder: TextEncoder) -> None:
        def write() -> Any:
            return clip_layers_graph(encoder.model, torch.float32, normed=not encoder.options.hidden)

        self.graphs = ShapedGraphs(write, None, lambda _: True)
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, embedded: Tensor, wanted: Sequence[int]) -> list[Tensor]:
        self.asked.append(tuple(wanted))
        return self.graphs({WORDS: embedded}, wanted)


def distance(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def same(found: Sequence[TextState], wanted: Sequence[TextState]) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.states.shape == theirs.states.shape
        assert distance(ours.states, theirs.states) < CLOSE
        assert (ours.pooled is None) == (theirs.pooled is None)
        if ours.pooled is not None and theirs.pooled is not None:
            assert ours.pooled.dtype is torch.float32
            assert distance(ours.pooled, theirs.pooled) < CLOSE


KINDS = [
    ("quick_gelu", False, {}),
    ("gelu", False, {}),
    ("quick_gelu", False, {"hidden": True}),
    ("gelu", True, {"hidden": True, "pad_id": 0}),
    ("quick_gelu", True, {"hidden": True}),
    ("quick_gelu", False, {"pooled": True}),
]


@pytest.mark.parametrize(
    ("act", "projection", "options"), KINDS, ids=["SD 1", "SD 2", "SDXL's first", "SDXL's second", "SD 3", "FLUX"]
)
def test_every_kind_reads_as_its_module_does_at_every_clip_skip(act, projection, options):
    model = tower(act, projection=projection)
    encoder = encoder_of(model, **options)
    layers = Layers(encoder)
    texts = ["the red cat", "", LONG, "a dog BREAK a house"]
    pools = projection or "pooled" in options
    for skip in range(1, LAYERS + 1):
        wanted = encoder.read(texts, emphasis="Original", clip_skip=skip)
        with encoder.computed_by(layers):
            found = encoder.read(texts, emphasis="Original", clip_skip=skip)
        same(found, wanted)
        assert (found[0].pooled is not None) == pools
        read = LAYERS - (max(skip, 2) if "hidden" in options else skip)
        assert set(layers.asked) == {(read, LAYERS - 1) if pools else (read,)}
        layers.asked.clear()
    again = encoder.read(texts, emphasis="Original", clip_skip=1)
    assert not layers.asked, "what stood for the layers stayed"
    assert torch.equal(again[0].states, encoder.read(texts[:1], emphasis="Original", clip_skip=1)[0].states)


@pytest.mark.parametrize("end", [2, 49407])
def test_the_pooled_text_is_where_transformers_finds_the_end(end):
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        projection_dim=24, eos_token_id=end, initializer_range=0.2, initializer_factor=10.0,
    )  # fmt: skip
    model = CLIPTextModelWithProjection(config).eval().requires_grad_(False)
    encoder = encoder_of(model, hidden=True, pad_id=0)
    wanted = encoder.read(["cat", LONG], emphasis="Original", clip_skip=1)
    with encoder.computed_by(Layers(encoder)):
        found = encoder.read(["cat", LONG], emphasis="Original", clip_skip=1)
    assert found[0].pooled is not None
    assert found[0].pooled.shape == (24,)
    # The only layer has nothing before it, so that the embedded tokens are read as they are.
    same(found, wanted)
    assert torch.equal(found[0].states, wanted[0].states)


def test_new_words_stand_where_they_do_for_pytorch():
    model = tower()
    encoder = encoder_of(model)
    words = [WordVectors("birb", tiny_networks.noise(1, 3, TEXT_WIDTH, size=2.0))]
    layers = Layers(encoder)
    with encoder.knowing(words):
        wanted = encoder.read(["a (birb:1.2) in a tree"], emphasis="Original", clip_skip=1)
        with encoder.computed_by(layers):
            found = encoder.read(["a (birb:1.2) in a tree"], emphasis="Original", clip_skip=1)
    same(found, wanted)
    with encoder.computed_by(layers):
        plain = encoder.read(["a (birb:1.2) in a tree"], emphasis="Original", clip_skip=1)
    assert distance(plain[0].states, wanted[0].states) > 100 * CLOSE


def test_a_text_is_the_same_to_the_bit_in_any_company():
    layers = Layers(encoder_of(tower()))
    embedded = torch.randn(3, 77, TEXT_WIDTH, generator=torch.Generator().manual_seed(1))
    (whole,) = layers(embedded, (LAYERS - 1,))
    for row in range(3):
        assert torch.equal(layers(embedded[row : row + 1], (LAYERS - 1,))[0], whole[row : row + 1])


def test_a_word_reads_only_those_before_it():
    layers = Layers(encoder_of(tower()))
    embedded = torch.randn(1, 77, TEXT_WIDTH, generator=torch.Generator().manual_seed(2))
    changed = embedded.clone()
    changed[:, 40:] = embedded[:, 40:].flip(-1)
    before, after = (layers(one, (LAYERS - 1,))[0] for one in (embedded, changed))
    assert distance(after[:, :40], before[:, :40]) < 1e-6
    assert distance(after[:, 40:], before[:, 40:]) > 0.01


def test_the_built_in_model_reads_as_its_module_does():
    folder = BUILTIN_DIR / "danqing-mini"
    model = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval().requires_grad_(False)
    encoder = TextEncoder(folder / "tokenizer", model, torch.device("cpu"))
    for skip in (1, 2):
        wanted = encoder.read(["red apple, 3d", ""], emphasis="Original", clip_skip=skip)
        with encoder.computed_by(Layers(encoder)):
            same(encoder.read(["red apple, 3d", ""], emphasis="Original", clip_skip=skip), wanted)


def test_only_the_layers_are_held_once_more():
    model = tower(projection=True)
    weights = sum(one.numel() * 4 for one in model.text_model.encoder.parameters())
    assert layers_bytes(model) == weights
    shelf = GraphShelf()
    graph = shelf.get(model, "layers", lambda: clip_layers_graph(model, torch.float32, normed=True))
    assert graph is not None
    graph({WORDS: torch.zeros(1, 77, TEXT_WIDTH)}, (0,))
    assert shelf.bytes_of(model) == pytest.approx(weights, rel=0.02)
    assert layers_bytes(nn.Linear(2, 2)) == 0


class Louder(nn.Linear):
    """Looks like a linear layer."""


def replaced(path: str, module: nn.Module) -> Any:
    model = tower()
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, module)
    return model


REFUSED = {
    "Louder": lambda: replaced("encoder.layers.1.self_attn.q_proj", Louder(TEXT_WIDTH, TEXT_WIDTH)),
    "NewGELU": lambda: tower("gelu_new"),
    "a GELU of its own": lambda: replaced("encoder.layers.2.mlp.activation_fn", GELUActivation(use_gelu_python=True)),
    "LayerNorm was expected": lambda: replaced("encoder.layers.0.layer_norm1", nn.Identity()),
    "CLIPTextModel was expected": lambda: nn.Linear(2, 2),
    "float16": lambda: tower().half(),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_written_down_is_refused(why):
    model = REFUSED[why]()
    dtype = next(model.parameters()).dtype
    with pytest.raises(NotExpressible, match=why):
        clip_layers_graph(model, dtype, normed=False)
