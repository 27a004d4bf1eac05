from __future__ import annotations

from pathlib import Path

import pytest

from danqing.spec.errors import InvalidRequestError
from danqing.studio.settings import check_bind, is_loopback, load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("DANQING_")]:
        monkeypatch.delenv(name)


def test_defaults():
    settings = load_settings()
    assert settings.data_dir.is_absolute()
    assert settings.data_dir.name == "danqing"
    assert settings.models_path == settings.data_dir / "models"
    assert (settings.host, settings.port, settings.devices) == ("127.0.0.1", 7860, ("auto",))
    assert settings.upload_max_bytes == 32 * 1024**2


def test_the_environment_and_what_wins_over_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("DANQING_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DANQING_PORT", "8000")
    monkeypatch.setenv("DANQING_DEVICE", "cuda:0, cuda:1")
    assert load_settings(data_dir=None).data_dir == tmp_path
    assert load_settings(port=9000).port == 9000
    assert load_settings().devices == ("cuda:0", "cuda:1")


def test_home_is_expanded():
    assert load_settings(data_dir="~/paint").data_dir == Path.home() / "paint"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("port", "many"),
        ("device", "gpu"),
        ("device", "cpu,cpu"),
        ("precision", "float6"),
        ("upload_max_bytes", "-1"),
        ("undo_window_s", "nan"),
        ("max_inflight", "0"),
    ],
)
def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(f"DANQING_{name.upper()}", value)
    with pytest.raises(InvalidRequestError) as caught:
        load_settings()
    error = caught.value
    assert error.field == name
    assert error.value is not None
    assert error.allowed
    assert f"DANQING_{name.upper()}" in str(error.next_step)
    with pytest.raises(InvalidRequestError, match="the option"):
        load_settings(**{name: value})


def test_the_password_is_never_shown():
    assert "secret" not in repr(load_settings(password="secret"))  # noqa: S106


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]", "LocalHost"])
def test_loopback_needs_no_password(host: str):
    assert is_loopback(host)
    check_bind(load_settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio.example", "", "localhost.example"])  # noqa: S104
def test_a_network_needs_a_password(host: str):
    with pytest.raises(InvalidRequestError, match="no password") as caught:
        check_bind(load_settings(host=host, password=""))
    assert "DANQING_PASSWORD" in str(caught.value.next_step)
    check_bind(load_settings(host=host, password="secret"))  # noqa: S106
