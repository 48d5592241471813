"""`make bench`: every measurement, one after the other, or those that are named."""

from __future__ import annotations

import argparse

from benchmarks import (
    call_centre,
    capture,
    copy,
    demo,
    documents,
    incremental,
    inspire,
    kafka_sink,
    live,
    ods,
    pages,
    publication,
    rig,
    scale,
    shapes,
)

WHOLE = ("demo", "live", "inspire", "kafka_sink")
"""What runs on servers of its own."""
PARTS = {
    "copy": copy,
    "shapes": shapes,
    "incremental": incremental,
    "capture": capture,
    "documents": documents,
    "publication": publication,
    "scale": scale,
    "ods": ods,
    "pages": pages,
    "call_centre": call_centre,
}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"{' '.join([*WHOLE, *PARTS])}; default: all")
    parser.add_argument(
        "--scale",
        type=float,
        default=1,
        help="size of the ingestion's tables; 1 is the reported one",
    )
    parser.add_argument(
        "--only", default="", help="only ways, shapes or tools whose name has this word"
    )
    parser.add_argument(
        "--repeat", type=int, default=3, help="runs of each short measurement, whose median counts"
    )
    parser.add_argument(
        "--scales", default="1,10", help="sizes of the demo, as multiples of its default"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the demo's data of each size, for a look"
    )
    parser.add_argument(
        "--minutes", type=float, default=60, help="how long the live path runs, in each way"
    )
    arguments = parser.parse_args()
    known = [*WHOLE, *PARTS]
    names = arguments.names or known
    if unknown := set(names) - set(known):
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    if "demo" in names:
        demo.run(sorted(map(float, arguments.scales.split(","))), keep=arguments.keep)
    if "live" in names:
        live.run(arguments.minutes)
    if "inspire" in names:
        inspire.run()
    if "kafka_sink" in names:
        kafka_sink.run(arguments.scale)
    if wanted := [PARTS[name] for name in names if name not in WHOLE]:
        with rig.servers() as servers:
            for benchmark in wanted:
                benchmark.run(servers, arguments.scale, arguments.only, arguments.repeat)


main()
