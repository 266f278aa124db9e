"""The subjects of the commands: data sets, models, the ops of the catalog and the cases at which they are verified."""
