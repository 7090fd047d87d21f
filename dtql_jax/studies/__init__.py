"""Studies: many runs of tasks, agents, settings and seeds, asked for, started and read together."""
