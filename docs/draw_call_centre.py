"""Takes a picture of the call centre's screen for the README: docs/images/call-centre.png.

It shows a subscriber of the demo who may leave. The demo's people are made up. `make demo` makes
them, and `make picture` calls this.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pictures import take

from softcart_assets.assembly import LINES
from softcart_assets.connections import PostgresConnection, staging
from softcart_assets.paths import REPOSITORY
from softcart_assets.serving import tokens
from softcart_assets.serving.app import create_app
from softcart_assets.serving.asking import Asking, ready
from softcart_assets.serving.desk import find
from softcart_assets.web.limits import Limits

PICTURE = Path(__file__).with_name("images") / "call-centre.png"
_STREAM_SECONDS = 90
_CALLER = """
SELECT s.id FROM ml.churn_scores AS c
JOIN raw_crm.subscribers AS s ON s.id = c.subscriber_id AND s.state = 'active'
ORDER BY s.account_id IS NULL, c.probability_pct DESC, s.id LIMIT 1
"""


@contextmanager
def _streams() -> Iterator[None]:
    """Follow the sources, so that the figures are young."""
    program = REPOSITORY / ".venv" / "bin" / "softcart"
    sources = sorted({source for source, _ in find([line.name for line in LINES]).tables})
    processes = [
        subprocess.Popen([program, "stream", source], stdout=subprocess.DEVNULL)
        for source in sources
    ]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _page(warehouse: PostgresConnection, subscriber: int) -> str:
    """The page about a subscriber as somebody sees it who has logged in, with its style inside."""
    desk = find([line.name for line in LINES])
    ready(warehouse, desk)
    shown = tokens.create(warehouse, "Agent 1", [*tokens.SCOPES], "a picture of the screen", 600)
    asking = Asking(warehouse, desk)
    try:
        deadline = time.monotonic() + _STREAM_SECONDS
        while (age := getattr(asking.again(subscriber), "age_ms", None)) is None or age > 2000:
            if time.monotonic() > deadline:
                raise SystemExit(f"The figures are {age} ms old after {_STREAM_SECONDS} s.")
            time.sleep(0.5)
        client = create_app(asking, Limits(), b"for this picture" * 2).test_client()
        login = client.get("/login").text
        value = login.partition('name="csrf_token" value="')[2].partition('"')[0]
        client.post("/login", data={"token": shown, "csrf_token": value})
        style = client.get("/style.css").text
        page = client.get(f"/people/{subscriber}").text
        return page.replace("</head>", f"<style>{style}</style></head>")
    finally:
        asking.close()
        tokens.revoke(warehouse, shown.split("_")[1])


def main() -> None:
    """Write the picture, if there is a browser and somebody with a score."""
    browser, warehouse = shutil.which("chromium"), staging()
    with warehouse.connect() as session:
        [there] = session.execute("SELECT to_regclass('ml.churn_scores') IS NOT NULL").fetchone()
        found = session.execute(_CALLER).fetchone() if there else None
    if browser is None or found is None:
        print(f"{PICTURE.name} stays: it needs chromium, and a demo with scores of who may leave")
        return
    with _streams():
        page = _page(warehouse, found[0])
    with TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(page)
        take(browser, file, PICTURE, 1440, 760)


if __name__ == "__main__":
    main()
