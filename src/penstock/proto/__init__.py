"""Generated messages and stubs of the protocol; the ``.proto`` files lie in ``proto/`` and say how they are made."""
