"""Contents of several files: packed as an archive, and laid out for serving."""
