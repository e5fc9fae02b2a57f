"""Independent judges of the product: they know the truth of a simulated world and never ask the product for it.

Tests and benchmarks share them; they import neither.
"""
