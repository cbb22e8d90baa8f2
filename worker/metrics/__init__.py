"""What is measured of the whole system: the same figures, whichever process is asked."""
