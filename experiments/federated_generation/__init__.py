"""Generative models, trained federated: from nothing, and from pretrained ones."""
