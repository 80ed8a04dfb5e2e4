"""A short storm with one injected fault: ``python storm_faults.py COUNTER``, which must count it.

For the counters that the naive implementation moves only in some storms.
"""

from __future__ import annotations

import sys

import storm
from dramatiq.middleware import Middleware
from storm_messages import COMPUTING, lock

from dramatiq_abort import Abort, restore


class Fault(Middleware):
    """Injects a fault at the first suitable message, after all other middleware."""

    message_id = None

    def after_process_message(self, broker, message, *, result=None, exception=None):
        if self.message_id is None and self.is_for(message, exception):
            self.message_id = message.message_id
            self.happen(broker, message, result)

    def is_for(self, message, exception):
        return message.actor_name == "task" and exception is None


class HooksTwice(Fault):
    """Calls dramatiq's hooks twice."""

    def happen(self, broker, message, result):
        broker.emit_after("process_message", message, result=result)


class ThreadLost(Fault):
    """Ends the worker thread."""

    def after_process_message(self, broker, message, *, result=None, exception=None):
        super().after_process_message(broker, message, result=result, exception=exception)
        if message.message_id == self.message_id:  # once more, because dramatiq catches the first one
            raise Abort

    def happen(self, broker, message, result):
        pass


class CompletedAndAborted(Fault):
    """Reports a completed message as aborted."""

    def happen(self, broker, message, result):
        broker.emit_after("process_message", message, exception=Abort())


class RunAgain(Fault):
    """Redelivers an aborted message, and restores it."""

    def is_for(self, message, exception):
        return message.actor_name == "lasting" and isinstance(exception, Abort)

    def happen(self, broker, message, result):
        restore(message.message_id)
        broker.enqueue(message.copy())  # it is aborted again


class LockLeft(Fault):
    """Acquires a lock and never releases it."""

    def happen(self, broker, message, result):
        lock.acquire()


class MessageLost(Fault):
    """Stands in for a RabbitMQ that has lost a message."""

    def is_for(self, message, exception):
        return False

    def send(self):
        pass

    def count(self, patience):
        return 0, 1


FAULTS = {
    storm.LOST: MessageLost,
    storm.HOOKS: HooksTwice,
    storm.THREADS_LOST: ThreadLost,
    storm.BOTH: CompletedAndAborted,
    storm.AGAIN: RunAgain,
    storm.LOCKED: LockLeft,
}


class Round(storm.Round):
    """A round with a fault, with simple messages only: others would wait for the lock."""

    fault: type[Fault]

    def __init__(self, way, kinds, rng, rabbitmq):
        fault = self.fault()
        rabbitmq = fault if isinstance(fault, MessageLost) else None
        super().__init__(way._replace(patience=10), COMPUTING, rng, rabbitmq)
        self.broker.middleware.insert(0, fault)


if __name__ == "__main__":
    Round.fault = FAULTS[sys.argv[1]]
    sys.argv[1:] = ["1"]  # one round
    storm.MESSAGES = 100
    storm.Round = Round
    storm.main()
