"""`make bench`: every measurement, one after the other, or those that are named."""

from __future__ import annotations

import argparse

from benchmarks import capture, copy, demo, documents, incremental, rig, shapes

INGESTION = {
    "copy": copy,
    "shapes": shapes,
    "incremental": incremental,
    "capture": capture,
    "documents": documents,
}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"demo {' '.join(INGESTION)}; default: all")
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
    arguments = parser.parse_args()
    names = arguments.names or ["demo", *INGESTION]
    if unknown := set(names) - {"demo", *INGESTION}:
        parser.error(
            f"there is no benchmark {', '.join(unknown)}; there are demo, {', '.join(INGESTION)}"
        )
    if "demo" in names:
        demo.run(sorted(map(float, arguments.scales.split(","))), keep=arguments.keep)
    if wanted := [INGESTION[name] for name in names if name != "demo"]:
        with rig.servers() as servers:
            for benchmark in wanted:
                benchmark.run(servers, arguments.scale, arguments.only, arguments.repeat)


main()
