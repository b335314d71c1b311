"""One running instance on a host: its directory, its ports, adoption by a successor, and its end."""
