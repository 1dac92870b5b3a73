"""Embedders of pictures."""
