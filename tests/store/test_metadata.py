"""Metadata in picture files: written, read back, and hostile files."""

import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from danqing.prompt.infotext import to_infotext
from danqing.spec.errors import BadFileError
from danqing.spec.geometry import SizePx
from danqing.spec.model import ModelRef
from danqing.spec.painting import Guidance, Output
from danqing.spec.plan import PassPlan, Plan, SamplingPlan, SeedPlan, TextPlan
from danqing.store.exif import exif_with_comment, read_comment
from danqing.store.metadata import MAX_TEXT_BYTES, encode_picture, read_metadata

PROMPT = '一只猫, (red:1.2) <lora:ink:0.5> & "quoted"\nsecond line'
MODEL = ModelRef(name="danqing-mini", sha256="ab" * 32, family="sd1")


def plan(prompt=PROMPT):
    base = PassPlan(
        kind="base",
        model=MODEL,
        size=SizePx(width_px=128, height_px=160),
        text=TextPlan(prompt=prompt, negative_prompt="blurry"),
        sampling=SamplingPlan(sampler="euler_a", schedule="karras", steps=20),
        guidance=Guidance(),
        guidance_scale=6.5,
    )
    hires = base.model_copy(
        update={"kind": "hires", "size": SizePx(width_px=256, height_px=320), "strength": 0.5, "upscaler": "latent"}
    )
    return Plan(kind="txt2img", seeds=SeedPlan(seed=7), passes=(base, hires))


@pytest.fixture
def image():
    return Image.linear_gradient("L").resize((128, 160)).convert("RGB")


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_infotext_and_plan_come_back(image, kind):
    written = plan()
    text = to_infotext(written)
    encoded = encode_picture(image, Output(format=kind), infotext=text, plan=written)
    assert encoded.media_type == f"image/{kind}"
    read = read_metadata(encoded.data)
    assert (read.format, read.width_px, read.height_px) == (kind, 128, 160)
    assert read.infotext == text
    assert read.plan == written
    assert read.notes == ()
    request = read.request()
    assert request is not None
    assert (request.request.prompt, request.request.seed) == (PROMPT, 7)


def test_the_plan_s_infotext_in_a1111_s_words():
    text = to_infotext(plan("a cat"))
    assert text.startswith(
        "a cat\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 6.5, Seed: 7, "
        "Size: 128x160, Model hash: ababababab, Model: danqing-mini, "
    )
    assert "Hires upscale: 2, Hires upscaler: Latent" in text
    assert "Denoising strength: 0.5" in text


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_pixels_survive_and_no_metadata_is_no_trouble(image, kind):
    data = encode_picture(image, Output(format=kind, quality=95)).data
    read = read_metadata(data)
    assert (read.infotext, read.plan, read.request()) == ("", None, None)
    if kind == "png":
        assert Image.open(io.BytesIO(data)).tobytes() == image.tobytes()


def test_alpha_becomes_white_in_jpeg():
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    picture = Image.open(io.BytesIO(encode_picture(clear, Output(format="jpeg")).data))
    assert picture.convert("RGB").getpixel((8, 8)) == (255, 255, 255)


def test_pillow_reads_our_comment(image):
    data = encode_picture(image, Output(format="jpeg"), infotext="猫 Steps: 1").data
    comment = Image.open(io.BytesIO(data)).getexif().get_ifd(0x8769)[0x9286]
    assert comment == b"UNICODE\0" + "猫 Steps: 1".encode("utf-16-be")


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        (b"UNICODE\0" + "Steps: 20, 猫".encode("utf-16-le"), "Steps: 20, 猫"),
        (b"UNICODE\0" + "Steps: 20, 猫".encode("utf-16"), "Steps: 20, 猫"),
        (b"ASCII\0\0\0Steps: 20", "Steps: 20"),
        (b"\0" * 8 + "Steps 猫".encode(), "Steps 猫"),
        (b"Steps: 20, plain", "Steps: 20, plain"),
    ],
)
def test_other_programs_comments(comment, expected):
    block = exif_with_comment("")
    head = block[:-8]
    head = head[:38] + struct.pack(">I", len(comment)) + head[42:]
    notes = []
    assert read_comment(head + comment, 1000, notes) == expected
    assert notes == []


def test_too_long_for_a_jpeg_is_left_out(image):
    data = encode_picture(image, Output(format="jpeg"), infotext="x" * 40_000, plan=plan()).data
    read = read_metadata(data)
    assert read.infotext == ""
    assert read.plan == plan()
    assert read_metadata(encode_picture(image, Output(format="webp"), infotext="x" * 40_000).data).infotext


def png_with(*chunks):
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    data = buffer.getvalue()
    extra = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return data[:33] + extra + data[33:]


def test_compressed_and_late_chunks(image):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "猫\nSteps: 1", zip=True)
    info.add_text("workflow", "{}", zip=True)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    read = read_metadata(buffer.getvalue())
    assert (read.infotext, read.texts) == ("猫\nSteps: 1", {"workflow": "{}"})


def test_a_bomb_in_a_text_chunk_is_left_out():
    bomb = zlib.compress(b"a" * (MAX_TEXT_BYTES * 20), 9)
    read = read_metadata(png_with((b"zTXt", b"parameters\0\0" + bomb), (b"tEXt", b"Comment\0hello")))
    assert read.infotext == ""
    assert read.texts == {"Comment": "hello"}
    assert "left out" in read.notes[0]
    large = read_metadata(png_with((b"tEXt", b"parameters\0" + b"a" * (MAX_TEXT_BYTES + 1))))
    assert large.infotext == ""
    assert "2 MiB" in large.notes[0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"parameters",
        b"parameters\0",
        b"parameters\0\1\0",
        b"parameters\0\1\0\0\0nonsense",
        b"\xff\0\xff\xff",
    ],
)
@pytest.mark.parametrize("name", [b"tEXt", b"zTXt", b"iTXt"])
def test_malformed_text_chunks(name, body):
    assert read_metadata(png_with((name, body))).width_px == 4


@pytest.mark.parametrize("text", ["{}", "not json", "[" * 100_000, '{"version": 99}', "\ud800"[:0] + "null"])
def test_a_damaged_plan_is_noted(text):
    read = read_metadata(png_with((b"iTXt", b"danqing\0\0\0\0\0" + text.encode())))
    assert read.plan is None
    assert "Plan" in read.notes[0]


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"GIF89a"])
def test_no_picture(data):
    with pytest.raises(BadFileError):
        read_metadata(data)


@settings(max_examples=150, deadline=None, database=None)
@given(
    st.sampled_from(["png", "jpeg", "webp"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
    st.integers(0, 10**6),
)
def test_damaged_files_give_metadata_or_a_clear_error(kind, changes, cut):
    image = Image.new("RGB", (8, 8), "red")
    data = bytearray(encode_picture(image, Output(format=kind), infotext="猫\nSteps: 1", plan=plan("x")).data)
    for place, value in changes:
        data[place % len(data)] = value
    data = data[: max(1, cut % (2 * len(data)))]
    try:
        read_metadata(bytes(data)).request()
    except BadFileError:
        return
