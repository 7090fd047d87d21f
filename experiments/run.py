"""The command `dtql train`, from a checkout."""

import sys

from dtql_jax.cli.train import main

if __name__ == '__main__':
    sys.exit(main())
