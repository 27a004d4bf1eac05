"""Which test files take long: two processes share the files, and the longest must not begin last."""

from __future__ import annotations

from pathlib import Path

import pytest

# Seconds of one core, of the processes that a test starts too; those of 8 s and more.
SECONDS = {
    "adapters/test_adapters_lllite.py": 9,
    "adapters/test_adapters_t2i.py": 13,
    "benchmarks/test_benchmarks.py": 43,
    "cli/test_cli_process.py": 11,
    "cli/test_cli_train.py": 9,
    "engine/test_engine_control.py": 24,
    "engine/test_engine_features.py": 11,
    "engine/test_engine_features_graphs.py": 12,
    "engine/test_engine_networks.py": 10,
    "engine/test_engine_openvino.py": 25,
    "engine/test_engine_openvino_inputs.py": 40,
    "imports/test_worker_needs_no_extras.py": 9,
    "models/test_models_controlfiles.py": 8,
    "models/test_models_flux.py": 10,
    "models/test_models_flux_pictures.py": 8,
    "models/test_models_graphs.py": 15,
    "models/test_models_residency.py": 9,
    "models/test_models_sd3_files.py": 9,
    "models/test_models_sdxl.py": 9,
    "models/test_models_singlefile.py": 17,
    "models/test_models_tools.py": 9,
    "pipelines/test_pipelines_control.py": 10,
    "pipelines/test_pipelines_foreign.py": 8,
    "pipelines/test_pipelines_images.py": 9,
    "pipelines/test_pipelines_inversion.py": 9,
    "pipelines/test_pipelines_regions.py": 8,
    "pipelines/test_pipelines_retouch.py": 10,
    "pipelines/test_pipelines_txt2img.py": 15,
    "pipelines/test_pipelines_words_edit.py": 15,
    "sampling/test_sampling_gaussian.py": 13,
    "server/test_api_schema.py": 44,
    "server/test_share_doors.py": 14,
    "studio/test_studio_kill.py": 10,
    "studio/test_studio_training.py": 22,
    "training/own/test_own_artaug.py": 25,
    "training/own/test_own_controlnet.py": 11,
    "training/own/test_own_distill.py": 13,
    "training/own/test_own_foundations.py": 10,
    "training/own/test_own_loop.py": 28,
    "training/own/test_own_networks.py": 13,
    "training/own/test_own_slider.py": 16,
    "training/own/test_own_weights.py": 12,
    "training/test_builtin_side.py": 21,
    "training/test_builtin_train.py": 16,
    "training/test_training_commands.py": 8,
    "web/test_web_canvas.py": 19,
    "web/test_web_cards.py": 62,
    "web/test_web_drag.py": 33,
    "web/test_web_explore.py": 19,
    "web/test_web_late.py": 40,
    "web/test_web_networks.py": 41,
    "web/test_web_nothing_gained.py": 9,
    "web/test_web_page.py": 67,
    "web/test_web_pose.py": 42,
    "web/test_web_projects.py": 31,
    "web/test_web_quality.py": 21,
    "web/test_web_regions.py": 51,
    "web/test_web_reviewing.py": 24,
    "web/test_web_share.py": 13,
    "web/test_web_share_doors.py": 10,
    "web/test_web_share_lost.py": 14,
    "web/test_web_sketch.py": 34,
    "web/test_web_training.py": 20,
    "web/test_web_training_sides.py": 14,
    "web/test_web_words_retouch.py": 37,
    "workers/test_painter.py": 34,
    "workers/test_workers_sight.py": 9,
}
EACH_S = 0.08  # a test of any other file
HERE = Path(__file__).parent


def longest_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests file by file, those of the longest first; within a file as they stand there."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    return [item for _, tests in sorted(files.items(), key=_shortness) for item in tests]


def _shortness(file: tuple[Path, list[pytest.Item]]) -> tuple[float, str]:
    path, tests = file
    name = path.relative_to(HERE).as_posix() if path.is_relative_to(HERE) else str(path)
    return -SECONDS.get(name, EACH_S * len(tests)), name
