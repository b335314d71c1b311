"""Load tests for users: open-loop traffic against any gateway, what it measured, and whether objectives were kept.

A client only: nothing here is imported by a gateway. Decisions (schedules, objectives, the search for the capacity,
intervals of a comparison) are pure; ``generator`` alone has sockets and a clock.
"""
