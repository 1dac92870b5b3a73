"""Embedders that make one space of several."""
