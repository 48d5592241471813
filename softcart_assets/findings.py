"""Observations about a server or this machine, in a form that `softcart doctor` can print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One observation.

    `level`: `ok` (all is well), `note` (worth knowing) or `blocks` (the work cannot start).
    """

    level: Literal["ok", "note", "blocks"]
    text: str
