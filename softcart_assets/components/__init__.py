"""Factories that turn the declarations of a line of business into Dagster objects.

A factory is the same for every line. `softcart_assets.defs` has the loops over the lines. Packages
without Dagster do the work itself.
"""
