"""Which executor a device gets."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import torch

from danqing.engine.torch_executor import TorchExecutor
from danqing.models.loader import Loader
from danqing.spec.errors import UnsupportedError


def open_executor(loader: Loader, wanted: str = "auto", *, compiled: bool = False) -> TorchExecutor:
    """The executor over a loader's models.

    Args:
        loader: Where models come from, and on which device they compute.
        wanted: `auto`, `torch` or `openvino`; `auto` takes OpenVINO on a CPU where it is installed, and recorded CUDA
            graphs on an NVIDIA GPU; `torch` is PyTorch as it is.
        compiled: Compile the denoiser with torch.compile at its first use, which waits for it; then PyTorch runs it.
            On an NVIDIA GPU with `auto` it changes nothing: there blocks are compiled beside the painting.

    Raises:
        UnsupportedError: OpenVINO is asked for where it cannot run.
    """
    if uses_openvino(loader.device.type, wanted, compiled=compiled):
        from danqing.engine.openvino_executor import OpenVinoExecutor

        return OpenVinoExecutor(loader)
    if uses_graphs(loader.device.type, wanted):
        from danqing.engine.cuda_executor import CudaExecutor

        return CudaExecutor(loader)
    return TorchExecutor(loader, compiled=compiled)


def uses_graphs(device: str, wanted: str = "auto") -> bool:
    """Whether denoisers are called as recorded CUDA graphs, compiled in the background.

    Args:
        device: cpu, cuda or mps.
        wanted: As for `open_executor`.
    """
    return device == "cuda" and wanted == "auto"


def uses_openvino(device: str, wanted: str = "auto", *, compiled: bool = False) -> bool:
    """Whether graphs are computed by OpenVINO.

    Args:
        device: cpu, cuda or mps.
        wanted: As for `open_executor`.
        compiled: As for `open_executor`.

    Raises:
        UnsupportedError: It is asked for where it cannot run.
    """
    installed = importlib.util.find_spec("openvino") is not None
    if wanted == "openvino" and (device != "cpu" or not installed):
        raise UnsupportedError(
            "OpenVINO is not installed" if device == "cpu" else "OpenVINO computes on the CPU",
            field="executor",
            value=wanted,
            allowed="auto, torch",
            next_step="pip install 'danqing[openvino]'" if device == "cpu" else "choose auto",
        )
    return wanted != "torch" and device == "cpu" and installed and not compiled


def executor_name(device: str, wanted: str = "auto", *, compiled: bool = False) -> str:
    """What computes, with its version, for Records. UnsupportedError as for `uses_openvino`."""
    library = "openvino" if uses_openvino(device, wanted, compiled=compiled) else "torch"
    return f"{library} {importlib.metadata.version(library)}"


def explain_executor(device: str, wanted: str = "auto", *, compiled: bool = False) -> tuple[str, ...]:
    """The same in sentences for `danqing doctor`. UnsupportedError as for `uses_openvino`."""
    name = executor_name(device, wanted, compiled=compiled)
    if name.startswith("openvino"):
        return (
            f"computed by {name}; by PyTorch where a graph cannot express what is asked",
            "its graphs compute autoencoders in the denoiser's format, and UNets in eight bits where int8 is asked for",
        )
    if uses_graphs(device, wanted):
        return (f"computed by {name}: {_explain_graphs()}",)
    if device != "cpu" or compiled:
        return (f"computed by {name}",)
    if wanted == "torch":
        return (f"computed by {name}, as asked for: OpenVINO takes about two thirds of the time",)
    return (
        f"computed by {name}: with OpenVINO (pip install 'danqing[openvino]') it takes about two thirds of the time",
    )


def _explain_graphs() -> str:
    from danqing.models.compiling import why_not_compiled

    lacking = why_not_compiled(torch.device("cuda"))
    compiled = "compiled in the background" if lacking is None else f"not compiled, since {lacking}"
    return f"one CUDA graph for each shape from its third batch on; blocks are {compiled}"
