"""The sources of noise: names, labels and hints. Their code is in `danqing.sampling.noise`."""

from __future__ import annotations

from dataclasses import dataclass

from danqing.spec.registry.lookup import match, unknown


@dataclass(frozen=True)
class NoiseInfo:
    """A random number generator that pictures are seeded from.

    Attributes:
        key: Stable name in code, requests and records.
        name: The label AUTOMATIC1111 uses ("RNG" in the infotext).
        aliases: Other accepted spellings.
        hint: One plain sentence for the UI.
    """

    key: str
    name: str
    aliases: tuple[str, ...]
    hint: str


NOISE_SOURCES: tuple[NoiseInfo, ...] = (
    NoiseInfo("cpu", "CPU", (), "The same picture on every machine."),
    NoiseInfo("gpu", "GPU", ("cuda", "device"), "Made on the graphics card; differs between kinds of card."),
    NoiseInfo("nv", "NV", ("philox", "nvidia"), "The numbers an NVIDIA card makes, computed on any machine."),
)


def find_noise_source(name: str) -> NoiseInfo:
    """The noise source of this key, label or alias, in any case.

    Raises:
        InvalidRequestError: If there is none.

    >>> find_noise_source("Philox").key
    'nv'
    """
    info = match(NOISE_SOURCES, name)
    if info is None:
        raise unknown(NOISE_SOURCES, name, field="noise_source", what="noise source")
    return info
