"""Replaces personal data in texts with placeholders; pure, without I/O."""
