"""Attacks that only ask: random search, finite differences, and searches along the decision boundary."""
