"""What we add to Flower: the columns of requests, search by them, a Retry button, and no personal data."""
