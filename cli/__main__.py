"""`python -m penstock.cli`: the same as the console script `penstock`."""

from penstock.cli.main import main

if __name__ == "__main__":
    main()
