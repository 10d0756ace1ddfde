"""Several runs, or a look into one: compare, ablate, inspect."""
