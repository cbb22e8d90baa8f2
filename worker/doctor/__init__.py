"""The checks of `snapshots doctor`, one module per subject. Every problem that they find comes with advice."""
