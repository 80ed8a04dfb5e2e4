"""A FastAPI endpoint that aborts a job and awaits its outcome.

Run the site with ``uvicorn fastapi_app:app``, and the workers with ``dramatiq fastapi_app``.
"""

import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from fastapi import FastAPI, Response
from fastapi.concurrency import run_in_threadpool

from dramatiq_abort import Abortable, abort, wait_for_outcome_async

broker = RedisBroker(url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
broker.add_middleware(Abortable())
dramatiq.set_broker(broker)

app = FastAPI()


@dramatiq.actor
def resize_pictures() -> None:
    while True:
        time.sleep(0.001)


@app.post("/jobs", status_code=202)
def start() -> dict[str, str]:
    return {"id": resize_pictures.send().message_id}


@app.delete("/jobs/{message_id}")
async def stop(message_id: str, response: Response, reason: str = "requested on the site") -> dict[str, object]:
    await run_in_threadpool(abort, message_id, reason=reason)
    outcome = await wait_for_outcome_async(message_id, timeout=5_000)
    response.status_code = 200 if outcome.is_known else 202
    return outcome.asdict()
