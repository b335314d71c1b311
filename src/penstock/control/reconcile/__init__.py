"""Makes the observed state equal to the desired state: the planner, the reconciler that applies plans, and status."""
