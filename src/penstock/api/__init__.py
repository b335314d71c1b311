"""The transports: they translate between the wire and the domain, and do nothing else."""
