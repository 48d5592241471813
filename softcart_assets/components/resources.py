"""Under which names Dagster finds the servers."""

from softcart_assets.lines.model import Source


def source_resource_key(source: Source) -> str:
    """The resource key under which the database of a source is found."""
    return f"{source.name}_database"
