"""The project's files agree with each other: layout, imports, README, CI and packaging."""

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from tests import house

ROOT = house.ROOT
PACKAGE = ROOT / house.NAME
SETUP = (ROOT / 'setup.py').read_text()

ENVIRONMENT = 'python -m venv .venv && . .venv/bin/activate'
RUN = f'{ENVIRONMENT} && pip install -e . && python experiments/run.py'
TEST = f"{ENVIRONMENT} && pip install -e '.[test]' && python -m pytest -q -n 2 --dist loadfile"

# Simulators' worker processes load these. jax would cost each of them a second and its threads.
WITHOUT_JAX = (
    'types',
    'tasks',
    'rollout.env_pool',
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
    'dtql_jax.report.loggers': 'packages that are installed only where they are used',
}
LONGEST = 300  # lines of a file
LONGEST_TEST = 320


def constant(name):
    """The value of a top-level assignment in setup.py."""
    for node in ast.parse(SETUP).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise KeyError(name)


@functools.cache
def project_files():
    """The files that git tracks, or would track: those that a commit may hold."""
    command = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    try:
        output = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip('not a git checkout')
    paths = (ROOT / name for name in output.decode().split('\0') if name)
    return [path for path in paths if path.is_file()]


def text_files():
    for path in project_files():
        try:
            yield path, path.read_text()
        except UnicodeDecodeError:
            continue


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


def test_package__has_at_most_a_dozen_entries():
    entries = {path.name for path in project_files() if path.parent == PACKAGE}
    entries |= {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob('*.py')}
    assert len(entries - {'__init__.py', 'py.typed'}) <= 12


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


# README, CI and packaging.


@pytest.mark.parametrize('command', [RUN, TEST])
def test_readme__names_the_command(command):
    readme = ROOT / 'README.md'
    if not readme.exists():
        pytest.skip('there is no README.md')
    assert command in readme.read_text().splitlines()


def test_ci__does_what_the_readme_says():
    script = (ROOT / '.ci' / 'run').read_text()
    stages = dict(re.findall(r'^ *stage ([\w-]+) (.+)$', script, re.MULTILINE))
    install, test = TEST.removeprefix(f'{ENVIRONMENT} && ').split(' && ')
    assert stages.pop('environment') == '"${PYTHON:-python3}" -m venv "$work/venv"'
    assert stages == {
        'install': install,
        'lint': 'ruff check .',
        'format': 'ruff format --check .',
        'types': 'mypy',
        'docs-install': "pip install -e '.[docs]'",
        'docs': 'mkdocs build --strict --site-dir "$work/site"',
        'test': test,
        'slow': f'{test} -m slow',
        'build': 'python -m build --outdir "$work/dist"',
        'wheel': 'bash .ci/wheel "$work/dist"',
    }
    assert 'if [ -f mkdocs.yml ]' in script


def test_ci__tests_that_are_not_slow_are_the_default():
    settings = (ROOT / 'pyproject.toml').read_text()
    assert re.search(r"""^addopts = .*-m ["']not slow["']""", settings, re.MULTILINE)


def test_workflow__does_what_ci_does_on_every_supported_python():
    workflow = (ROOT / '.github' / 'workflows' / 'ci.yml').read_text()
    assert '- run: bash .ci/run\n' in workflow
    matrix = re.search(r'python: \[(.*)\]', workflow)[1].replace("'", '').split(', ')
    assert matrix == re.findall(r'Python :: (3\.\d+)', SETUP)
    assert f"python_requires='>={matrix[0]}'" in SETUP
    settings = (ROOT / 'pyproject.toml').read_text()
    assert f"target-version = 'py{matrix[0].replace('.', '')}'" in settings
    assert f"python_version = '{matrix[0]}'" in settings


def test_pre_commit__runs_the_ruff_that_setup_asks_for():
    hooks = (ROOT / '.pre-commit-config.yaml').read_text()
    revision = re.search(r'ruff-pre-commit\n\s+rev: v([\d.]+)', hooks)[1]
    (ruff,) = (r for r in map(Requirement, constant('EXTRAS')['test']) if r.name == 'ruff')
    assert revision in ruff.specifier


def test_requirements__are_installed_in_versions_that_fit():
    for requirement in map(Requirement, constant('REQUIRES')):
        version = importlib.metadata.version(requirement.name)
        assert version in requirement.specifier, f'{requirement} but {version}'


def test_requirements__declare_every_import():
    known = {'dtql_jax', *sys.stdlib_module_names}
    optional = constant('EXTRAS')['ogbench']  # imported where its environment was made
    declared = {r.name.lower() for r in map(Requirement, constant('REQUIRES') + optional)}
    distributions = importlib.metadata.packages_distributions()
    for folder in (PACKAGE, ROOT / 'experiments', ROOT / 'examples'):
        for path in folder.rglob('*.py'):
            modules = {name.split('.')[0].removesuffix('*') for name in house.imported(path)}
            for module in modules - known - {''}:
                owners = {owner.lower() for owner in distributions.get(module, [])}
                assert owners & declared, f'{path.name} imports {module}: add it to setup.py'


def test_packages__have_an_init_file():
    for path in PACKAGE.rglob('*.py'):
        assert (path.parent / '__init__.py').exists(), f'{path.parent} needs an __init__.py'


def test_gitignore__hides_no_module():
    tracked = set(project_files())
    for folder in (PACKAGE, ROOT / 'tests'):
        assert not [path for path in folder.rglob('*.py') if path not in tracked]


def test_version__is_written_once():
    pattern = re.compile(r"""^\s*(__version__|version)\s*=\s*['"]\d""", re.MULTILINE)
    places = [p.name for p, text in text_files() if p.suffix != '.md' and pattern.search(text)]
    assert places == ['setup.py']


def test_files__name_no_folder_of_one_machine():
    pattern = re.compile(r'(?<![\w.$})~-])/(home|root|tmp|work|opt|mnt|Users)/\w+')
    found = {
        f'{p.relative_to(ROOT)}: {pattern.search(t)[0]}'
        for p, t in text_files()
        if pattern.search(t)
    }
    assert not found


def test_files__end_in_one_newline():
    for path, text in text_files():
        assert not text or text.endswith('\n'), path.name
        assert not text.endswith('\n\n'), path.name
