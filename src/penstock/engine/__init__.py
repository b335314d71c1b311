"""One loaded model: its signature, warm-up, runs and unloading. The only door to ONNX Runtime."""
