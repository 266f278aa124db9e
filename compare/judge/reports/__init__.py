"""The results of checks: verdicts, rows and reports, as text, dicts and HTML."""
