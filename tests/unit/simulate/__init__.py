"""The simulator says the truth about itself."""
