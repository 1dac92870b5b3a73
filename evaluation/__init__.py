"""Scores of vectors: vectors in, numbers out. Imports only the embedders' data types and errors."""
