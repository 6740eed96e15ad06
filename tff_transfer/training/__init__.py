"""From a configuration to a run: what it needs, its rounds, and its result."""
