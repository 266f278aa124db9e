"""What `backproof check` runs: functions that are named by their file, steps and runs that were recorded elsewhere, and
the writers that record them."""
