"""Training snapshots: accepts requests durably, makes frozen copies of conversations, and emits events about them."""
