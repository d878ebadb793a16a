"""The outbox relay: rows of `event_outbox` to Kafka, none skipped, none twice, in order per tree."""
