"""Attacks on sounds, by name."""
