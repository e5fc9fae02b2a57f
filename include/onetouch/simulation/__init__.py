"""A seeded product-led company: its customers' product events, its CRM, its reps. None of it is real data."""

from onetouch.simulation.reps import work
from onetouch.simulation.simulate import simulate

__all__ = ["simulate", "work"]
