"""Turns resolved conversations into snapshot requests, as each organization's policy says."""
