"""What the server renders of each page of the console: one file a page."""
