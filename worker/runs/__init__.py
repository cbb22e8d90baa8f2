"""Processes the requests that one message names: `run` is the straight line, the other modules are its steps."""
