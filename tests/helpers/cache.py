"""The entries of a cache folder, and whether two datasets are the same."""


def equal(one, other):
    """Whether two datasets have the same bits, and the same card."""
    pairs = zip(one.transitions[:5], other.transitions[:5], strict=True)
    same = all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)
    return same and (one.card, one.spec, one.task) == (other.card, other.spec, other.task)


def entries(folder):
    return [path for path in folder.iterdir() if not path.name.startswith('.')]
