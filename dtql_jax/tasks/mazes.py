"""The mazes: maps of the evaluation, where their goals lie, ways in them.

Two frames. gymnasium-robotics' (`pointmaze`, `antmaze`) has its origin in the middle of the map,
and y falls with the row. D4RL's own (`d4rl-antmaze`) has it in the centre of the start cell `r`,
and y grows with the row: its mazes are gymnasium-robotics' mirrored.
"""

import collections
from collections.abc import Collection

import numpy as np

CELL = {'pointmaze': 1.0, 'antmaze': 4.0, 'd4rl-antmaze': 4.0}  # family -> metres per cell
# Family -> metres from the goal within which the simulator counts a success.
REACHED = {'pointmaze': 0.45, 'antmaze': 0.45, 'd4rl-antmaze': 0.5}
# D4RL's goal lies beyond the centre of its cell, by U(0, 1) + U(0, 0.5) m in x and in y; its mean:
D4RL_GOAL_OFFSET = 0.75

Map = list[list[int | str]]
Cell = tuple[int, int]  # row and column


def _maze(*rows: str) -> Map:
    return [[{'#': 1, '.': 0}.get(cell, cell) for cell in row] for row in rows]


# Start `r` and goal `g` of the evaluation. Medium and large: as in Minari's evaluation specs.
MAPS = {
    'umaze': _maze('#####', '#r..#', '###.#', '#g..#', '#####'),
    # The script that made Minari's umaze sets mirrors the walls in its evaluation spec, so that
    # nothing learnt from the data could serve there. Here: the data's own maze, start and goal.
    'antmaze-umaze': _maze('#####', '#g..#', '###.#', '#r..#', '#####'),
    'medium': _maze(
        '########',
        '#r.##..#',
        '#..#...#',
        '##...###',
        '#..#...#',
        '#.#..#.#',
        '#...#.g#',
        '########',
    ),
    'large': _maze(
        '############',
        '#r...#.....#',
        '#.##.#.#.#.#',
        '#......#...#',
        '#.####.###.#',
        '#..#.#.....#',
        '##.#.#.#.###',
        '#..#...#.g.#',
        '############',
    ),
}


def goal_xy(maze_map: Map, family: str) -> np.ndarray:
    """Position of the evaluation's goal in the simulator's coordinates, metres, float64 `[2]`.

    The centre of the map's `g` cell; in D4RL's frame the mean of where its goal is drawn.
    """
    maze, size = np.array(maze_map, dtype=object), CELL[family]
    row, column = np.argwhere(maze == 'g')[0]
    if family == 'd4rl-antmaze':
        start_row, start_column = np.argwhere(maze == 'r')[0]
        cells = np.array([column - start_column, row - start_row], float)
        return cells * size + D4RL_GOAL_OFFSET
    x = (column + 0.5 - maze.shape[1] / 2) * size
    y = (maze.shape[0] / 2 - row - 0.5) * size
    return np.array([x, y])


def way_to(target: Cell, cells: Collection[Cell]) -> dict[Cell, Cell]:
    """For each of the free `cells` the next one on a shortest way to `target`, breadth first."""
    ahead, queue = {target: target}, collections.deque([target])
    while queue:
        i, j = queue.popleft()
        for cell in ((i, j + 1), (i + 1, j), (i, j - 1), (i - 1, j)):
            if cell in cells and cell not in ahead:
                ahead[cell] = (i, j)
                queue.append(cell)
    return ahead
