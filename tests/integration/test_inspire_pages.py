"""The fitness application in a browser on a phone: from the first link to the last message."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from importlib.resources import files

import pyotp
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from support.browser import chromium
from support.fitness import PASSWORD, SECRET, Fitness, fitness, served
from support.messages import reminder

from softcart_assets.inspire_app.receivers import mail
from softcart_assets.inspire_app.receivers.kept import Arrived, Kept
from softcart_assets.inspire_app.writing import unsubscribe_address
from softcart_assets.stack import Stack
from softcart_assets.stack.server import free_port

WIDTH = 390
EMAIL = "ada@example.com"


class Phone:
    """A browser as narrow as a phone, and the application that it looks at. `mails`: what its
    mail server has taken.
    """

    def __init__(self, app: Fitness, browser: webdriver.Chrome, address: str, mails: Kept) -> None:
        self.app, self.browser, self.address, self.mails = app, browser, address, mails

    def open(self, path: str) -> None:
        self.browser.get(self.address + path)

    def open_link(self, text: str) -> None:
        """Open the first address of the application in a text."""
        found = re.search(rf"{re.escape(self.address)}[^\s>]+", text)
        assert found, text
        self.browser.get(found[0])

    def fill(self, **values: str) -> None:
        for name, value in values.items():
            field = self.browser.find_element(By.NAME, name)
            # As if typed, whatever the browser's language says of dates.
            self.browser.execute_script("arguments[0].value = arguments[1]", field, value)

    def press(self, label: str, inside: str = "main") -> None:
        """Press the button inside an element, and wait until the next page is there."""
        before = self.browser.find_element(By.TAG_NAME, "html")
        xpath = f"//{inside}//*[self::button or self::a][normalize-space()='{label}']"
        button = self.browser.find_element(By.XPATH, xpath)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        WebDriverWait(self.browser, 20, 0.1).until(lambda _: self._is_gone(before))

    def mail(self, word: str, receiver: str = EMAIL) -> Arrived:
        """The mail to somebody with a word in its text, once it has come."""

        def came(_: object) -> list[Arrived]:
            return [each for each in self.mails if each.receiver == receiver and word in each.text]

        return WebDriverWait(self.browser, 30, 0.1).until(came)[0]

    def _is_gone(self, page: object) -> bool:
        there = self.browser.find_elements(By.TAG_NAME, "html")
        ready = self.browser.execute_script("return document.readyState") == "complete"
        return bool(there and there[0] != page and ready)

    @property
    def text(self) -> str:
        return str(self.browser.execute_script("return document.querySelector('main').innerText"))


@pytest.fixture(scope="module")
def phone(stack: Stack) -> Iterator[Phone]:
    mails, port = Kept(), free_port()
    providers = {
        "SMTP_URL": f"smtp://127.0.0.1:{port}",
        "MAIL_FROM": "Inspire <inspire@example.com>",
        # Nothing goes there. With it, no receiver of this machine is needed, whose port is fixed.
        "SMS": "twilio",
        "SMS_FROM": "+15550100",
        "TWILIO_URL": f"http://127.0.0.1:{port}",
        "TWILIO_ACCOUNT": "AC1",
        "TWILIO_TOKEN": "t" * 32,
    }
    settings = {f"SOFTCART_INSPIRE_APP_{name}": value for name, value in providers.items()}
    with (
        fitness() as app,
        mail.listening(mails, port),
        served(**settings) as address,
        chromium("window-size=500,900") as browser,
    ):
        metrics = {"width": WIDTH, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield Phone(app, browser, address, mails)
        told = [each["message"] for each in browser.get_log("browser")]
        assert [line for line in told if "410" not in line] == []


def test_from_the_first_mail_to_the_last(phone: Phone) -> None:
    phone.open("/")
    phone.press("Make an account")
    phone.fill(email=EMAIL)
    phone.press("Send me the link")
    assert "Check your mail" in phone.text
    phone.open_link(phone.mail("Finish it here").text)
    phone.fill(full_name="Ada Lovelace", region="Bavaria", password=PASSWORD)
    Select(phone.browser.find_element(By.NAME, "time_zone")).select_by_value("Europe/Berlin")
    phone.press("Make the account")
    assert "Your goals" in phone.text
    phone.fill(goal1="150", goal2="20")
    phone.press("Save")
    assert "0 of 150 minutes" in phone.text
    phone.open("/log/run")
    phone.fill(minutes="45", distance_km="7.5")
    phone.press("Save")
    assert "Well done" in phone.text
    assert "1\ndays in a row" in phone.text or "1 day in a row" in phone.text
    assert "45 of 150 minutes" in phone.text
    phone.open("/history")
    assert "45 min, 7.5 km" in phone.text
    assert len(phone.browser.find_elements(By.CSS_SELECTOR, "svg.picture")) == 2
    phone.open("/settings")
    phone.browser.find_element(By.NAME, "email_reminder").click()
    # No hour is quiet, whenever this runs.
    phone.fill(quiet_from="08:00", quiet_until="08:00")
    phone.press("Save")
    # Other tests may have made others before.
    [(user_id,)] = phone.app.rows("SELECT id FROM users WHERE email = %s", EMAIL)
    consents = f"SELECT channel, purpose, withdrawn_by FROM consents WHERE user_id = {user_id}"
    assert phone.app.rows(consents) == [("email", "reminder", None)]
    with phone.app.site.tables() as tables, tables.transaction():
        tables.add_message(reminder(user_id, phone.app.clock()))
    told = phone.mail("Today's plan")
    assert dict(told.fields)["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    phone.open_link(dict(told.fields)["List-Unsubscribe"])
    # A look withdraws nothing.
    assert phone.app.rows(consents) == [("email", "reminder", None)]
    assert "No more reminders by e-mail?" in phone.text
    phone.press("Unsubscribe")
    assert "You get no more reminders by e-mail." in phone.text
    assert phone.app.rows(consents) == [("email", "reminder", "link")]
    phone.open("/settings")
    phone.press("Sign out")
    phone.open("/history")
    assert "Sign in" in phone.text
    phone.fill(email=EMAIL, password=PASSWORD)
    phone.press("Sign in")
    assert "Hello Ada" in phone.text


def test_signing_in_with_a_code(phone: Phone) -> None:
    phone.browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    phone.browser.delete_all_cookies()
    person = phone.app.person()
    phone.open("/sign-in")
    phone.fill(email=person.email, password=PASSWORD)
    phone.press("Sign in")
    phone.open("/second-factor")
    phone.fill(password=PASSWORD)
    phone.press("Set it up")
    _check(phone, "set up")
    picture = phone.browser.find_element(By.CSS_SELECTOR, "svg.code-picture").rect
    assert picture["width"] == picture["height"] > 200
    secret = phone.browser.find_element(By.CSS_SELECTOR, ".secret").text
    codes = pyotp.TOTP(secret.replace(" ", ""))
    used = codes.timecode(time.time())
    phone.fill(code=codes.generate_otp(used))
    phone.press("Turn it on")
    _check(phone, "recovery codes")
    recovery = [each.text for each in phone.browser.find_elements(By.CSS_SELECTOR, ".codes li")]
    phone.press("I have kept them")
    _look(phone, "/second-factor")
    # The Enter key alone changes nothing.
    phone.fill(password=PASSWORD, code=recovery[1])
    is_whole = "return document.querySelector('main form').checkValidity()"
    assert not phone.browser.execute_script(is_whole)
    phone.browser.find_element(By.NAME, "code").send_keys(Keys.ENTER)
    assert "You have 8 recovery codes left" in phone.text
    phone.mail("needs a code", person.email)
    for field in ("code", "recovery"):
        phone.open("/settings")
        phone.press("Sign out")
        phone.fill(email=person.email, password=PASSWORD)
        phone.press("Sign in")
        _check(phone, "code")
        if field == "code":
            # Another one than before. The next one counts already.
            code = codes.generate_otp(max(used + 1, codes.timecode(time.time())))
            phone.fill(code=code)
            phone.press("Sign in")
        else:
            phone.browser.find_element(By.TAG_NAME, "summary").click()
            _check(phone, "recovery code")
            phone.fill(recovery=recovery[0])
            phone.press("Sign in", inside="details")
            assert "You have 7 recovery codes left" in phone.text
        assert "Hello Ada" in phone.text
    phone.mail("one of your recovery codes", person.email)


PAGES = (
    *("/", "/log", "/log/run", "/log/strength", "/import", "/history", "/goals", "/clubs"),
    *("/settings", "/password", "/phone", "/sessions", "/apps", "/delete", "/second-factor"),
    "/finish/none",
)
OUTSIDE = ("/", "/start", "/sign-in", "link")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_cut_off(phone: Phone, colours: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": colours}
    phone.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    # The pages' policy would refuse a foreign script.
    phone.browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    phone.browser.delete_all_cookies()
    phone.app.visitor().post("/start", email=f"{colours}@example.com")
    link = phone.app.link(f"{colours}@example.com")
    for path in OUTSIDE:
        _look(phone, link if path == "link" else path)
    person = phone.app.person()
    person.post("/clubs", club="1")
    person.post("/goals", goal1="150")
    person.log("run", 30, distance_km="5", note="x" * 200)
    told = reminder(person.id, phone.app.clock())
    with phone.app.site.tables() as tables, tables.transaction():
        tables.add_message(told)
    unsubscribe = unsubscribe_address("", SECRET.encode(), person.id, told.key)
    cookie = person.client.get_cookie("softcart_inspire")
    assert cookie is not None
    phone.browser.add_cookie({"name": "softcart_inspire", "value": cookie.value, "path": "/"})
    workout = f"/workouts/{person.export()['workouts'][0]['_id']}"
    for path in (*PAGES, workout, unsubscribe):
        _look(phone, path)


def _look(phone: Phone, path: str) -> None:
    phone.open(path)
    _check(phone, path)


def _check(phone: Phone, path: str) -> None:
    """Whoever sees little, and whoever has a small screen, can use the page that is open."""
    browser = phone.browser
    browser.execute_script(files("axe_core_python").joinpath("axe.min.js").read_text())
    found = browser.execute_async_script(
        "axe.run().then((found) => arguments[0](found.violations.map("
        "(each) => `${each.id}: ${each.nodes.map((node) => node.html)}`)))"
    )
    assert found == [], path
    assert browser.execute_script("return document.documentElement.scrollWidth") <= WIDTH, path
    # A finger needs room. A link within a sentence is as high as its line.
    small = browser.execute_script(
        "return [...document.querySelectorAll('main button, main input:not([type=hidden]), "
        "main select, nav a, main summary, main a')].filter((each) => each.checkVisibility() && "
        "(!each.matches('p > a') || each.textContent === each.parentNode.textContent.trim()) && "
        "(each.closest('label') || each).getBoundingClientRect().height < 44)"
        ".map((each) => each.outerHTML)"
    )
    assert small == [], path
