"""The composition root: each process of the gateway is put together, started and stopped here."""
