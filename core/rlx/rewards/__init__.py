"""TODO rewards."""
