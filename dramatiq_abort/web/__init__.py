"""A page that shows what the workers are running, and aborts it: to mount in a site, or to be run by itself.

It has no users and no passwords. Whoever can open the page can abort every message, so it belongs behind the login of
the site that it is mounted in; by itself it listens to this machine alone.
"""

from ._application import application
from ._server import Server, make_server, serve

__all__ = ["Server", "application", "make_server", "serve"]
