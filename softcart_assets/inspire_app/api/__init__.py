"""The API for other applications: JSON, with the token of a person."""
