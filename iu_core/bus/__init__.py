"""The Kafka bus behind ports: values and promises in `ports`, names in `names`, adapters in `kafka_*`."""
