"""The REST front of the data plane: the Open Inference Protocol V2 over HTTP/1.1."""
