"""TODO suites."""
