"""The agent's screen in a browser: found by number or name, it moves by itself and says its age."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from support.browser import chromium
from support.callers import (
    NOW,
    POSTPAID,
    PREPAID,
    call,
    call_centre,
    insert,
    load,
    score,
    sources,
    stand,
)
from support.databases import database

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.serving import tokens
from softcart_assets.serving.asking import ready
from softcart_assets.serving.telecom import DESK
from softcart_assets.stack import Stack


class Desk:
    """What the tests of this module share: sources, warehouse, browser and address."""

    def __init__(
        self,
        found: dict[str, MySQLConnection],
        warehouse: PostgresConnection,
        lake: str,
        browser: webdriver.Chrome,
        address: str,
    ) -> None:
        self.found, self.warehouse, self.lake = found, warehouse, lake
        self.browser, self.address = browser, address

    def load(self, *names: str) -> None:
        load(self.found, self.warehouse, self.lake, *names)

    def wait(self, condition, seconds: float = 20) -> None:  # type: ignore[no-untyped-def]
        WebDriverWait(self.browser, seconds, 0.1).until(lambda _: condition())

    def text(self, css: str) -> str:
        # At once: a part of the page may be replaced between finding and reading.
        read = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return self.browser.execute_script(read, css).strip()

    def type(self, *keys: str) -> None:
        """Type without a mouse, into what the page gives the focus."""
        # The browser moves the focus a moment after the page is there.
        focus = "return document.activeElement && document.activeElement !== document.body"
        self.wait(lambda: self.browser.execute_script(focus))
        self.press(*keys)

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.browser).send_keys(*keys).perform()


@pytest.fixture(scope="module")
def desk(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The screen, with somebody logged in by the keyboard."""
    lake = (tmp_path_factory.mktemp("callers") / "lake").as_uri()
    with (
        sources(MySQLConnection.from_env("SOFTCART_TEST_MYSQL")) as found,
        database() as warehouse,
    ):
        load(found, warehouse, lake)
        ready(warehouse, DESK)
        score(warehouse, 7, "6.4321")
        token = tokens.create(warehouse, "Agent 1", [*tokens.SCOPES], "service", 10_000)
        with (
            call_centre(warehouse) as (_, address),
            chromium("window-size=1024,900") as browser,
        ):
            made = Desk(found, warehouse, lake, browser, address)
            browser.get(address)
            made.type("not a token", Keys.ENTER)
            made.wait(lambda: "not valid" in made.text("[role=alert]"))
            made.type(token, Keys.ENTER)
            made.wait(lambda: browser.find_elements(By.ID, "wanted"))
            yield made
            told = [each["message"] for each in browser.get_log("browser")]
            assert [line for line in told if "401" not in line] == []


def test_a_caller_is_found_by_name_without_a_mouse(desk: Desk) -> None:
    desk.browser.get(desk.address)
    # The field has the focus. What is found has it afterwards.
    desk.type("lovel", Keys.ENTER)
    desk.wait(lambda: desk.browser.find_elements(By.LINK_TEXT, "Ada Lovelace"))
    assert PREPAID not in desk.browser.page_source
    desk.type(Keys.ENTER)
    desk.wait(lambda: "/people/" in desk.browser.current_url)
    assert "Ada Lovelace" in desk.text("#part-caller")
    desk.press("/")
    desk.type(POSTPAID, Keys.ENTER)
    desk.wait(lambda: "O'Hara" in desk.text("#part-caller"))


def _by_number(desk: Desk, number: str = "+49 151 12345678") -> None:
    desk.browser.get(desk.address)
    desk.type(number, Keys.ENTER)
    desk.wait(lambda: desk.browser.find_elements(By.ID, "live"))


def test_totals_move_by_themselves(desk: Desk) -> None:
    desk.load()
    _by_number(desk)
    assert desk.text("#day .calls") == "1"
    assert desk.text("#life .minutes") == "1"
    assert "12.30 EUR" in desk.text("#balance")
    assert desk.text("#churn") == "6.4% in 2026-12"
    assert "Dropped calls: 5" in desk.text("#part-keep")
    assert PREPAID not in desk.browser.current_url
    insert(desk.found["signaling"], "call_records", call(7, "new", NOW, 600))
    desk.load("signaling")
    desk.wait(lambda: desk.text("#day .calls") == "2", 5)
    assert desk.text("#life .minutes") == "11"
    assert "600" in desk.text("#part-calls")


def test_old_figures_come_with_a_warning(desk: Desk) -> None:
    stand(desk.warehouse)
    _by_number(desk)
    assert "As of" in desk.text("#part-state")
    stand(desk.warehouse, 300)
    desk.wait(lambda: "5 minutes old" in desk.text("#part-state"))
    assert desk.browser.find_elements(By.CSS_SELECTOR, "#part-state [role=alert]")
    stand(desk.warehouse)
    desk.wait(lambda: "As of" in desk.text("#part-state"))


def test_a_name_is_text(desk: Desk) -> None:
    desk.browser.get(desk.address)
    desk.type("O'Hara", Keys.ENTER)
    desk.wait(lambda: desk.browser.find_elements(By.PARTIAL_LINK_TEXT, "Grace"))
    desk.type(Keys.ENTER)
    desk.wait(lambda: "Grace <b>O'Hara</b>" in desk.text("#part-caller"))
    assert "65.00 EUR" in desk.text("#left")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_cut_off(desk: Desk, colours: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": colours}
    desk.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    # The page's policy would refuse a foreign script.
    desk.browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    _by_number(desk)
    desk.browser.execute_script(files("axe_core_python").joinpath("axe.min.js").read_text())
    found = desk.browser.execute_async_script(
        "axe.run().then((found) => arguments[0](found.violations.map("
        "(each) => `${each.id}: ${each.nodes.map((node) => node.html)}`)))"
    )
    assert found == []
    assert desk.browser.execute_script("return innerWidth") <= 1024
    assert desk.browser.execute_script("return document.body.scrollWidth <= innerWidth")
