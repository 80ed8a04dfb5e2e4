"""The page in a real browser, against real worker processes."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from browser import Browser, find_browser
from support import needs_threads, result_type, told

from dramatiq_abort import RunningMessage, Snapshot, WorkerProcess, abort, abort_all, abort_requested, wait_for_outcome
from dramatiq_abort.web import _application
from dramatiq_abort.web import make_server as make_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from socketserver import BaseServer
    from types import ModuleType

PROGRAM = find_browser()

pytestmark = [
    pytest.mark.skipif(PROGRAM is None or os.name != "posix", reason="there is no Chromium"),
    pytest.mark.timeout(120),
    needs_threads,
]


@contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def url(app: ModuleType) -> Iterator[str]:
    """The page of the test's own broker."""
    server = make_page(port=0, refresh=5, arguments=True, by="Ann")
    with serving(server):
        yield server.url


@pytest.fixture(params=["with scripts", "without scripts"])
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, scripts=request.param == "with scripts") as browser:
        yield browser


with_scripts = pytest.mark.parametrize("browser", ["with scripts"], indirect=True)


def test_somebody_aborts_a_message(app: ModuleType, start_processes: Any, url: str, browser: Browser) -> None:
    """He sees it, says why, presses the button, and sees the outcome. It needs no script."""
    start_processes()
    key = app.broker.namespace
    message = app.run.send(key)
    told(app, key)
    browser.open(url)
    browser.wait_for(f"document.querySelector('#running').innerText.includes({message.message_id!r})")
    assert key in browser.text("#running .arguments")
    browser.click("#running td input[name=reason]")
    browser.write("nobody <wants> it")
    browser.click("#running td button")
    browser.wait_for("document.querySelector('#outcomes .aborted') !== null")

    assert message.message_id in browser.text("#outcomes")
    assert "by Ann: nobody <wants> it" in browser.text("#outcomes")
    assert result_type(message) == "Abort"
    assert wait_for_outcome(message.message_id, timeout=0).reason == "nobody <wants> it"
    browser.wait_for("document.querySelector('#running').innerText.includes('Nothing is running.')")
    assert browser.complaints == []


def test_the_outcome_arrives(app: ModuleType, start_processes: Any, url: str, browser: Browser) -> None:
    """Of a message that waits, and is skipped later: nobody does anything in between."""
    message = app.run.send(app.broker.namespace)
    browser.open(url)
    browser.click("summary")
    browser.click("#id")
    browser.write(message.message_id)
    browser.press("Enter")
    browser.wait_for("document.querySelector('#outcomes .pending') !== null")
    start_processes()
    browser.wait_for("document.querySelector('#outcomes .skipped') !== null")

    assert browser.complaints == []


@with_scripts
def test_what_somebody_types_is_left_alone(app: ModuleType, start_processes: Any, url: str, browser: Browser) -> None:
    """While the page is renewed around it."""
    start_processes()
    key = app.broker.namespace
    message = app.run.send(key)
    told(app, key)
    browser.open(url)
    browser.wait_for("document.querySelector('#running td input[name=reason]') !== null")
    browser.click("#running td input[name=reason]")
    browser.write("not")
    now = browser.text("#status")
    browser.wait_for(f"document.querySelector('#status').innerText !== {now!r}")
    browser.write(" wanted")
    browser.press("Enter")

    assert result_type(message) == "Abort"
    assert wait_for_outcome(message.message_id).reason == "not wanted"
    assert browser.complaints == []


@with_scripts
def test_a_server_that_has_gone_is_said(app: ModuleType, browser: Browser) -> None:
    """And it is asked again."""
    server = make_page(port=0, refresh=1)
    port = server.server_port
    with serving(server):
        browser.open(server.url)
    browser.wait_for("document.querySelector('#status').innerText.includes('out of date')")
    with serving(make_page(port=port, refresh=1)):
        browser.wait_for("document.querySelector('#status').innerText.includes('As of')")


@with_scripts
@pytest.mark.parametrize("width", [320, 800, 900, 1200])
def test_nothing_sticks_out(url: str, browser: Browser, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the words are, on whatever screen."""
    long = "w" * 250
    message = RunningMessage(long, long, long, long, 0, 0, 10**9, 10**9, long, long, (long, f"{long}={long}"))
    roll = Snapshot([message], [WorkerProcess(long, long, long, long, long), WorkerProcess("w", reply_ms=1.0)])
    monkeypatch.setattr(_application, "running", lambda *_, **__: roll)
    abort_all(actor=long, queue=long, tag=long, reason=long, by=long)
    browser.open(f"{url}?asked={long}")
    browser.picture(width, telephone=width < 500)

    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.complaints == []


@with_scripts
def test_it_can_be_used_without_a_mouse(app: ModuleType, url: str, browser: Browser) -> None:
    """Each field has a name, and the focus is seen where it is."""
    browser.open(url)
    for _ in range(2):
        browser.press("Tab")
    assert browser.value("document.activeElement.tagName") == "SUMMARY"
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    browser.press("Tab")
    browser.write("x")
    browser.press("Tab")
    assert browser.value("document.activeElement.labels[0].innerText") == "Reason"
    browser.write("why")
    browser.press("Tab")
    browser.press("Enter")
    browser.wait_for("document.querySelector('#outcomes .pending') !== null")

    assert abort_requested("x") == 0


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
@with_scripts
def test_another_site_aborts_nothing(app: ModuleType, url: str, browser: Browser, name: str) -> None:
    """Though the browser has the cookie, and for it both are on one site, as ports make no difference."""
    page = (
        f"<form method=post action='{url}abort'><input name=id value=x><input name=token value=x></form>"
        "<script>document.forms[0].submit()</script>"
    )

    class Threads(ThreadingMixIn, WSGIServer):  # the browser has more connections than it needs
        daemon_threads = True

    class Silent(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    def evil(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [page.encode()]

    server = make_server("127.0.0.1", 0, evil, Threads, Silent)
    browser.open(url)
    with serving(server):
        browser.open(f"http://{name}:{server.server_port}/")
        browser.wait_for("document.body.innerText.includes('This was sent from another site')")

    assert abort_requested("x") is None
    abort("x")
    assert abort_requested("x") == 0
