"""What acts on events: route worker, decisions, ledger, dead letters, verify, explain."""
