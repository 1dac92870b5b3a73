"""Embedders of users and items."""
