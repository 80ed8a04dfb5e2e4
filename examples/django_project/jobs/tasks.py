"""The actors; django-dramatiq discovers them by the name of this module."""

import time

import dramatiq


@dramatiq.actor
def resize_pictures() -> None:
    while True:
        time.sleep(0.001)
