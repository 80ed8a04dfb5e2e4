"""Functions of the standard library that catch every exception: an abort is raised after them (3.1, 5)."""

from __future__ import annotations

import copyreg
import doctest
import imaplib
import io
import marshal
import pstats
import pydoc
import select
import shelve
import threading
import time
import traceback
import unittest
import uuid
from code import InteractiveInterpreter
from contextlib import redirect_stderr, redirect_stdout
from email._header_value_parser import get_parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from wsgiref.handlers import SimpleHandler
from xml.sax import ContentHandler, make_parser
from xml.sax.handler import feature_external_ges
from xmlrpc.client import dumps
from xmlrpc.server import SimpleXMLRPCDispatcher

import pytest
from cuts import cuts_of
from support import PATIENCE, needs_interrupts, needs_threads, run_forever
from test_safe_points import interrupt_until_it_lands
from test_scope import Stop, Target

from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = [
    needs_threads,
    # A file whose opening is interrupted is closed when it is collected.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def step(number: int = 0) -> int:
    """Be a place where an abort may be raised."""
    return abs(number)


class Text:
    """Is converted to text by Python code."""

    def __str__(self) -> str:
        return f"text {step()}"

    __repr__ = __str__


def catch_in_traceback() -> None:
    traceback.format_exception_only(ValueError, ValueError(Text()))


def catch_in_code() -> None:
    interpreter = InteractiveInterpreter({"step": step})
    interpreter.runsource("[step(number) for number in range(3)]")
    interpreter.runsource("an error of syntax")


def catch_in_unittest() -> None:
    class Test(unittest.TestCase):
        def setUp(self) -> None:
            step()

        def test(self) -> None:
            with self.subTest(number=1):
                step()

    Test("test").run(unittest.TestResult())


def catch_in_unittests_loader() -> None:
    loader: Any = unittest.TestLoader()
    loader._top_level_dir = str(Path(__file__).parent)
    loader._find_test_path(__file__, "*.py")


def catch_in_doctest() -> None:
    test = doctest.DocTestParser().get_doctest(">>> step()\n0\n>>> step(1)\n1\n", {"step": step}, "test", None, 0)
    doctest.DocTestRunner(verbose=False).run(test, out=str)


def catch_in_wsgiref() -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        step()
        start_response("200 OK", [])
        return [b"text"]

    SimpleHandler(io.BytesIO(), io.BytesIO(), io.StringIO(), {}).run(application)


def catch_in_xmlrpc() -> None:
    dispatcher = SimpleXMLRPCDispatcher()
    dispatcher.register_function(step)
    dispatcher.register_multicall_functions()
    dispatcher._marshaled_dispatch(dumps((1,), "step").encode())  # type: ignore[arg-type]
    dispatcher.system_multicall([{"methodName": "step", "params": [1]}])


def catch_in_email() -> None:
    get_parameter("name*1*=\"utf-8''x\"")


def catch_in_pydoc() -> None:
    pydoc.locate("decimal.Decimal")
    pydoc.TextRepr().repr1(Text(), 1)
    pydoc.HTMLRepr().repr1(Text(), 1)


def catch_in_expat() -> None:
    parser = make_parser()  # noqa: S317 - the test's own text
    parser.setFeature(feature_external_ges, True)
    parser.setEntityResolver(Resolver())
    parser.parse(io.StringIO('<!DOCTYPE a [<!ENTITY b SYSTEM "b">]><a>&b;</a>'))


class Resolver(ContentHandler):
    """Resolves a single entity."""

    def resolveEntity(self, publicId: str, systemId: str) -> Any:  # noqa: N802, N803
        from xml.sax.xmlreader import InputSource

        source = InputSource(systemId)
        source.setByteStream(io.BytesIO(b"<c/>"))
        return source


def catch_in_uuid() -> None:
    made: Any = uuid
    before, made._node = made._node, None
    try:
        uuid.getnode()
    finally:
        made._node = before


class Named(type):
    """Sets the names of its classes' slots in Python code."""

    def __setattr__(cls, name: str, value: object) -> None:
        step()
        super().__setattr__(name, value)


def catch_in_copyreg() -> None:
    copyreg._slotnames(Named("WithSlots", (), {"__slots__": ("slot",)}))  # type: ignore[attr-defined]


def catch_in_shelve() -> None:
    shelf: Any = shelve.Shelf({})
    with patch.object(shelve, "_ClosedDict", step):
        shelf.close()


def catch_in_pstats() -> None:
    with patch.object(marshal, "load", lambda _: {("file", 1, "function"): (1, 1, 0.0, 0.0, {})}):
        pstats.Stats(__file__)


def catch_in_imaplib() -> None:
    client: Any = imaplib.IMAP4.__new__(imaplib.IMAP4)
    client._mesg, client._cmd_log, client._cmd_log_idx, client._cmd_log_len = print, {0: ["line"]}, 0, 1
    client.print_log()


def catch_in_cgitb() -> None:
    hook: Any = pytest.importorskip("cgitb", exc_type=ImportError).Hook(file=io.StringIO(), format="text")
    hook.handle((ValueError, ValueError(), None))


def catch_in_asyncore() -> None:
    asyncore: Any = pytest.importorskip("asyncore", exc_type=ImportError)
    asyncore.close_all({number: Dispatcher() for number in range(2)}, ignore_all=True)
    for handle in (asyncore.read, asyncore.write, asyncore._exception):
        handle(Dispatcher())
    asyncore.readwrite(Dispatcher(), select.POLLIN)


class Dispatcher:
    """The object that asyncore calls."""

    def handle_read_event(self) -> None:
        step()

    handle_write_event = handle_expt_event = handle_error = handle_close = close = handle_read_event


FUNCTIONS = [each for name, each in list(globals().items()) if name.startswith("catch_in")]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__[len("catch_in_") :])
def test_it_comes_up_behind_what_catches_everything(function: Callable[[], None]) -> None:
    """An abort that arrives in such a function is raised after it."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        cuts = list(cuts_of(function))

    assert len(cuts) > 0
    assert [place for place, came_out in cuts if not came_out] == []


@needs_interrupts
def test_a_server_is_aborted_behind_its_request(core: ModuleType) -> None:
    """A server finishes its current request, and is aborted before the next."""
    entered, go_on = threading.Event(), threading.Event()
    served = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        entered.set()
        while not go_on.is_set():
            time.sleep(0.001)
        served.append("request")
        start_response("200 OK", [])
        return [b"text"]

    def serve() -> None:
        SimpleHandler(io.BytesIO(), io.BytesIO(), io.StringIO(), {}).run(application)
        run_forever()

    target = Target(core, serve)
    assert entered.wait(PATIENCE)
    answers = {target.scope.interrupt(Stop) for _ in range(3)}
    go_on.set()
    interrupt_until_it_lands(target)

    assert answers <= {InterruptResult.ARMED, InterruptResult.PROTECTED}
    assert served == ["request"]
    assert isinstance(target.error, Stop)
