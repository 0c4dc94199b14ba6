"""`python -m jaxce`: the same as the command `jaxce`."""

import sys

from jaxce.cli import main

if __name__ == "__main__":
    sys.exit(main())
