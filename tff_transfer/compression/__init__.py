"""How what travels is made smaller, at a loss: one file a published scheme."""
