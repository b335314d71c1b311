"""Checks and small edits of ONNX graphs: what could end a process or mix callers is refused or guarded."""
