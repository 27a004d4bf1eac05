"""What a file of weights is, told from the names and shapes of its tensors alone.

`RULES` is the registry: frozen rules, the special ones first; the modules beside this one hold them by kind.
"""

from __future__ import annotations

import re
import zlib
from functools import cache
from pathlib import Path

from danqing import __version__
from danqing.models.headers import read_header
from danqing.models.identity import checkpoints, codecs, controls, embeddings, networks, others
from danqing.models.identity.evidence import Rule, evidence_of
from danqing.models.identity.unknown import unknown
from danqing.spec.files import FileIdentity, Header
from danqing.spec.model import Prediction

RULES: tuple[Rule, ...] = (
    *embeddings.RULES[:1],
    *controls.RULES,
    *others.MOTION,
    *networks.RULES,
    *checkpoints.RULES,
    *codecs.RULES,
    *others.RULES,
    *embeddings.RULES[1:],
)
_PARAMETERIZATION = re.compile(r"^\s*parameterization:\s*[\"']?(\w+)", re.MULTILINE)
_SIDECAR_LIMIT_BYTES = 200_000
_BY_PARAMETERIZATION: dict[str, Prediction] = {"v": "v_prediction", "eps": "epsilon", "x0": "sample"}

__all__ = ["RULES", "identify", "identify_header", "rules_stamp"]


@cache
def rules_stamp() -> str:
    """Changes with every change of the rules and readers, so that what an older version found is looked at again."""
    here = Path(__file__).parent
    sources = [*sorted(here.glob("*.py")), *sorted(here.parent.glob("header*.py")), here.parent / "pickle_stubs.py"]
    stamp = 0
    for source in sources:
        try:
            stamp = zlib.crc32(source.read_bytes(), stamp)
        except OSError:  # installed without sources
            continue
    return f"{stamp:08x}-{__version__}"


def identify(path: Path, header: Header | None = None) -> FileIdentity:
    """What a file is, from its header; a `.yaml` beside a Stable Diffusion tells what its UNet answers with.

    Args:
        path: The file.
        header: Its header, where it was read already.

    Raises:
        NotFoundError: There is no such file.
        BadFileError: It cannot be read.
    """
    identity = identify_header(header or read_header(path), path.name)
    if identity.kind in {"checkpoint", "denoiser"} and identity.family in {"sd1", "sd2", "sdxl"}:
        stated = _stated_prediction(path.with_suffix(".yaml"))
        if stated is not None:
            facts = {**identity.facts, "prediction_from": f"{path.stem}.yaml"}
            return identity.model_copy(update={"prediction": stated, "facts": facts})
    return identity


def identify_header(header: Header, name: str = "") -> FileIdentity:
    """What a header belongs to.

    Args:
        header: As `read_header` gives it.
        name: The file's name: a hint where two variants have the same shapes, never more.
    """
    evidence = evidence_of(header, name)
    # Whether a rule holds depends on the tensors alone: the next file with this table goes straight to its rule.
    derived = evidence.tensors.derived
    for rule in RULES[derived.get("rule", 0) :]:
        found = rule.detect(evidence)
        if found is not None:
            derived["rule"] = RULES.index(rule)
            return found.model_copy(update={"precision": evidence.precision})
    return unknown(evidence)


def _stated_prediction(sidecar: Path) -> Prediction | None:
    try:
        with sidecar.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_SIDECAR_LIMIT_BYTES)
    except OSError:
        return None
    found = _PARAMETERIZATION.search(text)
    if found is None:
        # LDM's own default where a config has no word on it, as A1111 takes it.
        return "epsilon" if "LatentDiffusion" in text or "linear_start" in text else None
    return _BY_PARAMETERIZATION.get(found[1].lower())
