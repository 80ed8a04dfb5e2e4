"""Transactions and connection pools: an aborted transaction is rolled back, and no connection is lost.

With SQLAlchemy and psycopg, on SQLite and on a PostgreSQL of the tests' own; docs/guides/databases.md names the tests.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.results import Results
from support import (
    PATIENCE,
    Forgetting,
    needs_interrupts,
    result_of,
    run_forever,
    running_in,
    unprotect,
    wait_until,
    wait_until_it_waits,
    wait_until_requested,
)

from dramatiq_abort import Abortable, abort, abort_requested, shield
from dramatiq_abort._core import blocking_calls, safe_points
from dramatiq_abort._protocol.request import key_of
from dramatiq_abort.backends import StubBackend
from dramatiq_abort.interrupt import InterruptResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from dramatiq.message import Message

    from dramatiq_abort import EventBackend

sqlalchemy = pytest.importorskip("sqlalchemy")
orm = pytest.importorskip("sqlalchemy.orm")
psycopg = pytest.importorskip("psycopg", exc_type=ImportError)  # raised if libpq is missing
psycopg_pool = pytest.importorskip("psycopg_pool")

pytestmark = [needs_interrupts, pytest.mark.usefixtures("core"), pytest.mark.main_interpreter, pytest.mark.unpatched]

#: The modules that docs/guides/databases.md recommends to protect.
PROTECT = ["psycopg_pool", "sqlalchemy.pool"]

#: Further modules that can be protected as a whole, so that no statement is interrupted.
DRIVERS = ["psycopg", "sqlalchemy"]

#: The number of messages to abort at random moments in each test.
ABORTS = 200


class PostgreSQL:
    """A real server with its own directory, which contains its socket."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self._directory = directory
        self.dsn = f"host={directory} user=postgres dbname=postgres"
        # The server refuses to run as root.
        self._user: dict[str, Any] = {}
        if os.getuid() == 0:
            import pwd

            nobody = pwd.getpwnam("nobody")
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def start(self) -> subprocess.Popen[bytes]:
        data = self._directory / "data"
        words = [self._programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=self._directory, **self._user)
        words = [self._programs / "postgres", "-D", data, "-k", self._directory, "-c", "listen_addresses="]
        words += ["-c", "fsync=off", "-c", "full_page_writes=off"]
        log = self._directory / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(words, stdout=output, stderr=output, cwd=self._directory, **self._user)
        wait_until(self._answers, f"the server's answer (see {log})")
        return process

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn).close()
        except psycopg.OperationalError:
            return False
        return True

    def ask(self, statement: str, *parameters: object) -> list[Any]:
        """Return the result of a query on a separate connection."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return list(cursor.fetchall()) if cursor.description else []


class Database(ABC):
    """A table behind a connection pool."""

    @abstractmethod
    def transaction(self, *steps: str | Callable[[], object]) -> None:
        """Run statements or functions in one transaction, as users write it."""

    @abstractmethod
    def rows(self) -> list[int]:
        """Return the numbers in the table that a separate connection sees."""

    @abstractmethod
    def take(self) -> Any:
        """Return a context manager that holds a connection of the pool."""

    @abstractmethod
    def free(self) -> int:
        """Return the number of available connections."""

    def states(self) -> Counter[str]:
        """Return the states of the pool's connections on the server."""
        return Counter()

    @abstractmethod
    def close(self) -> None:
        """Close the pool's connections."""


class WithEngine(Database):
    """SQLAlchemy connections on SQLite."""

    def __init__(self, path: Path, size: int, **options: Any) -> None:
        self._path = path
        self._size = size
        # Writers wait for each other without a limit.
        timeout = {"connect_args": {"timeout": PATIENCE}}
        self._engine = self._create(f"sqlite:///{path}", **timeout | options)
        self.transaction("CREATE TABLE numbers (number INTEGER)")

    def _create(self, url: str, **options: Any) -> Any:
        return sqlalchemy.create_engine(
            url, pool_size=self._size, max_overflow=0, **{"pool_timeout": PATIENCE} | options
        )

    def transaction(self, *steps: str | Callable[[], object]) -> None:
        with self._engine.connect() as connection:
            for step in steps:
                step() if callable(step) else connection.execute(sqlalchemy.text(step))
            connection.commit()

    def rows(self) -> list[int]:
        with closing(sqlite3.connect(self._path)) as connection:
            return [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY number")]

    def take(self) -> Any:
        return self._engine.connect()

    def free(self) -> int:
        return self._size - int(self._engine.pool.checkedout())

    def close(self) -> None:
        self._engine.dispose()


class WithSession(WithEngine):
    """SQLAlchemy sessions on PostgreSQL with psycopg."""

    def __init__(self, server: PostgreSQL, size: int, **options: Any) -> None:
        self._server = server
        self._size = size
        words = {"application_name": "pool", "options": options.pop("server_options", "")}
        self._engine = self._create(
            "postgresql+psycopg://", connect_args=psycopg.conninfo.conninfo_to_dict(server.dsn, **words), **options
        )
        server.ask("DROP TABLE IF EXISTS numbers")
        server.ask("CREATE TABLE numbers (number INTEGER)")

    def transaction(self, *steps: str | Callable[[], object]) -> None:
        with orm.Session(self._engine) as session:
            for step in steps:
                step() if callable(step) else session.execute(sqlalchemy.text(step))
            session.commit()

    def rows(self) -> list[int]:
        return [number for (number,) in self._server.ask("SELECT number FROM numbers ORDER BY number")]

    def states(self) -> Counter[str]:
        states = self._server.ask("SELECT state FROM pg_stat_activity WHERE application_name = 'pool'")
        return Counter(str(state) for (state,) in states)


class WithPool(WithSession):
    """psycopg connections from its own pool, on PostgreSQL."""

    def __init__(self, server: PostgreSQL, size: int, **options: Any) -> None:
        self._server = server
        self._size = size
        words = {"application_name": "pool", "options": options.pop("server_options", "")}
        self.pool = psycopg_pool.ConnectionPool(
            psycopg.conninfo.make_conninfo(server.dsn, **words),
            min_size=size,
            max_size=size,
            open=True,
            **{"timeout": PATIENCE} | options,
        )
        self.pool.wait()
        server.ask("DROP TABLE IF EXISTS numbers")
        server.ask("CREATE TABLE numbers (number INTEGER)")

    def transaction(self, *steps: str | Callable[[], object]) -> None:
        with self.pool.connection() as connection:
            for step in steps:
                step() if callable(step) else connection.execute(step)

    def take(self) -> Any:
        return self.pool.connection()

    def free(self) -> int:
        return int(self.pool.get_stats()["pool_available"])

    def close(self) -> None:
        self.pool.close()


def programs() -> Path | None:
    """Return the directory of PostgreSQL's programs: on the PATH, or Debian's."""
    found = [Path(program).resolve().parent for program in [shutil.which("initdb")] if program]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((path for path in found if (path / "initdb").exists() and (path / "postgres").exists()), None)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """Start a real server for all tests."""
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL: its programs, initdb and postgres, are not on this machine")
    # Not in pytest's directories, which other users cannot enter; and the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        server = PostgreSQL(found, Path(directory))
        process = server.start()
        yield server
        process.send_signal(signal.SIGQUIT)  # immediate shutdown, which leaves no process behind
        process.wait(PATIENCE)


@pytest.fixture
def make_backend() -> Callable[[], EventBackend]:
    """Return a single backend: the origin of the request makes no difference here."""
    backend = StubBackend()
    return lambda: backend


@pytest.fixture
def is_protected() -> bool:
    return True


@pytest.fixture
def abortable(backend: EventBackend, is_protected: bool) -> Iterator[Abortable]:
    """Return an Abortable, with the protected modules of docs/guides/databases.md if the case needs them."""
    yield Abortable(backend=backend, protected_modules=PROTECT if is_protected else [])
    unprotect(*PROTECT, *DRIVERS)


@pytest.fixture(params=[WithEngine, WithSession, WithPool], ids=["sqlite", "sqlalchemy-postgresql", "psycopg"])
def make_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Database]]:
    """Return a factory of databases of one kind, behind a pool of a given size."""
    on_sqlite = request.param is WithEngine
    place = tmp_path / "numbers.db" if on_sqlite else request.getfixturevalue("postgresql")
    made: list[Database] = []

    def make(size: int = 1, **options: Any) -> Database:
        made.append(request.param(place, size, **options))
        return made[-1]

    yield make
    for database in made:
        database.close()


on_postgresql = pytest.mark.parametrize(
    "make_database", [WithSession, WithPool], ids=["sqlalchemy", "psycopg"], indirect=True
)
psycopg_alone = pytest.mark.parametrize("make_database", [WithPool], ids=["psycopg"], indirect=True)
sqlalchemy_alone = pytest.mark.parametrize("make_database", [WithEngine], ids=["sqlalchemy"], indirect=True)


def insert(number: int) -> str:
    return f"INSERT INTO numbers VALUES ({number})"  # noqa: S608


class Gate:
    """Blocks a task in C code until it is released."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._lock = threading.Lock()
        self._lock.acquire()
        self._thread = threading.current_thread()

    def __call__(self) -> None:
        self._thread = threading.current_thread()
        self._entered.set()
        self._lock.acquire()

    def wait(self) -> None:
        """Wait until a task has arrived."""
        assert self._entered.wait(PATIENCE)
        wait_until_it_waits(self._thread)

    def open(self) -> None:
        self._lock.release()


def wait_until_it_is_on_its_way(abortable: Abortable, message: Message[Any], is_protected: bool) -> None:
    """Wait until the waiting thread has been interrupted, or found where interrupts are forbidden."""
    wait_until_requested(abortable, message)
    (running,) = running_in(abortable).with_key(key_of(message.message_id))
    # From 3.13 on, the compiled core recognises a waiting thread at its second look.
    wait_until(
        lambda: (
            running.interrupt()
            in ({InterruptResult.ARMED, InterruptResult.PROTECTED} if is_protected else {InterruptResult.RAISED})
        )
    )


def assert_it_works(database: Database) -> None:
    """Check that another message on the same pool runs, with a complete transaction."""

    @dramatiq.actor(actor_name="next", max_retries=0)
    def task() -> str:
        database.transaction(insert(100), insert(101))
        return "done"

    assert result_of(task.send()) == "done"
    assert database.rows()[-2:] == [100, 101]


def test_a_transaction_that_is_cut_is_rolled_back(
    make_database: Callable[..., Database], worker: dramatiq.Worker
) -> None:
    """An aborted transaction is invisible to others, and its connection serves the next message."""
    database = make_database()
    half = threading.Event()

    @dramatiq.actor
    def task() -> None:
        database.transaction(insert(1), partial(run_forever, half), insert(2))

    message = task.send()
    assert half.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert database.rows() == []
    assert_it_works(database)


def test_a_transaction_in_a_shield_is_committed(
    make_database: Callable[..., Database], worker: dramatiq.Worker
) -> None:
    """A transaction in a shield is committed before the abort is raised."""
    database = make_database()
    half = threading.Event()
    went_on: list[bool] = []

    def wait_for_the_abort() -> None:
        half.set()
        wait_until(lambda: abort_requested() is not None, "the abort")

    @dramatiq.actor
    def task() -> None:
        with shield():
            database.transaction(insert(1), wait_for_the_abort, insert(2))
        went_on.append(True)

    message = task.send()
    assert half.wait(PATIENCE)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert not went_on
    assert database.rows() == [1, 2]
    assert_it_works(database)


@pytest.mark.parametrize("size", [1, 3])
def test_no_connection_is_lost(size: int, make_database: Callable[..., Database], worker: dramatiq.Worker) -> None:
    """Hundreds of aborts at random moments of four tasks' transactions lose no connection."""
    database = make_database(size)
    # The traceback refers to half-made connections of SQLAlchemy.
    worker.broker.add_middleware(Forgetting(), before=Results)
    started = [threading.Event() for _ in range(ABORTS)]

    @dramatiq.actor
    def task(number: int) -> None:
        started[number].set()
        while True:
            database.transaction(insert(1), insert(2))

    failures: Counter[str] = Counter()
    for first in range(0, ABORTS, 4):
        messages = [task.send(number) for number in range(first, first + 4)]
        for message, is_running in zip(messages, started[first:], strict=False):
            assert is_running.wait(PATIENCE)
            time.sleep(random.random() / 200)  # makes the moment random
            abort(message.message_id)
        failures.update(result_of(message)[0] for message in messages)

    assert failures == {"Abort": ABORTS}
    rows = Counter(database.rows())
    assert rows[1] == rows[2] > 0
    wait_until(lambda: database.free() == size, "all connections' return")
    wait_until(lambda: set(database.states()) <= {"idle"}, "the end of all transactions")
    wait_until(lambda: database.states().total() <= size, "the end of connections that have been replaced")
    with ExitStack() as stack:
        for _ in range(size):
            stack.enter_context(database.take())
    assert_it_works(database)


@sqlalchemy_alone
@pytest.mark.parametrize("is_protected", [True, False])
def test_sqlalchemys_pool_counts_its_connections(
    is_protected: bool, make_database: Callable[..., Database], abortable: Abortable, worker: dramatiq.Worker
) -> None:
    """SQLAlchemy's pool is not interrupted between counting a connection and making it."""
    gate = Gate()

    class Pool(sqlalchemy.pool.QueuePool):  # type: ignore[name-defined,misc]
        def _inc_overflow(self) -> bool:
            has_room = bool(super()._inc_overflow())
            if threading.current_thread() is not threading.main_thread() and not cut:
                cut.append(has_room)
                gate()
            return has_room

    cut: list[bool] = []
    database = make_database(poolclass=Pool, pool_timeout=PATIENCE)
    database.close()  # the connection that created the table

    @dramatiq.actor
    def task() -> None:
        database.transaction(insert(1), run_forever)

    message = task.send()
    gate.wait()
    abort(message.message_id)
    wait_until_it_is_on_its_way(abortable, message, is_protected=True)
    gate.open()

    assert result_of(message)[0] == "Abort"
    assert database.rows() == []
    assert_it_works(database)


@psycopg_alone
@pytest.mark.parametrize(
    ("is_protected", "with_statement", "holds"),
    [(True, True, True), (False, True, True), (True, False, False), (False, False, False)],
)
def test_psycopgs_pool_needs_with_statements(
    is_protected: bool,
    with_statement: bool,
    holds: bool,
    core: ModuleType,
    make_database: Callable[..., WithPool],
    abortable: Abortable,
    worker: dramatiq.Worker,
) -> None:
    """Without a ``with`` statement, an abort in psycopg's pool loses the connection that is handed over.

    With the pool protected, the connection is lost after getconn().
    """
    if not with_statement and core.__name__.endswith("_py"):
        pytest.skip("this core asks again a moment later")
    database = make_database(timeout=PATIENCE if holds else 0.1)
    pool = database.pool
    threads: list[threading.Thread] = []
    connection = pool.getconn()

    @dramatiq.actor
    def task() -> None:
        threads.append(threading.current_thread())
        if with_statement:
            with pool.connection(PATIENCE):
                run_forever()
        taken = pool.getconn(PATIENCE)
        try:
            run_forever()
        finally:
            pool.putconn(taken)

    message = task.send()
    wait_until(lambda: pool.get_stats()["requests_waiting"], "the task's wait")
    wait_until_it_waits(threads[0])
    abort(message.message_id)
    wait_until_it_is_on_its_way(abortable, message, is_protected or with_statement)
    pool.putconn(connection)

    assert result_of(message)[0] == "Abort"
    if holds:
        assert_it_works(database)
    else:
        with pytest.raises(psycopg_pool.PoolTimeout), database.take():
            pass
        connection.close()


@pytest.fixture(params=["wait_poll", "wait_c"])
def wait_function(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return psycopg's function that waits for the server, in Python code or in C code."""
    function = getattr(psycopg.waiting, request.param, None)
    if function is None:
        pytest.skip("psycopg is here without its C code")
    monkeypatch.setattr(psycopg.waiting, "wait", function)
    return str(request.param)


def wait_for_the_query(server: PostgreSQL) -> None:
    """Wait until the server is running the query."""
    waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pool' AND wait_event IN ('PgSleep', 'advisory')"
    wait_until(lambda: server.ask(waits), "the query")


@on_postgresql
@pytest.mark.parametrize("is_watched", [True, False])
def test_a_query_is_interrupted(
    is_watched: bool,
    wait_function: str,
    make_database: Callable[..., Database],
    worker: dramatiq.Worker,
    postgresql: PostgreSQL,
) -> None:
    """An interrupted query's connection is closed, and a server that checks for its client ends the query."""
    if wait_function == "wait_c" and not blocking_calls.SUPPORTED:
        pytest.skip("no signal interrupts a call here")
    database = make_database(server_options="-c client_connection_check_interval=50" if is_watched else "")

    @dramatiq.actor
    def task() -> None:
        database.transaction(insert(1), "SELECT pg_sleep(60)")

    message = task.send()
    wait_for_the_query(postgresql)
    abort(message.message_id)

    assert result_of(message)[0] == "Abort"
    assert_it_works(database)
    assert database.rows() == [100, 101]
    if is_watched:
        wait_until(lambda: database.states() == {"idle": 1}, "the end of the query")
    else:
        wait_until(lambda: database.states() == {"idle": 1, "active": 1}, "the server's going on with it")
        ended = postgresql.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%%sleep(60)'")
        assert ended
        wait_until(lambda: database.states() == {"idle": 1}, "its end")


@on_postgresql
@pytest.mark.parametrize(
    ("wait_function", "protect"),
    [("wait_c", []), ("wait_c", DRIVERS), ("wait_poll", DRIVERS)],
    indirect=["wait_function"],
)
def test_a_query_ends_before_the_abort(
    protect: list[str],
    wait_function: str,
    make_database: Callable[..., Database],
    abortable: Abortable,
    worker: dramatiq.Worker,
    postgresql: PostgreSQL,
) -> None:
    """In C code up to 3.14 and in a protected driver, the query ends before the abort and keeps its connection."""
    if not protect and blocking_calls.SUPPORTED:
        pytest.skip("a signal interrupts the call")
    database = make_database()
    for module in protect:
        safe_points.protect(module)
    events: list[str] = []
    process_ids = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pool'"

    @dramatiq.actor
    def task() -> None:
        try:
            database.transaction(insert(1), "SELECT pg_advisory_xact_lock(1)", run_forever)
        finally:
            events.append("the task has ended")

    with psycopg.connect(postgresql.dsn) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        message = task.send()
        wait_for_the_query(postgresql)
        found = postgresql.ask(process_ids)
        abort(message.message_id)
        wait_until_it_is_on_its_way(abortable, message, bool(protect))
        events.append("the query may end")

    assert result_of(message)[0] == "Abort"
    assert events == ["the query may end", "the task has ended"]
    assert database.rows() == []
    assert_it_works(database)
    # SQLAlchemy closes a connection if such an exception leaves its statement.
    assert (postgresql.ask(process_ids) == found) is (bool(protect) or isinstance(database, WithPool))
