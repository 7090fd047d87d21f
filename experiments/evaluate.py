"""The command `dtql evaluate`, from a checkout."""

import sys

from dtql_jax.cli.evaluate import main

if __name__ == '__main__':
    sys.exit(main())
