"""How a registry's database came to its present shape, one step per file of ``versions``."""
