"""The databases of the application, each behind a small class that knows its SQL or its calls."""
