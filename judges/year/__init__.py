"""A simulated year: the real scoring, routing, ledger and delivery over a company whose truth is known."""
