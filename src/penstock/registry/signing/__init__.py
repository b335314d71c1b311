"""Signatures of models and of checkpoints: keys, certificates, and bundles of the OpenSSF model signing format."""
