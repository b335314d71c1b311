"""Contents of several files: packed as an archive, and materialized for serving."""
