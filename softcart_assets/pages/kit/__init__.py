"""The kit for pages: reads a declared cube, packs it, and writes one self-contained file.

`softcart_assets.lines.page` has the declarations. `cube.py` reads production, `pack.py` makes
columns small, `render.py` writes the file, and `templates/`, `kit.css` and the scripts are its
parts. The kit names no line of business and no table.
"""

STATE_MARK = "<!-- state -->"
"""Where in a page its server says how old it may be. The file itself cannot know."""
