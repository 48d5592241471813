"""The result of a reconciliation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from softcart_assets.ingestion.request import LoadResult

SAMPLE = 10
"""The number of differing rows of each kind that are named."""


@dataclass(frozen=True)
class Difference:
    """A row that differs.

    `key`: its key's values as text, or all values for a table without a key.

    `kind`: raw lacks the row (missing), has it although the source does not (extra), or has other
    values in `columns` (differing).
    """

    kind: Literal["missing", "extra", "differing"]
    key: tuple[str | None, ...]
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one line for a person."""
        key = "/".join("NULL" if value is None else value for value in self.key)
        return f"{self.kind} {key}" + (f" in {', '.join(self.columns)}" if self.columns else "")


@dataclass(frozen=True)
class Reconciliation:
    """A raw table against its source at `position`.

    `rows` (at the source) and `segments` were compared. `missing`, `extra` and `differing` count
    rows. `columns`: the number of differing rows by column. `sample` names some rows. `unfit`: rows
    of the source that raw cannot take and that are not in quarantine. The `quarantined` rows were
    not compared. `before_load`: what was wrong with raw before the load that brought it to the
    position, which may have repaired it. `load` and `repair`: what these did, if they ran.
    """

    table: str
    position: str
    rows: int
    segments: int
    missing: int = 0
    extra: int = 0
    differing: int = 0
    unfit: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    sample: list[Difference] = field(default_factory=list)
    quarantined: int = 0
    before_load: str | None = None
    load: LoadResult | None = None
    repair: LoadResult | None = None
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)

    @property
    def differences(self) -> int:
        """The number of rows that differ, or differed before the repair."""
        return self.missing + self.extra + self.differing + self.unfit

    @property
    def is_repaired(self) -> bool:
        """Whether rows that differed were brought into raw."""
        return self.repair is not None

    @property
    def is_settled(self) -> bool:
        """Whether raw is now what the source was at the position, as far as it was compared."""
        return not self.differences or self.is_repaired

    def __str__(self) -> str:
        """Return one line for a person."""
        if not self.differences:
            return f"{self.table}: {self.rows} rows equal the source at {self.position}"
        kinds = {
            "missing": self.missing,
            "extra": self.extra,
            "differing": self.differing,
            "unfit": self.unfit,
        }
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        repaired = ", repaired" if self.is_repaired else ""
        return f"{self.table}: {told} of {self.rows} rows{repaired} at {self.position}"
