"""The address of Redis: the parser of its URL, and the clients and settings that are made from it."""
