"""The OpenAPI document: FastAPI's, extended by the inputs whose limits are settings.

https://fastapi.tiangolo.com/how-to/extending-openapi/
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from worker.api.parameters import (
    backfill_body,
    create_body,
    edit_body,
    export_body,
    export_list_query,
    export_query,
    list_query,
    snapshot_filter,
)
from worker.settings import Settings

DESCRIPTION = """\
Training snapshots: frozen copies of conversations, made in the background. Every operation on snapshots needs
`Authorization: Bearer <token>` and sees only the token's organization.

    curl -X POST http://127.0.0.1:8000/api/training/snapshots \\
      -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
      -d '{"contactId": "6a1b2c3d4e5f60718293a4b5", "notes": "Excellent handling", "tags": ["billing"],
           "quality": "excellent", "category": "customer_support"}'
"""


def document(app: FastAPI, limits: Settings) -> dict[str, Any]:
    """Return the OpenAPI document of the app, which is generated once.

    `limits`: the settings, for lengths and counts.
    """
    if app.openapi_schema is None:
        generated = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        inputs: dict[str, dict[str, Any]] = {
            "createSnapshot": {"requestBody": create_body(limits)},
            "updateSnapshot": {"requestBody": edit_body(limits)},
            "listSnapshots": {"parameters": list_query(limits)},
            "createBackfill": {"requestBody": backfill_body(limits)},
            "measureSnapshots": {"parameters": snapshot_filter(limits)},
            "createExport": {"requestBody": export_body(limits)},
            "listExports": {"parameters": export_list_query()},
            "exportSnapshots": {"parameters": export_query(limits)},
        }
        for operations in generated["paths"].values():
            for operation in operations.values():
                operation.update(inputs.get(operation["operationId"], {}))
        app.openapi_schema = generated
    return app.openapi_schema
