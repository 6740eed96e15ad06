"""What a run leaves: its directory, metrics, checkpoints, plots, report and exports."""
