"""`python -m compare`, the same as `backproof`."""

from compare.cli.app import main

if __name__ == "__main__":
    main()
