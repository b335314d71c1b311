"""`penstock loadtest`: from its options to its report; what it sends and decides is in ``penstock.loadtest``."""
