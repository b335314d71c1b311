"""The gRPC front of the data plane: the Open Inference Protocol V2, health checking and reflection."""
