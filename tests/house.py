"""The map of the package: who imports whom, and which imports run against the order.

    python -m tests.house [CHECKOUT]

prints the numbers of this checkout, or of another one. All imports count, also those inside
functions and those for type checkers, and `importlib.import_module('dtql_jax....')`.
"""

import ast
import functools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAME = 'dtql_jax'
PUBLIC = '__init__'  # the part that is `dtql_jax/__init__.py`, the public names

# The parts of the package, from the ground up, each with the parts that it may import. A part
# names only parts that stand above it in this list. All parts may import `types`.
ORDER: dict[str, tuple[str, ...]] = {
    'types': (),
    'tasks': (),
    'diffusion': (),
    'nn': (),
    'report': (),
    'agents': ('nn', 'diffusion'),
    'training': ('agents', 'report', 'nn', 'diffusion'),
    'data': ('tasks',),
    'rollout': ('training', 'agents', 'tasks'),
    'collect': ('data', 'rollout', 'training', 'agents', 'tasks'),
    'runs': (
        'collect', 'rollout', 'data', 'training', 'agents', 'report', 'nn', 'diffusion', 'tasks',
    ),
    'studies': (
        'runs', 'collect', 'rollout', 'data', 'training', 'agents', 'report', 'nn', 'diffusion',
        'tasks',
    ),
    PUBLIC: ('studies', 'runs', 'training', 'agents', 'tasks'),
    'cli': (
        PUBLIC, 'studies', 'runs', 'collect', 'rollout', 'data', 'training', 'agents', 'report',
        'nn', 'diffusion', 'tasks',
    ),
}  # fmt: skip

Arrow = tuple[str, str]  # the importing module or part, and the imported one


def modules(checkout: Path = ROOT) -> dict[str, Path]:
    """The package's modules by their dotted names; a folder's `__init__.py` has the folder's."""
    paths = {}
    for path in sorted((checkout / NAME).rglob('*.py')):
        parts = path.relative_to(checkout).with_suffix('').parts
        paths['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return paths


def imported(path: Path) -> Iterator[str]:
    """The names that a file imports; `from a import b` gives 'a.b', an f-string ends in '*'."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f'{node.module}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith('import_module'):
            (name,) = node.args
            if isinstance(name, ast.JoinedStr):
                first = name.values[0]
                yield f'{first.value}*' if isinstance(first, ast.Constant) else '*'
            elif isinstance(name, ast.Constant):
                yield str(name.value)


def resolve(name: str, known: Mapping[str, Path]) -> set[str]:
    """The package's modules that an imported name stands for; none for another package's."""
    if name.endswith('*'):
        return {module for module in known if len(name) > 1 and module.startswith(name[:-1])}
    while name and name not in known:
        name = name.rpartition('.')[0]
    return {name} if name else set()


def arrows(checkout: Path = ROOT) -> set[Arrow]:
    """All imports from one module of the package to another."""
    known = modules(checkout)
    return {
        (module, target)
        for module, path in known.items()
        for name in imported(path)
        for target in resolve(name, known) - {module}
    }


def part(module: str) -> str:
    """The part of the package to which a module belongs: its folder, or its file at the top."""
    return module.split('.')[1] if '.' in module else PUBLIC


def part_arrows(found: set[Arrow]) -> set[Arrow]:
    """The arrows between parts."""
    pairs = {(part(a), part(b)) for a, b in found}
    return {(a, b) for a, b in pairs if a != b}


def circles(found: set[Arrow]) -> list[list[str]]:
    """Groups of modules or parts of which each imports every other, if only through others."""
    nodes = {node for arrow in found for node in arrow}
    reach = {node: _reachable(node, found) for node in nodes}
    groups = {
        tuple(sorted(other for other in reach[node] if node in reach[other])) for node in nodes
    }
    return sorted(list(group) for group in groups if len(group) > 1)


def upward(found: set[Arrow]) -> set[Arrow]:
    """The arrows between modules that `ORDER` does not allow."""
    return {(a, b) for a, b in found if part(a) != part(b) and not _may(part(a), part(b))}


def least_upward(found: set[Arrow]) -> int:
    """How many arrows between parts go up in the best of all orders; 0 without a circle."""
    pairs = part_arrows(found)
    return sum(_least_upward(frozenset(circle), frozenset(pairs)) for circle in circles(pairs))


def floors(found: set[Arrow]) -> int:
    """The length of the longest chain of imports between parts; a circle counts as one part."""
    pairs = part_arrows(found)
    circle = {name: group[0] for group in circles(pairs) for name in group}
    pairs = {(circle.get(a, a), circle.get(b, b)) for a, b in pairs}
    pairs = {(a, b) for a, b in pairs if a != b}

    @functools.cache
    def height(name: str) -> int:
        return 1 + max((height(b) for a, b in pairs if a == name), default=0)

    return max(height(name) for arrow in pairs for name in arrow)


def lines(checkout: Path = ROOT) -> dict[str, int]:
    """Lines of code, comments and docstrings of each part."""
    count: dict[str, int] = {}
    for module, path in modules(checkout).items():
        count[part(module)] = count.get(part(module), 0) + len(path.read_text().splitlines())
    return count


def report(checkout: Path = ROOT) -> str:
    """The numbers of a checkout as text."""
    known, found = modules(checkout), arrows(checkout)
    pairs = part_arrows(found)
    module_circles, parts = circles(found), lines(checkout)
    known_parts = set(parts) <= set(ORDER)
    rows = [
        *(f'{count:6,}  {name}' for name, count in sorted(parts.items())),
        f'{sum(parts.values()):6,}  lines in {len(known)} modules, {len(parts)} parts',
        f'{len(found):6}  arrows between modules',
        f'{len(pairs):6}  arrows between parts, {floors(found)} floors',
        f'{len(module_circles):6}  circles of modules',
        *(f'        {" ".join(circle)}' for circle in module_circles),
        f'{len(circles(pairs)):6}  circles of parts',
        *(f'        {" ".join(circle)}' for circle in circles(pairs)),
        f'{least_upward(found):6}  arrows between parts that go up in any order, at least',
    ]
    if known_parts:
        against = sorted(upward(found))
        rows.append(f'{len(against):6}  arrows between modules against the order')
        rows += [f'        {a} imports {b}' for a, b in against]
    return '\n'.join(rows)


def _may(a: str, b: str) -> bool:
    return b == 'types' or b in ORDER.get(a, ())


def _reachable(start: str, found: set[Arrow]) -> set[str]:
    """All nodes that the arrows lead to, `start` included."""
    seen, new = {start}, {start}
    while new:
        new = {b for a, b in found if a in new} - seen
        seen |= new
    return seen


def _least_upward(names: frozenset[str], pairs: frozenset[Arrow]) -> int:
    """The least number of arrows within `names` that go up, over all orders (by subsets)."""

    @functools.cache
    def least(left: frozenset[str]) -> int:
        return min(
            (
                least(left - {top}) + sum(b == top and a in left for a, b in pairs)
                for top in left
            ),
            default=0,
        )  # fmt: skip

    return least(names)


if __name__ == '__main__':
    print(report(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
