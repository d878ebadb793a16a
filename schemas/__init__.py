"""The Avro contracts of the structure events, and everything that keeps them honest."""
