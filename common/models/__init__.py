"""Models of every build: torch networks, trees, ensembles, plain functions, and what attacks see inside them."""
