"""`penstock replay`: from its options to its report; what it sends and decides is in ``penstock.replay``."""
