"""The algorithms: `base` defines the interface, each has its own file, `registry` names them."""
