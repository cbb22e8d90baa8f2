"""The operations page: what is in flight, what failed and why, and putting it right. HTML made on the server."""
