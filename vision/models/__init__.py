"""Image models: loaded from anywhere, and the zoo."""
