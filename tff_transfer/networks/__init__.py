"""Networks as functions of their weights: how they are traced, cut and normalised."""
