"""From files and objects to models and data: what is read is checked, and runs no code."""
