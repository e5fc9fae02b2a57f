"""What the checks of events find: faults that vendors make, and what they stop on ordinary days."""
