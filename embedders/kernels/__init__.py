"""Compiled loops (numba) over arrays, shared by the embedders."""
