"""Erases contacts: removes all data of a person, and refuses later requests for the contact."""
