from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.spec.events import PreviewEvent, ProgressEvent, RecordEvent, StateEvent
from danqing.studio.events import Channel, Cursor, EventHub

JOB = "j"
state = st.sampled_from(["queued", "running"]).map(lambda name: StateEvent(job_id=JOB, state=name))
progress = st.builds(
    ProgressEvent,
    job_id=st.just(JOB),
    index=st.integers(0, 3),
    step=st.integers(1, 9),
    steps=st.just(9),
    fraction=st.just(0),
)
preview = st.builds(
    PreviewEvent, job_id=st.just(JOB), index=st.integers(0, 3), step=st.integers(1, 9), data_base64=st.just("")
)
actions = st.lists(st.one_of(state, progress, preview, st.just("look"), st.just("reconnect")), max_size=60)


@given(actions, st.lists(st.integers(0, 3), unique=True))
@settings(max_examples=100, deadline=None)
def test_a_watcher_who_looks_now_and_then_misses_no_record_and_sees_the_end(script, painted):
    channel = Channel(JOB)
    channel.publish(StateEvent(job_id=JOB, state="queued"))
    cursor = Cursor(channel, 0)
    seen = []

    def look() -> None:
        for number, event in cursor.take():
            assert not seen or number >= seen[-1][0]
            seen.append((number, event))

    painted = list(painted)
    for action in script:
        if action == "look":
            look()
        elif action == "reconnect":
            cursor = Cursor(channel, seen[-1][0] if seen else 0)
        else:
            channel.publish(action)
            if painted and isinstance(action, ProgressEvent):
                index = painted.pop()
                channel.publish(RecordEvent(job_id=JOB, index=index, record_id=f"r{index}", picture=""))
    channel.publish(StateEvent(job_id=JOB, state="done"))
    channel.publish(StateEvent(job_id=JOB, state="failed"))
    look()
    assert cursor.ended
    wanted = [event for _, event in channel.after(0) if event.type == "record"]
    assert [event for _, event in seen if event.type == "record"] == wanted
    assert [event.state for _, event in seen if event.type == "state"][-1] == "done"
    assert seen[-1][1].type == "state"


def test_memory_is_bounded():
    channel = Channel(JOB)
    for step in range(10_000):
        channel.publish(PreviewEvent(job_id=JOB, index=step % 2, step=step, data_base64="x" * 1000))
    assert [event.step for _, event in channel.after(0)] == [9998, 9999]
    channel.publish(RecordEvent(job_id=JOB, index=0, record_id="r", picture=""))
    assert [event.type for _, event in channel.after(0)] == ["preview", "record"]


def test_old_channels_are_forgotten_and_live_ones_are_not():
    hub = EventHub()
    hub.open("live", [StateEvent(job_id="live", state="running")])
    for number in range(400):
        hub.open(f"j{number}", [StateEvent(job_id=f"j{number}", state="done")])
    assert hub.channel("live") is not None
    assert hub.channel("j0") is None
    assert hub.channel("j399") is not None
    assert len(hub._channels) == 256
