"""The launcher that prints."""

import shlex

from dtql_jax.studies.launch import Launch, LaunchOptions, command
from dtql_jax.studies.print_commands import check, launch


def test_launch__prints_lines_that_a_shell_reads_back(tmp_path, capsys):
    folder = tmp_path / "it's mine"
    check(LaunchOptions())
    launch(Launch(folder, ('a', 'b-x=1'), LaunchOptions(), print))
    lines = capsys.readouterr().out.splitlines()
    assert [shlex.split(line) for line in lines] == [
        command(folder, 'a'), command(folder, 'b-x=1'),
    ]  # fmt: skip
