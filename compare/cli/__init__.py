"""One module for each command: its options, and what is run with them. Work is imported when it is asked for.

JAX takes a second to load, and `--help` and mistakes in usage are to be answered at once.
"""
