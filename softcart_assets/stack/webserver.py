"""Dagster's webserver behind our guard: `python -m softcart_assets.stack.webserver`.

It takes the options of `dagster-webserver`.
"""

from __future__ import annotations

from typing import Any

from dagster_webserver import cli as dagster_cli

from softcart_assets.stack.guard import Guard


def main() -> None:
    """Serve until a signal. `SOFTCART_UI_HOSTS` and `SOFTCART_UI_PASSWORD` are the guard's."""
    cli: Any = dagster_cli
    unguarded = cli.create_app_from_workspace_process_context

    def guarded(*args: Any, **options: Any) -> Guard:
        return Guard.by_settings(
            unguarded(*args, **options), ("SOFTCART_UI_HOSTS", "SOFTCART_UI_PASSWORD")
        )

    # The webserver has no place for an application around its own. The name that it calls is
    # looked up here, so that another version without it ends with an error and not unguarded.
    cli.create_app_from_workspace_process_context = guarded
    cli.main()


if __name__ == "__main__":
    main()
