"""Audio models: loaded from anywhere, each with its front end, and the zoo."""
