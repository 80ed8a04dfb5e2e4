"""The web dashboard as a browser without JavaScript sees it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from wsgiref.validate import validator

from bs4 import BeautifulSoup
from werkzeug.test import Client, TestResponse

FORM = "application/x-www-form-urlencoded"


class Page:
    """The parsed HTML of a page."""

    def __init__(self, html: str) -> None:
        self.soup = BeautifulSoup(html, "html.parser")
        for element in self.soup.find_all(True):
            assert not any(name.startswith("on") or name == "style" for name in element.attrs)

    @property
    def tags(self) -> list[str]:
        return [element.name for element in self.soup.find_all(True)]

    @property
    def text(self) -> str:
        return " ".join(self.soup.get_text(" ").split())

    @property
    def codes(self) -> list[str]:
        return [code.get_text() for code in self.soup.find_all("code")]

    @property
    def reload(self) -> str | None:
        """The content of the ``<meta>`` element that reloads the page."""
        meta = self.soup.find("meta", {"http-equiv": "refresh"})
        return None if meta is None else str(meta["content"])

    @property
    def forms(self) -> list[dict[str, str]]:
        """The fields of each form, and its action."""
        return [
            {"action": str(form["action"])}
            | {str(field["name"]): str(field.get("value", "")) for field in form("input")}
            for form in self.soup.find_all("form", method="post")
        ]

    def form(self, action: str, name: str) -> dict[str, str]:
        """The form for this action on this message or rule."""
        (found,) = (
            form
            for form in self.forms
            if form["action"].partition("?")[0] == action and unquote(form.get("quoted", "")) == name
        )
        return found

    @property
    def typed(self) -> dict[str, str]:
        """The form into which a message id is typed."""
        (found,) = (form for form in self.forms if "id" in form)
        return found


class SiteResponse(TestResponse):
    """A response."""

    @property
    def page(self) -> Page:
        return Page(self.text)


class Site:
    """A browser that keeps one cookie, in front of a WSGI application whose conformance is checked."""

    def __init__(self, app: Any, mounted: str = "") -> None:
        self._client = Client(validator(app), SiteResponse, use_cookies=False)
        self._base = f"http://site.example{mounted}/"
        self.cookie: str | None = None

    def ask(self, path: str = "/", method: str = "GET", data: Any = None, **environ: Any) -> SiteResponse:
        if self.cookie is not None:
            environ = {"HTTP_COOKIE": f"theirs=1; {self.cookie}; %$]=x"} | environ
        kind = FORM if method == "POST" else None
        answer: Any = self._client.open(
            path, self._base, method=method, data=data, content_type=kind, environ_overrides=environ, buffered=True
        )
        if "Set-Cookie" in answer.headers:
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return answer  # type: ignore[no-any-return]

    def send(self, form: dict[str, str], **environ: Any) -> SiteResponse:
        """Send a form of the page."""
        fields = {name: value for name, value in form.items() if name != "action"}
        return self.ask(f"/{form['action']}", "POST", fields, **environ)

    def follow(self, answer: SiteResponse) -> SiteResponse:
        """Go to where a redirect leads."""
        assert answer.status_code == 303
        url = urlsplit(urljoin("http://site.example/abort", answer.headers["Location"]))
        assert url.netloc == "site.example"
        return self.ask(f"{url.path}?{url.query}")
