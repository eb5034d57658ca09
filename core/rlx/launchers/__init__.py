"""TODO launchers."""
