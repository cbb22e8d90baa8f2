"""mongod fails on purpose: fail points, which its `enableTestCommands` allows.

https://github.com/mongodb/mongo/wiki/The-%22failCommand%22-fail-point
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo

APP = "training-snapshots"
"""Only our own clients fail; those of other tests in this process are none of ours at that moment."""


@contextmanager
def failing(
    client: pymongo.MongoClient[Any], commands: list[str], mode: Any = "alwaysOn", **how: Any
) -> Iterator[None]:
    """These commands fail while the block lasts: `errorCode`, `closeConnection`, `writeConcernError`, `blockTimeMS`.

    At least one must, or the block has tested nothing.
    """
    data = {"failCommands": commands, "appName": APP, **how}
    before = client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})["count"]
    try:
        yield
    finally:
        after = client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})["count"]
    assert after > before, f"none of the commands {', '.join(commands)} was sent"
