"""Checks at the start of a process whether the servers and files that it needs can be used, and names what is wrong."""
