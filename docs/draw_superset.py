"""Takes pictures of the dashboards in Superset for the documentation, into docs/images.

`make superset` and `softcart bi import` bring them, and `make picture` calls this.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from pictures import keep
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from softcart_assets.assembly import LINES
from softcart_assets.bi.declared import boards
from softcart_assets.connections import setting
from softcart_assets.stack.superset import SUPERSET

_IMAGES = Path(__file__).with_name("images")
_FLAGS = "headless=new no-sandbox hide-scrollbars disable-gpu lang=en-GB window-size=1600,1700"
_SECONDS = 180
_READY = """
const charts = document.querySelectorAll('.dashboard-chart, .dashboard-component-chart-holder')
return charts.length >= arguments[0] && !document.querySelector('.loading')
  && document.querySelectorAll('.slice_container').length >= arguments[0]"""


def _open(program: str) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in _FLAGS.split():
        options.add_argument(f"--{flag}")
    service = Service(shutil.which("chromedriver") or "/usr/bin/chromedriver")
    return webdriver.Chrome(options=options, service=service)


def _draw(browser: webdriver.Chrome, uri: str) -> None:
    wait = WebDriverWait(browser, _SECONDS)
    browser.get(f"{uri}/login/")
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, "input[type=password]"))
    name, password = browser.find_elements(By.CSS_SELECTOR, "input:not([type=hidden])")[:2]
    name.send_keys(setting(f"{SUPERSET}_USER"))
    password.send_keys(setting(f"{SUPERSET}_PASSWORD"))
    password.submit()
    wait.until(lambda page: "/login" not in page.current_url)
    for board in boards(LINES):
        browser.get(f"{uri}/superset/dashboard/{board.name}/")
        charts = len(board.charts)
        wait.until(lambda page, charts=charts: page.execute_script(_READY, charts))
        # Charts move into their places for a moment.
        browser.execute_async_script("setTimeout(arguments[0], 3000)")
        image = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        keep(image, _IMAGES / f"superset-{board.name}.png")


def main() -> None:
    """Write the pictures, if there is a browser and a Superset."""
    program, uri = shutil.which("chromium"), setting(f"{SUPERSET}_URI", "")
    if program is None or not uri:
        print("superset-*.png stay: they need chromium, and `make superset`")
        return
    browser = _open(program)
    try:
        _draw(browser, uri)
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
