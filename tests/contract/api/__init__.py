"""A package, so that the fixtures of this scope end with its tests; in another folder, they would last to the end."""
