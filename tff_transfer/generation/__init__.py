"""Generated examples: how they are drawn, and what they are worth."""
