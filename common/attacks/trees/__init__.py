"""Attacks on decision trees: walks over leaves, and trees made smooth."""
