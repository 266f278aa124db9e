"""Every door of the judge, with derivatives that others wrote, and faults in them: `python -m benchmarks.doors`."""
