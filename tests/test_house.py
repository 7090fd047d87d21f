"""The project's files agree with each other: README, CI, packaging, and the rules for imports."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / 'dtql_jax'
SETUP = (ROOT / 'setup.py').read_text()

ENVIRONMENT = 'python -m venv .venv && . .venv/bin/activate'
RUN = f'{ENVIRONMENT} && pip install -e . && python experiments/run.py'
TEST = f"{ENVIRONMENT} && pip install -e '.[test]' && python -m pytest -q -n 2 --dist loadfile"

# What each module may import from the package; modules that are not named here are free.
ALLOWED = {
    'types': set(),
    'loggers': {'types'},
    'statistics': {'types'},
    'checkpoint': {'types'},
    'spaces': {'types'},
    'mazes': {'types', 'spaces'},
    'simulators': {'types', 'spaces', 'mazes'},
    'task': {'types', 'spaces', 'mazes'},
    'published': {'types', 'spaces', 'mazes', 'task'},
    'tasks': {'types', 'spaces', 'mazes', 'task', 'published'},
    'env_pool': {'types', 'tasks'},
    'data': {'types', 'spaces', 'mazes', 'tasks', 'behaviours', 'data'},
    'plots': {'types', 'loggers'},
    'losses': {'types'},
    'diffusion': {'types', 'losses'},
    'nets': {'types', 'losses', 'diffusion'},
    'agents': {'types', 'losses', 'diffusion', 'nets', 'agents'},
}
# These know the interface of an agent, and no agent.
AGNOSTIC = {'engine', 'training', 'evaluation', 'checkpoint'}


def constant(name):
    """The value of a top-level assignment in setup.py."""
    for node in ast.parse(SETUP).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise KeyError(name)


def imports(path):
    """The modules that a file imports, `from a import b` as both 'a' and 'a.b'."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def project_files():
    """What git tracks or would: the files that a commit may hold."""
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


@pytest.mark.parametrize('command', [RUN, TEST])
def test_the_readme_names_the_command(command):
    readme = ROOT / 'README.md'
    if not readme.exists():
        pytest.skip('there is no README.md')
    assert command in readme.read_text().splitlines()


def test_ci_does_what_the_readme_says():
    stages = re.findall(r'^stage \w+ (.+)$', (ROOT / '.ci' / 'run').read_text(), re.MULTILINE)
    install, test = TEST.removeprefix(f'{ENVIRONMENT} && ').split(' && ')
    assert stages[1:] == [install, 'ruff check .', 'ruff format --check .', test]


def test_the_workflow_does_what_ci_does_on_every_supported_python():
    workflow = (ROOT / '.github' / 'workflows' / 'ci.yml').read_text()
    assert '- run: bash .ci/run\n' in workflow
    matrix = re.search(r'python: \[(.*)\]', workflow)[1].replace("'", '').split(', ')
    assert matrix == re.findall(r'Python :: (3\.\d+)', SETUP)
    assert f"python_requires='>={matrix[0]}'" in SETUP
    ruff = (ROOT / 'pyproject.toml').read_text()
    assert f"target-version = 'py{matrix[0].replace('.', '')}'" in ruff


def test_pre_commit_runs_the_ruff_that_setup_asks_for():
    hooks = (ROOT / '.pre-commit-config.yaml').read_text()
    revision = re.search(r'ruff-pre-commit\n\s+rev: v([\d.]+)', hooks)[1]
    (ruff,) = (r for r in map(Requirement, constant('EXTRAS')['test']) if r.name == 'ruff')
    assert revision in ruff.specifier


def test_every_requirement_is_installed_in_a_version_that_fits():
    for requirement in map(Requirement, constant('REQUIRES')):
        version = importlib.metadata.version(requirement.name)
        assert version in requirement.specifier, f'{requirement} but {version}'


def test_every_import_is_declared():
    known = {'dtql_jax', *sys.stdlib_module_names}
    optional = constant('EXTRAS')['ogbench']  # imported where its environment was made
    declared = {r.name.lower() for r in map(Requirement, constant('REQUIRES') + optional)}
    distributions = importlib.metadata.packages_distributions()
    for folder in (PACKAGE, ROOT / 'experiments'):
        for path in folder.rglob('*.py'):
            siblings = {sibling.stem for sibling in path.parent.glob('*.py')}
            for module in {name.split('.')[0] for name in imports(path)} - known:
                if folder.name == 'experiments' and module in siblings:
                    continue
                owners = {owner.lower() for owner in distributions.get(module, [])}
                assert owners & declared, f'{path.name} imports {module}: add it to setup.py'


def test_every_folder_of_the_package_is_packaged():
    for path in PACKAGE.rglob('*.py'):
        assert (path.parent / '__init__.py').exists(), f'{path.parent} needs an __init__.py'


def test_modules_import_only_what_they_may():
    for path in PACKAGE.rglob('*.py'):
        part = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
        found = {name for name in imports(path) if name.startswith('dtql_jax.')}
        parts = {name.split('.')[1] for name in found}
        assert parts <= ALLOWED.get(part, parts), f'{path.name}: {parts - ALLOWED[part]}'
        if part in AGNOSTIC:
            agents = {name for name in found if name.startswith('dtql_jax.agents')}
            base = {'dtql_jax.agents', 'dtql_jax.agents.base'}
            knows = {name for name in agents - base if not name.startswith('dtql_jax.agents.base.')}
            assert not knows, f'{path.name} knows {knows}'


def test_nothing_imports_the_scripts():
    for path in PACKAGE.rglob('*.py'):
        tops = {name.split('.')[0] for name in imports(path)}
        assert not tops & {'experiments', 'benchmarks', 'tests'}, path.name


def test_the_version_is_written_once():
    pattern = re.compile(r"""^\s*(__version__|version)\s*=\s*['"]\d""", re.MULTILINE)
    places = [p.name for p, text in text_files() if p.suffix != '.md' and pattern.search(text)]
    assert places == ['setup.py']


def test_no_file_names_a_folder_of_one_machine():
    pattern = re.compile(r'(?<![\w.$})~-])/(home|root|tmp|work|opt|mnt|Users)/\w+')
    found = {
        f'{p.relative_to(ROOT)}: {pattern.search(t)[0]}'
        for p, t in text_files()
        if pattern.search(t)
    }
    assert not found


def test_text_files_end_in_one_newline():
    for path, text in text_files():
        assert not text or text.endswith('\n'), path.name
        assert not text.endswith('\n\n'), path.name
