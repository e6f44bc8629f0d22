"""Attacks: compositions of parts around a few loops, listed in catalogues."""
