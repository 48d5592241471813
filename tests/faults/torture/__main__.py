"""Rounds of torture by hand: `python -m tests.faults.torture`; `make torture` runs them for an
hour.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.torture.harness import Plan, Round, TortureFailed
from tests.faults.torture.lakes import Lakes
from tests.faults.torture.servers import Servers

STRATEGIES = ("cdc", "cdc", "cdc", "snapshot", "incremental")


def main() -> int:
    """Run rounds until the time is over or one fails; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seed",
        type=int,
        help="of the first round (default: a random one); the next ones count on",
    )
    parser.add_argument(
        "--seconds", type=float, default=0, help="run rounds for so long (default: one round)"
    )
    parser.add_argument(
        "--strategy",
        choices=dict.fromkeys(STRATEGIES),
        help="default: it changes from round to round",
    )
    parser.add_argument(
        "--round", type=float, default=20, help="seconds of writing and harm in a round"
    )
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument(
        "--pause",
        type=float,
        default=0.02,
        help="seconds between a writer's transactions, on average",
    )
    parser.add_argument(
        "--mysql",
        action="store_true",
        help="with a real MySQL server as the source instead of MariaDB",
    )
    told = parser.parse_args()
    seed = random.randrange(10**6) if told.seed is None else told.seed
    end = time.monotonic() + told.seconds
    home = Path(tempfile.mkdtemp(prefix="softcart-torture-"))
    servers, lakes = Servers(home, is_mysql=told.mysql), Lakes(home / "spark")
    failed = False
    try:
        servers.up()
        while True:
            strategy = told.strategy or STRATEGIES[seed % len(STRATEGIES)]
            plan = Plan(seed, strategy, told.round, told.writers, told.pause)
            folder = home / f"round-{seed}"
            folder.mkdir()
            round_ = Round(servers, lakes, plan, folder)
            print(round_.run(), flush=True)
            round_.clean_up()
            seed += 1
            if time.monotonic() >= end:
                return 0
    except TortureFailed as error:
        failed = True
        print(f"{error}{' --mysql' if told.mysql else ''}", file=sys.stderr)
        return 1
    finally:
        lakes.close()
        servers.down()
        if failed:  # what the servers held is of use; that they ran is not
            print(f"What the servers held stays in {home}.", file=sys.stderr)
        else:
            shutil.rmtree(home)


if __name__ == "__main__":
    sys.exit(main())
