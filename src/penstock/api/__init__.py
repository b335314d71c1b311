"""The transports: wire words to domain words and back, nothing else."""
