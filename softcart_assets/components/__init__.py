"""Factories that turn the declarations of a line of business into Dagster objects.

Here belongs what is the same for every line. The loops over the lines stand in
`softcart_assets.defs`; the work itself is done by packages that do not know Dagster.
"""
