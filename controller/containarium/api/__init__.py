"""The gRPC service: one implementation, on a unix socket and, where an admin wants it, over mutual TLS."""
