"""Pure rules of requests, messages and snapshots: no I/O."""
