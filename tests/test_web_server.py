"""The web dashboard in other sites, by itself, and without the packages that it needs."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import pytest
from support import PATIENCE, needs_threads

pytest.importorskip("flask")

from web_support import Page, Site

from dramatiq_abort import ConfigurationError, abort_requested
from dramatiq_abort.web import Server, make_server, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

stub_only = pytest.mark.parametrize("make_backend", ["stub"], indirect=True)


# In the sites of docs/web.md.


def program(name: str) -> dict[str, Any]:
    """Run the program that the page has under this name, and return its variables."""
    text = (Path(__file__).parent.parent / "docs" / "web.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name} -->\n```python\n(.*?)```\n<!-- /{name} -->", text, re.DOTALL)
    assert found is not None
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(found[1], made)
    return made


@stub_only
@pytest.mark.usefixtures("broker")
def test_in_flask() -> None:
    """Behind a login, whose user requests the abort."""
    client = program("flask")["app"].test_client()
    ann = ("Ann", "correct horse")
    assert client.get("/aborts/").status_code == client.get("/aborts/", auth=("Ann", "x")).status_code == 401
    assert client.get("/aborts", auth=ann).headers["Location"] == "./aborts/"
    form = Page(client.get("/aborts/", auth=ann).text).typed
    sent = client.post("/aborts/abort", data=form | {"id": "x"}, auth=ann)
    answer = client.get(urljoin("/aborts/abort", sent.headers["Location"]), auth=ann)

    assert answer.status_code == 200
    assert "pending" in answer.text
    assert abort_requested("x") == 0


@stub_only
@pytest.mark.usefixtures("broker")
def test_in_django(caplog: pytest.LogCaptureFixture) -> None:
    """As a view, for the users who have the permission; the log has their names."""
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
    form = site.ask("/aborts/").page.typed
    with caplog.at_level("INFO"):
        answer = site.send(form | {"id": "x", "action": f"aborts/{form['action']}"})

    assert answer.headers["Location"] == "./?asked=x&said=asked"
    assert abort_requested("x") == 0
    assert "by 'Ann'" in caplog.text


# By itself.


@contextmanager
def serving(**parameters: Any) -> Iterator[Server]:
    with make_server(port=0, **parameters) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def get(server: Server, path: str = "/", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
    with closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@stub_only
@needs_threads
@pytest.mark.usefixtures("broker")
def test_it_serves_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Under its own names, and no others; it writes nothing to the terminal."""
    with serving(title="Ours", hosts=["proxy.example"]) as server:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", server.url)
        status, text = get(server)
        assert status == 200
        assert "<h1>Ours</h1>" in text
        for host, expected in (
            ("localhost", 200),
            ("[::1]:80", 200),
            ("proxy.example", 200),
            ("evil.example", 421),
            ("10.1.2.3", 421),
        ):
            assert get(server, Host=host)[0] == expected
        assert get(server, "/nothing")[0] == 404

    assert capsys.readouterr() == ("", "")


@stub_only
@needs_threads
@pytest.mark.usefixtures("broker")
def test_who_says_nothing_does_no_harm(capsys: pytest.CaptureFixture[str]) -> None:
    """A client that sends nothing occupies no thread, even if it has many connections."""
    with serving() as server:
        url = urlsplit(server.url)
        silent = [socket.create_connection((url.hostname, url.port), PATIENCE) for _ in range(50)]
        assert get(server)[0] == 200
        for connection in silent:
            connection.close()
        assert get(server)[0] == 200

    assert capsys.readouterr() == ("", "")


@stub_only
@needs_threads
@pytest.mark.usefixtures("broker")
def test_a_long_form_is_not_read() -> None:
    """The server refuses it by its length."""
    with serving() as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
        with closing(connection):
            connection.putrequest("POST", "/abort")
            connection.putheader("Content-Length", str(10**8))
            connection.endheaders(b"token=")
            assert connection.getresponse().status == 413


@stub_only
@needs_threads
@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])  # noqa: S104
def test_it_does_not_listen_to_others(host: str) -> None:
    """Without ``allow_remote``; with it, every address of the machine will do, but no other name."""
    try:
        with pytest.raises(ConfigurationError, match="allow_remote=True"):
            make_server(host=host, port=0)
        make_server(host=host, port=0, allow_remote=True).close()
    except OSError:  # no IPv6 here
        pytest.skip(f"this machine has no {host}")
    with serving(host=host, allow_remote=True) as server:
        for name, status in (("10.1.2.3", 200), ("localhost", 200), ("evil.example", 421)):
            assert get(server, Host=name)[0] == status


@stub_only
@pytest.mark.usefixtures("broker")
def test_a_port_in_use() -> None:
    """It is an ``OSError``."""
    with make_server(port=0) as server, pytest.raises(OSError, match="in use"):
        make_server(port=urlsplit(server.url).port)


@stub_only
@pytest.mark.usefixtures("broker")
def test_ctrl_c_ends_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before that, the address is announced."""

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", interrupted)
    serve(port=0)
    assert re.search(r"http://127.0.0.1:\d+/ \(Ctrl-C stops it\)", capsys.readouterr().err)
    said: list[str] = []
    serve(host="localhost", port=0, started=said.append, by="Ann")

    assert len(said) == 1
    assert said[0].startswith("http://")
    assert capsys.readouterr().err == ""


# Without the extra.


@pytest.mark.parametrize("missing", ["flask", "waitress"])
@pytest.mark.parametrize(
    "program",
    [
        "import dramatiq_abort.web",
        "sys.argv = ['x', 'web', '--url', 'redis://127.0.0.1:1']; from dramatiq_abort.cli import main; main()",
    ],
)
def test_without_the_extra(program: str, missing: str, tmp_path: Path) -> None:
    """The error has the command that installs it."""
    if "cli" in program:
        pytest.importorskip("rich")
    code = f"import sys; sys.modules[{missing!r}] = None; {program}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    says = f"dramatiq_abort.web needs the module '{missing}': pip install 'dramatiq-abort[web]'"
    assert done.stderr.splitlines()[-1].endswith(f": {says}")
    assert done.returncode == (2 if "cli" in program else 1)
