#!/usr/bin/python3
"""Opens the page of a VNC server with web=on in Chromium, saves what its canvas shows, and types.

    tests/display/novnc.py URL PICTURE.png TEXT"""

import base64
import sys

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE_SECONDS = 60
# The canvas has its first size before the first picture.
PICTURE = """
const canvas = document.querySelector('#noVNC_container canvas');
if (!document.documentElement.classList.contains('noVNC_connected') || !canvas) return null;
const context = canvas.getContext('2d');
const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
return pixels.some((value, at) => at % 4 != 3 && value) ? canvas.toDataURL('image/png') : null;
"""


def main():
    url, picture, text = sys.argv[1:]
    options = Options()
    for argument in ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--window-size=1280,1024"]:
        options.add_argument(argument)
    browser = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    try:
        browser.get(url)
        data = WebDriverWait(browser, PATIENCE_SECONDS).until(
            lambda _: browser.execute_script(PICTURE))
        with open(picture, "wb") as file:
            file.write(base64.b64decode(data.partition(",")[2]))
        browser.find_element(By.CSS_SELECTOR, "#noVNC_container canvas").click()
        browser.switch_to.active_element.send_keys(text)
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
