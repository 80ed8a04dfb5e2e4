"""What the workers run; django-dramatiq finds it by the name of this file."""

import time

import dramatiq


@dramatiq.actor
def resize_pictures() -> None:
    while True:
        time.sleep(0.001)
