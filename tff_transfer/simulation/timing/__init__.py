"""When the server takes its steps: after rounds, or as clients report."""
