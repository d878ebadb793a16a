"""The route consumers: decide about each event of a route once, and have its effect once."""
