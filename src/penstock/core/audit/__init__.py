"""The audit as a verifiable log: hash chain, Merkle tree, checkpoints, and what its entries state."""
