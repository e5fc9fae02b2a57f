"""The whole delivery under faults: seeded, in virtual time, judged at the far end."""
