"""Gradient attacks: one loop, Ascent, and what varies around it."""
