"""Reading what stands before the weights: true files are told as they are, damaged ones only ever by BadFileError."""

from __future__ import annotations

import collections
import contextlib
import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_files import gguf_bytes, layouts
from safetensors.torch import save_file

from danqing.models.header_memo import HeaderMemo
from danqing.models.headers import read_header
from danqing.models.identity import identify
from danqing.spec.errors import BadFileError, NotFoundError
from testdata import TESTDATA

PLENTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(tmp_path, data, name="file.bin"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


# --- safetensors ---------------------------------------------------------------------------------------------------
def test_safetensors_header(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(2, 3), "y": torch.zeros(4, dtype=torch.bfloat16)}, path, metadata={"ss_dim": "8"})

    header = read_header(path)

    assert header.format == "safetensors"
    assert {name: (info.dtype, info.shape) for name, info in header.tensors.items()} == {
        "x": ("float32", (2, 3)),
        "y": ("bfloat16", (4,)),
    }
    assert header.metadata == {"ss_dim": "8"}


def test_full_size_checkpoint_is_read_without_its_weights(tmp_path):
    path = layouts.write_sparse(tmp_path / "sdxl.safetensors", layouts.sdxl_checkpoint())

    assert path.stat().st_size > 6e9
    assert len(read_header(path).tensors) == len(layouts.sdxl_checkpoint())
    assert identify(path).family == "sdxl"


names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(
    lambda n: n != "__metadata__"
)
shapes = st.dictionaries(names, st.lists(st.integers(0, 9), max_size=4).map(tuple), max_size=8)
words = st.dictionaries(names, st.text(st.characters(exclude_categories=("Cs",)), max_size=60), max_size=5)


@PLENTY
@given(shapes, words, st.sampled_from(["F32", "F16", "BF16", "F8_E4M3"]))
def test_safetensors_round_trip_with_and_without_memory(tmp_path, tensors, metadata, dtype):
    path = layouts.write_sparse(tmp_path / "a.safetensors", tensors, metadata, dtype)
    memo = HeaderMemo()

    plain, first, again = read_header(path), read_header(path, memo), read_header(path, memo)

    assert {name: info.shape for name, info in plain.tensors.items()} == tensors
    assert plain.metadata == metadata
    assert plain == first == again


def test_memory_does_not_mix_files_of_different_tensors(tmp_path):
    memo = HeaderMemo()
    one = layouts.write_sparse(tmp_path / "a.safetensors", {"x": (4, 768)}, {"a": '{"b": "}"},"c":{'})
    two = layouts.write_sparse(tmp_path / "b.safetensors", {"x": (4, 1024)}, {"a": "other"})
    three = layouts.write_sparse(tmp_path / "c.safetensors", {"x": (4, 768)}, {"a": "ends in a backslash \\"})

    assert read_header(one, memo).tensors["x"].shape == (4, 768)
    assert read_header(two, memo).tensors["x"].shape == (4, 1024)
    assert read_header(three, memo).metadata == {"a": "ends in a backslash \\"}
    assert read_header(one, memo) == read_header(one)


def test_a_remembered_table_is_still_checked_against_the_file_size(tmp_path):
    memo = HeaderMemo()
    path = layouts.write_sparse(tmp_path / "a.safetensors", {"x": (64, 64)})
    read_header(path, memo)
    os.truncate(path, path.stat().st_size - 10)

    with pytest.raises(BadFileError, match="cut off"):
        read_header(path, memo)


# --- torch ---------------------------------------------------------------------------------------------------------
STATE = {
    "state_dict": collections.OrderedDict(a=torch.zeros(2, 3), b=torch.zeros(5, dtype=torch.float16)),
    "global_step": 7,
    "name": "mine",
    320: [{"linear.0.weight": torch.zeros(640, 320)}],
    "layer_structure": [1, 2, 1],
    "lr": 0.5,
    "nothing": None,
    "flag": False,
}


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files_old_and_new(tmp_path, legacy):
    path = tmp_path / "a.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=not legacy)

    header = read_header(path)

    assert header.format == "pickle"
    assert {name: (info.dtype, info.shape) for name, info in header.tensors.items()} == {
        "state_dict.a": ("float32", (2, 3)),
        "state_dict.b": ("float16", (5,)),
        "320.0.linear.0.weight": ("float32", (640, 320)),
    }
    assert header.metadata["global_step"] == "7"
    assert json.loads(header.metadata["layer_structure"]) == [1, 2, 1]
    assert header.metadata["flag"] == "False"


def test_parameters_and_their_dictionaries(tmp_path):
    table = torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.zeros(3, 768))})
    torch.save(
        {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": table, "name": "cat"}, tmp_path / "a.pt"
    )

    identity = identify(tmp_path / "a.pt")

    assert (identity.kind, identity.layout) == ("embedding", "a1111")
    assert (identity.facts["vectors"], identity.facts["tokens"]) == (3, ("cat",))


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (eval, (f"open({str(self.target)!r}, 'w').close()",))


@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_a_pickle_that_asks_for_code_is_refused_and_not_run(tmp_path, form):
    trap, path = tmp_path / "trap", tmp_path / "a.ckpt"
    if form == "bare":
        path.write_bytes(pickle.dumps({"w": Attack(trap)}, protocol=2))
    else:
        torch.save({"w": Attack(trap)}, path, _use_new_zipfile_serialization=form == "zip")

    with pytest.raises(BadFileError, match=r"asks to run (builtins|__builtin__)\.eval") as caught:
        read_header(path)

    assert "safetensors" in (caught.value.next_step or "")
    assert not trap.exists()


@pytest.mark.parametrize(
    "name", ["os system", "builtins getattr", "torch._utils _rebuild_tensor_v9", "posix system", "torch load"]
)
def test_other_names_are_refused(tmp_path, name):
    module, function = name.split()
    path = written(tmp_path, b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"X\x01\x00\x00\x00a\x85R.")

    with pytest.raises(BadFileError, match=f"{module}.{function}"):
        read_header(path)


def test_dictionaries_repeated_without_end_are_refused(tmp_path):
    # Each list holds the one before twice: thirty of them are a billion items.
    body = b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (n, n - 1, n - 1) for n in range(1, 31)) + b"."

    with pytest.raises(BadFileError, match="nested or repeated"):
        read_header(written(tmp_path, body))


def test_an_object_that_holds_itself_is_refused(tmp_path):
    loop: dict = {}
    loop["again"] = loop

    with pytest.raises(BadFileError, match="nested"):
        read_header(written(tmp_path, pickle.dumps(loop, protocol=2)))


def test_zip_archives_without_weights(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")

    with pytest.raises(BadFileError, match="without weights"):
        read_header(path)


# --- GGUF ----------------------------------------------------------------------------------------------------------
def test_gguf_header(tmp_path):
    shapes = {
        "img_in.weight": ((3072, 64), 1),
        "double_blocks.0.img_attn.norm.key_norm.scale": ((128,), 0),
        "single_blocks.0.norm.key_norm.scale": ((128,), 0),
        "guidance_in.in_layer.weight": ((3072, 256), 1),
        "double_blocks.0.img_attn.qkv.weight": ((9216, 3072), 12),
    }
    path = written(tmp_path, gguf_bytes(shapes, [("general.architecture", "flux")]), "flux1-dev-Q4_K.gguf")

    header, identity = read_header(path), identify(path)

    assert header.format == "gguf"
    assert header.metadata["general.architecture"] == "flux"
    assert header.tensors["img_in.weight"].shape == (3072, 64)
    assert header.tensors["double_blocks.0.img_attn.qkv.weight"].dtype == "Q4_K"
    assert (identity.kind, identity.family, identity.variant, identity.precision) == ("denoiser", "flux", "dev", "Q4_K")


def test_gguf_of_an_unknown_version(tmp_path):
    with pytest.raises(BadFileError, match="version"):
        read_header(written(tmp_path, b"GGUF" + struct.pack("<IQQ", 99, 0, 0)))


# --- what is no file of weights ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (bytes(1000), "zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"just some words, no weights", "no file of weights"),
        (struct.pack("<Q", 5_000) + b"{}", "cut off"),
        (struct.pack("<Q", 8) + b'{"a": 1}', "damaged"),
        (struct.pack("<Q", 8) + b'{"a":nul', "damaged"),
        (b"PK\x03\x04 and then nothing", "damaged or cut-off torch file"),
        (b"\x80\x02}q\x00X\x05", "damaged pickle"),
        (b"\x80\x02}q\x00", "cut-off pickle|damaged pickle"),
        (b"GGUF\x03\x00", "cut off"),
    ],
)
def test_what_is_wrong_is_said_in_a_persons_words(tmp_path, data, words):
    with pytest.raises(BadFileError, match=words) as caught:
        read_header(written(tmp_path, data, "some model.safetensors"))
    assert caught.value.message.startswith("some model.safetensors ")
    assert caught.value.next_step


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(NotFoundError):
        read_header(tmp_path / "none.safetensors")
    with pytest.raises(BadFileError):
        read_header(tmp_path)


def only_bad_file(path):
    with contextlib.suppress(BadFileError):
        read_header(path, HeaderMemo())
        identify(path)


STARTS = [b"", b"GGUF\x03\x00\x00\x00", b"\x80\x02", b"\x80\x04\x95", b"PK\x03\x04", struct.pack("<Q", 40) + b"{"]


@PLENTY
@given(st.sampled_from(STARTS), st.binary(max_size=400))
def test_random_bytes_give_nothing_but_bad_file(tmp_path, start, rest):
    only_bad_file(written(tmp_path, start + rest))


def samples():
    buffer, old = io.BytesIO(), io.BytesIO()
    torch.save(STATE, buffer)
    torch.save(STATE, old, _use_new_zipfile_serialization=False)
    header, size = layouts.header_bytes({"x": (4, 8), "y": (3,)}, {"a": "b"})
    tensors = {"a": ((3, 4), 0), "b": ((5,), 12)}
    return [buffer.getvalue(), old.getvalue(), header + bytes(size - len(header)), gguf_bytes(tensors, [("k", "v")])]


@PLENTY
@given(st.data())
def test_damaged_true_files_give_nothing_but_bad_file(tmp_path, data):
    sample = bytearray(data.draw(st.sampled_from(samples())))
    for _ in range(data.draw(st.integers(0, 4))):
        sample[data.draw(st.integers(0, len(sample) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(sample)))

    only_bad_file(written(tmp_path, bytes(sample[: cut or len(sample)])))


def test_pickles_of_random_opcodes_give_nothing_but_bad_file(tmp_path):
    opcodes = b"(.0123FIJKLMNPQRSTUVX]abcdeghijlopqrstu)}\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8c\x8f\x90\x93\x94\x95"

    @PLENTY
    @given(st.lists(st.sampled_from(sorted(set(opcodes))), max_size=40).map(bytes))
    def check(body):
        only_bad_file(written(tmp_path, b"\x80\x04" + body + b"."))

    check()


# --- real files ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "count", "form"),
    [
        ("lora/cloneofsimo_analog_svd_rank4.safetensors", 384, "safetensors"),
        ("embeddings/fastai_learned_embeds.bin", 1, "pickle"),
        ("mlsd/mlsd_tiny_512_fp32.pth", 252, "pickle"),
        ("taesd/taef2_decoder.pth", 79, "pickle"),
    ],
)
def test_real_files_as_torch_reads_them(name, count, form):
    path = TESTDATA / name
    if not path.is_file():
        pytest.skip(f"REAL FILE MISSING, NOT TESTED: {path}")

    header = read_header(path)

    assert (len(header.tensors), header.format) == (count, form)
    if form == "pickle":
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        assert {name: tuple(one.shape) for name, one in loaded.items()} == {
            name: info.shape for name, info in header.tensors.items()
        }
