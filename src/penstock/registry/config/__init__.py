"""Model configurations (``config.pbtxt``) and which of their fields are supported."""
