"""Runs the whole stack on one machine, for the demo, development and tests."""
