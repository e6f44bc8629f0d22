"""Texts: built-in reviews, tables, folders, hubs, and the logs of other tools."""
