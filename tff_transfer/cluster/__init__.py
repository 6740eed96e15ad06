"""Certificates for a cluster, and how its nodes are started so that nobody else
enters: `python -m tff_transfer.cluster` (docs/cluster.md)."""
