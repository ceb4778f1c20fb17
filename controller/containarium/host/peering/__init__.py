"""How the hosts of a fleet talk to one another: over ssh, with three questions and nothing else."""
