"""Counts what an organization's snapshots contain."""
