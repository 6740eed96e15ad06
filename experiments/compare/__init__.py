"""A grid over any flags of the main job, run and told apart by one command."""
