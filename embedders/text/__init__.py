"""Embedders of words and documents."""
