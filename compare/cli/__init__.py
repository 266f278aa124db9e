"""The command line: one module for each command, with its options and the calls that carry it out.

A command imports the modules that do its work only when it runs. Loading JAX takes a second, and `--help` and mistakes
in usage are answered without it.
"""
