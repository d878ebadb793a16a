"""The demo's parts: the stage (services, a database and topics of its own, processes) and the story."""
