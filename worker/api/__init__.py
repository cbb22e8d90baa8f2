"""The HTTP surface: POST /api/training/snapshots and its siblings. FastAPI under uvicorn."""
