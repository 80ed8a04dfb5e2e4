"""Abort a transfer half way, which is rolled back, and another one behind a shield, which is committed."""

import tempfile
import threading
from pathlib import Path

import dramatiq
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import create_engine, text

from dramatiq_abort import Abortable, abort, shield
from dramatiq_abort.backends import StubBackend

broker = StubBroker()
# Else an abort in the middle of the pool's own code could cost it a connection.
broker.add_middleware(Abortable(backend=StubBackend(), protect=["sqlalchemy.pool"]))
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
def transfer_all_the_same(amount: int) -> None:
    with shield():  # around the transaction as a whole: its end is what commits
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
print(f"Aborted half way:         {balances()}.")

half_way.clear()
message = transfer_all_the_same.send(30)
half_way.wait()
abort(message.message_id)
answered.set()  # the other bank's answer comes after the abort
broker.join(transfer_all_the_same.queue_name, fail_fast=False)
print(f"Aborted behind a shield:  {balances()}.")

worker.stop()
engine.dispose()
directory.cleanup()
