"""Checks at the start of a process whether the servers that the settings name can be used, and names what is wrong."""
