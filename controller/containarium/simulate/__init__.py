"""A host in memory: the same protocol as a real one, with a clock, latencies and faults of its own."""
