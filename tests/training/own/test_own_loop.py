"""The loop: exact resume after pauses and kills, accumulation, averages, the best checkpoint, events."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from danqing.spec.errors import BadFileError, UnsupportedError
from danqing.spec.training_run import PAUSED_EXIT_CODE, CheckpointEvent, EndEvent, StartEvent, StepEvent
from danqing.training.own import process
from danqing.training.own.__main__ import main
from danqing.training.own.events import EventLog, read_events
from danqing.training.own.loop import LoopOptions, Trainer, export_all
from danqing.training.own.methods import find_method, method_names
from danqing.training.own.methods.base import Losses, LossMethod, Method, SteppingMethod
from danqing.training.own.optimizers import rate_factor, set_rate
from own_runs import context_of, learnt, make_set, opened_method, request_of, trained

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]
VARIED = {"caption_dropout": 0.3, "shuffle_tags": True, "tag_dropout": 0.2, "mirror": True, "noise_offset": 0.1}


@pytest.mark.parametrize(
    "fields",
    [
        {"network": {"rank": 2, "kind": "dora", "dropout": 0.3}, "ema": 0.9, **VARIED},
        {"network": {"rank": 2, "text_encoder": True, "conv_rank": 2}, "accumulate": 2, "optimizer": "muon"},
    ],
    ids=["dora", "text"],
)
def test_a_run_that_was_interrupted_ends_with_the_same_bits(tiny_sd, tmp_path, fields):
    make_set(tmp_path / "sets", count=6)
    request = request_of(steps=6, **fields)
    whole = trained(request, context_of(tmp_path, tiny_sd, "whole"))

    context = context_of(tmp_path, tiny_sd, "parts")
    for stop in (1, 4, None):
        parts = trained(request, context, stop_after=stop)

    ours, theirs = learnt(parts), learnt(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    if whole.average is not None:
        assert all(torch.equal(a, b) for a, b in zip(parts.average.shadow, whole.average.shadow, strict=True))
    assert any(bool(value.abs().max() > 0) for name, value in ours.items() if name.endswith("up"))


def test_a_killed_process_goes_on_to_the_same_file(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    about = request_of(steps=8, checkpoint_every_s=1e-3, background=False).model_dump_json()
    arguments = {}
    for run in ("whole", "killed"):
        folder = tmp_path / run
        folder.mkdir()
        (folder / "request.json").write_text(about)
        places = ["--sets", str(tmp_path / "sets"), "--models", str(tiny_sd), "--device", "cpu", "--threads", "1"]
        arguments[run] = [str(folder), *places]
    running = subprocess.Popen([sys.executable, "-m", "danqing.training.own", *arguments["killed"]])
    assert main(arguments["whole"]) == 0
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "checkpoint.pt").exists():
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "killed" / "model").exists()

    assert main(arguments["killed"]) == 0

    one, other = (tmp_path / run / "model" / "mine.safetensors" for run in ("whole", "killed"))
    assert one.read_bytes() == other.read_bytes()
    events = read_events(tmp_path / "killed")
    assert [event.step for event in events if isinstance(event, StartEvent)][1] > 0
    ends = [event for event in events if isinstance(event, EndEvent)]
    assert [end.state for end in ends] == ["done"]
    assert ends[0].files[0] == "model/mine.safetensors"
    assert "model/card.md" in ends[0].files


def test_sigterm_pauses_with_a_checkpoint_and_exit_code_75(tiny_sd, tmp_path, monkeypatch):
    make_set(tmp_path / "sets")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "request.json").write_text(request_of(steps=100_000, background=False).model_dump_json())

    def terminate(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(process, "LoopOptions", partial(LoopOptions, after_step=terminate))

    code = main([str(folder), "--sets", str(tmp_path / "sets"), "--models", str(tiny_sd)])

    assert code == PAUSED_EXIT_CODE
    assert (folder / "checkpoint.pt").is_file()
    last = read_events(folder)[-1]
    assert isinstance(last, EndEvent)
    assert (last.state, last.step) == ("paused", 3)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_while_it_still_loads_leaves_at_once(tiny_sd, tmp_path, monkeypatch):
    make_set(tmp_path / "sets")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "request.json").write_text(request_of(background=False).model_dump_json())
    monkeypatch.setattr(process, "find_method", lambda _: os.kill(os.getpid(), signal.SIGTERM))

    assert main([str(folder), "--sets", str(tmp_path / "sets"), "--models", str(tiny_sd)]) == PAUSED_EXIT_CODE

    last = read_events(folder)[-1]
    assert isinstance(last, EndEvent)
    assert last.state == "paused"


def test_accumulated_batches_make_the_gradient_of_one_large_batch(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", count=6)
    common = {"mirror": True, "noise_offset": 0.1, "steps": 1, "grad_clip": 0, "network": {"rank": 2}}
    large = opened_method(request_of(batch=4, **common), context_of(tmp_path, tiny_sd))
    small = opened_method(request_of(batch=2, accumulate=2, **common), context_of(tmp_path, tiny_sd))

    losses = []
    for method, batches in ((large, 1), (small, 2)):
        found = 0.0
        for number in range(batches):
            loss = method.loss(number)
            assert isinstance(loss, Losses)
            (loss.total / batches).backward()
            found += float(loss.total) / batches
        losses.append(found)

    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(large.trainable()[0][0], small.trainable()[0][0], strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_what_is_exported_is_the_moving_average(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    trainer = trained(request_of(ema=0.5), context_of(tmp_path, tiny_sd))
    last = learnt(trainer)

    files, _ = export_all(trainer)

    layer = "lora_unet_mid_block_attentions_0_proj_in"
    written = load_file(files[0])[f"{layer}.lora_up.weight"]
    index = next(i for i, one in enumerate(trainer.params) if one is trainer.method.network.layers[layer].up)
    torch.testing.assert_close(written, trainer.average.shadow[index])
    assert not torch.equal(written, last[f"network.layers.{layer}.up"])


def test_the_best_checkpoint_is_written_beside_the_last(tiny_sd, tmp_path, monkeypatch):
    make_set(tmp_path / "sets")
    context = context_of(tmp_path, tiny_sd)
    method = opened_method(request_of(steps=5), context)
    monkeypatch.setattr(type(method), "score", lambda _, step: -abs(step - 2.0))
    trainer = Trainer(method, LoopOptions())
    states = {}
    trainer.options.__dict__["after_step"] = lambda step: states.__setitem__(step, learnt(trainer))
    outcome = trainer.run()

    files, _ = export_all(trainer)

    assert [file.name for file in files] == ["mine.safetensors", "mine-best.safetensors"]
    key = "lora_unet_mid_block_attentions_0_proj_in"
    for file, step in zip(files, (5, 2), strict=True):
        torch.testing.assert_close(
            load_file(file)[f"{key}.lora_up.weight"], states[step][f"network.layers.{key}.up"], rtol=0, atol=0
        )
    assert outcome.figures["best_step"] == 2
    scored = [event for event in read_events(context.folder) if isinstance(event, CheckpointEvent) and event.score]
    assert [event.step for event in scored] == [1, 3, 4, 5]


def test_events_tell_the_start_and_every_step_in_order(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    context = context_of(tmp_path, tiny_sd)
    trained(request_of(sample_every=2, sample_prompts=["the cat"]), context)

    events = read_events(context.folder)
    start = next(event for event in events if isinstance(event, StartEvent))
    assert (start.step, start.steps) == (0, 4)
    assert start.parameters > 0
    steps = [event for event in events if isinstance(event, StepEvent)]
    assert steps[-1].step == 4
    assert steps[-1].eta_s == 0
    assert (context.folder / "samples" / "grid-000002.png").is_file()
    assert (context.folder / "samples" / "grid-000004.png").is_file()


def test_half_a_line_is_passed_over_and_the_next_one_stands_alone(tmp_path):
    (tmp_path / "events.jsonl").write_text('{"type":"note","words":"a"}\n{"type":"no')
    EventLog(tmp_path).note("b")
    assert [event.words for event in read_events(tmp_path)] == ["a", "b"]


def test_a_checkpoint_of_another_request_or_set_is_refused(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    trained(request_of(), context_of(tmp_path, tiny_sd), stop_after=1)
    with pytest.raises(BadFileError, match="another request"):
        trained(request_of(learning_rate=1e-3), context_of(tmp_path, tiny_sd))
    make_set(tmp_path / "sets", trigger="zdq")
    with pytest.raises(BadFileError, match="changed since"):
        trained(request_of(), context_of(tmp_path, tiny_sd))


def test_rates_fall_as_asked_and_keep_their_shares(tiny_sd):
    request = request_of(schedule="cosine", warmup_steps=2)
    assert [round(rate_factor(request, step, 6), 3) for step in range(6)] == [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    assert rate_factor(request_of(schedule="constant"), 3, 4) == 1.0
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([{"params": [parameter], "lr_scale": 0.5}], lr=1.0)
    set_rate(optimizer, 0.2)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


@pytest.mark.parametrize(("optimizer", "package"), [("adamw8bit", "bitsandbytes"), ("prodigy", "prodigyopt")])
def test_an_optimiser_that_is_not_installed_is_named(tiny_sd, tmp_path, optimizer, package, monkeypatch):
    make_set(tmp_path / "sets")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnsupportedError, match=package):
        trained(request_of(optimizer=optimizer), context_of(tmp_path, tiny_sd))


def test_an_estimate_times_steps_and_names_what_is_wrong(tiny_sd, tmp_path, capsys):
    make_set(tmp_path / "sets")
    folder = tmp_path / "run"
    folder.mkdir()
    arguments = [str(folder), "--sets", str(tmp_path / "sets"), "--models", str(tiny_sd), "--estimate"]
    (folder / "request.json").write_text(request_of(steps=50).model_dump_json())
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reasons"] == []
    assert found["steps"] == 50
    assert found["trainable_parameters"] > 0
    assert found["seconds"] > 0
    assert [path.name for path in folder.iterdir()] == ["request.json"]

    (folder / "request.json").write_text(request_of(dataset="dogs").model_dump_json())
    assert main(arguments) == 0
    assert "no training set" in json.loads(capsys.readouterr().out)["reasons"][0]
    (folder / "request.json").write_text(request_of(model="tiny-inpaint").model_dump_json())
    assert main(arguments) == 0
    assert "cannot be trained" in json.loads(capsys.readouterr().out)["reasons"][0]


def kinds_below(kind: type[Method]) -> list[type[Method]]:
    """Every class below one that can be made."""
    below = [one for child in kind.__subclasses__() for one in (child, *kinds_below(child))]
    return [one for one in below if not inspect.isabstract(one)]


def test_every_method_gives_a_loss_or_makes_its_steps_itself():
    openers = [find_method(name) for name in method_names()]
    found = set(kinds_below(Method))
    assert {one for one in openers if isinstance(one, type) and issubclass(one, Method)} <= found
    assert all(issubclass(one, LossMethod) != issubclass(one, SteppingMethod) for one in found)
    stepping = {one.__name__ for one in found if issubclass(one, SteppingMethod)}
    assert stepping == {"Dcgan", "Wgan", "ArtAug"}
    # What a kind does not bring cannot be called by mistake, and what it must bring cannot be left out.
    assert not hasattr(Method, "loss")
    assert not hasattr(Method, "advance")
    assert not any(hasattr(one, "advance") for one in found if issubclass(one, LossMethod))
    for kind, left_out in ((LossMethod, "loss"), (SteppingMethod, "advance"), (SteppingMethod, "optimizers")):
        assert left_out in kind.__abstractmethods__
