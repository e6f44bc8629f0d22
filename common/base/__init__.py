"""What everything else stands on: errors, specs, randomness, identity, files. Knows no model and no data."""
