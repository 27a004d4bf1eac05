"""Rows that keep deep features, and rows that use them, by graphs as by PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_sessions import distance
from watched import easel_by, models_with_networks

from danqing.engine.calls import ModelCall
from danqing.engine.costs import Part
from danqing.models.loader import Loader
from easel import Easel, photo

pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'danqing[openvino]'")

from danqing.engine.openvino_executor import OpenVinoExecutor

CLOSE = 2e-4
STEPS = {"sampler": "euler", "steps": 6}


class Graphs(OpenVinoExecutor):
    """The real executor, which notes what computed each batch: all blocks or the outer ones, by graph or by PyTorch."""

    def __init__(self, loader: Loader) -> None:
        super().__init__(loader)
        self.ways: list[str] = []
        self.ran: list[Any] = []

    def max_rows(self, call: ModelCall) -> int:
        del call
        return 16

    def run(self, calls: Any) -> list[Any]:
        self.ran.append(tuple(calls))
        return super().run(calls)

    def parts(self, call: ModelCall) -> tuple[Part, ...]:
        del call
        return ()

    def _network(self, model: Any, way: Any, features: Any) -> Any:
        network = super()._network(model, way, features)
        self.ways.append("torch" if network is None else type(network).__name__)
        return network


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models_with_networks(tmp_path_factory.mktemp("cached"), "ink")


@pytest.fixture
def by_graph(models_dir: Path) -> Easel:
    return easel_by(Graphs, models_dir)


def check(by_torch: Easel, by_graph: Easel, ways: set[str], **fields: Any) -> None:
    words = {"sampling": STEPS, **fields}
    wanted = by_torch.latents(by_torch.plans(**words))
    found = by_graph.latents(by_graph.plans(**words))
    assert set(by_graph.executor.ways) == ways
    assert not by_graph.executor.graphs.reasons
    assert all(distance(a, b) < CLOSE for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("branch", [0, 1, 2, 3, 16])
def test_every_branch(by_torch: Easel, by_graph: Easel, branch: int):
    shortcuts = {"cache_interval": 2, "cache_branch": branch}
    check(by_torch, by_graph, {"_GraphUnet", "_GraphOuter"}, shortcuts=shortcuts, width_px=128, height_px=64)


def test_exact_rows_share_the_graph_of_rows_that_keep(by_graph: Easel):
    both = [
        *by_graph.plans(sampling=STEPS, seed=3),
        *by_graph.plans(sampling=STEPS, shortcuts={"cache_interval": 2, "cache_branch": 1}),
    ]
    alone = [by_graph.latents([one])[0] for one in both]
    together = by_graph.latents(both)
    for ours, theirs in zip(together, alone, strict=True):
        assert distance(ours, theirs) <= 1e-5
    kept = by_graph.executor.graphs._kept[by_graph.model().unet]
    assert {key for key in kept if isinstance(key, tuple)} == {("unet", ()), ("outer", (), 1)}


def test_controlnets_steer_the_outer_blocks_too(by_torch: Easel, by_graph: Easel):
    shown = by_torch.picture(photo(64, 64))
    by_graph.picture(photo(64, 64))
    unit = {"model": "live", "annotator": "none", "image": shown, "weight": 0.8}
    shortcuts = {"cache_interval": 3, "cache_branch": 1}
    check(by_torch, by_graph, {"_GraphUnet", "_GraphOuter"}, controls=[unit], shortcuts=shortcuts)


def test_merged_networks_have_outer_blocks_of_their_own(by_torch: Easel, by_graph: Easel):
    shortcuts = {"cache_interval": 2, "cache_branch": 1}
    check(by_torch, by_graph, {"_GraphUnet", "_GraphOuter"}, prompt="the red cat <lora:ink:0.7>", shortcuts=shortcuts)


def test_merged_tokens_are_pytorchs(by_torch: Easel, by_graph: Easel):
    check(by_torch, by_graph, {"torch"}, shortcuts={"token_merging": 0.5})


def test_perturbed_rows_are_perturbed_where_all_blocks_are_computed(by_torch: Easel, by_graph: Easel):
    shortcuts = {"cache_interval": 2, "cache_branch": 1}
    check(by_torch, by_graph, {"_GraphUnet", "_GraphOuter"}, guidance={"pag_scale": 2.0}, shortcuts=shortcuts)
