"""Unit tests know no servers, also when other tests of the same session have started some."""

import os

import pytest


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of ours in the environment but the home of this test session."""
    for name in [
        name
        for name in os.environ
        if name.startswith(("SOFTCART_", "DAGSTER_")) and name != "SOFTCART_HOME"
    ]:
        monkeypatch.delenv(name)
