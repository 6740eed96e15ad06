"""How a TFF computation runs."""
