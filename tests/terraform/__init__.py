"""The modules of terraform/: what they decide, what they ask of the clouds, and the script that they have hosts run."""
