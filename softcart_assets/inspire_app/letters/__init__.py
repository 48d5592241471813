"""The words of messages: a Jinja template per message, in plain text.

The first line of a mail's template is its subject. A text message has no subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from softcart_assets.inspire_app.outbox import Channel

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    undefined=StrictUndefined,
    # Plain text: nothing reads these as HTML.
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
)

# With one character beyond the alphabet of text messages, only 70 fit into one.
_PLAIN = str.maketrans({"“": '"', "”": '"', "„": '"', "’": "'", "‘": "'", "–": "-", "…": "..."})


@dataclass(frozen=True)
class Letter:
    """What is sent. `fields`: header fields of a mail."""

    subject: str
    text: str
    fields: Mapping[str, str]


def write(
    channel: Channel, template: str, values: Mapping[str, str], fields: Mapping[str, str]
) -> Letter:
    """The letter of a template. Raises `jinja2.UndefinedError` if a value is missing."""
    text = _TEMPLATES.get_template(f"{template}.{channel}.txt").render(values).strip()
    if channel is Channel.SMS:
        return Letter("", text.translate(_PLAIN), fields)
    subject, _, body = text.partition("\n")
    # A name of two lines must not become a header field.
    return Letter(" ".join(subject.split()), f"{body.strip()}\n", fields)
