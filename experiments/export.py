"""The command `dtql export`, from a checkout."""

import sys

from dtql_jax.cli.export import main

if __name__ == '__main__':
    sys.exit(main())
