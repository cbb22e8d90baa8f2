"""Writes the snapshots of an organization to files that trainers read."""
