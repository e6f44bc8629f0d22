"""Side-by-side runs of speed and memory, beside peers."""
