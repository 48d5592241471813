"""The lines of business. Each is a folder of declarations here, with a `LINE` in its `__init__.py`.

To add a line, add a folder. Nothing else names it. `docs/add-a-line.md` shows how.
`softcart_assets.assembly` finds the folders and validates their declarations.
"""
