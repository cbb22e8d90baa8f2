"""What the operations page reads and does, without HTTP."""
