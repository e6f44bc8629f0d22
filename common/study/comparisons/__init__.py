"""Comparisons on equal terms: at equal white-box success, and at equal cost."""
