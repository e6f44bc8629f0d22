"""Attacks that read or change what goes on inside a network."""
