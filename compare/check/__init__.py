"""The work of `backproof check`: checks of functions in the user's files, and of recorded training steps.

named.py            functions and inputs that are named on the command line
recording.py        the format of recordings
recorded_checks.py  recorded steps, compared with a loss in JAX
recorded_runs.py    two recordings, compared with each other
optimizers.py       update rules that are named on the command line
arrays.py  junit.py array files; reports as JUnit's XML
writers/            code in several languages that records steps
"""
