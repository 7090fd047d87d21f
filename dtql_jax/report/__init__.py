"""What a run shows: rows in files, tables, curves and the lines on the terminal."""
