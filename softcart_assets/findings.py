"""What somebody finds out about a server or this machine, in a form that the doctor can print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One observation. `ok`: all is well. `note`: worth knowing. `blocks`: nothing works without
    it.
    """

    level: Literal["ok", "note", "blocks"]
    text: str
