"""`python -m mdls_cosim` is `mdls-cosim`."""

from mdls_cosim.cli import main

if __name__ == "__main__":
    main()
