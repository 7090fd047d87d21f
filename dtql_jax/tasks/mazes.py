"""Mazes: the maps of the evaluation, the positions of their goals, and shortest ways.

There are two frames. In gymnasium-robotics' (`pointmaze`, `antmaze`) the origin is the middle of
the map, and y falls as the row grows. In D4RL's own (`d4rl-antmaze`) the origin is the centre of
the start cell `r`, and y grows with the row: its mazes mirror those of gymnasium-robotics.
"""

import collections
from collections.abc import Collection

import numpy as np

CELL = {'pointmaze': 1.0, 'antmaze': 4.0, 'd4rl-antmaze': 4.0}  # family -> metres per cell
# Family -> the largest distance from the goal, in metres, that the simulator counts as success.
REACHED = {'pointmaze': 0.45, 'antmaze': 0.45, 'd4rl-antmaze': 0.5}
# D4RL adds U(0, 1) + U(0, 0.5) metres to the centre of the goal's cell, in x and in y. The mean:
D4RL_GOAL_OFFSET = 0.75

Map = list[list[int | str]]
Cell = tuple[int, int]  # row and column


def _maze(*rows: str) -> Map:
    """The map that the rows draw: `#` is a wall, `.` a free cell."""
    return [[{'#': 1, '.': 0}.get(cell, cell) for cell in row] for row in rows]


# `r` and `g` are the evaluation's start and goal. Medium and large are Minari's evaluation specs.
MAPS = {
    'umaze': _maze('#####', '#r..#', '###.#', '#g..#', '#####'),
    # Minari's evaluation spec of umaze mirrors the walls of the maze in its data, so that nothing
    # learnt from the data could serve there. This is the maze, start and goal of the data.
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
    """Position of the evaluation's goal in the simulator's frame, in metres, float64 `[2]`.

    It is the centre of the map's `g` cell; in D4RL's frame, the mean of D4RL's random goals.
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
    """Maps each free cell to the next one on a shortest way to `target`, breadth first.

    Cells that cannot reach `target` are left out; `target` maps to itself.
    """
    ahead, queue = {target: target}, collections.deque([target])
    while queue:
        i, j = queue.popleft()
        for cell in ((i, j + 1), (i + 1, j), (i, j - 1), (i - 1, j)):
            if cell in cells and cell not in ahead:
                ahead[cell] = (i, j)
                queue.append(cell)
    return ahead
