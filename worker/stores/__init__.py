"""Everything we read and write in MongoDB and Redis."""
