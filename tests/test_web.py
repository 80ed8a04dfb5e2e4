"""The page that shows what runs, as a WSGI server sees it."""

from __future__ import annotations

import http.client
import io
import re
import threading
from contextlib import closing, contextmanager
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urljoin, urlsplit
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import dramatiq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PATIENCE, run_forever, wait_until, wait_until_requested

from dramatiq_abort import (
    Abortable,
    AbortRequest,
    AbortRule,
    ConfigurationError,
    Outcome,
    OutcomeState,
    RunningMessage,
    Snapshot,
    WorkerProcess,
    abort,
    abort_all,
    abort_requested,
    abort_rules,
    running,
    wait_for_outcome,
)
from dramatiq_abort._worker.inspection import worker_name
from dramatiq_abort.backends import RedisBackend, StubBackend
from dramatiq_abort.web import Server as PageServer
from dramatiq_abort.web import _application, application, make_server, serve
from dramatiq_abort.web._hosts import Hosts
from dramatiq_abort.web._pages import Shown, View, page
from dramatiq_abort.web._times import moment, span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dramatiq.brokers.stub import StubBroker
    from support import Server

    from dramatiq_abort import EventBackend

LONG = PATIENCE * 1000
FORM = "application/x-www-form-urlencoded"


class Page(HTMLParser):
    """What a browser makes of a page: its texts, its tags, and its forms."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.codes: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.texts: list[str] = []
        self.metas: list[str] = []
        self._within = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        assert not any(name.startswith("on") or name == "style" for name in said)
        self.tags.append(tag)
        self._within = tag
        if tag == "code":
            self.codes.append("")
        elif tag == "form":
            self.forms.append({"action": said["action"], "method": said["method"]})
        elif tag == "input":
            self.forms[-1][said["name"]] = said.get("value", "")
        elif tag == "meta" and said.get("http-equiv") == "refresh":
            self.metas.append(said["content"])

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "code":
            self.codes[-1] += data
        if self._within not in {"script", "style"}:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def form(self, action: str, name: str) -> dict[str, str]:
        """The form that does this to that."""
        (found,) = (
            form
            for form in self.forms
            if form["action"].partition("?")[0] == action and form.get("quoted") == quote(name, safe="")
        )
        return found


class InterruptResult:
    """What the application has answered."""

    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = int(status.split(maxsplit=1)[0])
        self.headers = dict(headers)
        assert len(self.headers) == len(headers)
        self.body = body.decode()

    @property
    def page(self) -> Page:
        return Page(self.body)


class Site:
    """A browser that keeps one cookie, and a server that sees to that all is as WSGI wants it."""

    def __init__(self, app: Any, mounted: str = "") -> None:
        self._app = validator(app)
        self._mounted = mounted
        self.cookie: str | None = None

    def ask(self, path: str = "/", method: str = "GET", body: bytes = b"", **more: str) -> InterruptResult:
        path, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": self._mounted,
            "PATH_INFO": path.encode().decode("latin-1"),
            "QUERY_STRING": query,
            "HTTP_HOST": "site.example",
            "wsgi.input": io.BytesIO(body),
        }
        if method == "POST":
            environ |= {"CONTENT_TYPE": FORM, "CONTENT_LENGTH": str(len(body))}
        if self.cookie is not None:
            environ["HTTP_COOKIE"] = f"theirs=1; {self.cookie}; %$]=x"
        environ |= more
        setup_testing_defaults(environ)
        said: list[Any] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
            said.extend([status, headers])

        with closing(self._app(environ, start_response)) as parts:  # type: ignore[type-var]
            text = b"".join(parts)
        answer = InterruptResult(*said, text)
        if "Set-Cookie" in answer.headers:
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return answer

    def send(self, form: dict[str, str], **more: str) -> InterruptResult:
        """Send a form of the page, as a browser does."""
        fields = {name: value for name, value in form.items() if name not in {"action", "method"}}
        assert form["method"] == "post"
        return self.ask(f"/{form['action']}", "POST", urlencode(fields).encode(), **more)

    def follow(self, answer: InterruptResult) -> InterruptResult:
        """Go where a redirect leads."""
        assert answer.status == 303
        url = urlsplit(urljoin("http://site.example/abort", answer.headers["Location"]))
        assert url.netloc == "site.example"
        return self.ask(f"{url.path}?{url.query}")

    def other(self) -> dict[str, str]:
        """The form for a message that is not on the page."""
        return next(form for form in self.ask().page.forms if "id" in form)


@pytest.fixture
def site(abortable: Abortable, broker: StubBroker, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("dramatiq_abort.web._application._ROLL_CALL", LONG)
    return Site(application())


@pytest.fixture
def running_task(broker: StubBroker, start_worker: Any) -> Any:
    """Starts messages, and returns them when they run."""
    started = threading.Semaphore(0)

    @dramatiq.actor(queue_name="pictures")
    def resize(*_: object) -> None:
        started.release()
        run_forever()

    start_worker()
    sent = []

    def start(*arguments: object) -> Any:
        sent.append(resize.send(*arguments))
        assert started.acquire(timeout=PATIENCE)
        return sent[-1]

    yield start
    abort(sent)
    broker.join("pictures")


stub_only = pytest.mark.parametrize("make_backend", ["stub"], indirect=True)


def test_the_page_has_what_runs(site: Site, running_task: Any) -> None:
    """The message, where it runs, since when; and its arguments only where the application was made so."""
    message = running_task("a.png")
    page = site.ask().page

    assert message.message_id in page.codes
    for text in ("resize", "pictures", worker_name(), "running", "for "):
        assert text in page.text
    assert "a.png" not in page.text
    assert "a.png" in Site(application(arguments=True)).ask().page.text


def test_a_message_is_aborted_and_its_outcome_is_shown(site: Site, running_task: Any) -> None:
    """By the form in its row, with the reason that was given."""
    message = running_task()
    form = site.ask().page.form("abort", message.message_id)
    answer = site.send(form | {"reason": " <wrong> size "}, REMOTE_USER="Ann \xc3\x85")

    assert answer.status == 303
    assert answer.body == ""
    outcome = wait_for_outcome(message.message_id, timeout=LONG)
    assert (outcome.state, outcome.reason, outcome.by) == (OutcomeState.ABORTED, "<wrong> size", "Ann Å")
    page = site.follow(answer).page
    assert message.message_id in page.codes
    assert "aborted" in page.text
    assert "by Ann Å: <wrong> size" in page.text
    assert [meta for meta in page.metas if "said" in meta] == []


def test_an_abort_is_followed_until_it_is_known(site: Site, broker: StubBroker, start_worker: Any) -> None:
    """Whatever it takes; and it can be taken back until then."""

    @dramatiq.actor
    def task() -> None:
        raise AssertionError

    @dramatiq.actor
    def other_task() -> int:
        return 1

    message, other = task.send(), other_task.send()
    first = site.send(site.other() | {"id": f" {message.message_id}\n", "reason": ""})
    second = site.follow(first).page
    assert "pending" in second.text
    both = site.send(next(form for form in second.forms if "id" in form) | {"id": other.message_id})
    shown = site.follow(both).page
    assert shown.codes[:2] == [other.message_id, message.message_id]
    restored = site.send(shown.form("restore", other.message_id))
    shown = site.follow(restored).page
    assert "The abort has been taken back." in shown.text
    assert shown.codes == [message.message_id]
    late = site.follow(site.send(site.follow(both).page.form("restore", other.message_id))).page
    assert "There was nothing to take back" in late.text
    assert late.codes == [other.message_id, message.message_id]
    start_worker()
    broker.join("default")
    wait_for_outcome(message.message_id, timeout=LONG)

    assert "skipped" in site.ask(f"/?asked={message.message_id}").page.text
    assert abort_requested(other.message_id) is None


def test_what_is_to_be_aborted_says_so(site: Site, running_task: Any, abortable: Abortable) -> None:
    """By whom, and how long it has; it can be aborted at once, or be restored."""
    message = running_task()
    abort(message.message_id, abort_timeout=LONG, by="Ann")
    wait_until_requested(abortable, message)
    page = site.ask().page

    assert "to be aborted" in page.text
    assert "by Ann" in page.text
    assert site.send(page.form("restore", message.message_id)).status == 303
    wait_until(lambda: running(timeout=LONG).messages[0].state == "running", "the restoring")
    assert site.send(page.form("abort", message.message_id)).status == 303
    assert wait_for_outcome(message.message_id, timeout=LONG).state is OutcomeState.ABORTED


def test_rules_are_listed_and_restored(site: Site) -> None:
    """With what they are for."""
    rule = abort_all(actor="resize", tag="tenant-7", reason="it leaves")
    page = site.ask().page
    assert "All of actor resize and tag tenant-7" in page.text
    assert "reason: it leaves" in page.text
    answer = site.follow(site.send(page.form("restore", rule.id)))

    assert abort_rules() == []
    assert "tenant-7" not in answer.body


def test_workers_are_listed(
    site: Site, running_task: Any, backend: EventBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those that have not answered are named."""
    monkeypatch.setattr("dramatiq_abort.web._application._ROLL_CALL", 3_000)
    running_task()
    assert backend.reply_store is not None
    backend.reply_store.register(b'{"worker":"elsewhere:1"}', LONG)
    page = site.ask().page
    backend.reply_store.unregister(b'{"worker":"elsewhere:1"}')

    assert {"elsewhere:1", worker_name(), "no answer"} <= set(page.texts)
    assert "1 of them did not answer" in page.text


@stub_only
def test_an_empty_page(site: Site) -> None:
    """Says so."""
    assert "No worker is there." in site.ask().page.text


@stub_only
def test_the_page_renews_itself(site: Site) -> None:
    """By a meta element where no script runs; and not at all if it is paused."""
    assert site.ask("/?said=restored").page.metas == ["5; url=./"]
    assert site.ask("/?asked=x").page.metas == ["5; url=./?asked=x"]
    paused = site.ask("/?paused=1&asked=x")
    assert paused.page.metas == []
    assert 'data-refresh="0"' in paused.body
    assert Site(application(refresh=0)).ask().page.metas == []


# What a browser is told.


@stub_only
@pytest.mark.parametrize("path", ["/", "", "/nothing"])
def test_every_answer_has_the_headers(site: Site, path: str) -> None:
    """Nothing is loaded from elsewhere, framed, kept, or told to others."""
    headers = site.ask(path).headers

    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert re.fullmatch("'sha256-[A-Za-z0-9+/]{43}='", policy["script-src"])
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"


@stub_only
def test_the_cookie_is_for_this_page_alone(site: Site) -> None:
    """No script reads it, no other site has it sent, and over TLS it is never sent without."""
    cookie = site.ask().headers["Set-Cookie"]
    assert re.fullmatch(r"dramatiq_abort=[\w-]{32}; HttpOnly; SameSite=Strict", cookie)
    assert "Set-Cookie" not in site.ask().headers
    site.cookie = "dramatiq_abort=short"
    assert site.ask(**{"wsgi.url_scheme": "https"}).headers["Set-Cookie"].endswith("; SameSite=Strict; Secure")


@stub_only
@pytest.mark.parametrize(
    ("mounted", "leads"),
    [("", "./"), ("/ops", "./ops/"), ("/a/b:c d", "./b%3Ac%20d/"), ("//evil.example", "./evil.example/")],
)
def test_it_works_wherever_it_is_mounted(abortable: Abortable, broker: StubBroker, mounted: str, leads: str) -> None:
    """All addresses are relative, so that a proxy may move it, too."""
    site = Site(application(), mounted)
    if mounted:
        assert site.ask("").headers["Location"] == leads
    assert site.other()["action"] == "abort"
    assert site.send(site.other() | {"id": "x"}).headers["Location"] == "./?asked=x&said=asked"
    assert 'href="../"' in site.ask("/a/b").body


# Who is kept out.


@stub_only
@pytest.mark.parametrize(
    "change",
    [
        {"token": ""},
        {"token": "0" * 64},
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
    """Whatever of it is not ours."""
    abort("y")
    form = site.other() | {"id": "x" if action == "abort" else "y", "action": action}
    token = {name: value for name, value in change.items() if name == "token"}
    answer = site.send(form | token, **{name: value for name, value in change.items() if name != "token"})

    assert answer.status == 403
    assert (abort_requested("x"), abort_requested("y")) == (None, 0)


@stub_only
@pytest.mark.parametrize(
    "more",
    [
        {"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "http://outside.example"},  # a proxy has not told
        {"HTTP_SEC_FETCH_SITE": "none"},
        {"HTTP_ORIGIN": "https://site.example"},
    ],
)
def test_a_form_of_ours_does(site: Site, more: dict[str, str]) -> None:
    """Also beside other cookies, and one of the same name from a page above."""
    form = site.other() | {"id": "x"}
    site.cookie = f"dramatiq_abort={'x' * 32}; {site.cookie}"
    assert site.send(form, **more).status == 303
    assert abort_requested("x") == 0


@stub_only
def test_a_secret_is_shared_by_processes(abortable: Abortable, broker: StubBroker) -> None:
    """Without one, each has its own."""
    one, other, third = (Site(application(secret=secret)) for secret in (b"s" * 16, b"s" * 16, None))
    form = one.other() | {"id": "x"}
    other.cookie = third.cookie = one.cookie

    assert (other.send(form).status, third.send(form).status) == (303, 403)


@stub_only
@pytest.mark.parametrize(
    ("path", "method", "status", "allow"),
    [
        ("/", "POST", 405, "GET, HEAD"),
        ("/", "OPTIONS", 405, "GET, HEAD"),
        ("/abort", "GET", 405, "POST"),
        ("/restore", "PUT", 405, "POST"),
        ("/abort/", "POST", 404, None),
        ("/favicon.ico", "GET", 404, None),
        ("/<script>", "GET", 404, None),
        ("/\udce9", "GET", 404, None),
    ],
)
@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_what_is_not_there(site: Site, path: str, method: str, status: int, allow: str | None) -> None:
    """And what it is not there for."""
    answer = site.ask(path.encode("utf-8", "surrogateescape").decode("latin-1"), method)

    assert answer.status == status
    assert answer.headers.get("Allow") == allow
    assert "script" not in answer.page.tags


@stub_only
def test_head_is_get_without_the_page(site: Site) -> None:
    """But with its length."""
    answer = site.ask(method="HEAD")

    assert (answer.status, answer.body) == (200, "")
    assert int(answer.headers["Content-Length"]) > 1000


@stub_only
@pytest.mark.parametrize(
    ("body", "more", "status"),
    [
        (b"x" * 16_385, {}, 413),
        (b"", {"CONTENT_LENGTH": "9" * 18}, 413),
        (b"", {"CONTENT_LENGTH": ""}, 411),
        (b"", {"CONTENT_LENGTH": "9" * 19}, 411),
        (b"{}", {"CONTENT_TYPE": "application/json"}, 415),
        (b"id=x", {"CONTENT_TYPE": "multipart/form-data; boundary=x"}, 415),
        (b"id=%ff", {}, 400),
        (b"\xff", {}, 400),
        (b"&".join([b"a=b"] * 21), {}, 400),
        (b"id=x", {}, 403),
        (b"", {}, 403),
    ],
)
def test_what_is_no_form_of_ours_is_not_read(site: Site, body: bytes, more: dict[str, str], status: int) -> None:
    """It has a length that it says first, and is as short as ours are."""
    assert site.ask("/abort", "POST", body, **more).status == status


@stub_only
def test_a_form_that_does_not_arrive(site: Site) -> None:
    """Is no error of the page."""

    class Gone(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise TimeoutError

    assert site.ask("/abort", "POST", **{"CONTENT_LENGTH": "5", "wsgi.input": Gone()}).status == 408  # type: ignore[arg-type]


@stub_only
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": ""}, "a message id has 1 to 506 bytes, not 0"),
        ({"id": "x" * 600}, "a message id has 1 to 506 bytes"),
        ({"id": "x", "reason": "y" * 257}, "reason has 1 to 256 characters"),
        ({"quoted": "%ff"}, "can't decode"),
        ({"quoted": "rule:" + "x" * 600, "action": "restore"}, "no rule"),
    ],
)
def test_what_cannot_be_asked_is_said(site: Site, change: dict[str, str], says: str) -> None:
    """In the words that the functions have for it."""
    answer = site.send(site.other() | change)

    assert answer.status == 400
    assert "Nothing has been done: " in answer.page.text
    assert says in answer.page.text


@stub_only
def test_only_its_names_are_answered(abortable: Abortable, broker: StubBroker) -> None:
    """Where it was told them."""
    site = Site(application(hosts=["ops.example"]))

    assert site.ask(HTTP_HOST="ops.example:8000").status == 200
    assert site.ask().status == 421


def test_hosts() -> None:
    """A name that somebody has had registered cannot pass for an address."""
    ours = Hosts(["localhost", "127.0.0.1", "::1"])
    for host in ("localhost", "LOCALHOST:8765", "localhost.", "127.0.0.1:80", "[::1]:80"):
        assert ours.know(host)
    for host in (
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "x@localhost",
        "localhost/x",
        "localhost,x",
        "[::1",
        "10.0.0.1",
    ):
        assert not ours.know(host)
    any_address = Hosts(["Here."], addresses=True)
    assert all(any_address.know(host) for host in ("here", "10.0.0.1:80", "[fe80::1]"))
    assert not any_address.know("evil.example")
    with pytest.raises(TypeError, match="a list of names"):
        Hosts("localhost")


# What goes wrong.


@stub_only
def test_a_backend_that_is_down_is_said(
    site: Site, backend: EventBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With what to do, and not with what the log has; the page tries again."""
    form = site.other() | {"id": "x"}

    def down(*_: object) -> None:
        raise ConnectionError("the password")

    monkeypatch.setattr(backend.reply_store, "workers", down)
    monkeypatch.setattr(backend, "signal", down)
    shown, sent = site.ask("/?asked=y"), site.send(form)

    for answer in (shown, sent):
        assert answer.status == 503
        assert "password" not in answer.body
        assert "See whether the Redis server runs" in answer.page.text
    assert shown.page.metas == ["5; url=./?asked=y"]
    assert "the password" in caplog.text


def test_a_server_that_is_down_and_comes_back(own_server: Server) -> None:
    """A real one: the page says so, and is there again when it is."""
    site = Site(application(Abortable(backend=RedisBackend.from_url(own_server.url))))
    assert site.ask().status == 200
    own_server.kill()
    assert site.ask().status == 503
    own_server.start()
    assert site.ask().status == 200


@stub_only
def test_a_page_that_is_not_set_up_says_so(site: Site, backend: EventBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the error."""
    monkeypatch.setattr(backend, "reply_store", None)
    answer = site.ask()
    assert answer.status == 500
    assert "StubBackend has no board" in answer.page.text
    dramatiq.set_broker(dramatiq.brokers.stub.StubBroker())
    assert "the default broker has no Abortable middleware" in site.ask().page.text


@stub_only
def test_no_traceback_is_shown(site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The log has it."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the password")

    monkeypatch.setattr(_application, "running", fail)
    answer = site.ask()

    assert answer.status == 500
    assert "password" not in answer.body
    assert "RuntimeError: the password" in caplog.text


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"refresh": 0.5}, TypeError),
        ({"refresh": -1}, ValueError),
        ({"secret": "x" * 16}, TypeError),
        ({"secret": b"x"}, ValueError),
        ({"hosts": "localhost"}, TypeError),
    ],
)
def test_what_cannot_be_is_refused(parameters: Any, error: type[Exception]) -> None:
    """At once."""
    with pytest.raises(error):
        application(**parameters)


# What others have written.

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
            "javascript:x",
        ]
    )
)


def shown(roll: Snapshot, live: list[AbortRule], outcomes: list[Outcome], token: str = "") -> Page:
    return Page(page(Shown("title", View(), token, 5, roll, live, outcomes, now=1)))


def seen(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


@given(st.lists(anything, min_size=8, max_size=8), st.integers(), st.integers(0))
@settings(deadline=None)
def test_whatever_a_message_says_is_text(words: list[str], started: int, age: int) -> None:
    """And can all be seen; of the page's markup nothing changes."""

    def everything(texts: list[str]) -> Page:
        message = RunningMessage(*texts[:4], 0, started, age, 1, texts[4] or "x", texts[5] or "x", (texts[6], texts[7]))
        request = AbortRequest(reason=texts[4] or "x", by=texts[5] or "x")
        matched = {"actor": texts[1] or "x", "queue": texts[2], "tag": texts[3]}
        rule = AbortRule(started, **matched, request=request, id=f"rule:{texts[0]}", ttl=1)
        outcome = Outcome(texts[0], OutcomeState.FAILED, texts[1] or "x", texts[3], exception=texts[6])
        return shown(Snapshot([message], [WorkerProcess(*texts[:5])]), [rule], [outcome])

    harmless, page = everything(["x"] * 8), everything(words)

    can_be_asked = 0 < len(words[0].encode(errors="surrogatepass")) <= 480 and "\ud800" not in words[0]
    if can_be_asked and not any("\ud800" <= char <= "\udfff" for char in words[0]):
        assert page.tags == harmless.tags
    else:
        assert set(page.tags) <= set(harmless.tags)
    assert page.codes == [seen(words[0]), seen(words[0]), seen(words[6]), seen(words[7])]
    for word in words:
        assert seen(word) in page.text


@given(anything)
@settings(deadline=None)
def test_what_is_aborted_is_exactly_what_is_shown(message_id: str) -> None:
    """Whatever its id is, on its way through a form, a redirect and an address; or it has no button."""
    middleware = Abortable(backend=StubBackend())
    site = Site(application(middleware))
    token = site.other()["token"]
    row = shown(Snapshot([RunningMessage(message_id, "a", "q", "w", 0, 0, 0)]), [], [], token)
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
    assert followed.codes == [seen(message_id)]
    site.send(followed.form("restore", message_id))
    assert abort_requested(message_id, middleware) is None


@given(
    st.text(max_size=200)
    | st.lists(st.tuples(st.sampled_from(["asked", "paused", "said"]), anything)).map(
        lambda fields: urlencode(fields, errors="replace")
    )
)
@settings(deadline=None)
def test_any_address_is_understood(query: str) -> None:
    """Or ignored, and a view survives its writing."""
    view = View.of(query)

    assert View.of(view.query()[1:]) == view
    assert len(view.asked) <= 10


def test_an_address_follows_ten_aborts() -> None:
    """Whoever has written it."""
    asked = [f"m{number}" for number in range(15)]

    assert View.of(urlencode({"asked": asked}, doseq=True)).asked == tuple(asked[:10])


@given(st.lists(st.text(min_size=1, max_size=400), min_size=1, max_size=30))
@settings(deadline=None)
def test_an_address_does_not_grow_too_long(message_ids: list[str]) -> None:
    """The latest abort is followed, whatever its id; the oldest are not."""
    view = View()
    for message_id in message_ids:
        view = view.follow(message_id)
        assert view.asked[0] == message_id
        assert len(view.asked) <= 10
        assert len(view.asked) == 1 or len(view.query()) < 2_100


@stub_only
def test_a_page_has_an_end(site: Site) -> None:
    """What there is no room for is counted."""
    messages = [RunningMessage(f"m{number}", "a", "q", "w", 0, 0, 0) for number in range(505)]
    page = shown(Snapshot(messages, [WorkerProcess("w", omitted=2, reply_ms=1)]), [], [])

    assert page.codes[-1] == "m499"
    assert "And 7 more" in page.text


def test_times() -> None:
    """As people read them."""
    assert [span(each) for each in (0, 999, 1000, 61_000, 3_600_000, 90_061_000)] == [
        "0 ms",
        "999 ms",
        "1 s",
        "1 min 1 s",
        "1 h",
        "1 d 1 h",
    ]
    assert moment(1_000) == ("1970-01-01", "00:00:01")
    assert moment(10**400) is moment(10**17) is None


# In the sites of docs/web.md.


def program(name: str) -> dict[str, Any]:
    """Run what the page has under this name, and return what it has made."""
    text = (Path(__file__).parent.parent / "docs" / "web.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name} -->\n```python\n(.*?)```\n<!-- /{name} -->", text, re.DOTALL)
    assert found is not None
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(found[1], made)
    return made


@stub_only
@pytest.mark.usefixtures("broker")
def test_in_flask() -> None:
    """Behind a login, which says who aborts."""
    pytest.importorskip("flask")
    client = program("flask")["app"].test_client()
    ann = ("Ann", "correct horse")
    assert client.get("/aborts/").status_code == client.get("/aborts/", auth=("Ann", "x")).status_code == 401
    assert client.get("/aborts", auth=ann).headers["Location"] == "./aborts/"
    token = Page(client.get("/aborts/", auth=ann).text).forms[0]["token"]
    sent = client.post("/aborts/abort", data={"token": token, "id": "x"}, auth=ann)
    answer = client.get(urljoin("/aborts/abort", sent.headers["Location"]), auth=ann)

    assert answer.status_code == 200
    assert "pending" in answer.text
    assert abort_requested("x") == 0


@stub_only
@pytest.mark.usefixtures("broker")
def test_in_django(caplog: pytest.LogCaptureFixture) -> None:
    """As a view, for those who may; it says who they are."""
    django = pytest.importorskip("django")
    from django.conf import settings as site_settings

    site_settings.configure(
        ROOT_URLCONF=ModuleType("urls"),
        SECRET_KEY="x",  # noqa: S106
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
        ALLOWED_HOSTS=["*"],
    )
    django.setup()

    class User:
        is_authenticated = True

        def has_perms(self, names: Any) -> bool:
            return bool(names)

        def get_username(self) -> str:
            return "Ann"

    def users(get_response: Any) -> Any:
        def with_user(request: Any) -> Any:
            request.user = User()
            return get_response(request)

        return with_user

    made = program("django")
    site_settings.ROOT_URLCONF.urlpatterns = made["urlpatterns"]
    from django.core.handlers.wsgi import WSGIHandler

    handler = WSGIHandler()
    handler._middleware_chain = users(handler._middleware_chain)
    site = Site(handler)
    assert site.ask("/aborts").headers["Location"] == "./aborts/"
    form = next(form for form in site.ask("/aborts/").page.forms if "id" in form)
    with caplog.at_level("INFO"):
        answer = site.send(form | {"id": "x", "action": f"aborts/{form['action']}"})

    assert answer.headers["Location"] == "./?asked=x&said=asked"
    assert abort_requested("x") == 0
    assert "by 'Ann'" in caplog.text


# By itself.


@contextmanager
def serving(**parameters: Any) -> Iterator[PageServer]:
    with make_server(port=0, **parameters) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def get(server: PageServer, path: str = "/", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=PATIENCE)
    connection.request("GET", path, headers=headers)
    with closing(connection):
        answer = connection.getresponse()
        answer.text = answer.read().decode()  # type: ignore[attr-defined]
        return answer


@stub_only
@pytest.mark.usefixtures("broker")
def test_it_serves_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Under its own names, and no others; and it says nothing on the terminal."""
    with serving(title="Ours", hosts=["proxy.example"]) as server:
        assert server.url == f"http://127.0.0.1:{server.server_port}/"
        answer = get(server)
        assert answer.status == 200
        assert "<h1>Ours</h1>" in answer.text  # type: ignore[attr-defined]
        assert get(server, Host="localhost").status == get(server, Host="proxy.example").status == 200
        assert get(server, Host="evil.example").status == get(server, Host="10.1.2.3").status == 421
        assert get(server, "/nothing").status == 404

    assert capsys.readouterr() == ("", "")


@stub_only
@pytest.mark.usefixtures("broker")
def test_who_says_nothing_does_no_harm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """To the others, nor to the terminal."""
    monkeypatch.setattr("dramatiq_abort.web._server._Handler.timeout", 0.01)
    with serving() as server:
        silent = http.client.HTTPConnection(*server.server_address[:2], timeout=PATIENCE)
        with closing(silent):
            silent.connect()
            assert silent.sock.recv(1) == b""
        monkeypatch.setattr("dramatiq_abort.web._server._Handler.timeout", PATIENCE)
        assert get(server).status == 200

    assert capsys.readouterr() == ("", "")


@stub_only
@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])  # noqa: S104
def test_it_does_not_listen_to_others(host: str) -> None:
    """Unless somebody says so; then, any address of the machine will do, but no name."""
    try:
        with pytest.raises(ConfigurationError, match="allow_remote=True"):
            serve(host=host, port=0)
        server = make_server(host=host, port=0, allow_remote=True)
    except OSError:  # no IPv6 here
        pytest.skip(f"this machine has no {host}")
    with server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            for name, status in (("10.1.2.3", 200), ("localhost", 200), ("evil.example", 421)):
                assert get(server, Host=name).status == status
        finally:
            server.shutdown()
            thread.join()


@stub_only
@pytest.mark.usefixtures("broker")
def test_ctrl_c_ends_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And it has said where it is."""

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PageServer, "serve_forever", interrupted)
    serve(port=0)
    assert re.search(r"http://127.0.0.1:\d+/ \(Ctrl-C ends it\)", capsys.readouterr().err)
    said: list[str] = []
    serve(host="localhost", port=0, started=said.append, by="Ann")

    assert len(said) == 1
    assert unquote(said[0]).startswith("http://")
    assert capsys.readouterr().err == ""
