"""Take the screenshots of ``web.md`` with real workers: ``make pictures``.

Requires Chromium. The workers import this file, too: their actors are at the top.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from PIL import Image

from dramatiq_abort import Abortable, abort, abort_all, running
from dramatiq_abort.web import make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

HERE = Path(__file__).parent

#: The timeout of every wait, in seconds.
PATIENCE = 20

if "PICTURES_URL" in os.environ:
    if name := os.environ.get("PICTURES_HOST"):
        socket.gethostname = lambda: name
    broker = RedisBroker(url=os.environ["PICTURES_URL"])
    broker.add_middleware(Abortable())
    dramatiq.set_broker(broker)

    @dramatiq.actor(queue_name="pictures")
    def resize_video(*_: object, **__: object) -> None:
        while True:
            time.sleep(0.01)

    @dramatiq.actor(queue_name="reports")
    def render_report(*_: object, **__: object) -> None:
        while True:
            time.sleep(0.01)

    @dramatiq.actor(queue_name="mail")
    def send_newsletter(*_: object, **__: object) -> None:
        while True:
            time.sleep(0.01)


def main() -> None:
    sys.path += [str(HERE), str(HERE.parent / "tests"), str(HERE.parent / "examples")]
    from browser import PROGRAM, chromium
    from demo_stage import server

    if PROGRAM is None:
        sys.exit("Chromium is not installed.")
    with server() as url:
        os.environ["PICTURES_URL"] = url
        import_module("web_pictures")
        processes = [worker(f"worker-{number}") for number in (1, 2)]
        try:
            page = make_server(port=0, arguments=True, refresh=60, by="Ann")
            threading.Thread(target=page.serve_forever, daemon=True).start()
            with chromium() as browser:
                for name, picture in pictures(browser, page.url):
                    # Recompresses losslessly: the browser favours speed over size.
                    Image.open(BytesIO(picture)).save(HERE / name, optimize=True)
                    print(f"docs/{name}: {(HERE / name).stat().st_size // 1000} kB")
        finally:
            for process in processes:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def pictures(browser: Browser, url: str) -> Iterator[tuple[str, bytes]]:
    """Send messages, abort one on the page and others by function calls, and yield the screenshots."""
    tasks = import_module("web_pictures")
    tasks.resize_video.send("holidays.mp4", height=720)
    grace = tasks.render_report.send(77, month="2026-10")
    tasks.resize_video.send("birthday.mp4", height=1080)
    wanted = tasks.send_newsletter.send(31)
    until(lambda: len(running()) == 4 and len(running().workers) == 2)
    time.sleep(3)
    abort_all(queue="mail", tag="spring", reason="sent twice", by="Bo", abort_ttl=7_200_000)
    abort(grace.message_id, abort_timeout=60_000, reason="wrong month", by="Bo")
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.goto(url)
    row = page.locator("#running tr", has_text=wanted.message_id)
    row.get_by_label("Reason").fill("the price is wrong")
    row.get_by_role("button", name="Abort").click()
    page.locator("#outcomes .aborted").wait_for()
    page.locator("#running .wait").wait_for()
    yield "web.png", page.screenshot(full_page=True)
    telephone = browser.new_page(
        viewport={"width": 390, "height": 844}, device_scale_factor=1.5, is_mobile=True, color_scheme="dark"
    )
    telephone.goto(page.url)
    yield "web-telephone.png", telephone.screenshot()
    abort([message.message_id for message in running()])
    until(lambda: not len(running()))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def worker(host: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "dramatiq", "web_pictures", "--processes", "1", "--threads", "8", "--path", HERE]
    # In its own process group, which is killed as a whole: its tasks never end.
    return subprocess.Popen(
        words,
        cwd=HERE,  # at the root, the source tree, without the compiled core, would hide the installed package
        env=os.environ | {"PICTURES_HOST": host},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


if __name__ == "__main__":
    main()
