"""Contents by their digest, in a folder or in a bucket."""
