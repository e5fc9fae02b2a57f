"""A seeded product-led company: its customers' product events, its CRM, its reps. None of it is real data."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.simulation.customers import PLANS
    from onetouch.simulation.reps import work
    from onetouch.simulation.simulate import simulate

__all__ = ["PLANS", "simulate", "work"]
show(__name__)
