"""Statistics of the monitor and of rollouts: tests that stay valid under repeated looks, and effect sizes."""
