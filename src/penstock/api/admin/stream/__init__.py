"""The stream of live documents: one connection of server-sent events for each open page."""
