"""Registered attacks: each a few lines of parts, with its paper, access, threats and cost."""
