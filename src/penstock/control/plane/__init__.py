"""The control plane of one gateway: what it serves and counts, and what the ops port may ask and change."""
