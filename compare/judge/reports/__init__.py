"""What a check found: verdicts, rows, reports, and how they are shown."""
