"""Plans and Records: JSON both ways, and no trust in a Plan that comes from a file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from danqing.spec.events import EVENT, PreviewEvent, ProgressEvent, RecordEvent, StateEvent
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.plan import Plan
from danqing.spec.record import FINAL_STATES, Job, Record, Timings, Versions

MODEL = {"name": "tiny", "sha256": "a" * 64, "family": "sd1"}


def plan_data(**base: Any) -> dict[str, Any]:
    return {
        "kind": "txt2img",
        "seeds": {"seed": 1},
        "passes": [
            {
                "kind": "base",
                "model": MODEL,
                "size": {"width_px": 64, "height_px": 64},
                "text": {"prompt": "a cat", "negative_prompt": ""},
                "sampling": {"sampler": "euler", "schedule": "karras", "steps": 20},
                "guidance": {},
                "guidance_scale": 7.0,
                **base,
            }
        ],
    }


TIMINGS = st.builds(Timings, total_s=st.floats(0, 1e6), by_call_s=st.dictionaries(st.text(max_size=5), st.floats(0, 9)))
RECORDS = st.builds(
    Record,
    id=st.text(min_size=1, max_size=12),
    job_id=st.text(max_size=12),
    index=st.integers(0, 63),
    plan=st.builds(
        lambda seed, prompt, scale: Plan.model_validate(
            {**plan_data(guidance_scale=scale, text={"prompt": prompt, "negative_prompt": ""}), "seeds": {"seed": seed}}
        ),
        seed=st.integers(0, 2**64 - 1),
        prompt=st.text(max_size=30),
        scale=st.floats(0, 100),
    ),
    picture=st.text("0123456789abcdef", min_size=64, max_size=64),
    width_px=st.integers(16, 4096),
    height_px=st.integers(16, 4096),
    infotext=st.text(max_size=30),
    timings=TIMINGS,
    versions=st.builds(Versions, danqing=st.text(max_size=8)),
    parent=st.none() | st.text(max_size=8),
    created_at=st.datetimes(timezones=st.just(UTC)),
)


@settings(deadline=None, max_examples=60)
@given(record=RECORDS)
def test_records_survive_json(record: Record):
    again = Record.model_validate_json(record.model_dump_json())
    assert again == record
    assert again.plan.digest() == record.plan.digest()


@pytest.mark.parametrize(
    "damage",
    [
        {"sampling": {"sampler": "euler", "schedule": "karras", "steps": 10**9}},
        {"sampling": {"sampler": "euler", "schedule": "karras", "steps": 0}},
        {"size": {"width_px": 10**6, "height_px": 64}},
        {"strength": 1.5},
        {"strength": float("nan")},
        {"guidance_scale": float("inf")},
        {"text": {"prompt": "a", "negative_prompt": "", "clip_skip": 0}},
        {"surprise": 1},
    ],
)
def test_a_plan_from_a_file_is_not_trusted(damage: dict[str, Any]):
    assert Plan.model_validate(plan_data()).size.width_px == 64
    with pytest.raises(ValidationError):
        Plan.model_validate(plan_data(**damage))


def test_a_plan_needs_a_pass():
    with pytest.raises(ValidationError):
        Plan.model_validate({**plan_data(), "passes": []})


def test_digests_tell_plans_apart():
    one, other = Plan.model_validate(plan_data()), Plan.model_validate(plan_data(guidance_scale=7.5))
    assert one.digest() == Plan.model_validate(plan_data()).digest()
    assert one.digest() != other.digest()


def test_jobs_survive_json_and_know_their_end():
    job = Job(id="j", state="queued", request=Txt2ImgRequest(), plans=(), created_at=datetime.now(UTC))
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert not job.is_final
    assert all(job.model_copy(update={"state": state}).is_final for state in FINAL_STATES)


@pytest.mark.parametrize(
    "event",
    [
        StateEvent(job_id="j", state="failed", error={"code": "worker", "message": "m"}),
        ProgressEvent(job_id="j", index=0, step=3, steps=9, fraction=0.3, eta_s=1.5),
        PreviewEvent(job_id="j", index=0, step=3, data_base64="AAAA"),
        RecordEvent(job_id="j", index=0, record_id="r", picture="a" * 64),
    ],
)
def test_events_survive_json(event: Any):
    assert EVENT.validate_json(event.model_dump_json()) == event
