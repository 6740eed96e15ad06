"""How the clients' updates become one: TFF aggregation factories of our own."""
