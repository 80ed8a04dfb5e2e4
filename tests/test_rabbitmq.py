"""A task that is aborted while it sends leaves a usable connection (1), with a real RabbitMQ."""

from __future__ import annotations

import random
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from rabbitmq import binary, started
from support import PATIENCE, needs_interrupts, needs_threads, wait_until

from dramatiq_abort import Abortable, abort, wait_for_outcome
from dramatiq_abort.backends import StubBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from dramatiq.brokers.rabbitmq import RabbitmqBroker

pika = pytest.importorskip("pika")

pytestmark = [needs_interrupts, needs_threads, pytest.mark.main_interpreter]

ABORTS = 30


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if (program := binary()) is None:
        pytest.skip("no RabbitMQ: install rabbitmq-server")
    yield from started(program, tmp_path_factory.mktemp("rabbitmq"))


@pytest.fixture
def broker(url: str) -> Iterator[RabbitmqBroker]:
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    broker = RabbitmqBroker(url=url, middleware=[Abortable(backend=StubBackend())])
    dramatiq.set_broker(broker)
    yield broker
    dramatiq.set_broker(None)  # type: ignore[arg-type]
    broker.close()


@pytest.fixture
def start(broker: RabbitmqBroker) -> Iterator[Callable[..., None]]:
    """Return a function that starts a worker for a queue with a number of threads."""
    workers: list[dramatiq.Worker] = []

    def start(queue: str, threads: int) -> None:
        worker = dramatiq.Worker(broker, queues={queue}, worker_timeout=100, worker_threads=threads)
        worker.start()
        workers.append(worker)

    yield start
    for worker in workers:
        worker.stop(timeout=PATIENCE * 1000)


def abort_soon(message: Any, begun: threading.Event) -> str:
    """Abort a message at a random moment after its start."""
    assert begun.wait(PATIENCE)
    time.sleep(random.uniform(0.001, 0.02))
    abort(message.message_id)
    return wait_for_outcome(message.message_id, timeout=PATIENCE * 1000).state.value


def test_what_is_sent_behind_an_aborted_send_comes(
    core: ModuleType, broker: RabbitmqBroker, start: Callable[..., None]
) -> None:
    """Messages sent after an aborted send arrive, on the same thread and channel."""
    queue = f"test-{uuid.uuid4()}"
    came: set[str] = set()
    begun = threading.Event()

    def dispatch(number: int) -> None:
        begun.set()
        while True:
            child.send(f"dispatched-{number}")

    def innocent(number: int) -> None:
        for each in range(5):
            child.send(f"innocent-{number}-{each}")

    child = dramatiq.actor(actor_name="child", queue_name=f"{queue}-children")(came.add)
    dispatcher = dramatiq.actor(queue_name=queue)(dispatch)
    innocents = dramatiq.actor(queue_name=queue)(innocent)
    start(queue, threads=1)
    start(f"{queue}-children", threads=2)

    for number in range(ABORTS):
        begun.clear()
        assert abort_soon(dispatcher.send(number), begun) == "aborted"
        innocents.send(number)
    wanted = {f"innocent-{number}-{each}" for number in range(ABORTS) for each in range(5)}

    wait_until(lambda: came >= wanted, "all that was sent")


def test_a_connection_of_the_tasks_own_is_whole(
    core: ModuleType, url: str, broker: RabbitmqBroker, start: Callable[..., None]
) -> None:
    """A task's own connection is usable after an abort among publishing, requests and acknowledgements."""
    queue = f"test-{uuid.uuid4()}"
    begun = threading.Event()
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare(f"{queue}-own")

    def publish() -> None:
        begun.set()
        while True:
            channel.basic_publish("", f"{queue}-own", b"body")
            method, _, _ = channel.basic_get(f"{queue}-own")
            channel.basic_ack(method.delivery_tag)
            time.sleep(0.001)  # the only place where the pure-Python core finds it

    publisher = dramatiq.actor(queue_name=queue)(publish)
    start(queue, threads=1)
    for _ in range(ABORTS):
        begun.clear()
        assert abort_soon(publisher.send(), begun) == "aborted"
        channel.basic_publish("", f"{queue}-own", b"last")
        wait_until(lambda: channel.basic_get(f"{queue}-own", auto_ack=True)[2] == b"last", "what was published last")
    connection.close()


def test_a_task_that_consumes_is_aborted(
    core: ModuleType, url: str, broker: RabbitmqBroker, start: Callable[..., None]
) -> None:
    """A task that consumes is aborted while it waits for messages, and while it processes one."""
    queue = f"test-{uuid.uuid4()}"
    begun = threading.Event()

    def wait_for_messages() -> None:
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            channel = connection.channel()
            channel.queue_declare(f"{queue}-own")
            begun.set()
            for _ in channel.consume(f"{queue}-own", inactivity_timeout=0.01):
                pass

    def handle_messages() -> None:
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            channel = connection.channel()
            channel.queue_declare(f"{queue}-other")
            channel.basic_publish("", f"{queue}-other", b"body")
            channel.basic_consume(f"{queue}-other", lambda *_: handle(), auto_ack=True)
            channel.start_consuming()

    def handle() -> None:
        begun.set()
        while True:
            time.sleep(0.001)

    for task in (wait_for_messages, handle_messages):
        dramatiq.actor(queue_name=queue)(task)
    start(queue, threads=1)
    for task in (wait_for_messages, handle_messages):
        begun.clear()
        assert abort_soon(broker.get_actor(task.__name__).send(), begun) == "aborted"
