"""Scores, verdicts, and the scorer with weights of its own (a tiny random CLIP)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from test_review_photometric import drawing
from transformers import CLIPConfig, CLIPModel

from danqing.review.aesthetic import AestheticScorer, find_aesthetic
from danqing.review.judge import decide, photometric_beauty, similarity
from danqing.spec.errors import BadFileError
from danqing.spec.refine import RefineRules, Scores
from tiny_models import save_tokenizer


def score(prompt: float, aesthetic: float = 0.5, alike: float = 1.0) -> Scores:
    return Scores(prompt=prompt, aesthetic=aesthetic, similarity=alike)


@pytest.mark.parametrize(
    ("after", "accepted"),
    [
        (score(0.5), True),
        (score(0.42), False),
        (score(0.4), False),
        (score(0.9, 0.3), False),
        (score(0.9, 0.45), True),
        (score(0.4, 0.6), True),
        (score(0.3, 0.9), False),
        (score(0.9, 0.9, 0.1), False),
    ],
)
def test_verdicts(after: Scores, accepted: bool):
    verdict = decide(score(0.4), after, RefineRules())
    assert verdict.accepted is accepted
    assert "0.400" in verdict.reason


def test_similarity_is_one_for_the_same_and_falls_with_change():
    one = drawing()
    assert similarity(one, one) == pytest.approx(1.0)
    soft = similarity(one, one.filter(ImageFilter.GaussianBlur(3)))
    other = similarity(one, Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)))
    assert 1.0 > soft > 0.6 > other
    assert similarity(one, one.resize((128, 128))) > 0.95


def test_beauty_falls_with_every_fault():
    best = photometric_beauty(drawing())
    soft = drawing().filter(ImageFilter.GaussianBlur(5))
    weak = Image.fromarray((128 + (np.asarray(drawing(), np.float32) - 128) * 0.1).astype(np.uint8))
    assert 0.0 <= photometric_beauty(weak) < best <= 1.0
    assert photometric_beauty(soft) < best - 0.2
    assert photometric_beauty(Image.new("L", (1, 1))) == 0.0


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "aesthetic"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = CLIPConfig(
            text_config={**tower, "vocab_size": 49408, "max_position_embeddings": 77},
            vision_config={**tower, "image_size": 32, "patch_size": 8},
            projection_dim=16,
        )
        CLIPModel(config).save_pretrained(folder / "clip")
        save_tokenizer(folder / "clip")
        layers = {"layers.0.weight": torch.randn(8, 16), "layers.0.bias": torch.randn(8)}
        layers |= {"layers.2.weight": torch.randn(1, 8) * 3, "layers.2.bias": torch.full((1,), 5.0)}
    save_file(layers, folder / "head.safetensors")
    return tmp_path


def test_an_aesthetic_predictor_is_used_where_it_is_installed(models_dir: Path):
    files = find_aesthetic(models_dir)
    scorer = AestheticScorer(files, torch.device("cpu"))
    found = scorer.score([drawing(), drawing().convert("L"), Image.new("RGBA", (40, 20))], "a disc")
    assert len(found) == 3
    assert all(0.0 <= value <= 1.0 for pair in found for value in pair)
    assert scorer.name == "clip + head"
    # By hand: the layers after each other, 1 to 10 made 0 to 1.
    assert find_aesthetic(models_dir / "none") is None


def test_a_predictor_that_does_not_fit_is_told(models_dir: Path):
    save_file({"weight": torch.zeros(1, 99)}, models_dir / "aesthetic" / "head.safetensors")
    with pytest.raises(BadFileError, match="aesthetic predictor"):
        AestheticScorer(find_aesthetic(models_dir), torch.device("cpu"))
    (models_dir / "aesthetic" / "head.safetensors").write_bytes(b"no weights")
    with pytest.raises(BadFileError):
        AestheticScorer(find_aesthetic(models_dir), torch.device("cpu"))
