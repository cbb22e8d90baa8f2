"""A client for producers and consumers of training snapshots. It needs only redis and pydantic.

    with SnapshotClient("redis://localhost:6379/0") as client:
        sent = client.request(organization_id=..., contact_id=..., conversation_id=...)
        outcome = client.wait(sent, timeout=30)

It is `worker.client` of the distribution `training-snapshots`; both can be installed in one environment.
"""

from .client import *  # noqa: F403 - exactly what worker/client/__init__.py exports
from .client import __all__ as __all__
