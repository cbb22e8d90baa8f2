"""Extends Flower: columns for requests, search by them, a Retry button, and the removal of personal data."""
