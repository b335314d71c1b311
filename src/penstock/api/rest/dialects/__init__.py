"""Other protocols than V2 on the REST port: their requests become the same calls."""
