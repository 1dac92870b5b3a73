"""Embedders of graph nodes."""
