"""The commands in the documentation: they exist, with these options, and name declared sources."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from docs.check_english import documents
from softcart_assets import cli
from softcart_assets.cli import settings


def _commands() -> Iterator[Any]:
    """Each command of `softcart` in a block of shell."""
    for name, text in documents().items():
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            for each in re.split(r"\n| &", block):
                words = shlex.split(each, comments=True)
                if words[:1] == ["softcart"]:
                    yield pytest.param(words[1:], id=f"{name}: {' '.join(words)}")


@pytest.mark.parametrize("words", _commands())
def test_a_command_in_the_documentation_is_right(words: list[str]) -> None:
    command: Any = get_command(cli.app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    context = command.make_context(command.name, words)
    for parameter in command.params:
        value = context.params.get(parameter.name)
        if (parameter.metavar or "").strip("[]").startswith("SOURCE") and value:
            wanted = [value] if isinstance(value, str) else list(value)
            assert settings.chosen([each.partition(":")[0] for each in wanted])
