"""Writers of recordings, each one file to be copied into the project that records: C, Rust, and Python.

`python -m compare.check.writers` prints the folder in which they are. docs/recording.md says how to use them.
"""
