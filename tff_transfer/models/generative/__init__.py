"""Models that generate images: how they are trained, and how they draw."""
