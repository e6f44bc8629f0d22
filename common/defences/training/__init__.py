"""Defences that train a model: methods for the one training loop, and the entries of the registry that make them."""
