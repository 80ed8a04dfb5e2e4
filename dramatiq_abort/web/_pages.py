"""The page, made of what is known."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote, urlencode

from .._protocol.outcome import OutcomeState
from .._protocol.request import MAX_TEXT, AbortMode, key_of
from ._html import Html, tag
from ._looks import ICON, SCRIPT, STYLE
from ._times import moment, span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._protocol.outcome import Outcome
    from .._protocol.rule import AbortRule
    from .._protocol.snapshot import RunningMessage, Snapshot, WorkerProcess

__all__ = ["Shown", "View", "error_page", "page"]

#: How many messages are shown: a page with more is of no use to anybody, and a browser takes long over it.
_MOST_ROWS: Final = 500

#: How many aborts are followed at once, and how long their part of the address may be: 4,094 is the least that servers
#: take.
_MOST_ASKED: Final = 10
_LONGEST_QUERY: Final = 2_000

#: What is said once, after a form was sent. The address has the key, so that nobody else's words are in it.
_SAID: Final = {
    "asked": "",  # the outcome is shown
    "restored": "The abort has been taken back.",
    "late": "There was nothing to take back: the request is over, or somebody has taken it back already.",
}

#: Of an outcome: how it is said.
_OUTCOMES: Final = {
    OutcomeState.PENDING: "No worker has told yet: it waits, or has not stopped, or was over long ago.",
    OutcomeState.SKIPPED: "It was aborted before its start.",
    OutcomeState.ABORTED: "It was running, and was aborted.",
    OutcomeState.COMPLETED: "It had finished, or has finished in spite of it.",
    OutcomeState.FAILED: "It raised something else, and is not tried again.",
}


@dataclass(frozen=True)
class View:
    """What the address of the page says.

    It is kept there and nowhere else, so that any process can serve any request, and a page can be loaded again.

    Parameters:
      asked: The messages whose aborts are followed, the latest first.
      paused: Whether the page stays as it is.
      said: What is said once.
    """

    asked: tuple[str, ...] = ()
    paused: bool = False
    said: str | None = None

    @classmethod
    def of(cls, query: str) -> View:
        """Read what may come from anybody."""
        try:
            fields = parse_qs(query, errors="strict", max_num_fields=2 * _MOST_ASKED)
        except ValueError:
            return cls()
        said = fields.get("said", [""])[0]
        asked = tuple(dict.fromkeys(each for each in fields.get("asked", []) if _can_be_asked(each)))
        return cls(asked[:_MOST_ASKED], "paused" in fields, said if said in _SAID else None)

    def follow(self, message_id: str) -> View:
        """Add the latest, and forget the oldest where there is no room."""
        asked = [message_id, *(each for each in self.asked if each != message_id)][:_MOST_ASKED]
        while len(asked) > 1 and len(urlencode({"asked": asked}, doseq=True)) > _LONGEST_QUERY:
            asked.pop()
        return replace(self, asked=tuple(asked), said="asked")

    def query(self) -> str:
        """Write it as the end of an address."""
        fields = [("asked", each) for each in self.asked]
        fields += [("paused", "1")] if self.paused else []
        fields += [("said", self.said)] if self.said else []
        return f"?{urlencode(fields)}" if fields else ""


@dataclass(frozen=True)
class Shown:
    """What is known when the page is made.

    Parameters:
      title: What it is called.
      view: What its address says.
      token: For its forms.
      refresh: After how many seconds it is loaded again.
      roll: What runs where.
      rules: The live ones.
      outcomes: Of the aborts that are followed.
      now: When this was, in milliseconds since 1970.
    """

    title: str
    view: View
    token: str
    refresh: int
    roll: Snapshot
    rules: list[AbortRule]
    outcomes: list[Outcome]
    now: int = field(default_factory=lambda: int(time.time() * 1000))


def page(shown: Shown) -> str:
    """Return the page."""
    again = f"./{replace(shown.view, said=None).query()}"
    refresh = 0 if shown.view.paused else shown.refresh
    said = _SAID.get(shown.view.said or "", "")
    body = [
        tag("header", tag("h1", shown.title), _status(shown)),
        tag(
            "main",
            *([tag("p", said, class_="said", role="status")] if said else []),
            tag("section", *_outcomes(shown), id="outcomes", aria_live="polite"),
            tag("section", *_messages(shown), id="running"),
            tag("section", *_rules(shown), id="rules"),
            tag("section", *_workers(shown), id="workers"),
        ),
        tag("script", Html(SCRIPT)),
    ]
    reload = _reload(refresh, again)
    head = [tag("noscript", reload)] if refresh else []
    return _document(shown.title, head, tag("body", *body, data_refresh=str(refresh), data_again=again))


def error_page(title: str, what: str, *advice: str, back: str, refresh: int = 0) -> str:
    """Return a page that says what is wrong, and what to do.

    Parameters:
      title: The page's.
      what: What is wrong, in a few words.
      *advice: A paragraph each.
      back: Where the page is.
      refresh: After how many seconds to go there; 0: not by itself.
    """
    body = tag(
        "main",
        tag("h1", what),
        *(tag("p", paragraph) for paragraph in advice),
        tag("p", tag("a", "Load the page again", href=back)),
    )
    return _document(f"{what} - {title}", [_reload(refresh, back)] if refresh else [], tag("body", body))


def _document(title: str, head: list[Html], body: Html) -> str:
    first = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("link", rel="icon", href=ICON),
        tag("style", Html(STYLE)),
    ]
    return f"<!doctype html>\n{tag('html', tag('head', *first, *head), body, lang='en')}\n"


def _reload(seconds: int, address: str) -> Html:
    return tag("meta", http_equiv="refresh", content=f"{seconds}; url={address}")


def _status(shown: Shown) -> Html:
    view = replace(shown.view, said=None)
    parts: list[str] = [tag("span", f"As of {_at(shown.now)} UTC", id="status"), " · "]
    if view.paused:
        parts += [tag("a", "Keep it up to date", href=f"./{replace(view, paused=False).query()}")]
    elif shown.refresh:
        parts += [f"renewed every {shown.refresh} s · "]
        parts += [tag("a", "Pause", href=f"./{replace(view, paused=True).query()}")]
    else:
        parts += [tag("a", "Load again", href=f"./{view.query()}")]
    return tag("p", *parts, class_="soft")


def _outcomes(shown: Shown) -> Iterable[Html]:
    if not shown.outcomes:
        return
    rows = []
    for outcome in shown.outcomes:
        state = outcome.state
        told = [_OUTCOMES[state]]
        if outcome.exception is not None:
            told.append(f"It raised {outcome.exception}.")
        if outcome.latency is not None:
            told.append(f"That took {span(round(outcome.latency))}.")
        form = _form(shown, "restore", outcome.message_id, "Take back") if not outcome.is_known else Html()
        about = tag("span", outcome.actor) if outcome.actor else Html()
        rows.append(
            _row(
                tag("th", about, _id(outcome.message_id), scope="row", role="rowheader"),
                _cell("Outcome", _state(state.value, state.value), tag("small", " ".join(told)), *_asked_by(outcome)),
                _cell("Worker", outcome.worker or "-"),
                _cell("", form),
            )
        )
    yield tag("h2", "Aborts")
    yield _table("Aborts", ["Message", "Outcome", "Worker", ""], rows)
    yield tag("p", tag("a", "Clear this list", href=f"./{View(paused=shown.view.paused).query()}"))


def _messages(shown: Shown) -> Iterable[Html]:
    messages = shown.roll.messages
    left_out = sum(worker.omitted for worker in shown.roll.workers) + max(0, len(messages) - _MOST_ROWS)
    yield tag("h2", "Running messages ", tag("small", str(len(messages)) if messages else ""))
    if messages:
        rows = [_message(shown, message, number) for number, message in enumerate(messages[:_MOST_ROWS])]
        yield _table("Running messages", ["Message", "Queue", "Worker", "Since (UTC)", "State", "Abort"], rows)
    else:
        nobody = "No worker is there." if not shown.roll.workers else "Nothing is running."
        yield tag("p", nobody, class_="none")
    if left_out:
        yield tag("p", f"And {left_out} more, for which there is no room here.", class_="soft")
    yield tag("details", tag("summary", "Abort a message that waits"), _other(shown))


def _message(shown: Shown, message: RunningMessage, number: int) -> Html:
    arguments = Html()
    if message.arguments:
        arguments = tag("div", *(tag("code", each) for each in message.arguments), class_="arguments")
    kind = {"running": "running", "to be aborted": "wait", "aborting": "stop"}[message.state]
    left = [tag("small", f"in {span(message.grace_left)}")] if message.grace_left else []
    forms = []
    if message.state != "aborting":
        forms.append(_form(shown, "abort", message.message_id, "Abort", reason=f"reason-{number}"))
    if message.state == "to be aborted":
        forms.append(_form(shown, "restore", message.message_id, "Take back"))
    return _row(
        tag("th", message.actor, _id(message.message_id), arguments, scope="row", role="rowheader"),
        _cell("Queue", message.queue),
        _cell("Worker", message.worker),
        _cell("Since", tag("span", _time(message.started, shown.now), tag("small", f"for {span(message.age)}"))),
        _cell("State", tag("span", _state(kind, message.state), *left, *_asked_by(message))),
        _cell("", *forms),
    )


def _other(shown: Shown) -> Html:
    fields = [
        tag("label", "Message id", for_="id", class_="hidden"),
        tag("input", type="text", name="id", id="id", placeholder="Message id", required=True, autocomplete="off"),
        *_reason("reason", ""),
    ]
    return tag(
        "form",
        tag("input", type="hidden", name="token", value=shown.token),
        *fields,
        tag("button", "Abort"),
        method="post",
        action=f"abort{replace(shown.view, said=None).query()}",
    )


def _rules(shown: Shown) -> Iterable[Html]:
    if not shown.rules:
        return
    rows = []
    for rule in shown.rules:
        mode = "whether they wait or run" if rule.request.mode is AbortMode.ABORT else "only those that wait"
        grace = [tag("small", f"after {span(rule.request.grace)}")] if rule.request.grace else []
        rows.append(
            _row(
                tag("th", f"All of {rule}", tag("small", mode), scope="row", role="rowheader"),
                _cell("Made until", _time(rule.before, shown.now)),
                _cell("For", tag("span", "-" if rule.ttl is None else f"{span(rule.ttl)} more", *grace)),
                _cell("Why", tag("span", *_asked_by(rule.request))),
                _cell("", _form(shown, "restore", rule.id, "Restore")),
            )
        )
    yield tag("h2", "Rules ", tag("small", "that abort all messages of a kind"))
    yield _table("Rules", ["Messages", "Made until (UTC)", "In force for", "Why", ""], rows)


def _workers(shown: Shown) -> Iterable[Html]:
    workers = shown.roll.workers
    if not workers:
        return
    silent = len(shown.roll.unresponsive)
    yield tag("h2", "Workers ", tag("small", str(len(workers))))
    if silent:
        yield tag(
            "p",
            f"{silent} of them did not answer: dead for less than a minute, cut off, or too busy. What they run is not "
            "shown.",
            class_="failed",
        )
    yield _table("Workers", ["Worker", "Answered", "dramatiq-abort", "dramatiq", "Python"], map(_worker, workers))


def _worker(worker: WorkerProcess) -> Html:
    answer = _state("stop", "no answer") if worker.reply_ms is None else f"in {worker.reply_ms:.0f} ms"
    core = {"cython": ", compiled core", "python": ", pure-Python core"}.get(worker.core, "")
    return _row(
        tag("th", worker.worker, scope="row", role="rowheader"),
        _cell("Answered", answer),
        _cell("Version", f"{worker.version}{core}"),
        _cell("dramatiq", worker.dramatiq),
        _cell("Python", worker.python),
    )


def _form(shown: Shown, action: str, name: str, verb: str, *, reason: str | None = None) -> Html:
    """Make a form for one message, or for one rule.

    ``reason`` is the id of the field for that, if there is to be one. The name is written so that a browser changes
    nothing of it, which it does with the ends of lines, say.
    """
    if not _can_be_asked(name):
        return Html()
    view = replace(shown.view, said=None)
    return tag(
        "form",
        tag("input", type="hidden", name="token", value=shown.token),
        tag("input", type="hidden", name="quoted", value=quote(name, safe="")),
        *(_reason(reason, f" to abort {name}") if reason else ()),
        tag("button", verb, tag("span", f" {name}", class_="hidden"), class_=action != "abort" and "back"),
        method="post",
        action=f"{action}{view.query()}",
    )


def _reason(field_id: str, of_what: str) -> tuple[Html, Html]:
    label = tag("label", f"Reason{of_what}", for_=field_id, class_="hidden")
    most = str(MAX_TEXT)
    return label, tag(
        "input", type="text", name="reason", id=field_id, placeholder="Reason", maxlength=most, autocomplete="off"
    )


def _table(label: str, headings: list[str], rows: Iterable[Html]) -> Html:
    # Where a table is shown as cards, browsers forget that it is one: hence the roles.
    cells = [
        tag("th" if each else "td", each, scope="col", role="columnheader") if each else tag("td", role="cell")
        for each in headings
    ]
    head = tag("thead", tag("tr", *cells, role="row"), role="rowgroup")
    return tag("table", head, tag("tbody", *rows, role="rowgroup"), role="table", aria_label=label)


def _row(*cells: Html) -> Html:
    return tag("tr", *cells, role="row")


def _cell(label: str, *children: str) -> Html:
    inside = children if len(children) == 1 else [tag("div", *children)]
    return tag("td", *inside, role="cell", data_label=label or False)


def _state(kind: str, word: str) -> Html:
    return tag("span", word, class_=f"state {kind}")


def _id(message_id: str) -> Html:
    return tag("code", message_id, class_="id")


def _asked_by(asked: object) -> list[Html]:
    by, reason = getattr(asked, "by", None), getattr(asked, "reason", None)
    if not reason:
        return [tag("small", f"by {by}")] if by else []
    return [tag("small", f"{f'by {by}' if by else 'reason'}: {reason}")]


def _time(milliseconds: int, now: int) -> Html:
    found, today = moment(milliseconds), moment(now)
    if found is None:
        return tag("span", "?")
    day, clock = found
    text = clock if today and day == today[0] else f"{day} {clock}"
    return tag("time", text, datetime=f"{day}T{clock}Z")


def _at(milliseconds: int) -> str:
    found = moment(milliseconds)
    return found[1] if found else "?"


def _can_be_asked(name: str) -> bool:
    try:
        key_of(name)
    except ValueError:
        return False
    return True
