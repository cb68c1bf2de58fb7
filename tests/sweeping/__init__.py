"""A sweep: its grid, its decisions, its folder, and the whole way."""
