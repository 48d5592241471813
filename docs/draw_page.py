"""Takes pictures of the demo's pages for the documentation, into docs/images.

`make demo` makes the pages, and `make picture` calls this.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from softcart_assets.connections import EXTRACTS, setting

PICTURES = {
    "dashboard.png": ("dashboard.html", 1340),
    "insights.png": ("inspire.html", 3560),
}
"""Each picture, its page, and how high it is."""


def main() -> None:
    """Write the pictures, if there are pages and a browser."""
    for name, (page, height) in PICTURES.items():
        draw(Path(__file__).with_name("images") / name, Path(setting(EXTRACTS)) / page, height)


def draw(picture: Path, page: Path, height: int) -> None:
    """Write a picture of a page."""
    browser = shutil.which("chromium")
    if browser is None or not page.is_file():
        print(f"{picture.name} stays: it needs chromium and {page}")
        return
    flags = (
        "headless=new no-sandbox hide-scrollbars disable-gpu lang=en-GB virtual-time-budget=9000"
    )
    subprocess.run(
        [
            browser,
            *(f"--{flag}" for flag in flags.split()),
            f"--window-size=1280,{height}",
            f"--screenshot={picture}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
    )


if __name__ == "__main__":
    main()
