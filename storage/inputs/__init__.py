"""Input files to datasets, with their content digests."""
