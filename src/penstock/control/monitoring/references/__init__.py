"""References of versions: uploaded or learned from traffic, and their local copies."""
