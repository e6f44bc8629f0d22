"""Attacks on texts, by name."""
