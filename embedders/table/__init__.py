"""Embedders of tables of categories."""
