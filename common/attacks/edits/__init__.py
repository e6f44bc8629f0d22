"""Attacks on inputs made of parts that are exchanged whole, such as the words of a text."""
