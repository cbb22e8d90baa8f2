"""What the pages show and change. Nothing in here knows HTML."""
