"""What the commands run on: data, models, ops and their cases."""
