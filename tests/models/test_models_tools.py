"""Merging, converting and extracting, on small files with the published key names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from danqing.cli.main import run
from danqing.models.tools.blocks import BlockWeights, block_of, blocks_of, parse_blocks
from danqing.models.tools.convert import ConvertTask, convert
from danqing.models.tools.extract import ExtractTask, extract, factors, ldm_names
from danqing.models.tools.merge import MergeTask, merge
from danqing.models.tools.stream import DTYPES, Entry, Source, Writer
from danqing.spec.errors import BadFileError, ConflictError, InvalidRequestError, UnsupportedError

UNET = "model.diffusion_model."
ATTENTION = UNET + "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
CONVOLUTION = UNET + "output_blocks.2.0.in_layers.2.weight"
TEXT = "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight"
VAE = "first_stage_model.decoder.conv_in.weight"
POSITIONS = "cond_stage_model.transformer.text_model.embeddings.position_ids"


def checkpoint(seed: int, channels: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        UNET + "input_blocks.0.0.weight": normal(8, channels, 3, 3),
        UNET + "input_blocks.1.0.in_layers.2.weight": normal(8, 8, 3, 3),
        ATTENTION: normal(8, 8),
        UNET + "input_blocks.2.0.op.weight": normal(8, 8, 3, 3),
        UNET + "input_blocks.3.0.in_layers.2.weight": normal(8, 8, 3, 3),
        UNET + "middle_block.1.transformer_blocks.0.attn2.to_k.weight": normal(8, 6),
        UNET + "output_blocks.0.0.in_layers.2.weight": normal(8, 16, 3, 3),
        UNET + "output_blocks.1.0.in_layers.2.weight": normal(8, 16, 3, 3),
        UNET + "output_blocks.1.1.conv.weight": normal(8, 8, 3, 3),
        CONVOLUTION: normal(8, 16, 3, 3),
        UNET + "time_embed.0.weight": normal(8, 8),
        TEXT: normal(6, 6),
        VAE: normal(8, 4, 3, 3),
        POSITIONS: torch.arange(77)[None],
    }


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for seed, name in enumerate("abc"):
        found[name] = tmp_path / f"{name}.safetensors"
        save_file(checkpoint(seed), found[name])
    found["wide"] = tmp_path / "inpaint.safetensors"
    save_file(checkpoint(7, channels=9), found["wide"])
    return found


def test_a_weighted_sum_is_the_formula_and_keeps_what_a_alone_has(files: dict[str, Path], tmp_path: Path):
    out = tmp_path / "out.safetensors"
    told = merge(MergeTask(files["a"], files["b"], out, alpha=0.3))
    a, b, made = checkpoint(0), checkpoint(1), load_file(out)
    assert set(made) == set(a)
    assert told["merged"] == len(a) - 1
    for name in a:
        wanted = a[name] if name == POSITIONS else a[name] + 0.3 * (b[name] - a[name])
        assert torch.allclose(made[name], wanted, atol=1e-6), name
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()["sd_merge_recipe"])["multiplier"] == 0.3


def test_the_ends_of_a_merge_are_the_models_themselves(files: dict[str, Path], tmp_path: Path):
    for alpha, seed in ((0.0, 0), (1.0, 1)):
        out = tmp_path / f"{seed}.safetensors"
        merge(MergeTask(files["a"], files["b"], out, alpha=alpha))
        assert all(torch.equal(value, checkpoint(seed)[name]) for name, value in load_file(out).items())


def test_adding_a_difference(files: dict[str, Path], tmp_path: Path):
    out = tmp_path / "out.safetensors"
    merge(MergeTask(files["a"], files["b"], out, files["c"], "difference", 0.5, to="bf16"))
    a, b, c = checkpoint(0), checkpoint(1), checkpoint(2)
    made = load_file(out)
    assert made[ATTENTION].dtype == torch.bfloat16
    assert made[POSITIONS].dtype == torch.int64
    assert torch.allclose(made[ATTENTION].float(), a[ATTENTION] + 0.5 * (b[ATTENTION] - c[ATTENTION]), atol=0.03)
    same = tmp_path / "same.safetensors"
    merge(MergeTask(files["a"], files["b"], same, files["b"], "difference", 1.0))
    assert all(torch.equal(value, a[name]) for name, value in load_file(same).items())


def test_an_inpainting_model_takes_the_pictures_channels_only(files: dict[str, Path], tmp_path: Path):
    out = tmp_path / "out.safetensors"
    merge(MergeTask(files["wide"], files["b"], out, alpha=1.0))
    first = UNET + "input_blocks.0.0.weight"
    made = load_file(out)[first]
    assert torch.equal(made[:, :4], checkpoint(1)[first])
    assert torch.equal(made[:, 4:], checkpoint(7, channels=9)[first][:, 4:])
    with pytest.raises(InvalidRequestError, match="different kinds"):
        merge(MergeTask(files["b"], files["wide"], tmp_path / "no.safetensors"))
    assert not (tmp_path / "no.safetensors").exists()


def test_blocks_are_weighed_one_by_one(files: dict[str, Path], tmp_path: Path):
    out = tmp_path / "out.safetensors"
    merge(MergeTask(files["a"], files["b"], out, alpha=0.0, blocks="IN01=1, OUT=1"))
    a, b, made = checkpoint(0), checkpoint(1), load_file(out)
    assert torch.equal(made[ATTENTION], b[ATTENTION])
    assert torch.equal(made[CONVOLUTION], b[CONVOLUTION])
    assert torch.equal(made[TEXT], a[TEXT])
    assert torch.equal(made[UNET + "input_blocks.0.0.weight"], a[UNET + "input_blocks.0.0.weight"])


def test_block_weights_in_every_spelling():
    blocks = blocks_of(checkpoint(0))
    assert blocks == ["IN00", "IN01", "IN02", "IN03", "M00", "OUT00", "OUT01", "OUT02"]
    assert parse_blocks("0 0 0 0 1 0 0 0", 0.5, blocks).of(UNET + "middle_block.1.x") == 1.0
    assert parse_blocks(",".join(["0.25"] + ["0"] * 8), 0.5, blocks).of(TEXT) == 0.25
    assert parse_blocks("IN00-IN02=0.1", 0.7, blocks).own == {"IN00": 0.1, "IN01": 0.1, "IN02": 0.1}
    for bad in ("0,1", "IN09=1", "IN00=much", "a b c d e f g h"):
        with pytest.raises(InvalidRequestError):
            parse_blocks(bad, 0.5, blocks)
    assert block_of("lora") == "BASE"
    assert BlockWeights(0.5).of(ATTENTION) == 0.5


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60))
def test_block_weights_never_give_anything_but_weights_or_a_reason(text: str):
    blocks = blocks_of(checkpoint(0))
    try:
        found = parse_blocks(text, 0.5, blocks)
    except InvalidRequestError:
        return
    assert set(found.own) <= {"BASE", *blocks}


@pytest.mark.parametrize("wanted", ["fp32", "fp16", "bf16", "fp8"])
def test_number_formats(files: dict[str, Path], tmp_path: Path, wanted: str):
    out = tmp_path / "out.safetensors"
    told = convert(ConvertTask(files["a"], out, to=wanted))
    made, a = load_file(out), checkpoint(0)
    assert made[POSITIONS].dtype == torch.int64
    large, small = made[ATTENTION], made[TEXT]
    kept = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}[wanted]
    assert large.dtype == kept
    assert small.dtype == (torch.float16 if wanted == "fp8" else kept)
    assert torch.equal(large, a[ATTENTION].to(kept))
    assert told["overflowed"] == []


def test_a_pickle_becomes_safetensors_bit_for_bit_and_training_leftovers_go(tmp_path: Path):
    whole = checkpoint(3)
    average = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): value + 1
        for name, value in whole.items()
        if name.startswith("model.")
    }
    leftovers = {"first_stage_model.loss.logvar": torch.zeros(1), "optimizer.exp_avg": torch.zeros(9)}
    old = tmp_path / "old.ckpt"
    torch.save({"state_dict": whole | average | leftovers, "global_step": 7}, old)
    every = tmp_path / "every.safetensors"
    convert(ConvertTask(old, every))
    assert set(load_file(every)) == set(whole | average | leftovers)
    pruned = tmp_path / "pruned.safetensors"
    told = convert(ConvertTask(old, pruned, prune=True))
    made = load_file(pruned)
    assert set(made) == set(whole)
    assert all(torch.equal(made[name], whole[name]) for name in whole)
    assert told["left_out"] == len(average) + 2
    averaged = tmp_path / "ema.safetensors"
    assert convert(ConvertTask(old, averaged, average="use"))["averages_used"] == len(average)
    assert torch.equal(load_file(averaged)[ATTENTION], whole[ATTENTION] + 1)
    assert torch.equal(load_file(averaged)[TEXT], whole[TEXT])


def test_a_vae_is_baked_in(files: dict[str, Path], tmp_path: Path):
    vae = tmp_path / "better.vae.safetensors"
    save_file({"decoder.conv_in.weight": torch.full((8, 4, 3, 3), 2.0)}, vae)
    out = tmp_path / "out.safetensors"
    assert convert(ConvertTask(files["a"], out, vae=vae))["vae_tensors"] == 1
    assert torch.equal(load_file(out)[VAE], torch.full((8, 4, 3, 3), 2.0))
    assert torch.equal(load_file(out)[ATTENTION], checkpoint(0)[ATTENTION])
    save_file({"decoder.conv_in.weight": torch.zeros(8, 5, 3, 3)}, vae)
    with pytest.raises(InvalidRequestError, match="does not fit"):
        convert(ConvertTask(files["a"], tmp_path / "no.safetensors", vae=vae))
    save_file({"decoder.mid_block.weight": torch.zeros(1)}, vae)
    with pytest.raises(UnsupportedError, match="other layers"):
        convert(ConvertTask(files["a"], tmp_path / "no.safetensors", vae=vae))


def test_a_value_that_the_format_cannot_hold_is_told(tmp_path: Path):
    path = tmp_path / "loud.safetensors"
    save_file(checkpoint(0) | {ATTENTION: torch.full((8, 8), 1e6)}, path)
    assert convert(ConvertTask(path, tmp_path / "out.safetensors", to="fp16"))["overflowed"] == [ATTENTION]


def test_factors_of_a_low_rank_difference_are_exact():
    generator = torch.Generator().manual_seed(4)
    difference = torch.randn(24, 3, generator=generator) @ torch.randn(3, 5 * 9, generator=generator)
    down, up, share = factors(difference.view(24, 5, 3, 3), 24)
    assert torch.allclose(up.flatten(1) @ down.flatten(1), difference, atol=1e-4)
    assert share == pytest.approx(1.0, abs=1e-5)
    assert (down.shape, up.shape) == ((24, 5, 3, 3), (24, 24, 1, 1))


def test_a_lora_is_extracted_under_kohyas_names(files: dict[str, Path], tmp_path: Path):
    tuned, out = tmp_path / "tuned.safetensors", tmp_path / "lora.safetensors"
    generator = torch.Generator().manual_seed(5)
    change = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in checkpoint(0).items()
    }
    save_file(change, tuned)
    told = extract(ExtractTask(tuned, files["a"], out, rank=64, conv_rank=128, to="fp32"))
    made = load_file(out)
    assert told["explained"] > 0.999
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    up, down = made[f"{module}.lora_up.weight"], made[f"{module}.lora_down.weight"]
    assert float(made[f"{module}.alpha"]) == len(down)
    assert torch.allclose(up @ down, change[ATTENTION] - checkpoint(0)[ATTENTION], atol=1e-5)
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight" in made
    assert "lora_unet_up_blocks_1_resnets_0_conv1.lora_up.weight" in made
    assert "lora_unet_down_blocks_0_downsamplers_0_conv.lora_up.weight" in made
    assert not any("time_embed" in name for name in made)
    with pytest.raises(InvalidRequestError, match="do not differ"):
        extract(ExtractTask(files["a"], files["a"], tmp_path / "none.safetensors"))
    assert not (tmp_path / "none.safetensors").exists()


def test_ldm_names_are_diffusers_own_for_a_real_layout():
    """Against diffusers' converter, for the built-in family's count of levels and for Stable Diffusion 1's."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = UNet2DConditionModel(
        block_out_channels=(8, 8, 8, 8),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
        layers_per_block=2,
    )
    paths = published_names(unet)
    converted = convert_ldm_unet_checkpoint(
        {UNET + path: torch.tensor([float(i)]) for i, path in enumerate(paths)}, dict(unet.config)
    )
    back = {float(value): name for name, value in converted.items()}
    names = ldm_names([UNET + path for path in paths])
    assert len(names) > 200
    for i, path in enumerate(paths):
        found = names.get(UNET + path.rsplit(".", 1)[0])
        norm = any(part in path for part in ("norm", "in_layers.0", "out_layers.0"))
        if found is not None and not norm and float(i) in back:
            assert f"{found}.{path.rsplit('.', 1)[1]}" == back[float(i)], path


def published_names(unet: torch.nn.Module) -> list[str]:
    """Stable Diffusion 1's published UNet names, from the rule of its layout (12 blocks each way, three to a level)."""
    inner = ["in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"]
    projections = [f"attn{n}.{x}" for n in (1, 2) for x in ("to_q", "to_k", "to_v", "to_out.0")]
    block = ["norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2", *projections]
    attention = ["norm", "proj_in", "proj_out", *(f"transformer_blocks.0.{part}" for part in block)]
    paths = ["time_embed.0", "time_embed.2", "input_blocks.0.0", "out.0", "out.2"]
    for number in range(1, 12):
        if number % 3 == 0:
            paths.append(f"input_blocks.{number}.0.op")
            continue
        paths += [f"input_blocks.{number}.0.{part}" for part in inner]
        if number < 9:
            paths += [f"input_blocks.{number}.1.{part}" for part in attention]
    paths += [f"middle_block.{n}.{part}" for n in (0, 2) for part in inner]
    paths += [f"middle_block.1.{part}" for part in attention]
    for number in range(12):
        paths += [f"output_blocks.{number}.0.{part}" for part in [*inner, "skip_connection"]]
        if number >= 3:
            paths += [f"output_blocks.{number}.1.{part}" for part in attention]
        if number in (2, 5, 8):
            paths.append(f"output_blocks.{number}.{1 if number == 2 else 2}.conv")
    return [f"{path}.weight" for path in paths] + [f"{path}.bias" for path in paths if "to_q" not in path]


def test_nothing_is_overwritten_or_left_half_written(files: dict[str, Path], tmp_path: Path):
    with pytest.raises(ConflictError, match="there already"):
        convert(ConvertTask(files["a"], files["b"]))
    with pytest.raises(InvalidRequestError, match="safetensors only"):
        convert(ConvertTask(files["a"], tmp_path / "out.ckpt"))
    out = tmp_path / "half.safetensors"

    def fail(_: str) -> torch.Tensor:
        raise BadFileError("the disk is gone")

    with pytest.raises(BadFileError):
        Writer(out, [Entry("x", torch.float32, (2,))]).write(fail)
    assert not [path for path in tmp_path.iterdir() if "half" in path.name]


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=6),
    dtype=st.sampled_from(sorted(DTYPES)),
    words=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)
def test_what_is_written_is_read_back_by_the_library(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]], dtype: str, words: dict[str, str]
):
    path = tmp_path_factory.mktemp("stream") / "x.safetensors"
    tensors = {f"t{i}": torch.randn(shape).to(DTYPES[dtype]) for i, shape in enumerate(shapes)}
    words.pop("__metadata__", None)
    entries = [Entry(name, t.dtype, tuple(t.shape)) for name, t in tensors.items()]
    Writer(path, entries, words).write(tensors.__getitem__)
    read = load_file(path)
    assert all(torch.equal(read[name].view(torch.uint8), t.view(torch.uint8)) for name, t in tensors.items() if t.ndim)
    source = Source(path)
    assert {key: value for key, value in source.metadata.items() if key != "format"} == {
        key: value for key, value in words.items() if key != "format"
    }


def test_from_the_command_line(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out.safetensors"
    assert run(["tools", "merge", str(files["a"]), str(files["b"]), str(out), "--alpha", "0.25", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["merged"] == len(checkpoint(0)) - 1
    assert run(["tools", "merge", str(files["a"]), str(files["b"]), str(out), "--json"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(["tools", "convert", str(tmp_path / "none.ckpt"), str(tmp_path / "x.safetensors")]) != 0
    assert "there is no such file" in capsys.readouterr().err


def test_memory_holds_a_tensor_not_a_model(tmp_path: Path):
    """64 layers of 4 MiB merged in a process whose memory grows by less than a quarter of one file."""
    for name in "ab":
        save_file({f"{UNET}input_blocks.1.0.{i}.weight": torch.ones(1024, 1024) for i in range(64)}, tmp_path / name)
    code = (
        "import sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        "from danqing.models.tools.merge import MergeTask, merge\n"
        "from danqing.models.tools.stream import Source\n"
        "place = Path(sys.argv[1])\n"
        "def anonymous():\n"
        "    return int(next(l for l in open('/proc/self/status') if l.startswith('RssAnon')).split()[1]) * 1024\n"
        "before = anonymous(); most = 0\n"
        "def watch(_):\n"
        "    global most; most = max(most, anonymous())\n"
        "merge(MergeTask(place / 'a', place / 'b', place / 'out.safetensors'), watch)\n"
        "print(most - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert int(done.stdout) < 64 * 2**20
