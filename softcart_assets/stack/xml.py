"""Hadoop's and Hive's settings as the XML that they read."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape


def site_xml(settings: Mapping[str, str]) -> str:
    """The text of a file such as `core-site.xml`."""
    properties = "".join(
        f"<property><name>{name}</name><value>{escape(value)}</value></property>\n"
        for name, value in settings.items()
    )
    return f"<configuration>\n{properties}</configuration>\n"
