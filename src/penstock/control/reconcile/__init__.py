"""From what should be served to what is: the planner, the reconciler that carries plans out, and status."""
