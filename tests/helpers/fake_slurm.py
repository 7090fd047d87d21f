"""SLURM's commands as programs of a few lines, which a test puts at the head of PATH."""

import os
import pathlib
import sys

# Prints the file `queue`; where there is none, the controller does not answer.
SQUEUE = """
import pathlib, sys
queue = pathlib.Path('{folder}/queue')
if not queue.exists():
    sys.exit('squeue: error: Unable to contact slurm controller')
print(queue.read_text(), end='')
"""
# Keeps the scripts that it is given, and puts their jobs into the queue.
SBATCH = """
import os, pathlib, re, sys
folder = pathlib.Path('{folder}')
text = pathlib.Path(sys.argv[-1]).read_text()
if '--partition=absent' in text:
    sys.exit('sbatch: error: invalid partition specified: absent')
number = 1 + len(list(folder.glob('script*')))
(folder / f'script{{number}}').write_text(text)
(folder / f'environment{{number}}').write_text('\\n'.join(os.environ))
last = re.search(r'--array=0-(\\d+)', text)
names = [f'{{number}}_{{i}}' for i in range(int(last[1]) + 1)] if last else [str(number)]
with (folder / 'queue').open('a') as queue:
    for name in names:
        print(f'{{name}}|PENDING|Priority', file=queue)
print(f'Submitted batch job {{number}}')
"""


class FakeSlurm:
    """A cluster in a folder: `queue` is what squeue prints, `script1` the first script."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.bin = folder / 'bin'
        self.bin.mkdir(parents=True)
        for name, text in {'squeue': SQUEUE, 'sbatch': SBATCH, 'srun': ''}.items():
            self.program(name, text.format(folder=folder))
        self.queue('')

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(f'#!{sys.executable} -S\n{text}')
        path.chmod(0o755)

    def queue(self, text: str) -> None:
        """Sets what is in the queue."""
        new = self.folder / 'queue.new'
        new.write_text(text)
        os.replace(new, self.folder / 'queue')

    def scripts(self) -> list[str]:
        """The scripts that were submitted."""
        return [path.read_text() for path in sorted(self.folder.glob('script*'))]
