"""What models exist, which versions of them may serve, and how each is to be served."""
