"""The plane that thinks: it keeps workers alive, tells them what to serve, and reads what they counted."""
