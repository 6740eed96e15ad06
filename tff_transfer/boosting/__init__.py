"""Federated boosting: ensembles whose members are chosen or weighted by sums."""
