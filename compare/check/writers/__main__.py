"""Prints the folder of the writers, for `cp "$(python -m compare.check.writers)/backproof_record.h" .`."""

from pathlib import Path

print(Path(__file__).parent)
