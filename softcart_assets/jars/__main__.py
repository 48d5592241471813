"""`python -m softcart_assets.jars NAME…` fetches sets of Java libraries. `--pin` pins them anew."""

from __future__ import annotations

import argparse

from softcart_assets.jars import JarsError, fetch, names, pin


def main() -> None:
    """Fetch or pin the sets that the command line names, by default all."""
    parser = argparse.ArgumentParser(description="Fetch Java libraries with Maven.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}")
    parser.add_argument("--pin", action="store_true", help="write the checksums of what comes")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names()):
        parser.error(f"{', '.join(sorted(unknown))}: unknown. There is {', '.join(names())}.")
    for name in options.names or names():
        try:
            if options.pin:
                pin(name)
            print(fetch(name))
        except JarsError as error:
            raise SystemExit(str(error)) from None


main()
