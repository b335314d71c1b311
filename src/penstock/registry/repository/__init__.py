"""Repositories of models that people keep: folders and buckets, their layouts, and own copies of what is served."""
