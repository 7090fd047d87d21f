"""The project's files agree with each other: README, CI, packaging."""

import ast
import importlib.metadata
import re
import sys

import pytest
from packaging.requirements import Requirement

from tests import house
from tests.helpers.project import project_files, text_files

ROOT = house.ROOT
PACKAGE = ROOT / house.NAME
SETUP = (ROOT / 'setup.py').read_text()

ENVIRONMENT = 'python -m venv .venv && . .venv/bin/activate'
RUN = f'{ENVIRONMENT} && pip install -e . && python experiments/run.py'
TEST = f"{ENVIRONMENT} && pip install -e '.[test]' && python -m pytest -q -n 2 --dist loadfile"


def constant(name):
    """The value of a top-level assignment in setup.py."""
    for node in ast.parse(SETUP).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise KeyError(name)


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
    extras = constant('EXTRAS')
    # Imported where its environment was made, a frame or a file is asked for, a launcher is chosen.
    optional = [text for name in ('ogbench', 'tables', 'slurm', 'ray') for text in extras[name]]
    declared = {r.name.lower() for r in map(Requirement, constant('REQUIRES') + optional)}
    distributions = importlib.metadata.packages_distributions()
    for folder in (PACKAGE, ROOT / 'experiments', ROOT / 'examples'):
        for path in folder.rglob('*.py'):
            modules = {name.split('.')[0].removesuffix('*') for name in house.imported(path)}
            siblings = {other.stem for other in path.parent.glob('*.py')}
            own = siblings if folder != PACKAGE else set()  # a script may import its neighbours
            for module in modules - known - own - {''}:
                # An optional one that is not installed has the name of its distribution.
                owners = {owner.lower() for owner in distributions.get(module, [module])}
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
