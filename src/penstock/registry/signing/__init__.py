"""Signatures of models: keys, certificates, and bundles of the OpenSSF model signing format."""
