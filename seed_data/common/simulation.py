"""Starts live traffic on the sources of lines of business."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack

from seed_data.common.databases import some
from seed_data.common.model import SeedError
from seed_data.common.packages import database_of, seeds_of
from seed_data.common.traffic import Simulation, SimulationError, run_together
from softcart_assets.lines.model import Line

PER_CONNECTION = 1_000
"""Operations per second that one thread and its connections do."""


def simulate(
    lines: Iterable[Line],
    rate: float = 5.0,
    duration: float | None = None,
    seed: int | None = None,
) -> Counter[str]:
    """Write `rate` operations per second into the sources of each line that has traffic.

    It ends after `duration` seconds, by default at Ctrl-C. `seed` makes the choices repeatable, if
    the data and the clock are the same. It prints a line of counts every few seconds, and returns
    the number of operations by kind.

    If a server goes away, it waits. Raises `ServerUnreachable` if a server is missing at the start,
    and `SimulationError` if there is no traffic, or a source does not hold a whole seed.
    """
    if rate <= 0:
        raise SimulationError(f"The rate must be above 0 operations per second, not {rate}.")
    count = math.ceil(rate / PER_CONNECTION)
    with ExitStack() as opened:
        simulations = []
        for line, data in seeds_of(lines):
            if data.traffic:
                _require_seed(line)
                traffic = data.traffic({source.name: source for source in line.sources}, seed)
                for number in range(count):
                    each = traffic.another() if number else traffic
                    opened.callback(each.close)
                    name = f"{line.name} {number + 1}" if count > 1 else line.name
                    own = None if seed is None else seed + number
                    simulations.append(Simulation(name, each, own))
        if not simulations:
            raise SimulationError("None of these lines of business has traffic to simulate.")
        run_together(simulations, rate / count, duration)
    return sum((simulation.counts for simulation in simulations), Counter())


def _require_seed(line: Line) -> None:
    """Raise `SimulationError` if any database of the line holds anything but a finished seed.

    Somebody's own tables may have the names and columns of ours.
    """
    for source in line.sources:
        database = database_of(line, source)
        try:
            marks = database.marks()
        except SeedError as error:
            raise SimulationError(str(error)) from None
        # A table of an unfinished seed has the bare mark.
        if lacking := [
            table.name
            for table in source.tables
            if marks.get(table.at_source, database.mark) == database.mark
        ]:
            raise SimulationError(
                f"{source.name} has no finished seed data in {some(lacking)}. Run `softcart seed` "
                "first."
            )
