"""Where the project is, and where it keeps what it makes on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
"""The root of the project, with the folders of models, jobs and seed data."""


def softcart_home(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of everything that runs locally: `SOFTCART_HOME`, by default `.softcart` in the
    repository.
    """
    return Path(environment.get("SOFTCART_HOME") or REPOSITORY / ".softcart").resolve()


def local_lake(home: Path) -> str:
    """The root of the lake in a home, as a URI."""
    return (home / "lake").as_uri()
