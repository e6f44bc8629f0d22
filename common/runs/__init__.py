"""Runs: a study resolved, loaded, executed and written to a folder."""
