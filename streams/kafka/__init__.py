"""The log on a Kafka cluster: access, topics, producer, and Faust's driver with runs as events.

Knows: kafka-python, aiokafka, Faust. Must not know: what a record says. Imported only where a cluster is configured, so that who
has no cluster pays for no client.
"""
