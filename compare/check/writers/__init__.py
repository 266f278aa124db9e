"""Writers of recordings in C, Rust and Python. Each is a single file that users copy into their own project.

`python -m compare.check.writers` prints the folder in which they are. docs/recording.md says how to use them.
"""
