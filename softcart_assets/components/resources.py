"""The names of the resources."""

from softcart_assets.lines.model import Source


def source_resource_key(source: Source) -> str:
    """The name of the resource of a source's database."""
    return f"{source.name}_database"
