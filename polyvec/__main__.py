"""`python -m polyvec` is `polyvec`."""

from flows.cli.main import main

if __name__ == "__main__":
    main()
