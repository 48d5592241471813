"""The files for Docker Compose and `.env.example`, made from the declared sources.

`softcart derive` writes them. Their templates are next to this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from softcart_assets.ingestion.connectors import TLS_SETTINGS, connector
from softcart_assets.lines.model import Line, Source

_TEMPLATES = Path(__file__).with_name("templates")


def compose(sources: Sequence[Source]) -> str:
    """The text of `docker-compose.yml`."""
    port = "3306"
    # All MySQL sources are on one server. The first setting that names a port decides.
    for source in reversed(_of_kind(sources, "mysql")):
        port = f"${{{source.env_prefix}_PORT:-{port}}}"
    return _rendered("docker-compose.yml", sources, port=port)


def mysql_script(sources: Sequence[Source]) -> str:
    """The text of `docker/mysql.sh`, which makes databases and users in a new MySQL container."""
    return _rendered("mysql.sh", sources)


def passwords_script(sources: Sequence[Source]) -> str:
    """The text of `docker/passwords.sh`, which generates the passwords of the containers."""
    names = [f"{source.env_prefix}_PASSWORD" for source in _of_kind(sources, "mysql")]
    names += ["SOFTCART_MONGO_PASSWORD"] if _of_kind(sources, "mongodb") else []
    names += ["SOFTCART_STAGING_PASSWORD", "SOFTCART_PAGES_PASSWORD"]
    names += ["SOFTCART_SUPERSET_PASSWORD", "SOFTCART_SUPERSET_SECRET_KEY"]
    return _rendered("passwords.sh", sources, passwords=names)


def dotenv(sources: Sequence[Source], lines: Iterable[Line] = ()) -> str:
    """The text of `.env.example`: every setting with its explanation.

    `lines`: those whose applications have settings.
    """
    return _rendered("env.example", sources, lines=[*lines])


def _rendered(
    name: str, sources: Sequence[Source], **values: str | Sequence[str] | Sequence[Line]
) -> str:
    # A misspelt name in a template is an error and not an empty text.
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    template = environment.get_template(f"{name}.j2")
    return template.render(
        sources=sources,
        mysql=_of_kind(sources, "mysql"),
        mongodb=_of_kind(sources, "mongodb"),
        dynamodb=_of_kind(sources, "dynamodb"),
        folders=_of_kind(sources, "files"),
        connector=connector,
        tls=TLS_SETTINGS,
        **values,
    )


def _of_kind(sources: Sequence[Source], kind: str) -> list[Source]:
    return [source for source in sources if source.kind == kind]
