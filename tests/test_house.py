"""The project's files agree with each other: layout and imports."""

import ast
import re
import subprocess
import sys

from tests import house
from tests.helpers.project import project_files

ROOT = house.ROOT
PACKAGE = ROOT / house.NAME
SETUP = (ROOT / 'setup.py').read_text()

# Simulators' worker processes load these. jax would cost each of them a second and its threads.
WITHOUT_JAX = (
    'types',
    'tasks',
    'rollout.env_pool',
    'training.background',
    'collect.base',
    'collect.wander',
    'collect.ant',
    'collect.shards',
)
# These know the interface of an agent, and no agent.
AGNOSTIC = ('training', 'rollout', 'collect')
# Why each of them imports what it cannot name in an import statement.
DYNAMIC = {
    'dtql_jax': 'public names are imported at first use',
    'dtql_jax.cli.main': 'a command is imported when it is called',
    'dtql_jax.agents.registry': "a user's own agents",
    'dtql_jax.types': 'packages that are installed only where they are used',
    'dtql_jax.studies.sweep': 'a launcher is imported when it is asked for',
    'dtql_jax.tasks.recorded': 'whether a module that a dataset names is installed',
}
LONGEST = 300  # lines of a file
LONGEST_TEST = 320


def write_package(folder, sources):
    """A package of this name in a folder, from its files' texts."""
    for name, text in sources.items():
        path = folder / house.NAME / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


# The tool that reads the imports.


def test_arrows__sees_every_kind_of_import(tmp_path):
    checkout = write_package(tmp_path, {
        '__init__.py': '',
        'a/__init__.py': '',
        'a/one.py': 'import dtql_jax.b.two\nimport numpy',
        'a/two.py': 'def f():\n    from dtql_jax.b import two, Name',
        'a/three.py': 'if TYPE_CHECKING:\n    from dtql_jax.b.two import Name',
        'a/four.py': "import_module('dtql_jax.b.two')",
        'a/five.py': "importlib.import_module(f'dtql_jax.b.{name}')",
        'b/__init__.py': '',
        'b/two.py': 'from dtql_jax import a',
    })  # fmt: skip
    found = {(a.removeprefix('dtql_jax.'), b) for a, b in house.arrows(checkout)}
    assert found == {
        *((name, 'dtql_jax.b.two') for name in ('a.one', 'a.two', 'a.three', 'a.four', 'a.five')),
        ('a.two', 'dtql_jax.b'),  # the `Name`
        ('b.two', 'dtql_jax.a'),
    }


def test_circles__finds_long_ones():
    arrows = {('a', 'b'), ('b', 'c'), ('c', 'a'), ('c', 'd'), ('e', 'a')}
    assert house.circles(arrows) == [['a', 'b', 'c']]
    assert house.circles(arrows - {('c', 'a')}) == []


def test_least_upward__is_that_of_the_best_order():
    arrows = {('p.a', 'p.b'), ('p.b', 'p.c'), ('p.c', 'p.a'), ('p.a', 'p.c'), ('p.c', 'p.d')}
    assert house.least_upward(arrows) == 1
    assert house.least_upward(arrows - {('p.c', 'p.a')}) == 0


def test_floors__is_the_longest_chain():
    assert house.floors({('p.a', 'p.b'), ('p.b', 'p.c'), ('p.a', 'p.c'), ('p.d', 'p.c')}) == 3


def test_upward__names_the_arrow():
    up = ('dtql_jax.tasks.env', 'dtql_jax.data.load')
    down = ('dtql_jax.data.load', 'dtql_jax.types')
    assert house.upward({up, down}) == {up}


# The layout.


def test_order__every_part_names_only_parts_before_it():
    assert set(house.ORDER) == set(house.lines())
    seen = set()
    for name, below in house.ORDER.items():
        assert set(below) <= seen, name
        seen.add(name)


def test_order__no_import_runs_against_it():
    assert house.upward(house.arrows()) == set()


def test_circles__there_is_none():
    assert house.circles(house.arrows()) == []
    assert house.circles(house.part_arrows(house.arrows())) == []


def test_package__has_at_most_a_dozen_subjects():
    entries = {path.name for path in project_files() if path.parent == PACKAGE}
    entries |= {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob('*.py')}
    assert len(entries - {'__init__.py', 'py.typed', 'types.py'}) <= 12


def test_files__are_short():
    long = {}
    for path in project_files():
        limit = LONGEST_TEST if path.is_relative_to(ROOT / 'tests') else LONGEST
        if path.suffix == '.py' and (count := len(path.read_text().splitlines())) > limit:
            long[str(path.relative_to(ROOT))] = count
    assert not long


def test_agnostic_parts__know_the_interface_of_agents_alone():
    for module, target in house.arrows():
        if house.part(module) in AGNOSTIC and house.part(target) == 'agents':
            assert target == 'dtql_jax.agents.base', module


def test_dynamic_imports__are_few():
    for module, path in house.modules().items():
        imports_it = {'importlib', 'importlib.util'} & set(house.imported(path))
        assert not imports_it or module in DYNAMIC, f'{module}: use an import statement'


def test_workers_modules__load_without_jax():
    """They are loaded by a new process, as a worker loads them."""
    chosen = [
        module
        for module in house.modules()
        if any(f'{module}.'.startswith(f'dtql_jax.{name}.') for name in WITHOUT_JAX)
    ]
    assert len(chosen) > len(WITHOUT_JAX)
    code = '\n'.join([f'import {module}' for module in chosen])
    code += '\nimport sys; print(sorted({"jax", "jaxlib", "flax"} & set(sys.modules)))'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert (result.stdout, result.returncode) == ('[]\n', 0), result.stderr


def test_package__imports_no_script():
    for module, path in house.modules().items():
        tops = {name.split('.')[0] for name in house.imported(path)}
        assert not tops & {'experiments', 'benchmarks', 'tests', 'examples', 'tools'}, module


def test_public_names__are_the_same_in_every_list():
    tree = ast.parse((PACKAGE / '__init__.py').read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    for_checkers = {
        alias.name: node.module for node in typed.body for alias in getattr(node, 'names', ())
    }
    lists = {
        ast.unparse(target): ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict | ast.List)
        for target in node.targets
    }
    homes = {name: f'dtql_jax.{home}' for name, home in lists['_HOMES'].items()}
    assert homes == for_checkers
    assert sorted(homes) == sorted(lists['__all__'])


def test_package__does_not_speak_in_flags():
    """The command line adds the dashes: whoever calls from Python has none."""
    pattern = re.compile(r'(?<![\w-])--[a-z]|experiments/')
    found = {
        f'{module}: {node.value.strip()[:60]}'
        for module, path in house.modules().items()
        if house.part(module) != 'cli'
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if pattern.search(node.value)
    }
    assert not found
