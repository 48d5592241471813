"""Superset's settings, for the local server and Docker Compose. Secrets are in the environment."""

import os

# Superset reads this file at the end of its own settings.
from superset.config import TALISMAN_CONFIG

SECRET_KEY = os.environ["SUPERSET_SECRET_KEY"]
SQLALCHEMY_DATABASE_URI = os.environ["SUPERSET_DATABASE_URI"]

# A page may ask this server and no other. So the pictures by which others count Superset's users
# are not fetched. Maps of others are not either.
_POLICY = TALISMAN_CONFIG["content_security_policy"]
TALISMAN_CONFIG = TALISMAN_CONFIG | {
    "content_security_policy": {
        name: [each for each in sources if each.startswith("'") or each.endswith(":")]
        if isinstance(sources, list)
        else sources
        for name, sources in _POLICY.items()
    }
}
# Counts of requests are kept in its one process.
RATELIMIT_STORAGE_URI = "memory://"
