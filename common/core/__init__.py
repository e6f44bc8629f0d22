"""The nouns that all parts share: batches, spaces, threats, goals, models, problems and results."""
