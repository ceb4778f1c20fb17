"""The only code that changes a machine: Incus, guests, accounts, sshd."""
