"""Every method that suits some data, tuned, run and ranked by one command."""
