"""Removes a person from everything we keep, and keeps them out."""
