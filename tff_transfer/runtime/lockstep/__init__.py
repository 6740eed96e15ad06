"""Many clients' steps as one step with a leading axis of clients."""
