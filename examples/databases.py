"""Abort a transfer halfway, which is rolled back, and one inside a shield, which is committed."""

import tempfile
import threading
from pathlib import Path

import dramatiq
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import create_engine, text

from dramatiq_abort import Abortable, abort, shield
from dramatiq_abort.backends import StubBackend

broker = StubBroker()
# Without `protected_modules`, an abort inside the pool's own code could leak a connection.
broker.add_middleware(Abortable(backend=StubBackend(), protected_modules=["sqlalchemy.pool"]))
dramatiq.set_broker(broker)

directory = tempfile.TemporaryDirectory()
engine = create_engine(f"sqlite:///{Path(directory.name, 'bank.db')}")
half_way, answered = threading.Event(), threading.Event()


def move(amount: int) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE accounts SET balance = balance - :n WHERE owner = 'Ann'"), {"n": amount})
        ask_the_other_bank()
        connection.execute(text("UPDATE accounts SET balance = balance + :n WHERE owner = 'Bob'"), {"n": amount})


def ask_the_other_bank() -> None:
    half_way.set()
    while not answered.wait(timeout=0.01):
        pass


@dramatiq.actor
def transfer(amount: int) -> None:
    move(amount)


@dramatiq.actor
def transfer_with_shield(amount: int) -> None:
    with shield():  # around the whole transaction, because its end is what commits
        move(amount)


def balances() -> str:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT owner, balance FROM accounts ORDER BY owner"))
        return ", ".join(f"{owner} has {balance}" for owner, balance in rows)


with engine.begin() as connection:
    connection.execute(text("CREATE TABLE accounts (owner TEXT, balance INTEGER)"))
    connection.execute(text("INSERT INTO accounts VALUES ('Ann', 100), ('Bob', 0)"))
print(f"Before:                   {balances()}.")

worker = dramatiq.Worker(broker)
worker.start()

message = transfer.send(30)
half_way.wait()
abort(message.message_id)
broker.join(transfer.queue_name, fail_fast=False)
print(f"Aborted halfway:          {balances()}.")

half_way.clear()
message = transfer_with_shield.send(30)
half_way.wait()
abort(message.message_id)
answered.set()  # the other bank answers after the abort
broker.join(transfer_with_shield.queue_name, fail_fast=False)
print(f"Aborted inside a shield:  {balances()}.")

worker.stop()
engine.dispose()
directory.cleanup()
