"""A study: what is asked for, which units that takes, and what came of them."""
