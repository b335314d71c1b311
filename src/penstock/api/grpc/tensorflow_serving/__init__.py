"""The gRPC API of TensorFlow Serving: its messages on the unary path of inference, and its other methods."""
