"""The sink that writes a source's changes to Kafka, in Debezium's format.

`form` makes messages of rows. `topics` writes them, in Kafka's transactions. The loop that reads
the source's log is `capture.to_kafka`.

It is no `Sink`: those share a transaction of PostgreSQL. Kafka cannot join that one. So the topics
have a position of their own, which commits in the transaction of Kafka that brings the messages.
Neither raw nor the topics wait for each other.
"""
