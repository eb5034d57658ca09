"""TODO preflight."""
