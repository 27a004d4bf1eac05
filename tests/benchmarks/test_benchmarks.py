"""Every benchmark runs from end to end on tiny random models; times are not judged here."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
FIGURES = {
    "drag": {"distance_noop_px", "distance_fast_px", "distance_quality_px", "fast_s", "quality_s"},
    "do_less": {"decibels_fast", "decibels_draft", "speedup_fast", "speedup_draft", "decibels_merge_50"},
    "engine_overhead": {"ratio_engine_to_bare", "engine_s", "bare_s"},
    "cpu_step": {"ratio_to_limit", "speedup_over_diffusers", "ours_s", "limit_s"},
    "dit_step": {"speedup_sd3", "speedup_flux", "torch_sd3_s", "graph_flux_s"},
    "mixed_load": {"ratio_short_latency", "short_engine_s", "short_fcfs_s"},
    "batch_parity": {"max_difference", "max_batch_rows"},
    "batching": {"ratio_throughput_small", "ratio_throughput_large", "ratio_lone_small", "ratio_draft_own_small"},
    "cold_start": {"first_picture_s", "help_s"},
    "load_memory": {"ratio_file", "ratio_folder", "load_file_s", "load_folder_s"},
    "reviewers": {"reviews_sent", "reviews_kept", "lost", "doubled", "failures", "read_p95_s", "write_p95_s"},
    "training_throughput": {"ratio_throughput", "ours_pictures_per_s", "bare_pictures_per_s"},
    "words": {"ratio_background", "layout_controlled", "missed_direct", "missed_null_text"},
    "catalog_scan": {"files", "cold_s", "warm_s", "cold_processor_s", "warm_processor_s"},
}


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(FIGURES))
def test_quick_run_ends_with_one_line_of_json(name, bench, tmp_path, capsys):
    code = bench(name).main(["--quick", "--json", "--repeats", "1", "--out", str(tmp_path)])

    lines = capsys.readouterr().out.strip().splitlines()
    assert code == 0
    assert len(lines) == 1
    result = json.loads(lines[0])
    assert set(result) >= FIGURES[name] | {"bar", "passed", "details", "machine", "versions", "commit", "date"}
    assert all(result[figure] >= 0 for figure in FIGURES[name])
    assert result["machine"]["cores"] == os.cpu_count()
    assert result["versions"]["torch"] == torch.__version__
    assert json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) == result
    if name == "batch_parity":
        shares_batches_with_all_seven_companions(result)


def shares_batches_with_all_seven_companions(result):
    """The check of the parity run's own figures."""
    cases = result["details"]["cases"]
    assert result["max_batch_rows"] == 16
    assert all(case["repeated"] == 0.0 for case in cases)
    # The random model's latents reach tens where a trained one's stay near 1; float32 is compared in proportion.
    assert all(max(case["joined"], case["cancelled"]) <= 1e-5 * case["latent_max"] for case in cases)


def test_quick_run_leaves_the_kept_results_alone(bench):
    report = bench("_report")
    outcome = report.Outcome({"x_s": 1.0}, "x ≤ 0.5", passed=False)
    before = {path: path.stat().st_mtime_ns for path in report.RESULTS.glob("*.json")}

    assert report.run("engine_overhead", "", lambda options: outcome, ["--quick"]) == 0
    assert report.run("engine_overhead", "", lambda options: outcome, ["--quick", "--check"]) == 1
    assert {path: path.stat().st_mtime_ns for path in report.RESULTS.glob("*.json")} == before


def test_repeats_below_one_are_refused(bench, capsys):
    with pytest.raises(SystemExit):
        bench("_report").run("engine_overhead", "", lambda options: None, ["--repeats", "0"])
    assert "1 or more" in capsys.readouterr().err


def test_medians_count_quiet_rounds_only(bench):
    rounds = bench("_timing").Rounds(
        {"a": [2.0, 2.0, 2.0, 90.0, 90.0, 90.0, 90.0], "b": [1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0]},
        [0.0, 0.02, 0.05, 0.6, 0.6, 0.6, 0.6],
    )

    assert rounds.quiet == [0, 1, 2]
    assert rounds.median_s("a") == 2.0
    assert rounds.ratio("a", "b") == 2.0


def test_random_folder_of_the_builtin_shape_is_what_the_catalogue_expects(bench, tmp_path):
    models = bench("_models")
    folder = models.write_folder(tmp_path / "Stable-diffusion" / "tiny", models.TINY)

    from danqing.models.catalog import Catalog

    (info,) = [info for info in Catalog(tmp_path).list() if not info.builtin]
    assert (info.path, info.defaults.size_px, info.latent_channels) == (str(folder), 32, 4)
