"""The command `dtql collect`, from a checkout."""

import sys

from dtql_jax.cli.collect import main

if __name__ == '__main__':
    sys.exit(main())
