"""What `snapshots doctor` looks at: each check in a module of its own, each finding with what to do about it."""
