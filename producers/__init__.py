"""What makes events exist and moves them: structure store, auto-cut, text-as-code, the outbox relay."""
