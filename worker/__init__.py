"""Training snapshots: accepts requests durably, makes frozen copies of conversations, tells of them."""
