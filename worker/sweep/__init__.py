"""Periodic repair of what was lost between the ledger and Redis."""
