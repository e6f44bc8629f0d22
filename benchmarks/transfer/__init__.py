"""Recorded studies of transfer."""
