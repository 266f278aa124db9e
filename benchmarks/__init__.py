"""Campaigns that measure the judge and the catalog: too long for the tests, each with its own command.

They check planted and reported faults, correct functions and the derivatives of published libraries, and compare the
judge with other gradient checkers.
"""
