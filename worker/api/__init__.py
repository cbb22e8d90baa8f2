"""The HTTP API: creates, lists, shows, edits, deletes and exports snapshots. FastAPI under uvicorn."""
