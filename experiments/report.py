"""The command `dtql report`, from a checkout."""

import sys

from dtql_jax.cli.report import main

if __name__ == '__main__':
    sys.exit(main())
