"""The DynamoDB connector: scanning tables and following their streams."""
