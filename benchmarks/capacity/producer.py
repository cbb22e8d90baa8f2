"""The producer, one process: adds entries to the intake stream at given times, whether earlier ones are done or not.

The order is JSON:

    python -m benchmarks.capacity.producer '{"load": {"rate": 20, "seconds": 10}, "contacts": 100, "tag": "x"}'
"""

import json
import sys
import time
from typing import Any

from benchmarks.actors import perform
from benchmarks.capacity.arrivals import Load
from benchmarks.dataset import bodies
from worker.bootstrap import service
from worker.settings import settings

_AT_ONCE = 1000


def main(order: dict[str, Any]) -> None:
    """`order`: `load`, `contacts`, `tag`. Reports `added`: when each entry came, in ms by Redis's clock, by request.

    `calls`: how many pipelines it sent.
    """
    load = Load(**order["load"])
    times = load.times()
    requests = list(bodies(len(times), order["contacts"], order["tag"]))
    entries: list[Any] = [{"type": "snapshot.requested", "data": json.dumps(each)} for each in requests]
    service().connections.redis.ping()

    def send() -> dict[str, Any]:
        ids: list[bytes] = []
        calls = 0
        began = time.monotonic()
        while len(ids) < len(times):
            now = time.monotonic() - began
            first = len(ids)
            if times[first] > now:
                time.sleep(times[first] - now)
                continue
            end = first + 1
            while end < min(len(times), first + _AT_ONCE) and times[end] <= now:
                end += 1
            # A burst is in the stream as a whole, or not at all.
            with service().connections.redis.pipeline(transaction=load.burst > 1) as pipeline:
                for entry in entries[first:end]:
                    pipeline.xadd(settings().requests_stream, entry)
                ids += pipeline.execute()
            calls += 1
        keys = [request["requestId"] for request in requests]
        return {"calls": calls, "added": {key: int(each.split(b"-")[0]) for key, each in zip(keys, ids, strict=True)}}

    perform(send)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
