"""End-to-end tests: a real host, a real laptop, no mock."""
