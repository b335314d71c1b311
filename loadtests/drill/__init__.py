"""The rollout drill: canaries on real gateways, and what other tools' templates make of the same counts."""
