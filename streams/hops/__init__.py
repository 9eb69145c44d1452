"""What happens to a run of records: take in, route, judge, write facts. One file for each hop and what it stands on.

Knows: the pure functions of `feedback`, the log's records and its producer. Must not know: Kafka, SQLite or Faust's drivers.
A run is acknowledged only when everything that it led to is durable.
"""
