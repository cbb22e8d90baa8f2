"""A listener and runs as threads of a test: what is sent has its outcome, without Celery."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.pipeline import run_accepted
from worker.intake.listener import Listener
from worker.service import Service


@contextmanager
def pipeline(service: Service) -> Iterator[None]:
    """Takes in and runs what is sent."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.02):
            run_accepted(service)

    threads = [threading.Thread(target=Listener(service).run, args=(stop,)), threading.Thread(target=work)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
