"""Arithmetic of an evaluation: rates, intervals, tests. Knows neither models nor attacks."""
