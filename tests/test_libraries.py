"""Libraries are never interrupted in operations that must finish: locks, pools, connections and set-up (1).

Each library is cut at every place where an abort may come up, one after another, and must be whole behind that.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import mariadb
import pytest
from cuts import cuts_of
from support import PATIENCE, needs_threads

from dramatiq_abort._core.protected_code import PROTECTED_IN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

pytestmark = [
    needs_threads,
    # CPython drops exceptions in destructors, such as that of an HTTP response.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.main_interpreter,
    pytest.mark.newest_dependencies,
]


class Handler(BaseHTTPRequestHandler):
    """Answers any request, and keeps the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_GET  # noqa: N815 - as the base class finds it

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def web_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    """Silence the libraries' log records about interrupted connections."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def count_cuts(function: Callable[[], object], check: Callable[[], object], step: int = 1) -> int:
    """Interrupt the function at every place, and check the state after each."""
    places = 0
    for place, _ in cuts_of(function, step):
        places += 1
        try:
            check()
        except Exception as error:
            raise AssertionError(f"broken by a cut at {place}") from error
    return places


def names_in(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant.co_name
            yield from names_in(constant)


def source_of(module: str) -> Path | None:
    """Return the path of a module without running its code."""
    path = None
    for length in range(1, module.count(".") + 2):
        spec = PathFinder.find_spec(".".join(module.split(".")[:length]), path)
        if spec is None or spec.origin is None:
            return None
        path = spec.submodule_search_locations
    return Path(str(spec.origin)) if spec is not None else None


#: Functions of traceback that have another name in this version of Python.
_RENAMED = "_some_str" if sys.version_info >= (3, 11) else "_safe_string"


@pytest.mark.parametrize("module", PROTECTED_IN)
def test_each_protected_function_is_there(module: str) -> None:
    """Each protected function exists in its module: a renamed one would no longer be protected."""
    if (source := source_of(module)) is None:
        pytest.skip(f"{module} is not installed")
    found = set(names_in(compile(source.read_text(encoding="utf-8"), str(source), "exec")))

    # From 3.12 on, a comprehension is not a separate function.
    assert {name for name in PROTECTED_IN[module] if name.isidentifier()} - {_RENAMED} <= found


def test_tqdms_lock_is_given_back() -> None:
    """A progress bar that is interrupted while it draws releases tqdm's lock."""
    tqdm = pytest.importorskip("tqdm").tqdm

    def draw() -> None:
        output = io.StringIO()
        with tqdm(total=3, file=output, mininterval=0, miniters=1) as bar:
            bar.update(1)
            bar.refresh()
            bar.clear()
        for _ in tqdm(range(2), file=output, mininterval=0, miniters=1):
            pass
        tqdm.write("a line", file=output)

    def check() -> None:
        locks = type(tqdm.get_lock())
        assert not locks.th_lock._is_owned()
        assert locks.mp_lock is None or not locks.mp_lock._semlock._is_mine()

    interval, tqdm.monitor_interval = tqdm.monitor_interval, 0
    try:
        assert count_cuts(draw, check) > 10
    finally:
        tqdm.monitor_interval = interval


def test_sqlalchemys_mappers_are_configured_as_a_whole() -> None:
    """SQLAlchemy's mappers are configured completely: half configured, they would fail in this process."""
    orm = pytest.importorskip("sqlalchemy.orm")
    sqlalchemy = pytest.importorskip("sqlalchemy")
    models: list[Any] = []

    def declare() -> None:
        base = orm.declarative_base()

        class Parent(base):  # type: ignore[misc]
            __tablename__ = "parent"
            id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
            children = orm.relationship("Child", back_populates="parent")

        class Child(base):  # type: ignore[misc]
            __tablename__ = "child"
            id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
            parent_id = sqlalchemy.Column(sqlalchemy.ForeignKey("parent.id"))
            parent = orm.relationship("Parent", back_populates="children")

        models[:] = Parent, Child

    def use() -> None:
        parent, child = models
        str(sqlalchemy.select(parent).join(parent.children).where(child.id == 1))
        parent(children=[child()])

    def check() -> None:
        use()
        declare()

    declare()
    assert count_cuts(use, check, step=41) > 10


def test_sqlalchemys_pool_loses_no_place(tmp_path: Path) -> None:
    """SQLAlchemy's pool loses no place, neither at checkout nor at return."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    url = f"sqlite:///{tmp_path / 'database'}"
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.QueuePool, pool_size=1, max_overflow=0, pool_timeout=1)

    def query() -> None:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1")).all()

    def check() -> None:
        assert engine.pool.checkedout() == 0
        query()

    assert count_cuts(query, check) > 10
    engine.dispose()


def check_places(pool: Any, ask: Callable[[], object]) -> Callable[[], None]:
    """Return a check that urllib3's pool of one place still has it and works."""

    def check() -> None:
        assert pool.pool.qsize() == 1
        ask()

    return check


def test_urllib3s_pool_loses_no_place(web_server: str) -> None:
    """urllib3's pool neither loses a place nor gains one."""
    urllib3 = pytest.importorskip("urllib3")
    with urllib3.connection_from_url(web_server, maxsize=1, block=True) as pool:

        def ask() -> None:
            assert pool.request("GET", "/", timeout=PATIENCE, pool_timeout=1).data == b"{}"

        assert count_cuts(ask, check_places(pool, ask), step=3) > 10


def test_requests_pool_loses_no_place(web_server: str) -> None:
    """The pool of requests loses no place, not even while the response is on its way to the caller."""
    requests = pytest.importorskip("requests")
    adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1, pool_block=True)
    with requests.Session() as session:
        session.mount("http://", adapter)

        def ask() -> None:
            assert session.get(web_server, timeout=PATIENCE).json() == {}

        ask()
        pool = adapter.poolmanager.connection_from_url(web_server)
        assert count_cuts(ask, check_places(pool, ask), step=41) > 10


def test_httpxs_pool_loses_no_place(web_server: str) -> None:
    """The pool of httpx does not count connections that are not in use."""
    httpx = pytest.importorskip("httpx")
    timeout = httpx.Timeout(PATIENCE, pool=1)
    with httpx.Client(limits=httpx.Limits(max_connections=1), timeout=timeout) as client:

        def ask() -> None:
            assert client.get(web_server).json() == {}

        def check() -> None:
            ask()
            assert not client._transport._pool._requests

        assert count_cuts(ask, check, step=11) > 10


@pytest.mark.parametrize("way", ["pool", "blocking pool", "one connection"])
def test_redis_replies_are_for_who_has_asked(redis_client: redis.Redis, namespace: str, way: str) -> None:
    """redis-py delivers each reply to its own command, and its pools lose no connection."""
    import redis

    parameters = redis_client.connection_pool.connection_kwargs
    if way == "pool":
        client = redis.Redis(connection_pool=redis.ConnectionPool(max_connections=1, **parameters))
    elif way == "blocking pool":
        client = redis.Redis(connection_pool=redis.BlockingConnectionPool(max_connections=1, timeout=1, **parameters))
    else:
        client = redis.Redis(single_connection_client=True, port=parameters["port"])
    keys = [f"{namespace}-{number}" for number in range(3)]
    for number, key in enumerate(keys):
        client.set(key, number)

    def ask() -> None:
        client.get(keys[0])
        with client.pipeline() as pipeline:
            pipeline.get(keys[1]).get(keys[2]).execute()

    def check() -> None:
        assert [client.get(key) for key in keys] == [b"0", b"1", b"2"]

    assert count_cuts(ask, check, step=1 if way == "pool" else 3) > 10
    client.close()


def test_kombus_pools_lose_no_place(redis_client: redis.Redis, namespace: str) -> None:
    """Nor do they lend one connection twice."""
    pytest.importorskip("kombu")
    from kombu import Connection
    from kombu.pools import Connections, Producers

    connections = Connections(limit=1)
    producers = Producers(limit=1)
    producers.connections = connections  # type: ignore[attr-defined]
    port = redis_client.connection_pool.connection_kwargs["port"]
    connection = Connection(f"redis://127.0.0.1:{port}/")
    pools = connections[connection], producers[connection]

    def use() -> None:
        with producers[connection].acquire(block=True, timeout=1) as producer:
            producer.publish("text", routing_key=namespace)
        with connections[connection].acquire(block=True, timeout=1) as taken:
            taken.default_channel.queue_purge(namespace)

    def check() -> None:
        use()
        for pool in pools:
            assert not pool._dirty
            assert pool._resource.qsize() == 1

    assert count_cuts(use, check) > 10
    for pool in pools:
        pool.force_close_all()


@pytest.fixture(scope="module")
def mariadb_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if not mariadb.has_programs():
        pytest.skip("no MariaDB: install mariadb-server")
    yield from mariadb.started(tmp_path_factory.mktemp("mariadb"))


@pytest.mark.filterwarnings("ignore:Previous unbuffered result")  # it is read to its end then
@pytest.mark.parametrize("cursor", ["Cursor", "SSCursor"])
def test_pymysqls_replies_are_for_their_commands(mariadb_port: int, cursor: str) -> None:
    """A connection that cannot tell them apart any more is closed."""
    pymysql = pytest.importorskip("pymysql")
    cursors = pytest.importorskip("pymysql.cursors")
    connections: list[Any] = []

    def connect() -> None:
        connections[:] = [
            pymysql.connect(
                host="127.0.0.1",
                port=mariadb_port,
                user="root",
                cursorclass=getattr(cursors, cursor),
                read_timeout=PATIENCE,
            )
        ]

    def use() -> None:
        with connections[0].cursor() as taken:
            taken.execute("SELECT 1 UNION SELECT 2")
            taken.fetchall()
        connections[0].ping(reconnect=False)
        connections[0].commit()

    def check() -> None:
        if not connections[0].open:
            connect()
        with connections[0].cursor() as taken:
            taken.execute("SELECT 3")
            assert list(taken.fetchall()) == [(3,)]

    connect()
    assert count_cuts(use, check) > 10
    connections[0].close()


def test_cachetools_caches_are_whole() -> None:
    """Caches of cachetools stay consistent, and no caller waits for a value that is not being computed."""
    cachetools = pytest.importorskip("cachetools")
    made: list[Any] = []

    def make() -> None:
        condition = threading.Condition()
        cached = cachetools.cached(cachetools.LRUCache(3), condition=condition)(lambda number: [number])
        made[:] = cachetools.TTLCache(3, PATIENCE), cached

    def use() -> None:
        cache, cached = made
        for number in range(6):
            cache[number] = number
            cache.get(number - 1)
            cached(number)
        cache.pop(5)
        cache.clear()

    def check() -> None:
        cache, cached = made
        thread = threading.Thread(target=lambda: [cached(number) for number in range(6)], daemon=True)
        thread.start()
        use()
        assert len(list(cache)) == cache.currsize == 0
        thread.join(PATIENCE)
        assert not thread.is_alive()
        make()

    make()
    assert count_cuts(use, check) > 10


def test_joblib_does_not_swallow_an_abort(tmp_path: Path) -> None:
    """Its cache on disk goes on without what it could not read or write."""
    joblib = pytest.importorskip("joblib")
    cached = joblib.Memory(tmp_path / "cache", verbose=0).cache(abs)

    def use() -> None:
        joblib.logger.PrintTime(str(tmp_path / "log"))("done")
        cached(-1)
        cached.clear(warn=False)

    cuts = list(cuts_of(use, step=3))
    assert len(cuts) > 10
    assert [place for place, came_out in cuts if not came_out] == []


def test_sentry_does_not_swallow_an_abort(web_server: str) -> None:
    """Sentry, which catches exceptions in its own code, does not swallow an abort."""
    sentry_sdk = pytest.importorskip("sentry_sdk")
    url = web_server.replace("http://", "http://key@")
    sentry_sdk.init(f"{url}1", traces_sample_rate=1.0, default_integrations=False, shutdown_timeout=0)

    def report() -> None:
        with sentry_sdk.start_transaction(name="task"), sentry_sdk.start_span(op="step"):
            sentry_sdk.add_breadcrumb(message="here")
            sentry_sdk.set_tag("tag", 1)
            sentry_sdk.capture_message("text")

    try:
        cuts = list(cuts_of(report))
        assert len(cuts) > 10
        assert [place for place, came_out in cuts if not came_out] == []
    finally:
        sentry_sdk.get_client().close(timeout=0)
        sentry_sdk.init()
