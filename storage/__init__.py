"""Reads inputs and writes versions: Parquet layout, Delta log, manifests."""
