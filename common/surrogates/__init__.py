"""Networks made to be attacked in another model's place."""
