"""`python -m polyvec` is `polyvec`."""

from flows.cli.main import process

if __name__ == "__main__":
    process()
