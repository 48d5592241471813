"""`dagster dev` with our webserver: `python -m softcart_assets.stack.dev`, with its options."""

import sys

from softcart_assets.dagster_private import dagster_dev

if __name__ == "__main__":
    dagster_dev(sys.argv[1:], webserver="softcart_assets.stack.webserver")
