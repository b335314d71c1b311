"""Replays captured requests to a gateway, compares the answers with those of the capture, and reports.

A client only: nothing here is imported by a gateway. Requests stream from the files of a capture, and what is held at a
time is bounded by the connections. The load test's package has the connections, the loop over them, and the plots.
"""
