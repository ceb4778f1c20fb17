"""Figures: ratios measured in one run, never timed assertions in a test."""
