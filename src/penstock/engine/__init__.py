"""One loaded model: its signature, warm-up, runs and unloading. The only package that imports ONNX Runtime."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
"""Set before the runtime is imported: its wheels otherwise put a device id and a store of usage events into the user's
cache folder, and carry an uploader for them."""
