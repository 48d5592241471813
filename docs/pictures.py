"""Takes pictures for the documentation, in headless Chromium. The scripts `draw_*.py` use it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageChops

_MARGIN = 24
_FLAGS = "headless=new no-sandbox hide-scrollbars disable-gpu lang=en-GB virtual-time-budget=9000"


def take(browser: str, page: Path, picture: Path, width: int, height: int) -> None:
    """Write a picture of a page in a file, see `keep`. `height`: at most."""
    with TemporaryDirectory() as folder:
        taken = Path(folder) / "picture.png"
        subprocess.run(
            [
                browser,
                *(f"--{flag}" for flag in _FLAGS.split()),
                f"--user-data-dir={folder}/browser",
                f"--window-size={width},{height}",
                f"--screenshot={taken}",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
        )
        image = Image.open(taken).convert("RGB")
    keep(image, picture)


def keep(image: Image.Image, picture: Path) -> None:
    """Write a picture without what is empty at its end.

    256 colours are enough for it, and make the file a third as large.
    """
    width, height = image.size
    paper = Image.new("RGB", image.size, image.getpixel((0, height - 1)))
    box = ImageChops.difference(image, paper).getbbox()
    end = min(height, box[3] + _MARGIN) if box else height
    small = image.crop((0, 0, width, end)).quantize(256, dither=Image.Dither.NONE)
    small.save(picture, optimize=True)
