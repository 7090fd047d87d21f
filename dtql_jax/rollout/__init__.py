"""Episodes: simulators side by side, and policies that act in them for many lanes at once."""
