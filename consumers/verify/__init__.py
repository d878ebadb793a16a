"""Prove that outbox, topic, decisions, projection and tree tell one story, or name the first difference."""
