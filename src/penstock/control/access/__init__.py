"""Who may do what on this gateway: authentication, the access table, API keys and permissions."""
