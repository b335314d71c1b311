"""What the registry's database keeps, each subject with the transactions it needs."""
