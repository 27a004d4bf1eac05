"""A painting that comes later shares the very next step with one that is under way."""

from __future__ import annotations

from danqing.engine import Engine
from danqing.engine.fake import FakeExecutor
from danqing.pipelines import expected_calls, paint
from danqing.planning import plan
from danqing.spec.request import parse_request


class OneModel:
    def __init__(self, executor):
        self.executor = executor

    def find(self, name):
        return self.executor.info

    def embeddings(self):
        return []


def start(engine, fake, key, steps):
    request = parse_request(
        {"prompt": key, "seed": 1, "width_px": 64, "height_px": 64, "sampling": {"sampler": "Euler", "steps": steps}}
    )
    (one,) = plan(request, OneModel(fake))
    engine.submit(key, paint(one, None), lambda event: None, expected_calls=expected_calls(one))


def test_equally_long_paintings_of_one_person_share_steps_from_the_next_one_on():
    fake = FakeExecutor()
    engine = Engine(fake)
    start(engine, fake, "first", 40)
    for _ in range(8):
        engine.tick()
    alone = fake.batches.count(("Denoise", 2))
    start(engine, fake, "second", 40)
    engine.run_until_idle()
    assert alone == 6, "two of the eight ticks were for the model's facts and the words"
    # Both have two rows, prompt and negative prompt; 34 steps of the first are left.
    assert fake.batches.count(("Denoise", 4)) == 34
    assert fake.batches.count(("Denoise", 2)) == alone + 6
