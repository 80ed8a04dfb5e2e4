"""What the web dashboard does about other sites, other hosts, and hostile input."""

from __future__ import annotations

import io
import re
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("flask")

from web_support import Page, Site
from werkzeug.datastructures import MultiDict

from dramatiq_abort import (
    Abortable,
    AbortRequest,
    AbortRule,
    Outcome,
    OutcomeState,
    RunningMessage,
    Snapshot,
    WorkerProcess,
    abort,
    abort_requested,
)
from dramatiq_abort._protocol.request import printable
from dramatiq_abort.backends import StubBackend
from dramatiq_abort.web import _pages, application
from dramatiq_abort.web._hosts import Hosts
from dramatiq_abort.web._view import View

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker

stub_only = pytest.mark.parametrize("make_backend", ["stub"], indirect=True)


@pytest.fixture
def site(abortable: Abortable, broker: StubBroker) -> Site:
    return Site(application())


# What a browser is told.


@stub_only
@pytest.mark.parametrize("path", ["/", "", "/nothing"])
def test_every_answer_has_the_headers(site: Site, path: str) -> None:
    """Nothing is loaded from elsewhere, framed, cached, or told to other sites."""
    headers = site.ask(PATH_INFO=path).headers

    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    for kind in ("script-src", "style-src"):
        assert re.fullmatch("'sha256-[A-Za-z0-9+/]{43}='", policy[kind])
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"


@stub_only
def test_the_cookie_is_for_this_page_alone(site: Site) -> None:
    """No script reads it, no other site has it sent, and after TLS it is never sent without."""
    cookie = site.ask().headers["Set-Cookie"]
    assert re.fullmatch(r"dramatiq_abort=[\w-]{32}; HttpOnly; SameSite=Strict", cookie)
    assert "Set-Cookie" not in site.ask().headers
    site.cookie = "dramatiq_abort="
    cookie = site.ask(**{"wsgi.url_scheme": "https"}).headers["Set-Cookie"]
    assert set(cookie.split("; ")[1:]) == {"HttpOnly", "SameSite=Strict", "Secure"}


@stub_only
@pytest.mark.parametrize(
    ("mounted", "leads"),
    [("", "./"), ("/ops", "./ops/"), ("/a/b:c d", "./b%3Ac%20d/"), ("//evil.example", "./evil.example/")],
)
def test_it_works_wherever_it_is_mounted(abortable: Abortable, broker: StubBroker, mounted: str, leads: str) -> None:
    """All addresses are relative, so that a proxy may move it, too."""
    site = Site(application())
    assert site.ask(SCRIPT_NAME=mounted, PATH_INFO="" if mounted else "/").status_code == (303 if mounted else 200)
    if mounted:
        assert site.ask(SCRIPT_NAME=mounted, PATH_INFO="").headers["Location"] == leads
    form = site.ask(SCRIPT_NAME=mounted).page.typed
    assert form["action"] == "abort"
    assert site.send(form | {"id": "x"}, SCRIPT_NAME=mounted).headers["Location"] == "./?asked=x&said=asked"
    assert 'href="../"' in site.ask("/a/b", SCRIPT_NAME=mounted).text


# Forms of other sites.


@stub_only
@pytest.mark.parametrize(
    "change",
    [
        {"token": ""},
        {"token": "0" * 43},
        {"token": "\u00e9"},
        {"HTTP_COOKIE": ""},
        {"HTTP_COOKIE": f"dramatiq_abort={'x' * 32}"},
        {"HTTP_COOKIE": "dramatiq_abort="},
        {"HTTP_SEC_FETCH_SITE": "cross-site"},
        {"HTTP_SEC_FETCH_SITE": "same-site"},
        {"HTTP_ORIGIN": "https://evil.example"},
        {"HTTP_ORIGIN": "http://site.example:81"},
        {"HTTP_ORIGIN": "null"},
        {"HTTP_ORIGIN": "http://[x"},
    ],
)
@pytest.mark.parametrize("action", ["abort", "restore"])
def test_a_form_of_somebody_else_does_nothing(site: Site, change: dict[str, str], action: str) -> None:
    """Without the token, without the cookie, or from another origin."""
    abort("y")
    form = site.ask().page.typed | {"id": "x" if action == "abort" else "y", "action": action}
    token = {name: value for name, value in change.items() if name == "token"}
    answer = site.send(form | token, **{name: value for name, value in change.items() if name != "token"})

    assert answer.status_code == 403
    assert (abort_requested("x"), abort_requested("y")) == (None, 0)


@stub_only
@pytest.mark.parametrize(
    "more",
    [
        {"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "http://outside.example"},  # a proxy has not told
        {"HTTP_SEC_FETCH_SITE": "none"},
        {"HTTP_ORIGIN": "https://site.example"},
        {"HTTP_ORIGIN": "http://site.example"},
    ],
)
def test_a_form_of_ours_does(site: Site, more: dict[str, str]) -> None:
    """Also with other cookies, and with one of the same name from a page above."""
    form = site.ask().page.typed | {"id": "x"}
    site.cookie = f"dramatiq_abort={'x' * 32}; {site.cookie}"
    assert site.send(form, **more).status_code == 303
    assert abort_requested("x") == 0


@stub_only
def test_a_secret_is_shared_by_processes(abortable: Abortable, broker: StubBroker) -> None:
    """Without one, each has its own."""
    one, other, third = (Site(application(secret=secret)) for secret in (b"s" * 16, b"s" * 16, None))
    form = one.ask().page.typed | {"id": "x"}
    other.cookie = third.cookie = one.cookie

    assert (other.send(form).status_code, third.send(form).status_code) == (303, 403)


@stub_only
def test_two_pages_on_one_host_share_a_cookie(abortable: Abortable, broker: StubBroker) -> None:
    """Ports make no difference to cookies, so neither page may take the other's for invalid and replace it."""
    one, other = Site(application()), Site(application())
    form = one.ask().page.typed | {"id": "x"}
    other.cookie = one.cookie
    assert "Set-Cookie" not in other.ask().headers

    assert one.send(form).status_code == 303


# Paths, methods and bodies.


@stub_only
@pytest.mark.parametrize(
    ("path", "method", "status", "allow"),
    [
        ("/", "POST", 405, {"GET", "HEAD", "OPTIONS"}),
        ("/abort", "GET", 405, {"OPTIONS", "POST"}),
        ("/restore", "PUT", 405, {"OPTIONS", "POST"}),
        ("/abort/", "POST", 404, set()),
        ("/static/style.css", "GET", 404, set()),
        ("/favicon.ico", "GET", 404, set()),
        ("/<script>", "GET", 404, set()),
        ("/\xe9", "GET", 404, set()),
    ],
)
def test_what_is_not_there(site: Site, path: str, method: str, status: int, allow: set[str]) -> None:
    """No other paths, no other methods."""
    answer = site.ask(PATH_INFO=path, method=method)

    assert answer.status_code == status
    assert set(answer.allow) == allow
    assert "script" not in answer.page.tags


@stub_only
def test_head_is_get_without_the_page(site: Site) -> None:
    """But with its length."""
    answer = site.ask(method="HEAD")

    assert (answer.status_code, answer.text) == (200, "")
    assert int(answer.headers["Content-Length"]) > 1000


@stub_only
@pytest.mark.parametrize(
    ("body", "more", "status"),
    [
        (b"x" * 16_385, {}, 413),
        (b"", {"CONTENT_LENGTH": "9" * 19}, 413),
        (b"", {"CONTENT_LENGTH": ""}, 403),
        (b"{}", {"CONTENT_TYPE": "application/json"}, 403),
        (b"id=x", {"CONTENT_TYPE": "multipart/form-data; boundary=x"}, 403),
        (b"id=%ff&token=%ff", {}, 403),
        (b"\xff", {}, 403),
        (b"&".join([b"a=b"] * 4_000), {}, 403),
        (b"id=x", {}, 403),
        (b"", {}, 403),
    ],
)
def test_what_is_no_form_of_ours_is_not_read(site: Site, body: bytes, more: dict[str, str], status: int) -> None:
    """A body that is too long is refused, and one without fields has no token."""
    site.ask()
    assert site.ask("/abort", "POST", body, **more).status_code == status


@stub_only
def test_a_form_that_does_not_arrive(site: Site) -> None:
    """A timeout of the client is not an error of the page."""

    class Gone(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise TimeoutError

    answer = site.ask("/abort", "POST", **{"CONTENT_LENGTH": "5", "wsgi.input": Gone()})
    assert answer.status_code == 400


# Hosts.


@stub_only
def test_only_its_names_are_answered(abortable: Abortable, broker: StubBroker) -> None:
    """If it was given names; an empty list has none."""
    site = Site(application(hosts=["ops.example"]))

    assert site.ask(HTTP_HOST="ops.example:8000").status_code == 200
    assert site.ask().status_code == 421
    assert site.ask("/nothing").status_code == 421
    assert site.ask(HTTP_HOST="").status_code == 421
    assert Site(application(hosts=[])).ask().status_code == 421


def test_hosts() -> None:
    """A registered name cannot pass for an address."""
    ours = Hosts(["localhost", "127.0.0.1", "::1"])
    for host in ("localhost", "LOCALHOST:8765", "localhost.", "127.0.0.1:80", "[::1]:80", "[::1]"):
        assert host in ours
    for host in (
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "x@localhost",
        "localhost/x",
        "localhost,x",
        "[::1",
        "[::2]",
        "[::1]x",
        "10.0.0.1",
        "x.localhost",
    ):
        assert host not in ours
    any_address = Hosts(["Here.", ".inside.example"], any_address=True)
    assert all(host in any_address for host in ("here", "10.0.0.1:80", "[fe80::1]", "a.inside.example"))
    assert "evil.example" not in any_address
    assert "10.0.0.1" not in Hosts([])
    with pytest.raises(TypeError, match="a list of names"):
        Hosts("localhost")


# Hostile text.

anything = (
    st.text(max_size=40)
    | st.text(st.characters(), max_size=40)
    | st.sampled_from(
        [
            "</script><script>",
            '"><img src=x onerror=alert(1)>',
            "' onfocus='x",
            "a\r\nb\0",
            "\u202egnp",
            "\ud800",
            "&lt;",
            "{{ 7 * 7 }}",
            "javascript:x",
        ]
    )
)


@cache  # an application compiles its templates
def page_alone() -> tuple[Site, Abortable]:
    middleware = Abortable(backend=StubBackend())
    return Site(application(middleware)), middleware


def shown(snapshot: Snapshot, live: list[AbortRule], outcomes: list[Outcome]) -> Page:
    """The page that shows these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pages, "running", lambda *_, **__: snapshot)
        patch.setattr(_pages, "abort_rules", lambda *_: live)
        patch.setattr(_pages, "wait_for_outcomes", lambda *_, **__: outcomes)
        patch.setattr(View, "of", lambda _: View(tuple(outcome.message_id for outcome in outcomes)))
        return page_alone()[0].ask().page


def can_be_asked(message_id: str) -> bool:
    return 0 < len(message_id.encode(errors="surrogatepass")) <= 480 and not re.search("[\ud800-\udfff]", message_id)


@given(st.lists(anything, min_size=8, max_size=8), st.integers(), st.integers(0))
@settings(deadline=None)
def test_whatever_a_message_says_is_text(words: list[str], started: int, age: int) -> None:
    """All of it is visible, and none of it changes the markup."""

    def everything(texts: list[str]) -> Page:
        message = RunningMessage(*texts[:4], 0, started, age, 1, texts[4] or "x", texts[5] or "x", (texts[6], texts[7]))
        request = AbortRequest(reason=texts[4] or "x", by=texts[5] or "x")
        matched = {"actor": texts[1] or "x", "queue": texts[2], "tag": texts[3]}
        rule = AbortRule(started, **matched, request=request, id=f"rule:{texts[0]}", ttl=1)
        outcome = Outcome("x", OutcomeState.FAILED, texts[1] or "x", texts[3], exception=texts[6])
        return shown(Snapshot([message], [WorkerProcess(*texts[:5])]), [rule], [outcome])

    harmless, page = everything(["x"] * 8), everything(words)

    if can_be_asked(words[0]):
        assert page.tags == harmless.tags
    else:
        assert set(page.tags) <= set(harmless.tags)
    assert page.codes == ["x", *(printable(words[number]) for number in (0, 6, 7))]
    for word in words[1:]:
        assert printable(word) in page.soup.get_text()


@given(anything)
@settings(deadline=None)
def test_what_is_aborted_is_exactly_what_is_shown(message_id: str) -> None:
    """The id survives a form, a redirect and an address; an id that no message can have gets no button."""
    site, middleware = page_alone()
    row = shown(Snapshot([RunningMessage(message_id, "a", "q", "w", 0, 0, 0)]), [], [])
    forms = [form for form in row.forms if "quoted" in form]
    try:
        assert abort_requested(message_id, middleware) is None
    except ValueError:
        assert forms == []
        return
    (form,) = forms
    answer = site.send(form)

    assert abort_requested(message_id, middleware) == 0
    assert parse_qs(urlsplit(answer.headers["Location"]).query, keep_blank_values=True)["asked"] == [message_id]
    followed = site.ask(answer.headers["Location"].removeprefix(".").replace("&said=asked", "")).page
    assert followed.codes == [printable(message_id)]
    site.send(followed.form("restore", message_id))
    assert abort_requested(message_id, middleware) is None


# Addresses.


def view_of(query: str) -> View:
    return View.of(MultiDict((name, value) for name, values in parse_qs(query).items() for value in values))


@given(
    st.text(max_size=200)
    | st.lists(st.tuples(st.sampled_from(["asked", "paused", "said"]), anything)).map(
        lambda fields: urlencode(fields, errors="replace")
    )
)
@settings(deadline=None)
def test_any_address_is_understood(query: str) -> None:
    """Or ignored, and a view survives its writing."""
    view = view_of(query)

    assert view_of(view.query()[1:]) == view
    assert len(view.asked) <= 10


def test_an_address_follows_ten_aborts() -> None:
    """At the most, as a link may have more."""
    asked = [f"m{number}" for number in range(15)]

    assert view_of(urlencode({"asked": asked}, doseq=True)).asked == tuple(asked[:10])


@given(st.lists(st.text(min_size=1, max_size=400), min_size=1, max_size=30))
@settings(deadline=None)
def test_an_address_does_not_grow_too_long(message_ids: list[str]) -> None:
    """The latest abort is followed, whatever its id; the oldest are dropped."""
    view = View()
    for message_id in message_ids:
        view = view.follow(message_id)
        assert view.asked[0] == message_id
        assert len(view.asked) <= 10
        assert len(view.asked) == 1 or len(view.query()) < 2_100
