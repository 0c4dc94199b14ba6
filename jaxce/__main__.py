"""`python -m jaxce`."""

import sys

if __name__ == "__main__":
    from jaxce.verification.command import main

    sys.exit(main(sys.argv[2:], "jaxce verify") if sys.argv[1:2] == ["verify"] else 2)
