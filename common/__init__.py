"""The shared attack and evaluation interface, in layers. It imports no modality."""
