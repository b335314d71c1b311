"""Who may do what: permissions, roles, callers and their grants."""
