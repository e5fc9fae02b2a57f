"""A year of runs lived from the command line; `judges.year` simulates and judges."""
