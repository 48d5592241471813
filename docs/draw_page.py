"""Takes pictures of the demo's pages for the documentation, into docs/images.

`make demo` makes the pages, and `make picture` calls this.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from pictures import take

from softcart_assets.connections import EXTRACTS, setting

PICTURES = {
    "dashboard.png": ("dashboard.html", 1285, ""),
    # The five insights alone.
    "insights.png": ("inspire.html", 4000, "header, form, .span, #overview, .definitions"),
}
"""Each picture, its page, how high it is at most, and what of the page it leaves out."""


def main() -> None:
    """Write the pictures, if there are pages and a browser."""
    browser = shutil.which("chromium")
    for name, (page, height, hidden) in PICTURES.items():
        file = Path(setting(EXTRACTS)) / page
        if browser is None or not file.is_file():
            print(f"{name} stays: it needs chromium and {file}")
            continue
        picture = Path(__file__).with_name("images") / name
        style = f"<style>{hidden} {{ display: none !important }}</style>" if hidden else ""
        with TemporaryDirectory() as folder:
            shown = Path(folder) / page
            shown.write_text(file.read_text().replace("</head>", f"{style}</head>", 1))
            take(browser, shown, picture, 1280, height)


if __name__ == "__main__":
    main()
