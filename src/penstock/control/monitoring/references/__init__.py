"""What a version's rows are compared with: where references come from, and where they are kept."""
