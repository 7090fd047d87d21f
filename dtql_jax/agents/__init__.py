"""The algorithms: `base` says what one is, each has a file of its own, `registry` names them."""
