"""Take the pictures of the page that are in ``web.md``, of workers that really run: ``make pictures``.

It needs Chromium. The workers import this file, too: their tasks are at its top.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from dramatiq_abort import Abortable, abort, abort_all, running
from dramatiq_abort.web import make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from browser import Browser

HERE = Path(__file__).parent

#: How long anything may take, in seconds.
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
    from browser import Browser, find_browser
    from demo_stage import server

    program = find_browser()
    if program is None:
        sys.exit("There is no Chromium.")
    with server() as url:
        os.environ["PICTURES_URL"] = url
        import_module("web_pictures")
        processes = [worker(f"worker-{number}") for number in (1, 2)]
        try:
            page = make_server(port=0, arguments=True, refresh=60, by="Ann")
            threading.Thread(target=page.serve_forever, daemon=True).start()
            with Browser(program) as browser:
                for name, picture in pictures(browser, page.url):
                    smaller = packed(picture)
                    (HERE / name).write_bytes(smaller)
                    print(f"docs/{name}: {len(smaller) // 1000} kB")
        finally:
            for process in processes:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def pictures(browser: Browser, url: str) -> Iterator[tuple[str, bytes]]:
    """Send some messages, abort one by the page and others otherwise, and take the pictures."""
    tasks = import_module("web_pictures")
    tasks.resize_video.send("holidays.mp4", height=720)
    grace = tasks.render_report.send(77, month="2026-10")
    tasks.resize_video.send("birthday.mp4", height=1080)
    wanted = tasks.send_newsletter.send(31)
    until(lambda: len(running()) == 4 and len(running().workers) == 2)
    time.sleep(3)
    abort_all(queue="mail", tag="spring", reason="sent twice", by="Bo", abort_ttl=7_200_000)
    abort(grace.message_id, abort_timeout=60_000, reason="wrong month", by="Bo")
    browser.open(url)
    row = f"#running form:has(input[value='{wanted.message_id}'])"
    browser.click(f"{row} input[name=reason]")
    browser.write("the price is wrong")
    browser.click(f"{row} button")
    browser.wait_for("document.querySelector('#outcomes .aborted') !== null")
    browser.wait_for("document.querySelector('#running .wait') !== null")
    browser.value("document.activeElement.blur()")
    yield "web.png", browser.picture(1100)
    yield "web-telephone.png", browser.picture(390, 844, dark=True, telephone=True, scale=1.5)
    abort([message.message_id for message in running()])
    until(lambda: not len(running()))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def packed(picture: bytes) -> bytes:
    """Pack a PNG as well as can be: the browser is in a hurry."""
    parts, at, data = [], 8, b""
    while at < len(picture):
        length, kind = struct.unpack(">I4s", picture[at : at + 8])
        if kind == b"IDAT":
            data += picture[at + 8 : at + 8 + length]
        else:
            parts.append((kind, picture[at + 8 : at + 8 + length]))
        at += 12 + length
    parts.insert(-1, (b"IDAT", zlib.compress(zlib.decompress(data), 9)))
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return picture[:8] + b"".join(chunks)


def worker(host: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "dramatiq", "web_pictures", "--processes", "1", "--threads", "8", "--path", HERE]
    # Its own group: tasks that never end are not waited for.
    return subprocess.Popen(
        words,
        env=os.environ | {"PICTURES_HOST": host},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


if __name__ == "__main__":
    main()
