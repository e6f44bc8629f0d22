"""Attacks that look for the smallest change that reaches the goal."""
