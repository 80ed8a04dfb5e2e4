"""A web dashboard that shows the running messages and aborts them: mounted in a site, or served by itself.

It has no users and no passwords. Everyone who can open the page can abort every message, so mount it behind the login
of a site; by itself, it listens on the loopback interface only.
"""

try:
    from ._application import application
    from ._server import Server, make_server, serve
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"dramatiq_abort.web needs the module {_error.name!r}: pip install 'dramatiq-abort[web]'", name=_error.name
    ) from _error

__all__ = ["Server", "application", "make_server", "serve"]
