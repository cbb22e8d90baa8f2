"""The collections in MongoDB and the keys in Redis that this service reads and writes."""
