"""README and docs agree with the code: their Python runs, their commands parse, their links hold.

A block that cannot run carries a line `<!-- not run: the reason -->` before its fence.
"""

import ast
import contextlib
import dataclasses
import functools
import importlib
import io
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import dtql_jax
from dtql_jax.agents.registry import AGENTS, find_agent
from dtql_jax.agents.settings import kinds
from dtql_jax.cli.main import COMMANDS, main
from dtql_jax.tasks.mazes import MAPS
from dtql_jax.tasks.registry import TASKS, resolve

ROOT = Path(__file__).parent.parent
DOCS = ROOT / 'docs'
PAGES = sorted(DOCS.rglob('*.md'))
FILES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'CHANGELOG.md', *PAGES]
LONGEST = {'README.md': 120}  # lines; a page of the site has at most PAGE
PAGE = 150
FENCE = re.compile(r'^( *)```(\w+)[^\n]*\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r'<!-- not run: \S.* -->\n$')
FOLDERS = 'benchmarks|examples|experiments|docs|dtql_jax|tests|tools'

# A run of a page is cut down to this, as far as its agent has the settings.
TINY = {
    'steps': 2,
    'eval_every': 2,
    'pretrain_steps': 0,
    'batch_size': 8,
    'hidden': 8,
    'candidates': 2,
    'critic_layers': 1,
    'mu_layers': 1,
    'policy_layers': 1,
}

# What an example in a docstring need not import.
USUAL = {
    'dtql_jax': dtql_jax,
    'dataclasses': dataclasses,
    'np': np,
    'gym': gym,
    'MAPS': MAPS,
    'obs': np.zeros(4),
}

pytestmark = pytest.mark.usefixtures('quick_compile')


def relative(path):
    """A file's name in the parametrisation."""
    return str(path.relative_to(ROOT))


def blocks(text, language):
    """The code of each fence of a language in a text, in order, without those that cannot run."""
    found = []
    for match in FENCE.finditer(text):
        if match[2] == language and not NOT_RUN.search(text[: match.start()]):
            found.append(re.sub(rf'^{match[1]}', '', match[3], flags=re.MULTILINE))
    return found


def docstring_examples():
    """`(module, number of the example, code)` of the package's docstrings."""
    for path in sorted((ROOT / 'dtql_jax').rglob('*.py')):
        module = '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, documented)]
        docs = [ast.get_docstring(node) or '' for node in nodes]
        code = [block for text in docs for block in blocks(text, 'python')]
        yield from ((module, i, block) for i, block in enumerate(code))


@pytest.fixture(scope='module')
def maze_data(tmp_path_factory):
    """A Minari root with a small set of the demonstration's task, so that no run collects one."""
    root = tmp_path_factory.mktemp('minari')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MINARI_DATASETS_PATH', str(root))
        arguments = ['--env=pointmaze-umaze', '--steps=1500', '--workers=1']
        assert main(['dtql', 'collect', *arguments]) == 0
    return root


@contextlib.contextmanager
def registries_kept():
    """Forgets at the end what was registered inside."""
    before = [(registry, dict(registry)) for registry in (TASKS, AGENTS)]
    try:
        yield
    finally:
        for registry, entries in before:
            registry.clear()
            registry.update(entries)


@pytest.fixture
def page(maze_data, tmp_path, monkeypatch):
    """Runs the code of a page in an empty folder, with tiny runs, and forgets what it registers."""
    real = dtql_jax.run

    def run(request, **options):
        request = dict(request)
        if not options.get('resume'):
            known = kinds(find_agent(request.get('agent', 'dtql')).agent.config_class)
            request |= {name: value for name, value in TINY.items() if name in known}
            task, _ = resolve(request.get('env', 'pointmaze-umaze'), request.get('source'))
            request['eval_episodes'] = int(task.has_env)
        return real(request, **options)

    monkeypatch.setattr(dtql_jax, 'run', run)
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(maze_data))
    monkeypatch.chdir(tmp_path)
    with registries_kept():
        yield lambda code, namespace, where: exec(compile(code, where, 'exec'), namespace)


def python_pages():
    """The files with Python; those that train the package's agents are slow."""
    for path in FILES:
        if code := blocks(path.read_text(), 'python'):
            trains = any('dtql_jax.run(' in block for block in code) or 'DTQL(' in ''.join(code)
            fast = path.name == 'own_agent.md' or not trains
            marks = [] if fast else [pytest.mark.slow]
            yield pytest.param(path, id=relative(path), marks=marks)


@pytest.mark.parametrize('path', python_pages())
def test_python__runs(path, page, monkeypatch):
    module = types.ModuleType('page')  # dataclasses look their module up
    monkeypatch.setitem(sys.modules, 'page', module)
    for i, code in enumerate(blocks(path.read_text(), 'python')):
        page(code, vars(module), f'<{relative(path)}, block {i}>')


@pytest.mark.parametrize(
    ('module', 'code'),
    [pytest.param(m, code, id=f'{m}-{i}') for m, i, code in docstring_examples()],
)
def test_docstrings__examples_run(module, code, page):
    names = {**USUAL, **vars(importlib.import_module(module))}
    page(code, names, f'<docstring of {module}>')


@functools.cache
def help_of(command, agent=None):
    """The help page of a command; those of `train` and `sweep` depend on the agents."""
    arguments = [f'--agent={agent}'] if agent else []
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.chdir(ROOT), registries_kept():
        assert main(['dtql', command, *arguments, '--help']) == 0
    return printed.getvalue()


def commands():
    """`(file, words)` of each line of the `bash` blocks that starts this project's code."""
    for path in FILES:
        for code in blocks(path.read_text(), 'bash'):
            for line in code.replace('\\\n', ' ').splitlines():
                words = shlex.split(line, comments=True)
                for start in ('dtql', 'python'):  # also after `&&`
                    if start in words:
                        yield path, words[words.index(start) :]


def option(words, name):
    """The value of `--name=value`, None without it."""
    return next((w.partition('=')[2] for w in words if w.startswith(f'--{name}=')), None)


def check_command(name, words):
    """Every flag is on the command's help page; tasks and agents exist."""
    text = help_of(name, option(words, 'agent') if name in ('train', 'sweep') else None)
    given = [word for word in words if word.startswith('-')]
    assert len(given) + words.count('--set') == len(words), f'{words}: flags alone are read'
    for word in set(given) - {'--help'}:
        flag = word.partition('=')[0]
        name = re.escape(flag.removeprefix('--'))
        positive = re.escape(flag.removeprefix('--no'))
        spelt = rf'^  --(\[no\])?({name}|{positive})(=|\s|$)'
        assert re.search(spelt, text, re.MULTILINE), word
    for env in (option(words, 'env') or '').split(','):
        if env:
            resolve(env, option(words, 'source'), option(words, 'dataset_path'))


@pytest.mark.parametrize(
    ('path', 'words'),
    [pytest.param(p, w, id=f'{relative(p)}-{" ".join(w)[:60]}') for p, w in commands()],
)
def test_bash__commands_exist(path, words):
    if words[0] == 'dtql':
        assert words[1] in COMMANDS
        check_command(words[1], words[2:])
    elif words[1] == '-m':
        assert words[2] in ('venv', 'pytest', 'build') or (ROOT / words[2].replace('.', '/'))
    elif (name := {'experiments/run.py': 'train'}.get(words[1], Path(words[1]).stem)) in COMMANDS:
        check_command(name, words[2:])
    else:
        script = ROOT / words[1]
        assert script.is_file()
        source = ''.join(file.read_text() for file in script.parent.glob('*.py'))
        for word in words[2:]:
            if word.startswith('--'):
                flag = word[2:].partition('=')[0]
                assert f"'{flag}'" in source, f'{words[1]} has no flag {flag}'


def slug(heading):
    """The anchor of a heading, as GitHub and the site make it."""
    text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).strip().lower()
    return re.sub(r'[^\w\- ]', '', text).replace(' ', '-')


def anchors(path):
    text = FENCE.sub('', path.read_text())
    return {slug(heading) for heading in re.findall(r'^#+ (.+)$', text, re.MULTILINE)}


@pytest.mark.parametrize('path', FILES, ids=relative)
def test_links__lead_somewhere(path):
    text = FENCE.sub('', path.read_text())
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if re.match(r'\w+:', target):
            continue
        name, _, anchor = target.partition('#')
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f'{target}: no such file'
        if anchor:
            assert anchor in anchors(found), f'{target}: no such heading'


@pytest.mark.parametrize('path', FILES, ids=relative)
def test_paths__exist(path):
    text = FENCE.sub('', path.read_text())
    for name in re.findall(rf'`((?:{FOLDERS})/[\w./*-]*)[^`]*`', text):
        if 'NAME' not in name:
            assert list(ROOT.glob(name)), f'{name}: no such file'


@pytest.mark.parametrize('path', [ROOT / 'README.md', *PAGES], ids=relative)
def test_pages__are_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST.get(path.name, PAGE)


def test_api__has_every_public_name():
    listed = re.findall(r'^::: dtql_jax\.(\w+)$', (DOCS / 'api/index.md').read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(dtql_jax.__all__)


def test_api__modules_exist():
    for name in re.findall(r'^::: (\S+)$', (DOCS / 'api/modules.md').read_text(), re.MULTILINE):
        importlib.import_module(name)


def built_in():
    """The package's own agents by name."""
    return {n: found for n, found in AGENTS.items() if found.agent.__module__[:9] == 'dtql_jax.'}


def test_agents__each_has_a_page():
    pages = {path.stem for path in (DOCS / 'agents').glob('*.md')}
    assert pages == {'index', *built_in()}
    for name in built_in():
        text = (DOCS / 'agents' / f'{name}.md').read_text()
        headings = re.findall(r'^## (.+)$', text, re.MULTILINE)
        assert headings == ['Idea', 'Settings', 'Departures', 'Numbers', 'How to tune'], name
        assert f'<!-- settings: {name} -->' in text
        assert f'<!-- numbers: {name} -->' in text
        assert name in (DOCS / 'agents/index.md').read_text()


def test_hooks__tables_have_every_setting_and_task():
    spec = importlib.util.spec_from_file_location('hooks', DOCS / 'hooks.py')
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    for name, found in built_in().items():
        text = hooks.on_page_markdown(f'<!-- settings: {name} -->\n<!-- numbers: {name} -->')
        assert '<!--' not in text
        for setting in kinds(found.agent.config_class):
            assert f'| `{setting}` |' in text
        for task in found.table:
            assert f'| `{task}` |' in text
        assert 'benchmarks/results/' in text or 'Not measured yet.' in text


@pytest.mark.slow
def test_site__builds_strictly(tmp_path):
    pytest.importorskip('mkdocs', reason="the site needs pip install -e '.[docs]'")
    for name in ('docs', 'dtql_jax', 'benchmarks/results'):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / 'mkdocs.yml', tmp_path)
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet']
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / 'site/agents/dtql/index.html').read_text()
    assert '<code>inverse_temperature</code>' in page
    scripts = re.findall(r'<(?:script|link)[^>]+(?:src|href)="(https?:[^"]+)"', page)
    assert not scripts  # nothing is loaded from elsewhere
