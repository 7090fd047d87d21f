"""The command `dtql plot`, from a checkout."""

import sys

from dtql_jax.cli.plot import main

if __name__ == '__main__':
    sys.exit(main())
