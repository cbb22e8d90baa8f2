"""Reads and changes the data of the pages. Independent of HTML."""
