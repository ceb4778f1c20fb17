"""Where manifests come from. Reads; never changes the machine."""
