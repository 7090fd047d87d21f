"""Reads what XLA compiled, as text: the kernels of a loop's body, by kind and by source line."""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%(?P<name>[\w.-]+) = (?P<rest>.*)$')
HEADER = re.compile(r'^(?:ENTRY )?%(?P<name>[\w.-]+) \(.*\{$')
ENTRY = re.compile(r'^ENTRY %(?P<name>[\w.-]+) ', re.MULTILINE)
OPCODE = re.compile(r' (?P<opcode>[a-z][\w-]*)\(')
ARRAY = re.compile(r'(?P<type>[a-z]+\d*)\[(?P<dims>[\d,]*)\]')
CALLED = re.compile(r'(?:calls|body|to_apply|true_computation|false_computation)=%([\w.-]+)')
BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
FRAME = re.compile(r'stack_frame_id=(\d+)')
TABLE = re.compile(r'^(?P<id>\d+) \{(?P<fields>.*)\}$', re.MULTILINE)

# Instructions that start no kernel: they name, group or slice what is there.
NO_KERNEL = {
    'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'while', 'call',
    'conditional', 'partition-id', 'replica-id', 'opt-barrier', 'add-dependency', 'async-done',
    'async-update', 'copy-done',
}  # fmt: skip
COLLECTIVES = ('all-', 'reduce-scatter', 'collective', 'send', 'recv')
PRODUCTS = ('dot', 'convolution')
BYTES = {'pred': 1, 'bf16': 2, 'token': 0}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation."""

    opcode: str
    text: str  # what follows the name and ' = '

    @property
    def size(self) -> int:
        """The bytes of the result."""
        return size_of(self.text[: self.text.index(f' {self.opcode}(')])

    @property
    def operands(self) -> list[str]:
        """The names of the operands."""
        inside = self.text.split(f' {self.opcode}(', 1)[1].split(')', 1)[0]
        return re.findall(r'%([\w.-]+)', inside)


def size_of(shape: str) -> int:
    """The bytes of arrays, as in 'f32[256,6]{1,0}' or a tuple of such."""
    total = 0
    for kind, dims in ARRAY.findall(shape):
        size = BYTES.get(kind)
        if size is None:
            size = int(re.sub(r'\D', '', kind) or 8) // 8
        for length in filter(None, dims.split(',')):
            size *= int(length)
        total += size
    return total


class Count(NamedTuple):
    """What one pass through a computation costs."""

    kernels: collections.Counter[str]  # by kind
    lines: collections.Counter[str]  # kernels by source line
    stops: float  # waits of the device for the host
    moved: float  # bytes read and written, as far as shapes tell
    collectives: int

    def plus(self, other: 'Count', times: float = 1) -> 'Count':
        """The sum, with `other` made `times` over."""

        def more(mine: collections.Counter, its: collections.Counter) -> collections.Counter:
            return collections.Counter({key: mine[key] + times * its[key] for key in (*mine, *its)})

        return Count(
            more(self.kernels, other.kernels),
            more(self.lines, other.lines),
            self.stops + times * other.stops,
            self.moved + times * other.moved,
            self.collectives + other.collectives,
        )

    @property
    def total(self) -> float:
        """The number of kernels."""
        return sum(self.kernels.values())


def nothing() -> Count:
    """No cost."""
    return Count(collections.Counter(), collections.Counter(), 0, 0, 0)


class Program:
    """A compiled program.

    Args:
        text: what `Compiled.as_text` returns.
        at_most: operands of more bytes count as much as the result, since a kernel that picks rows
            reads no more of them.
        untold: the length of loops whose length the text does not tell.
    """

    def __init__(self, text: str, at_most: float = float('inf'), untold: int = 1):
        self._at_most, self._untold = at_most, untold
        self.computations: dict[str, dict[str, Instruction]] = {}
        rows: dict[str, Instruction] = {}
        for line in text.splitlines():
            if header := HEADER.match(line):
                rows = self.computations.setdefault(header['name'], {})
            elif (found := INSTRUCTION.match(line)) and (code := OPCODE.search(found['rest'])):
                rows[found['name']] = Instruction(code['opcode'], found['rest'])
        entry = ENTRY.search(text)
        assert entry is not None
        self.entry = entry['name']
        self._line = source_lines(text)

    def loops(self, name: str | None = None) -> Iterator[tuple[str, int | None]]:
        """The loops of a computation, of the entry without one: body, and length if it is known."""
        for row in self.computations[name or self.entry].values():
            if row.opcode == 'while':
                yield loop(row)
            elif row.opcode == 'call':
                for called in CALLED.findall(row.text):
                    yield from self.loops(called)

    def count(self, name: str | None = None) -> Count:
        """The cost of one pass through a computation, of the entry without a name.

        Of a branch the dearer side counts.
        """
        rows = self.computations[name or self.entry]
        total = nothing()
        for row in rows.values():
            if row.opcode == 'while':
                body, trips = loop(row)
                total = total.plus(self.count(body), trips or self._untold)
                if trips is None:
                    total = total._replace(stops=total.stops + 1)
            elif row.opcode == 'conditional':
                listed = BRANCHES.search(row.text)
                names = re.findall(r'%([\w.-]+)', listed[1]) if listed else CALLED.findall(row.text)
                total = total.plus(max(map(self.count, names), key=lambda side: side.total))
                total = total._replace(stops=total.stops + 1)
            elif row.opcode == 'call':
                for called in CALLED.findall(row.text):
                    total = total.plus(self.count(called))
            elif row.opcode not in NO_KERNEL and not row.opcode.endswith('-done'):
                total = total.plus(self._kernel(row, rows))
        return total

    def _kernel(self, row: Instruction, rows: dict[str, Instruction]) -> Count:
        """The cost of a kernel."""
        result = row.size
        sizes = [rows[name].size for name in row.operands if name in rows]
        read = sum(size if size <= self._at_most else result for size in sizes)
        collective = row.opcode.startswith(COLLECTIVES)
        frame = FRAME.search(row.text)
        line = self._line(int(frame[1]) if frame else 0)
        return Count(
            collections.Counter({self.kind(row): 1}),
            collections.Counter({line: 1}),
            0,
            read + result,
            int(collective),
        )

    def kind(self, row: Instruction) -> str:
        """What a kernel does: 'product', 'reduction', 'copy', 'random', 'elementwise', ..."""
        if row.opcode.startswith(COLLECTIVES):
            return 'collective'
        if row.opcode == 'custom-call':
            target = re.search(r'custom_call_target="([^"]*)"', row.text)
            name = target[1].lower() if target else ''
            known = {'gemm': 'product', 'dot': 'product', 'topk': 'sort', 'threefry': 'random'}
            return next((kind for part, kind in known.items() if part in name), name or 'other')
        codes = {row.opcode}
        if row.opcode in ('fusion', 'call', 'async-start'):
            for called in CALLED.findall(row.text):
                codes |= {inner.opcode for inner in self.computations.get(called, {}).values()}
        for kind, marks in (
            ('product', PRODUCTS),
            ('sort', ('sort',)),
            ('reduction', ('reduce', 'reduce-window')),
            ('scatter', ('scatter',)),
            ('gather', ('gather', 'dynamic-slice')),
        ):
            if codes & set(marks):
                return kind
        if row.opcode.startswith('copy') or codes - {'fusion', 'parameter', 'tuple'} == {'copy'}:
            return 'copy'
        return 'elementwise'


def loop(row: Instruction) -> tuple[str, int | None]:
    """The body of a `while`, and its length if it is known."""
    (body,), trips = re.findall(r'body=%([\w.-]+)', row.text), TRIPS.search(row.text)
    return body, int(trips[1]) if trips else None


def source_lines(text: str) -> Callable[[int], str]:
    """The innermost line of this package by number of frame: 'agents/dtql.py:210'."""

    def table(begin: str, end: str) -> str:
        found = re.search(rf'^{begin}$(.*?)^{end}', text, re.MULTILINE | re.DOTALL)
        return found[1] if found else ''

    def entries(part: str) -> dict[int, dict[str, int]]:
        return {
            int(row['id']): {k: int(v) for k, v in re.findall(r'(\w+)=(\d+)', row['fields'])}
            for row in TABLE.finditer(part)
        }

    names = dict(re.findall(r'^(\d+) "(.*)"$', table('FileNames', 'FunctionNames'), re.MULTILINE))
    places = entries(table('FileLocations', 'StackFrames'))
    frames = entries(table('StackFrames', r'\n[%E]'))

    def line(frame: int) -> str:
        while frame in frames:
            place = places[frames[frame]['file_location_id']]
            file = names[str(place['file_name_id'])]
            if '/dtql_jax/' in file:
                return f'{file.rsplit("/dtql_jax/", 1)[1]}:{place["line"]}'
            above = frames[frame].get('parent_frame_id', 1) - 1  # counted from 1, 0 for none
            if above == frame:
                break
            frame = above
        return 'unknown'

    return line
