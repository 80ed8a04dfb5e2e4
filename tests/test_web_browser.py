"""The web dashboard in a real browser, with real worker processes."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import needs_threads, result_type, told

pytest.importorskip("flask")
pytest.importorskip("playwright")

from browser import PROGRAM, chromium
from playwright.sync_api import expect
from werkzeug.serving import make_server as make_site

from dramatiq_abort import RunningMessage, Snapshot, WorkerProcess, abort_all, abort_requested, wait_for_outcome
from dramatiq_abort.web import _pages, make_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium"),
    pytest.mark.timeout(120),
    needs_threads,
]

#: How long anything may take, in milliseconds.
PATIENCE = 30_000

expect.set_options(timeout=PATIENCE)


@contextmanager
def serving(server: Any) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture
def url(app: ModuleType) -> Iterator[str]:
    """The page of the test's own broker."""
    with make_server(port=0, refresh=5, arguments=True, by="Ann") as server, serving(server):
        yield server.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(params=["with scripts", "without scripts"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A page without errors, and without anything that its policy forbids."""
    context = browser.new_context(java_script_enabled=request.param == "with scripts")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert [each for each in complaints if "Failed to load resource" not in each and "ERR_" not in each] == []


with_scripts = pytest.mark.parametrize("page", ["with scripts"], indirect=True)


def test_somebody_aborts_a_message(app: ModuleType, start_processes: Any, url: str, page: Page) -> None:
    """A user sees the message, types a reason, presses the button, and sees the outcome. It needs no JavaScript."""
    start_processes()
    key = app.broker.namespace
    message = app.run.send(key)
    told(app, key)
    page.goto(url)
    row = page.locator("#running tr", has_text=message.message_id)
    expect(row.locator(".arguments")).to_contain_text(key)
    row.get_by_label("Reason").fill("nobody <wants> it")
    row.get_by_role("button", name="Abort").click()
    outcome = page.locator("#outcomes tr", has_text=message.message_id)
    expect(outcome.locator(".aborted")).to_be_visible()

    expect(outcome).to_contain_text("by Ann: nobody <wants> it")
    assert result_type(message) == "Abort"
    assert wait_for_outcome(message.message_id, timeout=0).reason == "nobody <wants> it"
    expect(page.locator("#running")).to_contain_text("No messages are running.")


def test_the_outcome_arrives(app: ModuleType, start_processes: Any, url: str, page: Page) -> None:
    """A message that is waiting is skipped later, without any action of the user in between."""
    message = app.run.send(app.broker.namespace)
    page.goto(url)
    page.get_by_text("Abort another message").click()
    page.get_by_label("Message id").fill(message.message_id)
    page.keyboard.press("Enter")
    expect(page.locator("#outcomes .pending")).to_be_visible()
    start_processes()
    expect(page.locator("#outcomes .skipped")).to_be_visible()


@with_scripts
def test_what_somebody_types_is_left_alone(app: ModuleType, start_processes: Any, url: str, page: Page) -> None:
    """While the page is updated around it."""
    start_processes()
    key = app.broker.namespace
    message = app.run.send(key)
    told(app, key)
    page.goto(url)
    field = page.locator("#running tr").get_by_label("Reason")
    field.press_sequentially("not")
    now = page.locator("#status").inner_text()
    expect(page.locator("#status")).not_to_have_text(now)
    page.keyboard.type(" wanted")
    page.keyboard.press("Enter")

    assert result_type(message) == "Abort"
    assert wait_for_outcome(message.message_id).reason == "not wanted"


@with_scripts
def test_a_server_that_has_gone_is_said(app: ModuleType, page: Page) -> None:
    """And it is asked again."""
    with make_server(port=0, refresh=1) as server, serving(server):
        page.goto(server.url)
    expect(page.locator("#status")).to_contain_text("out of date")
    with make_server(port=int(server.url.rstrip("/").rpartition(":")[2]), refresh=1) as again, serving(again):
        expect(page.locator("#status")).to_contain_text("As of")


@with_scripts
@pytest.mark.parametrize("width", [320, 800, 900, 1200])
def test_nothing_sticks_out(url: str, page: Page, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the words are, on every screen."""
    long = "w" * 250
    message = RunningMessage(long, long, long, long, 0, 0, 10**9, 10**9, long, long, (long, f"{long}={long}"))
    snapshot = Snapshot([message], [WorkerProcess(long, long, long, long, long), WorkerProcess("w", reply_ms=1.0)])
    monkeypatch.setattr(_pages, "running", lambda *_, **__: snapshot)
    abort_all(actor=long, queue=long, tag=long, reason=long, by=long)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{url}?asked={long}")

    assert page.evaluate("document.documentElement.scrollWidth") <= width


@with_scripts
def test_it_is_dark_where_that_is_preferred(url: str, page: Page) -> None:
    """And light where it is not."""
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, each) => sum + +each, 0)"
    page.goto(url)
    page.emulate_media(color_scheme="light")
    assert page.evaluate(brightness) > 700
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(brightness) < 100


@with_scripts
def test_it_can_be_used_without_a_mouse(app: ModuleType, url: str, page: Page) -> None:
    """Each field has a label, and the focus is visible."""
    page.goto(url)
    for _ in range(2):
        page.keyboard.press("Tab")
    focus = page.locator(":focus")
    expect(focus).to_have_text("Abort another message")
    expect(focus).to_have_css("outline-style", "solid")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("x")
    page.keyboard.press("Tab")
    expect(focus).to_have_accessible_name("Reason")
    page.keyboard.type("why")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#outcomes .pending")).to_be_visible()

    assert abort_requested("x") == 0


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
@with_scripts
def test_another_site_aborts_nothing(app: ModuleType, url: str, page: Page, name: str) -> None:
    """Although the browser has the cookie, and both are one site for it, as ports make no difference."""
    form = (
        f"<form method=post action='{url}abort'><input name=id value=x><input name=token value=x></form>"
        "<script>document.forms[0].submit()</script>"
    )

    def evil(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [form.encode()]

    page.goto(url)
    with serving(server := make_site("127.0.0.1", 0, evil, threaded=True)):
        page.goto(f"http://{name}:{server.server_port}/")
        expect(page.locator("body")).to_contain_text("This form was sent from another site")
    server.server_close()

    assert abort_requested("x") is None
