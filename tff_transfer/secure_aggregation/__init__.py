"""Sums of clients' vectors by a server that sees no client's vector."""
