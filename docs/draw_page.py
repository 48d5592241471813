"""Takes a picture of the demo's page for the README: docs/images/dashboard.png.

`make demo` makes the page, and `make picture` calls this.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from softcart_assets.connections import EXTRACTS, setting

PICTURE = Path(__file__).with_name("images") / "dashboard.png"


def main() -> None:
    """Write the picture, if there is a page and a browser."""
    page, browser = Path(setting(EXTRACTS)) / "dashboard.html", shutil.which("chromium")
    if browser is None or not page.is_file():
        print(f"{PICTURE.name} stays: it needs chromium and {page}")
        return
    flags = (
        "headless=new no-sandbox hide-scrollbars disable-gpu lang=en-GB virtual-time-budget=9000"
    )
    subprocess.run(
        [
            browser,
            *(f"--{flag}" for flag in flags.split()),
            "--window-size=1280,1340",
            f"--screenshot={PICTURE}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
    )


if __name__ == "__main__":
    main()
