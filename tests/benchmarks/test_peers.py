"""The comparison with other programs: jobs, processes, HTTP clients, budget, result and drawing, on tiny models."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from PIL import Image
from safetensors import safe_open

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from fake_painters import Painters  # noqa: E402


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.peers.{name}")


@pytest.fixture
def painters():
    server = Painters(("danqing-bench-tiny", "danqing-bench-tiny-b"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("peers")


@pytest.fixture
def tiny(peers, folder):
    made = peers("_checkpoints")
    plan = made.tiny()
    return made.with_extras(made.write(folder / "models", "danqing-bench-tiny", plan, 1), plan)


def job(peers, **more):
    return peers("_jobs").Job("a house", 7, 4, 7.5, 64, 64, **more)


def run(peers, tmp_path, *words):
    code = peers("__main__").main(["--quick", "--json", "--out", str(tmp_path / "out"), *words])
    return code, json.loads((tmp_path / "out" / "peers.json").read_text(encoding="utf-8"))


# --- checkpoints ----------------------------------------------------------------------------------------------------


def test_checkpoints_have_the_names_of_the_published_files(tiny):
    with safe_open(tiny.path, "pt") as file:
        names = set(file.keys())
        assert str(file.get_tensor("model.diffusion_model.input_blocks.0.0.weight").dtype) == "torch.float16"
    assert {
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight",
        "first_stage_model.decoder.mid.attn_1.q.weight",
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    } <= names
    with safe_open(tiny.control_file, "pt") as file:
        assert {"control_model.zero_convs.0.0.weight", "control_model.input_hint_block.14.weight"} <= set(file.keys())
    with safe_open(tiny.lora_file, "pt") as file:
        assert "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight" in set(file.keys())


def test_danqing_and_diffusers_read_the_same_network_from_the_file(peers, tiny):
    import torch

    from danqing.models.catalog import Catalog
    from danqing.models.loader import Loader
    from danqing.spec.model import ModelRef

    catalog = Catalog(Path(tiny.models_dir))
    info = catalog.find(tiny.name)
    ours = Loader(catalog, torch.device("cpu")).get(
        ModelRef(name=info.name, sha256=info.sha256, family=info.family), precision="float32"
    )
    theirs = peers("diffusers_peer").load(tiny, torch.float32)
    theirs_state = theirs.unet.state_dict()
    assert theirs_state.keys() == ours.unet.state_dict().keys()
    assert all(torch.equal(one, theirs_state[name]) for name, one in ours.unet.state_dict().items())


def test_a_checkpoint_that_is_there_is_not_written_again(peers, tiny, folder):
    before = Path(tiny.path).stat().st_mtime_ns
    made = peers("_checkpoints")
    made.write(folder / "models", "danqing-bench-tiny", made.tiny(), 1)
    assert Path(tiny.path).stat().st_mtime_ns == before


def test_full_size_is_stable_diffusion_15s(peers):
    from accelerate import init_empty_weights
    from diffusers import UNet2DConditionModel

    plan = peers("_checkpoints").sd15()
    with init_empty_weights():
        unet = UNet2DConditionModel.from_config(dict(plan.unet))
    assert sum(one.numel() for one in unet.parameters()) == 859_520_964
    names = peers("_names").unet_names(unet.state_dict())
    assert len(names) == 686
    assert names["model.diffusion_model.output_blocks.5.2.conv.weight"].shape == (1280, 1280, 3, 3)


# --- servers --------------------------------------------------------------------------------------------------------


def opened(peers, name, painters, tiny):
    peer = peers(f"{name}_peer").PEER()
    peer.open(tiny, peers("_jobs").PeerOptions(url=painters.url))
    return peer


def test_comfyui_gets_a_graph_of_the_job(peers, painters, tiny):
    peer = opened(peers, "comfyui", painters, tiny)

    pictures = peer.paint(job(peers, count=2, lora=True, control=str(make_picture(tiny))))

    assert [one.size for one in pictures] == [(64, 64)] * 2
    graph = painters.asked[0]["prompt"]
    assert graph["model"]["inputs"] == {"ckpt_name": "danqing-bench-tiny.safetensors"}
    assert graph["lora"]["inputs"]["lora_name"] == "danqing-bench-tiny-lora.safetensors"
    assert graph["words"]["inputs"]["clip"] == ["lora", 1]
    sample = graph["sample"]["inputs"]
    assert (sample["model"], sample["positive"], sample["negative"]) == (["lora", 0], ["control", 0], ["control", 1])
    assert (sample["seed"], sample["steps"], sample["cfg"], sample["sampler_name"]) == (7, 4, 7.5, "euler")
    assert graph["start"]["inputs"] == {"width": 64, "height": 64, "batch_size": 2}
    assert every_link_leads_somewhere(graph)


def test_comfyui_does_as_many_steps_from_a_picture_as_the_others(peers, painters, tiny):
    peer = opened(peers, "comfyui", painters, tiny)

    peer.paint(job(peers, init=str(make_picture(tiny)), strength=0.5))

    graph = painters.asked[0]["prompt"]
    assert (graph["sample"]["inputs"]["steps"], graph["sample"]["inputs"]["denoise"]) == (2, 0.5)
    assert graph["picture"]["inputs"]["image"] == "input.png"
    assert every_link_leads_somewhere(graph)


def test_a1111_gets_the_body_of_the_job(peers, painters, tiny):
    peer = opened(peers, "a1111", painters, tiny)
    path = str(make_picture(tiny))

    pictures = peer.paint(job(peers, init=path, strength=0.5, control=path, lora=True))

    assert [one.size for one in pictures] == [(64, 64)]
    body = painters.asked[0]
    assert body["prompt"] == "a house <lora:danqing-bench-tiny-lora:0.8>"
    assert body["override_settings"] == {"sd_model_checkpoint": "folder/danqing-bench-tiny.safetensors [0123abcd]"}
    assert (body["steps"], body["denoising_strength"], body["sampler_name"]) == (4, 0.5, "Euler")
    assert body["alwayson_scripts"]["controlnet"]["args"][0]["model"] == "danqing-bench-tiny-control [abcd]"
    assert peer.peak_bytes() == 3 * 2**30


@pytest.mark.parametrize("name", ["comfyui", "a1111"])
def test_a_crowd_waits_in_the_servers_queue(peers, painters, tiny, name):
    peer = opened(peers, name, painters, tiny)

    latencies = peer.paint_together([job(peers).take(at) for at in range(3)])

    assert max(latencies) >= 3 * 4 * 0.01
    assert min(latencies) < max(latencies)


@pytest.mark.parametrize("name", ["comfyui", "a1111"])
def test_servers_that_lack_the_model_say_where_to_put_it(peers, painters, tiny, name):
    painters.models = ("another",)
    with pytest.raises(peers("_jobs").RefusedError, match="put or link the file"):
        opened(peers, name, painters, tiny)


@pytest.mark.parametrize("name", ["comfyui", "a1111"])
def test_a_servers_failure_is_an_error_not_a_picture(peers, painters, tiny, name):
    peer = opened(peers, name, painters, tiny)
    painters.broken = True
    with pytest.raises(RuntimeError, match=r"out of paint|OutOfMemoryError"):
        peer.paint(job(peers))


@pytest.mark.parametrize(("name", "script"), [("comfyui", "main.py"), ("a1111", "launch.py")])
def test_a_checkout_is_started_asked_and_stopped(peers, tmp_path, tiny, name, script):
    source = (Path(__file__).parent / "fake_painters.py").read_text(encoding="utf-8")
    (tmp_path / script).write_text(source, encoding="utf-8")
    server = peers("_server").Checkout(name, tmp_path, sys.executable, patience_s=30.0)
    try:
        url = server.start(Path(tiny.models_dir), tmp_path / "server.log")
        peer = peers(f"{name}_peer").PEER()
        peer.open(tiny, peers("_jobs").PeerOptions(url=url))
        assert peer.paint(job(peers))[0].size == (64, 64)
        assert server.peak_bytes() > 2**20
    finally:
        server.stop()
    assert peers("_http").Server(url).silent("/system_stats")


def test_a_checkout_that_does_not_come_up_tells_its_last_words(peers, tmp_path, tiny):
    (tmp_path / "main.py").write_text("raise SystemExit('No module named torch')", encoding="utf-8")
    server = peers("_server").Checkout("comfyui", tmp_path, sys.executable, patience_s=30.0)
    with pytest.raises(RuntimeError, match="No module named torch"):
        server.start(Path(tiny.models_dir), tmp_path / "server.log")


def make_picture(tiny) -> Path:
    path = Path(tiny.models_dir).parent / "input.png"
    Image.linear_gradient("L").resize((64, 64)).save(path)
    return path


def every_link_leads_somewhere(graph) -> bool:
    links = [value for node in graph.values() for value in node["inputs"].values() if isinstance(value, list)]
    return all(name in graph for name, _ in links)


# --- the whole command ----------------------------------------------------------------------------------------------


def test_every_case_runs_from_end_to_end_with_servers(peers, painters, tmp_path, folder, tiny, monkeypatch):
    """All cases with Danqing left out: the two servers' clients are light processes."""
    monkeypatch.setattr(
        peers("__main__").Wanted, "sides", lambda self: [peers("_sides").BY_NAME[one] for one in SERVERS]
    )
    urls = [word for name in SERVERS for word in ("--url", f"{name}={painters.url}")]

    code, result = run(peers, tmp_path, "--work", str(folder), *urls)

    assert code == 0
    told = result["details"]["cases"]
    assert tuple(told) == tuple(case.name for case in peers("_cases").cases(peers("_cases").QUICK, FakeShelf()))
    assert set(told) == set(peers("_cases").NAMES)
    for name, case in told.items():
        for point in case["points"]:
            assert not point["failed"], point
            if name == "cold":
                assert set(point["refused"]) == set(SERVERS)
                continue
            assert set(point["sides"]) == set(SERVERS)
            for side in SERVERS:
                assert point["sides"][side]["seconds"] > 0.0
            assert point["sides"]["comfyui"]["ratio"] == 1.0
    assert told["users8"]["points"][0]["sides"]["a1111"]["mean_latency_s"] > 0
    assert {"there_s", "back_s"} <= set(told["switch"]["points"][0]["sides"]["a1111"])
    assert result["passed"] is False
    assert {"machine", "versions", "commit", "date", "bar"} <= set(result)
    drawing = ET.fromstring(  # noqa: S314 - our own
        (tmp_path / "out" / "peers.svg").read_text(encoding="utf-8")
    )
    assert drawing.findall(".//{*}polyline")
    assert drawing.findall(".//{*}rect")


SERVERS = ("comfyui", "a1111")


class FakeShelf:
    def pictures(self, side_px):
        return Path("init.png"), Path("control.png")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_danqing_and_diffusers_paint_the_same_file(peers, tmp_path, folder, tiny):
    words = ["--cases", "sd15,users8", "--peers", "diffusers", "--threads", "1"]
    pictures = tmp_path / "pictures"

    code, result = run(peers, tmp_path, "--work", str(folder), "--pictures", str(pictures), *words)

    assert code == 0
    (point,) = result["details"]["cases"]["sd15"]["points"]
    assert not point["failed"]
    assert set(point["sides"]) == {"danqing", "diffusers"}
    for side in point["sides"].values():
        assert side["peak_gib"] > 0.1
        assert side["spread"] > 1.0
    assert point["sides"]["diffusers"]["precision_class"] == "32 bit"
    assert result["ratio_sd15_diffusers"] == pytest.approx(point["sides"]["diffusers"]["ratio"], rel=1e-3)
    assert result["ratio_sd15_danqing"] == 1.0
    assert sorted(one.name.rpartition("-")[2] for one in pictures.glob("*.png")) == ["danqing.png", "diffusers.png"]
    crowd = result["details"]["cases"]["users8"]["points"][0]
    assert crowd["users"] == 8
    assert crowd["sides"]["danqing"]["mean_latency_s"] <= crowd["sides"]["danqing"]["seconds"]


def test_who_is_not_there_is_said_loudly(peers, tmp_path, painters, folder, monkeypatch, capsys):
    sides = peers("_sides").BY_NAME
    monkeypatch.setattr(
        peers("__main__").Wanted,
        "sides",
        lambda self: [sides[one] for one in ("optimum", "sdcpp-f16", "comfyui", "a1111")],
    )
    words = ["--cases", "sd15", "--url", f"a1111={painters.url}", "--python", f"sdcpp={tmp_path / 'nobody'}"]

    code, result = run(peers, tmp_path, "--work", str(folder), *words)

    assert code == 0
    assert set(result["details"]["not_measured"]) == {"optimum", "sdcpp-f16", "comfyui"}
    assert "--url comfyui=" in result["details"]["not_measured"]["comfyui"]
    assert "NOT MEASURED: comfyui" in capsys.readouterr().err
    assert set(result["details"]["cases"]["sd15"]["points"][0]["sides"]) == {"a1111"}


def test_cases_of_an_earlier_run_are_kept(peers, tmp_path, painters, folder, monkeypatch):
    monkeypatch.setattr(peers("__main__").Wanted, "sides", lambda self: [peers("_sides").BY_NAME["a1111"]])
    words = ("--work", str(folder), "--url", f"a1111={painters.url}", "--add")
    _, first = run(peers, tmp_path, *words, "--cases", "lora")
    _, second = run(peers, tmp_path, *words, "--cases", "sd15", "--steps", "2")
    assert list(first["details"]["cases"]) == ["lora"]
    assert list(second["details"]["cases"]) == ["sd15", "lora"]
    assert second["details"]["cases"]["lora"] == first["details"]["cases"]["lora"]
    assert second["lora_a1111_s"] == first["lora_a1111_s"]
    assert [case["run"]["steps"] for case in second["details"]["cases"].values()] == [2, 3]
    with pytest.raises(SystemExit, match="leave --add out"):
        run(peers, tmp_path, *words, "--threads", "77")


def test_a_point_over_its_time_is_skipped_and_told(peers, tmp_path, painters, folder, monkeypatch, capsys):
    monkeypatch.setattr(peers("__main__").Wanted, "sides", lambda self: [peers("_sides").BY_NAME["a1111"]])
    painters.slow = 10.0

    _, result = run(
        peers,
        tmp_path,
        *("--work", str(folder), "--url", f"a1111={painters.url}", "--cases", "steps,sd15"),
        *("--minutes", "0.015", "--steps", "40"),
    )

    (point,) = result["details"]["cases"]["sd15"]["points"]
    assert "see --minutes" in point["skipped"]
    # 40 steps of 0.1 s, or more where the machine is busy.
    assert point["estimated_round_s"] >= 2.0
    assert "seconds" not in point["sides"]["a1111"]
    assert point["sides"]["a1111"]["step_s"] >= 0.05
    assert "SKIPPED" in capsys.readouterr().err


def test_sides_that_do_not_fit_in_memory_together_have_sittings_of_their_own(
    peers, tmp_path, painters, folder, monkeypatch
):
    crew, sides = peers("_crew"), peers("_sides").BY_NAME
    three = [sides["comfyui"], sides["a1111"], replace(sides["a1111"], name="forge")]
    monkeypatch.setattr(peers("__main__").Wanted, "sides", lambda self: three)
    seen = []

    def room_for_two(self, side, checkpoint):
        opened = [member.side.name for member in self._members.values() if member.current]
        seen.append((side.name, tuple(opened)))
        if len(opened) >= room:
            raise peers("_jobs").CrowdedError("not enough memory")

    monkeypatch.setattr(crew.Crew, "_enough_memory", room_for_two)
    words = ["--work", str(folder), "--cases", "sd15", "--url", f"a1111={painters.url}"]
    words += ["--url", f"comfyui={painters.url}"]
    room = 2

    _, result = run(peers, tmp_path, *words)

    (point,) = result["details"]["cases"]["sd15"]["points"]
    assert [one["sides"] for one in point["sittings"]] == [["comfyui", "a1111"], ["comfyui", "forge"]]
    assert seen[-1] == ("forge", ("comfyui",))
    assert {name for name, told in point["sides"].items() if told["ratio"] > 0} == {"comfyui", "a1111", "forge"}

    room = 1
    _, result = run(peers, tmp_path, *words)
    (point,) = result["details"]["cases"]["sd15"]["points"]
    assert point["refused"] == {"a1111": "not enough memory", "forge": "not enough memory"}
    assert point["sides"]["comfyui"]["seconds"] > 0


def test_a_side_that_dies_leaves_the_others_alone(peers, tmp_path, folder, tiny, monkeypatch):
    process = peers("_process")
    side = replace(peers("_sides").BY_NAME["a1111"])
    child = process.Process(side, sys.executable, tmp_path / "child.log", 1)
    child._child.kill()
    with pytest.raises(process.DiedError, match="exit code -9"):
        child.ask("available")
    assert child.dead
    child.close()

    again = process.Process(side, sys.executable, tmp_path / "child.log", 1)
    assert again.ask("available")["reason"] is None
    with pytest.raises(process.DiedError, match="unknown command"):
        again.ask("dance")
    assert again.ask("available")["reason"] is None
    again.close()
    assert again.dead


def test_unknown_names_are_refused(peers, capsys):
    for words, said in (
        (["--cases", "sd16"], "no case sd16"),
        (["--peers", "photoshop"], "no side photoshop"),
        (["--python", "photoshop=/bin/python"], "PROGRAM=… with one of"),
    ):
        with pytest.raises(SystemExit):
            peers("__main__").parse(words)
        assert said in capsys.readouterr().err


def test_programs_come_from_the_environment_too(peers, monkeypatch):
    monkeypatch.setenv("DANQING_BENCH_URL_COMFYUI", "http://127.0.0.1:8188")
    monkeypatch.setenv("DANQING_BENCH_PYTHON_OPTIMUM", "/venv/bin/python")
    wanted = peers("__main__").parse(["--python", "optimum=/other/bin/python"])
    assert wanted.urls == {"comfyui": "http://127.0.0.1:8188"}
    assert wanted.pythons == {"optimum": "/other/bin/python"}


def test_nothing_measured_is_drawn_as_nothing(peers):
    assert "Nothing was measured" in peers("_plot").draw({"cases": {}})
