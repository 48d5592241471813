"""Takes a picture of the fitness application for the README: docs/images/inspire.png.

It shows what somebody of the demo sees on a phone. The demo's people are made up. `make demo` makes
them, and `make picture` calls this.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from flask.testing import FlaskClient
from pictures import take

from softcart_assets.inspire_app.demo import login
from softcart_assets.inspire_app.server import make, now
from softcart_assets.inspire_app.settings import Settings
from softcart_assets.inspire_app.site import Site, open_site
from softcart_assets.web.limits import Limits

PICTURE = Path(__file__).with_name("images") / "inspire.png"
_PAGES = ("/", "/log/run", "/history")
_WIDTH, _HEIGHT = 390, 844
_ROUND = (
    "body { margin: 0; padding: 24px; display: flex; gap: 24px; background: #cdd8d2 }"
    f"iframe {{ width: {_WIDTH}px; height: {_HEIGHT}px; border: 0; border-radius: 28px }}"
)


def _pages(client: FlaskClient, email: str, password: str) -> list[str]:
    """The pages as somebody sees them who has signed in, with their style inside."""
    value = client.get("/sign-in").text.partition('name="csrf_token" value="')[2].partition('"')[0]
    client.post("/sign-in", data={"email": email, "password": password, "csrf_token": value})
    style = f"<style>{client.get('/s/inspire.css').text}</style></head>"
    return [client.get(path).text.replace("</head>", style) for path in _PAGES]


def draw(site: Site, email: str, password: str, browser: str) -> None:
    """Write the picture."""
    with TemporaryDirectory() as folder:
        frames = ""
        for number, page in enumerate(_pages(make(site).test_client(), email, password)):
            (Path(folder) / f"{number}.html").write_text(page)
            frames += f'<iframe src="{number}.html"></iframe>'
        file = Path(folder) / "all.html"
        file.write_text(f"<!doctype html><style>{_ROUND}</style>{frames}")
        width = 24 + (_WIDTH + 24) * len(_PAGES)
        take(browser, file, PICTURE, width, _HEIGHT + 48)


def main() -> None:
    """Write the picture, if there is a browser and a login of the demo."""
    browser, found = shutil.which("chromium"), login()
    if browser is None or found is None:
        print(f"{PICTURE.name} stays: it needs chromium, and a demo")
        return
    site = open_site(Settings.from_env(), Limits(), now)
    try:
        draw(site, *found, browser)
    finally:
        site.close()


if __name__ == "__main__":
    main()
