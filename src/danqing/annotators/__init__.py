"""Picture to control map: `annotate` makes one, `spec.registry.annotators` lists what there is.

Nothing here loads torch until a learned annotator with installed weights is called.
"""

from danqing.annotators.base import annotate, is_installed
from danqing.annotators.sizes import pixel_perfect_resolution

__all__ = ["annotate", "is_installed", "pixel_perfect_resolution"]
