"""How visible a change of an image is."""
