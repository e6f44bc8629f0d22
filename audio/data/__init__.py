"""Sounds: built-in keywords, folders, hubs."""
