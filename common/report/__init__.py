"""The report of a run: one HTML file that asks nothing of the network."""
