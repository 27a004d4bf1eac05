"""Networks written down as OpenVINO graphs, operation by operation, from the very modules that PyTorch would run.

Nothing is traced and nothing is converted on disk: a graph of Stable Diffusion 1.5's UNet is written in 0.1 s and takes
its weights from where PyTorch has them. What cannot be written down is refused (`NotExpressible`), and PyTorch runs it.
"""

import sys
from typing import Any, cast

# OpenVINO imports its telemetry package with its model converter, which is not used here: it does without where there
# is none, and so nothing that could send anything is ever loaded.
cast("dict[str, Any]", sys.modules).setdefault("openvino_telemetry", None)
