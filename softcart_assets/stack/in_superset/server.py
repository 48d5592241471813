"""The program of the local Superset.

It is run by its path in Superset's own environment, and imports nothing of ours. The file that
`--settings` names has what nobody else may know: the variables that `config` reads, and the
password of the user.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve on loopback until a signal. `--initialise`: make tables, roles and the user instead."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--initialise", metavar="USER")
    asked = parser.parse_args()
    settings = json.loads(asked.settings.read_text())
    os.environ |= settings["environment"] | {
        "SUPERSET_CONFIG_PATH": str(Path(__file__).with_name("config.py")),
        # It writes there, and not at the user's home.
        "SUPERSET_HOME": str(asked.data),
        "FLASK_APP": "superset.app:create_app()",
    }
    from superset.app import create_app

    app = create_app()
    if asked.initialise:
        with app.app_context():
            _initialise(asked.initialise, settings["password"])
        return
    from waitress import serve  # type: ignore[import-untyped]

    serve(app, host="127.0.0.1", port=asked.port, threads=8, ident=None)


def _initialise(user: str, password: str) -> None:
    """What `superset db upgrade`, `superset fab create-admin` and `superset init` do, in one go."""
    import superset
    from flask_migrate import upgrade

    upgrade(directory=str(Path(superset.__file__).with_name("migrations")))
    superset.appbuilder.add_permissions(update_perms=True)
    security: Any = superset.security_manager
    security.sync_role_definitions()
    admin = security.find_role("Admin")
    if not security.add_user(user, user, "", f"{user}@localhost", admin, password=password):
        raise SystemExit(f"The user {user} could not be made.")


if __name__ == "__main__":
    main()
