"""The command line `polyvec`."""
