"""The middleware and the output of a command, as selected by its options."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from .._middleware.abortable import Abortable
from ..backends.stub import StubBackend
from ..errors import ConfigurationError
from ._output import Output

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Session", "where"]

#: The environment variables for the options.
URL = "DRAMATIQ_ABORT_URL"
BROKER = "DRAMATIQ_ABORT_BROKER"
NAMESPACE = "DRAMATIQ_ABORT_NAMESPACE"


@dataclass
class Session:
    """One run of the command line, with the values of its connection options."""

    url: str | None = None
    broker: str | None = None
    namespace: str | None = None
    as_json: bool = False
    verbose: bool = False

    @cached_property
    def output(self) -> Output:
        return Output(as_json=self.as_json)

    @cached_property
    def middleware(self) -> Abortable:
        """The middleware that the options select.

        Raises:
          click.UsageError: If they select neither a server nor a broker, or both.
          ConfigurationError: If the broker has no ``Abortable``.
        """
        url, broker = self.url, self.broker
        if url is None and broker is None:
            url, broker = os.environ.get(URL) or None, os.environ.get(BROKER) or None
        if url is not None and broker is not None:
            raise click.UsageError("--url and --broker exclude each other, also in the environment")
        if broker is not None:
            if self.namespace is not None:
                raise click.UsageError("--namespace needs --url: with --broker, the broker has the namespace")
            return _middleware_of(broker)
        if url is None:
            raise click.UsageError(f"no server: use --url redis://... or --broker module, or set {URL} or {BROKER}")
        namespace = self.namespace or os.environ.get(NAMESPACE) or "dramatiq-abort"
        from ..backends.redis import RedisBackend

        return Abortable(backend=RedisBackend.from_url(url, namespace=namespace))

    @property
    def place(self) -> str:
        """The address of the server, without a password."""
        client = getattr(self.middleware.backend, "client", None)
        parameters = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
        if "path" in parameters:
            return f"unix://{parameters['path']}"
        if "host" in parameters:
            return f"{parameters['host']}:{parameters.get('port', 6379)}/{parameters.get('db') or 0}"
        return type(client or self.middleware.backend).__name__


def _middleware_of(name: str) -> Abortable:
    """Return the ``Abortable`` of a broker, which is given as for the ``dramatiq`` command."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    from dramatiq.cli import import_broker

    try:
        with redirect_stdout(sys.stderr):  # output of the imported modules must not mix with that of the command
            broker = import_broker(name)[1]
    except Exception as error:
        cause = f"{type(error).__name__}: {str(error).rstrip('.')}"
        raise ConfigurationError(
            f"cannot import {name} from this directory: {cause}. Pass module or module:broker, as for `dramatiq`"
        ) from error
    for middleware in broker.middleware:
        if isinstance(middleware, Abortable):
            backend = middleware.bind(broker).backend
            if isinstance(backend, StubBackend):
                raise ConfigurationError(
                    f"the Abortable of {name} has a StubBackend, which does not reach other processes"
                )
            return Abortable(backend=backend, abort_ttl=middleware.abort_ttl)  # the other may be on several brokers
    raise ConfigurationError(f"the broker of {name} has no Abortable: add one with broker.add_middleware(Abortable())")


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the connection options, and those for the output."""
    options = [
        click.option("--url", metavar="URL", help=f"The server, such as redis://localhost:6379/0.  [or: {URL}]"),
        click.option("--broker", metavar="MODULE[:BROKER]", help=f"The broker, as for `dramatiq`.  [or: {BROKER}]"),
        click.option("--namespace", help=f"With --url: the namespace, by default `dramatiq-abort`.  [or: {NAMESPACE}]"),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line."),
        click.option("--verbose", is_flag=True, help="Show the traceback of an error."),
    ]
    for option in reversed(options):
        command = option(command)
    return click.pass_obj(command)


def keep(context: click.Context) -> None:
    """Store the values of the options that ``where()`` has added in the session."""
    for name in ("url", "broker", "namespace", "as_json", "verbose"):
        if name in context.params:
            setattr(context.obj, name, context.params.pop(name))
