"""What a person reads of a run: the report, its plots and words, and the tables of the terminal."""
