"""Where replacement words come from."""
