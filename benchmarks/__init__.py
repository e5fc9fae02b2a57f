"""Side by side with hand-written peers: `python -m benchmarks.signals`."""
