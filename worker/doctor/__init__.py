"""The checks of an installation, one module per subject, and those of one process by its container.

Every problem that `snapshots doctor` finds comes with advice.
"""
