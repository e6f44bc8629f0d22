"""Carom: adversarial examples for images, audio and text, and honest measures of how they transfer."""
