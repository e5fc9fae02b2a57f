"""The delivery lived under many seeds of faults; `judges.faults` simulates and judges."""
