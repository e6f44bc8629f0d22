"""Robust accuracy: the worst case over all attackers, and the tests that they have to pass before it is believed."""
