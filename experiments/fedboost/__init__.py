"""Boosting across clients: ensembles that are weighted, picked or grown federated."""
