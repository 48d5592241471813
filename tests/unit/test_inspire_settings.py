"""The settings of the fitness application."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from softcart_assets.connections import SettingError
from softcart_assets.inspire_app.leaks import leaked_passwords
from softcart_assets.inspire_app.providers import Providers
from softcart_assets.inspire_app.settings import PREFIX, Settings
from softcart_assets.lines.inspire.settings import SETTINGS


class _Asked(dict[str, str]):
    """An environment that knows what it was asked for."""

    def __init__(self, **values: str) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, name: str, *default: str) -> str | None:  # type: ignore[override]
        self.names.add(name)
        return super().get(name, *default)


def test_what_is_declared_is_what_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = _Asked(SOFTCART_HOME=str(tmp_path))
    monkeypatch.setattr(os, "environ", asked)
    Settings.from_env()
    Providers.from_env()
    leaked_passwords()
    read = {name for name in asked.names if name.startswith(PREFIX)}
    assert read == {each.name for each in SETTINGS}


@pytest.mark.parametrize("number", ["-1", "one", "10", "1.0", "\u0661"])
def test_a_number_of_proxies_is_a_digit(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setenv(f"{PREFIX}_SECRET", "s" * 40)
    monkeypatch.setenv(f"{PREFIX}_PROXIES", "2")
    assert Settings.from_env().proxies == 2
    monkeypatch.setenv(f"{PREFIX}_PROXIES", number)
    with pytest.raises(SettingError, match="from 0 to 9"):
        Settings.from_env()


def test_a_second_factor_is_optional_or_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}_SECRET", "s" * 40)
    monkeypatch.delenv(f"{PREFIX}_SECOND_FACTOR", raising=False)
    assert not Settings.from_env().needs_second_factor
    monkeypatch.setenv(f"{PREFIX}_SECOND_FACTOR", "required")
    assert Settings.from_env().needs_second_factor
    monkeypatch.setenv(f"{PREFIX}_SECOND_FACTOR", "yes")
    with pytest.raises(SettingError, match="optional or required"):
        Settings.from_env()
