"""Compares samples of the platform's collections with what this service reads, and suggests settings that map them."""
