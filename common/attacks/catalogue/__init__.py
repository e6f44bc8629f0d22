"""Attacks by name: each a few lines of parts, registered where it is composed, with its paper, access and cost."""
