"""The page of `bmask serve` in a real browser, on a screen and on a phone, with a mouse and without."""

from __future__ import annotations

import base64
import io
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from bmask.synthetic import draw_face
from servers import serving
from tiny import write_generator

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs Debian's chromium and chromium-driver")
FLAGS = ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking")
SAID = "The middle square was translated"  # by a model that looks for no faces


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("serving")
    command = [str(Path(sys.executable).with_name("bmask")), "serve", "--model", str(write_generator(folder))]
    with serving(command, "/ping", folder, {**os.environ, "OMP_NUM_THREADS": "1"}) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(params=[(1000, 900), (400, 800)], ids=["screen", "phone"])
def page(request, browser, address) -> webdriver.Chrome:
    browser.set_window_size(*request.param)
    browser.get(address)
    return browser


def by(page, name):
    return page.find_element(By.ID, name)


def give(page, file: Path) -> str:
    """Gives a file to the page; returns the page's message."""
    by(page, "file").send_keys(str(file))
    WebDriverWait(page, 60).until(lambda _: by(page, "said").text not in ("", "Working …"))
    return by(page, "said").text


def test_a_photo_is_shown_before_and_after_and_can_be_taken_home(page, tmp_path):
    drawn = draw_face(3, 120, "surgical").masked
    Image.fromarray(drawn).save(tmp_path / "face.png")
    assert give(page, tmp_path / "face.png").startswith(SAID)
    assert by(page, "result").is_displayed()
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    content = by(page, "download").get_attribute("href").partition("base64,")[2]
    made = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert made.shape == drawn.shape
    assert (made != drawn).any()

    slider, cut = by(page, "slider"), "return document.getElementById('stage').style.getPropertyValue('--cut')"
    slider.send_keys(Keys.HOME)
    assert page.execute_script(cut) == "0%"
    slider.send_keys(Keys.ARROW_RIGHT)
    assert page.execute_script(cut) == "1%"
    for name in ("boxes", "painted"):
        assert not by(page, name).is_displayed()
        by(page, f"show-{name}").send_keys(Keys.SPACE)
        assert not by(page, name).get_attribute("hidden")
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_what_is_no_photo_is_said_to_be_none_and_the_next_photo_works(page, tmp_path):
    (tmp_path / "notes.png").write_text("no photo")
    assert give(page, tmp_path / "notes.png").startswith("This file is no picture")
    assert not by(page, "result").is_displayed()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "black.png")
    page.execute_script("document.getElementById('said').textContent = ''")
    assert give(page, tmp_path / "black.png").startswith(SAID)
    page.get_log("browser")  # clears the log, which holds the refusal


def test_a_result_that_comes_before_the_models_description_waits_for_it(browser, address, tmp_path):
    slow = """const own = window.fetch;
    window.fetch = (what, ...rest) => what === 'model'
      ? new Promise((done) => setTimeout(done, 3000)).then(() => own(what, ...rest)) : own(what, ...rest);"""
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": slow})
    try:
        browser.get(address)
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "black.png")
        assert give(browser, tmp_path / "black.png").startswith(SAID)
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_photo_can_be_dropped_and_pasted(page):
    for kind, field in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.execute_script(
            """const [kind, field] = arguments, canvas = document.createElement('canvas');
            document.getElementById('said').textContent = '';
            canvas.toBlob((blob) => {
              const files = new DataTransfer(), event = new Event(kind, { bubbles: true, cancelable: true });
              files.items.add(new File([blob], 'drawn.png', { type: 'image/png' }));
              event[field] = files;
              document.dispatchEvent(event);
            });""",
            kind,
            field,
        )
        WebDriverWait(page, 60).until(lambda _: by(page, "said").text.startswith(SAID))
