"""The command `dtql sweep`, from a checkout."""

import sys

from dtql_jax.cli.sweep import main

if __name__ == '__main__':
    sys.exit(main())
