"""Checks an installation, with one module per subject, and the liveness of a single process for containers.

Every problem that `snapshots doctor` finds comes with advice.
"""
