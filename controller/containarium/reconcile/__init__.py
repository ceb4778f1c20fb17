"""One pass over a host, and what keeps passes going."""
