"""The reads and changes behind the pages. Nothing here knows HTML."""
