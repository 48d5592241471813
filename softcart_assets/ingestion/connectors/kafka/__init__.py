"""The Kafka connector: topics in Debezium's format, followed by their offsets."""
