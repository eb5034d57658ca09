"""TODO packers."""
