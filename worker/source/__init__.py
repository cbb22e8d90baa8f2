"""Reads the platform's contacts, conversations and messages."""
