"""What the bench does on the host that it measures: needs nothing but Python, and so can be copied there and run."""
