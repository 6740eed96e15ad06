"""The other frameworks, each run in an environment of its own on the same arrays."""
