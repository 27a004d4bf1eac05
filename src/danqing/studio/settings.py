"""What a person can set: by environment (`DANQING_…`), by the CLI or by a program. Checked before anything starts."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from danqing.review.address import check_url
from danqing.spec.errors import InvalidRequestError
from danqing.spec.painting import Precision

MIB = 1024 * 1024
MEGAPIXEL = 1_000_000
DAY_S = 24 * 3600
_SECRET = frozenset({"password", "review_key"})
_DEVICE = re.compile(r"^(auto|cpu|mps|xpu|cuda(:\d{1,2})?)$")


def default_data_dir() -> Path:
    """The user's data folder of this platform."""
    return Path(platformdirs.user_data_dir("danqing", appauthor=False))


class Settings(BaseSettings):
    """Everything that can be set; each field is also the environment variable `DANQING_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="DANQING_", frozen=True, extra="forbid", allow_inf_nan=False)

    data_dir: Path = Field(default_factory=default_data_dir, description="jobs, pictures, logs")
    models_dir: Path | None = Field(default=None, description="an A1111-shaped models folder; data_dir/models if unset")
    database_url: str | None = Field(default=None, description="SQLAlchemy URL; SQLite in data_dir if unset")
    host: str = "127.0.0.1"
    port: int = Field(default=7860, ge=0, le=65535, description="0 takes any free port")
    password: str | None = Field(default=None, repr=False, description="needed to listen beyond this machine")
    device: str = Field(default="auto", description="auto, cpu, mps, cuda:0; several separated by commas")
    precision: Precision = "auto"
    upload_max_bytes: int = Field(default=32 * MIB, ge=1024, le=1024 * MIB)
    upload_max_pixels: int = Field(default=64 * MEGAPIXEL, ge=256, le=1000 * MEGAPIXEL)
    max_inflight: int = Field(default=16, ge=1, le=256, description="pictures that one worker paints at once")
    preview_every: int = Field(default=1, ge=0, le=1000, description="steps between live previews; 0 for none")
    decoded_every: int = Field(default=5, ge=0, le=1000, description="steps between previews by the VAE; 0 for none")
    executor: Literal["auto", "torch", "openvino"] = Field(
        default="auto", description="what computes; auto takes OpenVINO on a CPU where it is installed"
    )
    compile: bool = Field(default=False, description="torch.compile the denoiser: slow first picture, then faster")
    memory_gib: float | None = Field(
        default=None, ge=1, le=65_536, description="main memory that a worker may take; the machine's if unset"
    )
    vram_gib: float | None = Field(
        default=None, ge=1, le=65_536, description="GPU memory that a worker may take; the card's if unset"
    )
    undo_window_s: float = Field(default=7 * DAY_S, ge=0, description="how long a deleted picture can be restored")
    worker_ready_timeout_s: float = Field(default=180.0, gt=0, le=3600)
    lease_s: float = Field(default=30.0, ge=1, le=3600, description="a silent process loses its jobs after this time")

    review_url: str | None = Field(default=None, description="OpenAI-compatible vision endpoint, up to /v1")
    review_key: str | None = Field(default=None, repr=False, description="sent to that endpoint and nowhere else")
    review_model: str | None = Field(default=None, max_length=200, description="as the endpoint names it")
    review_timeout_s: float = Field(default=120.0, gt=0, le=3600)
    review_coordinates: Literal["auto", "pixels", "thousand", "unit"] = Field(
        default="auto", description="what the model's boxes count: pixels, thousandths of a side, or shares of it"
    )

    @field_validator("review_url")
    @classmethod
    def _plain_address(cls, url: str | None) -> str | None:
        return check_url(url) if url else None

    @field_validator("data_dir", "models_dir")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    @field_validator("password", "database_url", "review_key", "review_model")
    @classmethod
    def _empty_is_unset(cls, text: str | None) -> str | None:
        return text or None

    @field_validator("device")
    @classmethod
    def _known_devices(cls, text: str) -> str:
        names = [name.strip() for name in text.split(",")]
        if not all(_DEVICE.match(name) for name in names) or len(set(names)) != len(names):
            raise ValueError("auto, cpu, mps, xpu, cuda or cuda:N; several, each once, separated by commas")
        return ",".join(names)

    @property
    def devices(self) -> tuple[str, ...]:
        """One worker is started for each."""
        return tuple(self.device.split(","))

    @property
    def models_path(self) -> Path:
        """Where the models lie."""
        return self.models_dir if self.models_dir is not None else self.data_dir / "models"

    @property
    def logs_path(self) -> Path:
        """Where the workers' output goes."""
        return self.data_dir / "logs"


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, with every override that is not None on top.

    Raises:
        InvalidRequestError: Which setting is wrong, its value, what is allowed and where it is set.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        message = first["msg"].removeprefix("Value error, ")
        place = f"the option for `{name}`" if name in given else f"the environment variable DANQING_{name.upper()}"
        raise InvalidRequestError(
            f"the setting `{name}` is wrong",
            field=name,
            value=None if name in _SECRET else first.get("input"),
            allowed=message[0].lower() + message[1:],
            next_step=f"correct {place}",
        ) from error


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach `host`."""
    name = host.strip("[]").split("%", maxsplit=1)[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_bind(settings: Settings) -> None:
    """Refuse to open the studio to a network without a password.

    Raises:
        InvalidRequestError: The host is not a loopback address and no password is set.
    """
    if is_loopback(settings.host) or settings.password:
        return
    raise InvalidRequestError(
        "anyone in the network could use this studio: it is to listen beyond this machine and has no password",
        field="host",
        value=settings.host,
        allowed="127.0.0.1, ::1 or localhost; any address when a password is set",
        next_step="set DANQING_PASSWORD, or leave the host at 127.0.0.1",
    )
